"""Open folders: names are looked up in them, so that nobody can slip a symbolic link into the way."""

from __future__ import annotations

import errno
import os
from typing import Final

OPEN_LEVELS: Final = 64
"""Levels of a path whose folders stay open; those above are closed, and opened again from below."""

_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class MovedError(OSError):
    """A folder is no longer above the one that was reached through it."""


class Folder:
    """A folder held open by descriptor.

    Files found in it may be opened later, by a reader that runs behind the walk: each holds the folder until then.
    All calls come from one thread.

    Args:
        fd: open descriptor, which now belongs to this object.
        path: absolute path, for people and records only.
    """

    __slots__ = ("_holds", "_left", "device", "fd", "inode", "path", "prefix")

    def __init__(self, fd: int, path: bytes) -> None:
        status = os.fstat(fd)
        self.fd = fd
        self.path = path
        self.prefix = path if path == b"/" else path + b"/"
        self.device = status.st_dev
        self.inode = status.st_ino
        self._holds = 0
        self._left = False

    def hold(self) -> None:
        """Keep the folder open until :meth:`release`, even when it is left or parked."""
        self._holds += 1

    def release(self) -> None:
        """Take back one :meth:`hold`."""
        self._holds -= 1
        if self._left:
            self._close()

    def leave(self) -> None:
        """Say that nothing more is looked up here."""
        self._left = True
        self._close()

    def park(self) -> None:
        """Close the descriptor for now, unless somebody holds it; :meth:`revive` opens it again."""
        self._close()

    def revive(self, child: Folder) -> None:
        """Open the folder again from one in it.

        Raises:
            MovedError: the child's parent is another folder now.
            OSError: the system refuses.
        """
        if self.fd >= 0:
            return
        fd = os.open(b"..", _FLAGS, dir_fd=child.fd)
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) != (self.device, self.inode):
            os.close(fd)
            raise MovedError(errno.ESTALE, "the folder was moved while it was walked")
        self.fd = fd

    def child(self, name: bytes) -> Folder:
        """Open a folder in this one; a symbolic link is refused.

        Raises:
            OSError: not there, not a folder, or not permitted.
        """
        return Folder(open_at(name, _FLAGS, self.fd), self.prefix + name)

    def _close(self) -> None:
        if self._holds == 0 and self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def open_root(path: bytes) -> Folder:
    """Open the folder from which a walk or a restore begins; here symbolic links are followed, as its caller means."""
    return Folder(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), path)


def open_at(name: bytes, flags: int, dir_fd: int) -> int:
    """Open for reading without a trace in the access time, where that is allowed.

    Raises:
        OSError: as of ``os.open``.
    """
    try:
        return os.open(name, flags | os.O_NOATIME, dir_fd=dir_fd)
    except PermissionError:
        # Only the owner, or a capability, may leave the access time alone.
        return os.open(name, flags, dir_fd=dir_fd)
