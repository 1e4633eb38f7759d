"""Whether what was restored is what was there, for inputs that one cannot simply read.

Of the standard library alone.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_READ_BYTES: Final = 1 << 20


def sparse_differences(original: Path, restored: Path) -> Iterator[str]:
    """Compare files of one folder by what is data in either of them; holes are never read, and must be as many."""
    for one in sorted(original.iterdir()):
        other = restored / one.name
        if one.stat().st_size != other.stat().st_size:
            yield f"{one.name}: {other.stat().st_size} bytes, not {one.stat().st_size}"
        elif other.stat().st_blocks > one.stat().st_blocks:
            yield f"{one.name}: takes {other.stat().st_blocks} blocks, not {one.stat().st_blocks}"
        else:
            with one.open("rb") as a, other.open("rb") as b:
                places = sorted({*_data(a.fileno()), *_data(b.fileno())})
                for at, end in places:
                    if any(
                        os.pread(a.fileno(), min(_READ_BYTES, end - start), start)
                        != os.pread(b.fileno(), min(_READ_BYTES, end - start), start)
                        for start in range(at, end, _READ_BYTES)
                    ):
                        yield f"{one.name}: other contents between {at} and {end}"


def deep_differences(original: Path, restored: Path) -> Iterator[str]:
    """Compare two chains of folders, going down by descriptors: their paths are longer than a call takes."""
    one, other = list(_descend(original)), list(_descend(restored))
    if len(one) != len(other):
        yield f"{len(other)} levels, not {len(one)}"
    yield from (f"level {level} differs" for level, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)


def _data(fd: int) -> Iterator[tuple[int, int]]:
    """Give begin and end of each piece of data."""
    at = 0
    while True:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        end = os.lseek(fd, at, os.SEEK_HOLE)
        yield at, end
        at = end


def _descend(top: Path) -> Iterator[list[tuple[str, int, int, int, str]]]:
    """Give what is in each folder of a chain: name, mode, owner, time, digest of the contents."""
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    while fd >= 0:
        found: list[tuple[str, int, int, int, str]] = []
        below = -1
        for name in sorted(os.listdir(fd)):  # noqa: PTH208 - a descriptor, not a path
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            contents = ""
            if stat.S_ISDIR(status.st_mode):
                below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
            else:
                with os.fdopen(os.open(name, os.O_RDONLY, dir_fd=fd), "rb") as file:
                    contents = hashlib.sha256(file.read()).hexdigest()
            found.append((name, status.st_mode, status.st_uid, status.st_mtime_ns, contents))
        os.close(fd)
        yield found
        fd = below
