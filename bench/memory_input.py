"""What is backed up: a large file, a file of holes, very many small files, all in one folder, and very long paths."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PATH_MAX: Final = 4_096
_BLOCK_BYTES: Final = 1 << 20
_LINE_BYTES: Final = 64
_LINES: Final = 4_096
_NAME_BYTES: Final = 255
_PIECES: Final = 60
_PIECE_BYTES: Final = 300_000
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


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


def make_many(folder: Path, files: int, folders: int, in_one: int = 0) -> int:
    """Write a tree of files of a few bytes each; gives how many files and folders there are now.

    Args:
        folder: made here.
        files: how many.
        folders: that they are in, equally many in each.
        in_one: how many of them are in the first folder instead.
    """
    folder.mkdir()
    others = folders - 1 if in_one else folders
    per_folder, more = divmod(files - in_one, others) if others else (0, 0)
    counts = [in_one] * (folders - others) + [per_folder + (place < more) for place in range(others)]
    number = 0
    for place, count in enumerate(counts):
        name = os.fsencode(folder) + b"/folder-%04d" % place
        os.mkdir(name)  # noqa: PTH102 - a path object for each of a million names takes longer than the name
        for _ in range(count):
            fd = os.open(name + b"/document-%07d.txt" % number, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            os.write(fd, b"%d\n" % number)
            os.close(fd)
            number += 1
    return 1 + folders + files


def make_sparse(folder: Path, size: int, seed: int = 3) -> int:
    """Write one file that is all hole but for some MB at odd places; gives how many files and folders there are."""
    folder.mkdir()
    rng = random.Random(seed)
    with (folder / "sparse").open("wb") as file:
        file.truncate(size)
        for _ in range(_PIECES):
            file.seek(rng.randrange(size - _PIECE_BYTES))
            file.write(rng.randbytes(rng.randrange(1, _PIECE_BYTES)))
    return 2


def make_deep(folder: Path, path_bytes: int) -> int:
    """Write a chain of folders down to a path of some length, far beyond what one call of the system takes.

    A file is in each folder; in the folder where paths reach 4,096 bytes, one each of 4,095, 4,096 and 4,097.

    Returns:
        How many files and folders there are now.
    """
    folder.mkdir()
    path = len(os.fsencode(folder))
    count = 1
    fd = os.open(folder, _FOLDER)
    while path + 2 + _NAME_BYTES < path_bytes:
        names = [b"file"]
        if path < PATH_MAX - 2 <= path + _NAME_BYTES:
            names += [b"p" * (length - path - 1) for length in range(PATH_MAX - 1, PATH_MAX + 2)]
        for name in names:
            file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=fd)
            os.write(file, b"%d\n" % path)
            os.close(file)
        name = bytes([ord("a") + count % 26]) * _NAME_BYTES
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, _FOLDER, dir_fd=fd)
        os.close(fd)
        fd, path = below, path + 1 + len(name)
        count += len(names) + 1
    os.close(fd)
    return count


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
