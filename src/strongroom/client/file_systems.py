"""The file systems that a restore wrote to, to be brought to stable storage at its end."""

from __future__ import annotations

import ctypes
import os
from contextlib import ExitStack


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
        library = ctypes.CDLL(None, use_errno=True)
        for fd in self._folders.values():
            if library.syncfs(fd) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))

    def close(self) -> None:
        """Let go of the folders."""
        with ExitStack() as each:
            for fd in self._folders.values():
                each.callback(os.close, fd)
        self._folders.clear()
