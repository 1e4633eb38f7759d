"""Reads one file: opened without following links, looked at before and after."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from strongroom.client.flags import flags_not_kept
from strongroom.client.folders import open_at
from strongroom.client.problems import (
    CHANGED,
    SHRANK,
    UNREADABLE,
    UNSUPPORTED,
    VANISHED,
    Trouble,
    reading_failed,
    reason,
)
from strongroom.client.walker import Found
from strongroom.formats import entries
from strongroom.formats.entries import Attribute

SMALL_BYTES: Final = 1 << 20
"""Files up to this size are read at once, many in a batch."""
SPARSE_BYTES: Final = 64 << 10
"""Files above this size are searched for holes when they take less room than their size."""

# Not blocking: what was a file when it was listed may be a FIFO without a writer when it is opened.
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NO_ATTRIBUTES: Final = (errno.ENOTSUP, errno.ENODATA)
TYPES: Final = {
    stat.S_IFREG: entries.REGULAR,
    stat.S_IFDIR: entries.FOLDER,
    stat.S_IFLNK: entries.SYMLINK,
    stat.S_IFIFO: entries.FIFO,
    stat.S_IFSOCK: entries.SOCKET,
    stat.S_IFCHR: entries.CHARACTER_DEVICE,
    stat.S_IFBLK: entries.BLOCK_DEVICE,
}
"""Types of records by those of this system."""


@dataclass(slots=True)
class Reading:
    """What reading a file gave.

    Attributes:
        status: at opening.
        data: contents of a small file; empty of a large one, which is read in ranges.
        attributes: pairs of name and value, not sorted.
        target: of a symbolic link.
        flags: of the record, :data:`entries.CHANGED` and :data:`entries.SHRANK`.
        trouble: what to report beside the record.
        not_kept: what else to report, because no record has it.
    """

    status: os.stat_result
    data: bytes = b""
    attributes: list[Attribute] | None = None
    target: bytes | None = None
    flags: int = 0
    trouble: Trouble | None = None
    not_kept: Trouble | None = None


class Large:
    """Says that a file is to be read in ranges."""


Outcome: TypeAlias = Reading | Trouble | Large


def is_in_ranges(status: os.stat_result) -> bool:
    """Tell whether a regular file is too large to be read at once, or may have holes worth keeping."""
    size = status.st_size
    return size > SMALL_BYTES or (size > SPARSE_BYTES and status.st_blocks * 512 < size)


def read_plain(found: Found) -> Outcome:
    """Read the attributes, and a symbolic link's target, of what is no regular file; nothing is opened."""
    try:
        target = os.readlink(found.name, dir_fd=found.folder.fd) if stat.S_ISLNK(found.status.st_mode) else None
        # No call takes a folder's descriptor and a name in it, but the process file system does.
        attributes = _attributes(b"/proc/self/fd/%d/%b" % (found.folder.fd, found.name))
    except FileNotFoundError as error:
        if _is_there(found):
            return Trouble(found.path, UNREADABLE, "its attributes cannot be read while /proc is not mounted")
        return reading_failed(found.path, error)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return Trouble(found.path, VANISHED, "it was a symbolic link, and is something else now")
        return reading_failed(found.path, error)
    return Reading(found.status, attributes=attributes, target=target)


def _is_there(found: Found) -> bool:
    try:
        os.stat(found.name, dir_fd=found.folder.fd, follow_symlinks=False)
    except OSError:
        return False
    return True


def read_small(found: Found) -> Outcome:
    """Read a regular file at once, unless it has become too large for that."""
    try:
        fd, before = open_regular(found)
    except OSError as error:
        return reading_failed(found.path, error)
    try:
        if before.st_size > SMALL_BYTES:
            return Large()
        return _read_open(found, fd, before)
    except OSError as error:
        return Trouble(found.path, UNREADABLE, reason(error))
    finally:
        os.close(fd)


def open_regular(found: Found) -> tuple[int, os.stat_result]:
    """Open a regular file; give its descriptor and status.

    Raises:
        OSError: gone, replaced by something else, or not permitted.
    """
    fd = open_at(found.name, _FLAGS, found.folder.fd)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.ESTALE, "it is no regular file any more")
    except OSError:
        os.close(fd)
        raise
    return fd, status


