"""A process that writes images into a pool and kills itself at a named step. Run by ``test_pool_crash.py``.

Usage: pool_child.py FOLDER FUNCTION before|after COUNT

It prints ``key ID SECRET`` before a data key is used, which stands for the envelope on stable storage, and
``acknowledged NUMBER PAGE SEGMENTS BYTES`` when everything of an image is durable.
"""

from __future__ import annotations

import importlib
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from strongroom.pool.keys import FrameKey
from strongroom.pool.writer import WriterLimits
from tests.support.pool import Keys, Pool

IMAGES = 4
LIMITS = WriterLimits(frame_bytes=4_000, container_bytes=20_000, in_flight_bytes=40_000)


def image(number: int) -> list[bytes]:
    """The segments of an image; each shares half with the one before."""
    return [random.Random(number * 20 + at).randbytes(1_000) for at in range(40)]  # noqa: S311 - test data


def tell(*words: object) -> None:
    """Give a line to the parent, which has it whatever happens next."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


class TellingKeys(Keys):
    """Keys whose envelope is the pipe to the parent."""

    def next_key(self) -> FrameKey:
        key = super().next_key()
        tell("key", key.data_key.hex(), key.key.reveal().hex())
        return key


def kill_at(function: str, when: str, count: int) -> None:
    """Wrap ``module:Class.function`` so that its ``count``-th call ends the process."""
    module_name, _, path = function.partition(":")
    owner: Any = importlib.import_module(module_name)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    inner: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        mine = calls
        if mine == count and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = inner(*args, **kwargs)
        if mine == count and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, wrapped)


def main() -> None:
    folder, function, when, count = sys.argv[1:]
    pool = Pool.open(Path(folder), seed="child")
    pool.keys = TellingKeys(pool.entropy)
    kill_at(function, when, int(count))
    for number in range(IMAGES):
        root = pool.write_manifest(pool.write(image(number), LIMITS))
        tell("acknowledged", number, root.page.hex(), root.segments, root.bytes)


if __name__ == "__main__":
    main()
