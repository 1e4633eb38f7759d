"""Whether two folders are the same: names, types, contents, modes, owners, times, links, extended attributes.

Deliberately made of the standard library alone, so that the product does not judge itself.
"""

from __future__ import annotations

import filecmp
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MOST_SHOWN: Final = 20


def differences(original: Path, restored: Path) -> Iterator[str]:
    """Name what differs, path by path; nothing when the folders are the same."""
    links: dict[tuple[int, int], tuple[int, int]] = {}
    yield from _compare(os.fsencode(original), os.fsencode(restored), b".", links)


def _compare(
    original: bytes, restored: bytes, shown: bytes, links: dict[tuple[int, int], tuple[int, int]]
) -> Iterator[str]:
    name = os.fsdecode(shown)
    try:
        one, other = os.lstat(original), os.lstat(restored)
    except OSError as error:
        yield f"{name}: {error.strerror}"
        return
    for what in ("st_mode", "st_uid", "st_gid", "st_mtime_ns"):
        if getattr(one, what) != getattr(other, what):
            yield f"{name}: {what} is {getattr(other, what)}, was {getattr(one, what)}"
    if _attributes(original) != _attributes(restored):
        yield f"{name}: extended attributes differ"
    if stat.S_ISLNK(one.st_mode):
        if os.readlink(original) != os.readlink(restored):  # noqa: PTH115 - names are bytes here
            yield f"{name}: the link points elsewhere"
    elif stat.S_ISREG(one.st_mode):
        yield from _compare_files(original, restored, one, other, name, links)
    elif stat.S_ISDIR(one.st_mode):
        names = sorted(set(os.listdir(original)) | set(os.listdir(restored)))  # noqa: PTH208 - as above
        for child in names:
            yield from _compare(original + b"/" + child, restored + b"/" + child, shown + b"/" + child, links)


def _compare_files(
    original: bytes,
    restored: bytes,
    one: os.stat_result,
    other: os.stat_result,
    name: str,
    links: dict[tuple[int, int], tuple[int, int]],
) -> Iterator[str]:
    if one.st_size != other.st_size or not filecmp.cmp(original, restored, shallow=False):
        yield f"{name}: the contents differ"
    if one.st_nlink > 1:
        # names of one file must be names of one file again
        before = links.setdefault((one.st_dev, one.st_ino), (other.st_dev, other.st_ino))
        if before != (other.st_dev, other.st_ino):
            yield f"{name}: a hard link became a file of its own"


def _attributes(path: bytes) -> dict[str, bytes]:
    names = os.listxattr(path, follow_symlinks=False)
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
