"""Extents on their way from the chunker to the record that owns them; in bounded memory, however large the file."""

from __future__ import annotations

import copy
import struct
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

from strongroom.core.ids import DIGEST_BYTES
from strongroom.formats import entries
from strongroom.formats.entries import Entry, Extent, MoreAttributes

_IN_MEMORY: Final = 16_384
_ROW: Final = struct.Struct(">?32sQQ")
_NO_NAME: Final = bytes(DIGEST_BYTES)


class ExtentQueue:
    """Extents that no record owns yet, first in, first out.

    Contents come before their record, so the extents of a very large file wait until the file ends. What goes beyond
    some thousands lies in a nameless file, which is gone with the process.

    Args:
        folder: where that file is made, if it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._front: deque[Extent] = deque()
        self._back: list[Extent] = []
        self._file: IO[bytes] | None = None
        self._read_at = 0
        self._written = 0

    def __bool__(self) -> bool:
        return bool(self._front or self._back or self._read_at < self._written)

    def push(self, extent: Extent) -> None:
        """Put an extent at the end."""
        self._back.append(extent)
        if len(self._back) >= _IN_MEMORY:
            self._spill()

    def take(self, most: int) -> Extent | None:
        """Take the first extent, or the beginning of it.

        Args:
            most: how many bytes are wanted; at least 1.

        Returns:
            An extent of at most so many bytes; ``None`` when there is none.
        """
        if not self._front and not self._refill():
            return None
        name, offset, length = self._front[0]
        if length <= most:
            return self._front.popleft()
        self._front[0] = (name, 0 if name is None else offset + most, length - most)
        return name, offset, most

    def close(self) -> None:
        """Drop everything."""
        self._front.clear()
        self._back.clear()
        self._read_at = self._written = 0
        if self._file is not None:
            self._file.close()
            self._file = None

    def _spill(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 - closed by close()
        rows = b"".join(
            _ROW.pack(name is None, name or _NO_NAME, offset, length) for name, offset, length in self._back
        )
        self._file.seek(self._written)
        rest = memoryview(rows)
        while rest:
            rest = rest[self._file.write(rest) :]
        self._written += len(rows)
        self._back.clear()

    def _refill(self) -> bool:
        """Bring the oldest extents to the front."""
        if self._file is not None and self._read_at < self._written:
            self._file.seek(self._read_at)
            rows = self._file.read(min(_ROW.size * _IN_MEMORY, self._written - self._read_at))
            self._read_at += len(rows)
            for is_hole, name, offset, length in _ROW.iter_unpack(rows):
                self._front.append((None if is_hole else name, offset, length))
            if self._read_at == self._written:
                self._file.truncate(0)
                self._read_at = self._written = 0
        else:
            self._front.extend(self._back)
            self._back.clear()
        return bool(self._front)


class ExtentWriter:
    """Writes one record with its extents, in records of type 64 when they are many.

    Args:
        entry: the record, as the client sent it.
        write: takes encoded records.

    Attributes:
        entry: the record; what is written differs from it in extents and in a flag.
        attributes: records of type 65 behind it; complete before the first extent is added.
        missing_bytes: contents for which no extent came yet.
    """

    __slots__ = ("_announced", "_extents", "_write", "attributes", "entry", "missing_bytes")

    def __init__(self, entry: Entry, write: Callable[[bytes], None]) -> None:
        self.entry = entry
        self.attributes: list[MoreAttributes] = []
        self.missing_bytes = entry.size
        self._write = write
        self._extents: list[Extent] = []
        self._announced = False

    def add(self, extent: Extent) -> None:
        """Take the next extent; neighbours in one segment become one."""
        self.missing_bytes -= extent[2]
        if self._extents:
            name, offset, length = self._extents[-1]
            joined = offset + length if name is not None else 0
            if name == extent[0] and joined == extent[1]:
                self._extents[-1] = (name, offset, length + extent[2])
                return
            if len(self._extents) == entries.MAX_EXTENTS:
                self._flush(more=True)
        self._extents.append(extent)

    def finish(self) -> None:
        """Write what is left."""
        self._flush(more=False)

    def _flush(self, *, more: bool) -> None:
        if self._announced:
            self._write(entries.encode(entries.MoreExtents(self._extents)))
        else:
            entry = self.entry
            if more:
                # whoever checks the order of records still looks at the client's, which announces nothing
                entry = copy.copy(entry)
                entry.flags |= entries.EXTENTS_FOLLOW
            entry.extents = self._extents
            self._write(entries.encode(entry))
            for record in self.attributes:
                self._write(entries.encode(record))
            self._announced = True
        self._extents = []
