"""A file, read at any place, for the offline inspector."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self


class FileSource:
    """An open file of a length that is looked at once.

    Raises:
        OSError: it cannot be opened or read.
    """

    def __init__(self, path: Path) -> None:
        # Not blocking: a FIFO would wait for a writer.
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        self.size = os.fstat(self._fd).st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def read(self, offset: int, length: int) -> bytes:
        """Give ``length`` bytes from ``offset``, fewer at the end."""
        parts = []
        while length > 0 and (part := os.pread(self._fd, length, offset)):
            parts.append(part)
            offset += len(part)
            length -= len(part)
        return b"".join(parts)
