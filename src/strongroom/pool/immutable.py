"""Files that the file system itself keeps: the immutable flag, as ``chattr +i`` sets it.

Source: ``FS_IOC_GETFLAGS`` and ``FS_IOC_SETFLAGS`` of Linux (ioctl_iflags(2)). Setting it needs
``CAP_LINUX_IMMUTABLE``, which root has, and a file system that knows the flag, such as ext4, XFS and Btrfs.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path
from typing import Final

_LONG: Final = struct.Struct("l")
_INT: Final = struct.Struct("i")
_GET_FLAGS: Final = 2 << 30 | _LONG.size << 16 | ord("f") << 8 | 1
_SET_FLAGS: Final = 1 << 30 | _LONG.size << 16 | ord("f") << 8 | 2
_IMMUTABLE: Final = 0x10
_NOT_HERE: Final = frozenset({errno.EPERM, errno.EACCES, errno.ENOTTY, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


def set_immutable(path: Path, *, immutable: bool) -> bool:
    """Set or clear the flag of a file.

    Returns:
        Whether it is as asked; not where file system or privileges do not allow it.

    Raises:
        OSError: the file is not there, or the disk refused.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        flags = _flags(handle)
        wanted = flags | _IMMUTABLE if immutable else flags & ~_IMMUTABLE
        if wanted != flags:
            # the kernel reads an int here, whatever the size in the number says
            fcntl.ioctl(handle, _SET_FLAGS, _INT.pack(wanted).ljust(_LONG.size, b"\0"))
    except OSError as error:
        if error.errno in _NOT_HERE:
            return False
        raise
    finally:
        os.close(handle)
    return True


def is_immutable(path: Path) -> bool:
    """Tell whether a file has the flag.

    Raises:
        OSError: the file is not there, or the disk refused.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return bool(_flags(handle) & _IMMUTABLE)
    except OSError as error:
        if error.errno in _NOT_HERE:
            return False
        raise
    finally:
        os.close(handle)


def _flags(handle: int) -> int:
    found: int = _INT.unpack_from(fcntl.ioctl(handle, _GET_FLAGS, bytes(_LONG.size)))[0]
    return found
