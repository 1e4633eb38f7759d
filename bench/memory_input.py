"""What is backed up: one large file of mixed contents, and a tree of very many small files."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_BLOCK_BYTES: Final = 1 << 20
_LINE_BYTES: Final = 64
_LINES: Final = 4_096


def make_large(folder: Path, size: int, seed: int = 1) -> int:
    """Write one file whose blocks are by turns text that compresses, random, and random that was there before.

    Args:
        folder: made here.
        size: of the file, bytes.
        seed: the same seed makes the same file.

    Returns:
        How many files and folders there are now.
    """
    folder.mkdir()
    with (folder / "large").open("wb") as file:
        for block in _blocks(size, seed):
            file.write(block)
    return 2


def make_many(folder: Path, files: int, folders: int) -> int:
    """Write a tree of files of a few bytes each; gives how many files and folders there are now."""
    folder.mkdir()
    per_folder, more = divmod(files, folders)
    number = 0
    for place in range(folders):
        name = os.fsencode(folder) + b"/folder-%04d" % place
        os.mkdir(name)  # noqa: PTH102 - a path object for each of a million names takes longer than the name
        for _ in range(per_folder + (place < more)):
            fd = os.open(name + b"/document-%07d.txt" % number, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            os.write(fd, b"%d\n" % number)
            os.close(fd)
            number += 1
    return 1 + folders + files


def _blocks(size: int, seed: int) -> Iterator[bytes]:
    rng = random.Random(seed)
    lines = [rng.randbytes(_LINE_BYTES // 2).hex().encode() for _ in range(_LINES)]
    for number, start in enumerate(range(0, size, _BLOCK_BYTES)):
        match number % 3:
            case 0:
                block = b"".join(rng.choices(lines, k=_BLOCK_BYTES // _LINE_BYTES))
            case 1:
                block = _random_block(seed, number)
            case _:
                block = _random_block(seed, 1 + 3 * rng.randrange(number // 3 + 1))
        yield block[: size - start]


def _random_block(seed: int, number: int) -> bytes:
    return random.Random(seed << 32 | number).randbytes(_BLOCK_BYTES)
