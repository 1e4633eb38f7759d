"""One engine to a database file: a file lock, which the kernel lets go however its process ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from strongroom.core.errors import ResourceError
from strongroom.jobs.errors import EngineRunningError


class ExclusiveFile:
    """A lock on a file that is made for it.

    Args:
        path: the file; it stays when the lock is gone, because removing it would let two in.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock, without waiting.

        Raises:
            EngineRunningError: another engine has it.
            ResourceError: the file cannot be made.
        """
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ResourceError(f"the lock '{self._path}' cannot be made: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise EngineRunningError(f"another process runs the jobs of '{self._path}'") from error
        self._descriptor = descriptor

    def release(self) -> None:
        """Let the lock go, if it is held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
