"""Types of records that several threads use for the first time at once, as the jobs of a media server do (P3)."""

from __future__ import annotations

import subprocess
import sys

FIRST_USES = '''
from __future__ import annotations

import sys
import threading

import msgspec

from strongroom.formats import records

THREADS = 4
sys.setswitchinterval(1e-6)


class Inner(msgspec.Struct):
    """Made anew for each round, with names that the library looks up in this module."""


def decode(kind: type[msgspec.Struct], data: bytes, ready: threading.Barrier, found: list[object]) -> None:
    ready.wait()
    found.append(records.decode(data, kind, max_bytes=1 << 20, what="test"))


for _ in range(40):
    inner = msgspec.defstruct("Inner", [(f"a{i}", "list[int] | None", None) for i in range(40)], module=__name__)
    Inner = inner
    outer = msgspec.defstruct("Outer", [(f"b{i}", "list[Inner] | None", None) for i in range(40)], module=__name__)
    data = records.encode(outer(*([inner(*([[1]] * 40))] for _ in range(40))))
    ready, found = threading.Barrier(THREADS), []
    threads = [threading.Thread(target=decode, args=(outer, data, ready, found)) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == THREADS
'''


def test_a_type_can_be_used_for_the_first_time_by_several_threads_at_once() -> None:
    done = subprocess.run([sys.executable, "-c", FIRST_USES], capture_output=True, check=False, timeout=50)
    assert done.returncode == 0, done.stderr.decode()[-2_000:]
