"""Flags of a file that no record has: *immutable* and *append only*."""

from __future__ import annotations

import fcntl
import struct
from typing import Final

from strongroom.client.problems import NOT_KEPT, Trouble

# FS_IOC_GETFLAGS of <linux/fs.h>: its number has the size of a long, and what it writes is an int.
_WORD: Final = struct.Struct("=i")
_GET_FLAGS: Final = 2 << 30 | struct.calcsize("l") << 16 | ord("f") << 8 | 1
_PROTECTIVE: Final = {0x10: "immutable", 0x20: "append only"}
_ANY: Final = sum(_PROTECTIVE)
_ROOM: Final = bytes(_WORD.size)


def flags_not_kept(path: bytes, fd: int) -> Trouble | None:
    """Tell whether an open file or folder has a flag that is not kept, because it would stand in a restore's own way.

    Args:
        path: for the report.
        fd: open descriptor.
    """
    try:
        (flags,) = _WORD.unpack(fcntl.ioctl(fd, _GET_FLAGS, _ROOM))
    except OSError:
        # Many file systems have no such flags, and say so with errors of their own; contents do not depend on it.
        return None
    if not flags & _ANY:
        return None
    words = " and ".join(name for bit, name in _PROTECTIVE.items() if flags & bit)
    return Trouble(
        path, NOT_KEPT, f"the flag {words} is not kept; after a restore, set it with chattr", f"flag {words}"
    )