def attributes_of(fd: int) -> list[Attribute]:
    """Read the extended attributes of an open file.

    Raises:
        OSError: the system refuses.
    """
    return _attributes(fd)


def compare(path: bytes, before: os.stat_result, after: os.stat_result, read_bytes: int) -> tuple[int, Trouble | None]:
    """Tell the flags of a file's record, and what to report, from its status before and after it was read."""
    if read_bytes < before.st_size:
        message = f"{before.st_size - read_bytes} of {before.st_size} bytes were gone before they were read"
        return entries.CHANGED | entries.SHRANK, Trouble(path, SHRANK, message)
    if (before.st_size, before.st_mtime_ns, before.st_ctime_ns) != (
        after.st_size,
        after.st_mtime_ns,
        after.st_ctime_ns,
    ):
        return entries.CHANGED, Trouble(path, CHANGED, "it changed while it was read")
    return 0, None


def unsupported(found: Found) -> Trouble:
    """Name a type of file that is not kept."""
    kind = stat.S_IFMT(found.status.st_mode)
    return Trouble(found.path, UNSUPPORTED, "this type of file is not kept", f"type {kind:#o}")


def ranges(fd: int, size: int, status: os.stat_result, most: int) -> Iterator[tuple[int, int, bool]]:
    """Cut a file into ranges of data, at most ``most`` bytes each, and holes of any length.

    Gives:
        Offset, length, and whether it is a hole.

    Raises:
        OSError: the system refuses.
    """
    at = 0
    sparse = status.st_blocks * 512 < size
    while at < size:
        data_at, data_end = _next_data(fd, at, size) if sparse else (at, size)
        if data_at > at:
            yield at, data_at - at, True
        while data_at < data_end:
            length = min(most, data_end - data_at)
            yield data_at, length, False
            data_at += length
        at = max(data_at, data_end)


def _next_data(fd: int, at: int, size: int) -> tuple[int, int]:
    """Find the data at or after ``at``: its begin and end, both ``size`` when only a hole is left."""
    try:
        data_at = min(os.lseek(fd, at, os.SEEK_DATA), size)
        return data_at, min(os.lseek(fd, data_at, os.SEEK_HOLE), size) if data_at < size else size
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size, size
        if error.errno == errno.EINVAL:
            # This file system cannot tell.
            return at, size
        raise


def _read_open(found: Found, fd: int, before: os.stat_result) -> Reading:
    size = before.st_size
    data = os.read(fd, size) if size else b""
    failed: OSError | None = None
    if len(data) < size:
        data, failed = _read_on(fd, data, size)
    attributes = _attributes(fd)
    flags, trouble = compare(found.path, before, os.fstat(fd), len(data))
    if failed is not None:
        trouble = broken_off(found.path, failed, len(data), size)
    return Reading(before, data, attributes, None, flags, trouble, flags_not_kept(found.path, fd))


def _read_on(fd: int, data: bytes, size: int) -> tuple[bytes, OSError | None]:
    """Read the rest of a file that did not come at once; give what there is, and what broke it off."""
    parts = [data]
    left = size - len(data)
    while left and parts[-1]:
        try:
            parts.append(os.read(fd, left))
        except OSError as error:
            return b"".join(parts), error
        left -= len(parts[-1])
    return b"".join(parts), None


def broken_off(path: bytes, error: OSError, read_bytes: int, size: int) -> Trouble:
    """Name a file that could be read in part."""
    return Trouble(path, UNREADABLE, f"only {read_bytes} of {size} bytes could be read: {reason(error)}")


def _attributes(file: int | bytes) -> list[Attribute]:
    try:
        names = os.listxattr(file) if isinstance(file, int) else os.listxattr(file, follow_symlinks=False)
    except OSError as error:
        if error.errno in _NO_ATTRIBUTES:
            return []
        raise
    return [found for name in names if (found := _attribute(file, name)) is not None]


def _attribute(file: int | bytes, name: str) -> Attribute | None:
    try:
        value = os.getxattr(file, name) if isinstance(file, int) else os.getxattr(file, name, follow_symlinks=False)
    except OSError as error:
        # Removed since it was listed, or (some of ``security.``) listed for all and readable for few.
        if error.errno in (*_NO_ATTRIBUTES, errno.EPERM, errno.EACCES):
            return None
        raise
    return os.fsencode(name), value
