"""What a restore wrote, on its way to stable storage: long files as they are written, file systems at its end."""

from __future__ import annotations

import ctypes
import os
from contextlib import ExitStack
from typing import Final

BEGIN_BYTES: Final = 32 << 20
_SYNC_FILE_RANGE_WRITE: Final = 2

_libc = ctypes.CDLL(None, use_errno=True)
_libc.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


def begin_writing(fd: int, at: int, length: int) -> None:
    """Have the system begin to write a range of a file to the disk, and do not wait for it.

    By itself it begins when a tenth of the memory is waiting; then the disk has nothing to do while a restore decrypts,
    and much at its end. Whether it can be done, and whether it went well, is found out at the end.
    """
    _libc.sync_file_range(fd, at, length, _SYNC_FILE_RANGE_WRITE)


class FileSystems:
    """Holds a folder of each file system open, because they can be many when a restore goes to ``/``."""

    def __init__(self) -> None:
        self._folders: dict[int, int] = {}

    def note(self, device: int, fd: int) -> None:
        """Note that something was written to the file system of an open folder."""
        if device not in self._folders:
            self._folders[device] = os.dup(fd)

    def sync(self) -> None:
        """Wait until everything on these file systems is on stable storage; others are not waited for.

        Raises:
            OSError: the system could not write something.
        """
        for fd in self._folders.values():
            if _libc.syncfs(fd) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))

    def close(self) -> None:
        """Let go of the folders."""
        with ExitStack() as each:
            for fd in self._folders.values():
                each.callback(os.close, fd)
        self._folders.clear()
