"""Where the holes of an image's files are, found before any contents are given: a tar says it in front of a file.

One pass over the entries; the maps lie in a nameless file, so that memory is one map and 16 bytes for each file that
has holes.
"""

from __future__ import annotations

import heapq
import struct
import tempfile
from array import array
from bisect import bisect_left
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from strongroom.core.errors import IntegrityError, NotFoundError
from strongroom.formats.entries import Entry, Extent, MoreExtents
from strongroom.formats.image_stream import MAX_HOLES
from strongroom.images.stored_image import StoredImage
from strongroom.pool.errors import PoolReadError

_COUNT: Final = struct.Struct(">I")
_ROW: Final = struct.Struct(">QQ")


class Holes:
    """The holes of all files of an image, the longest of each.

    Args:
        image: open for reading.
        folder: where the nameless file lies.
    """

    def __init__(self, image: StoredImage, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by close()
        self._numbers = array("Q")
        self._places = array("Q")
        with ExitStack() as on_error:
            on_error.callback(self.close)
            self._find(image)
            on_error.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop them."""
        self._file.close()

    def of(self, number: int) -> list[tuple[int, int]]:
        """Give offset and length of the holes of one file, ascending, at most :data:`MAX_HOLES`.

        Args:
            number: of the file in the image's entries, from 0.
        """
        at = bisect_left(self._numbers, number)
        if at == len(self._numbers) or self._numbers[at] != number:
            return []
        self._file.seek(self._places[at])
        (count,) = _COUNT.unpack(self._file.read(_COUNT.size))
        return list(_ROW.iter_unpack(self._file.read(count * _ROW.size)))

    def _find(self, image: StoredImage) -> None:
        number = -1
        found = _Longest()
        try:
            for record in image.records():
                if isinstance(record, Entry):
                    self._write(number, found)
                    number, found = number + 1, _Longest()
                if isinstance(record, Entry | MoreExtents):
                    found.add(record.extents)
        except (IntegrityError, NotFoundError, PoolReadError):
            return  # whoever gives the files meets the same damage, behind those that are whole
        self._write(number, found)

    def _write(self, number: int, found: _Longest) -> None:
        rows = found.ascending()
        if rows:
            self._numbers.append(number)
            self._places.append(self._file.tell())
            self._file.write(_COUNT.pack(len(rows)) + b"".join([_ROW.pack(*row) for row in rows]))


class _Longest:
    """The longest holes of one file."""

    def __init__(self) -> None:
        self._at = 0
        self._open: tuple[int, int] | None = None
        self._heap: list[tuple[int, int]] = []

    def add(self, extents: list[Extent]) -> None:
        """Take the next extents; a hole may go on from the one before."""
        for name, _, length in extents:
            if name is None:
                start = self._open[0] if self._open is not None else self._at
                self._open = start, self._at + length - start
            else:
                self._end_hole()
            self._at += length

    def ascending(self) -> list[tuple[int, int]]:
        """Give offset and length of each."""
        self._end_hole()
        return sorted((offset, length) for length, offset in self._heap)

    def _end_hole(self) -> None:
        if self._open is None:
            return
        offset, length = self._open
        self._open = None
        if len(self._heap) < MAX_HOLES:
            heapq.heappush(self._heap, (length, offset))
        else:
            heapq.heappushpop(self._heap, (length, offset))
