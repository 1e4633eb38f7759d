"""The stream *entries* of a stored image, read back: each file with its extents, in step with the payload manifest.

Both directions of work need it: a restore gives it out, a backup compares with the previous image. Nothing is held
but the entry at hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from strongroom.formats.entries import Entry, Extent, MoreAttributes, MoreExtents, Record
from strongroom.formats.entry_stream import EntriesReader
from strongroom.images.errors import BrokenImageError
from strongroom.pool.references import Reference


def read_records(chunks: Iterable[bytes | memoryview]) -> Iterator[Record]:
    """Read the records of a whole stream.

    Raises:
        DamagedError: a record, or what holds between records, is not as the page says, or the stream breaks off.
    """
    reader = EntriesReader()
    for chunk in chunks:
        yield from reader.feed(chunk)
    reader.finish()


def read_stored(chunks: Iterable[bytes | memoryview]) -> Iterator[tuple[Record, bytes]]:
    """Read the records of a whole stream, each with its bytes; raises as :func:`read_records`."""
    reader = EntriesReader()
    for chunk in chunks:
        yield from zip(reader.feed(chunk), reader.bodies, strict=True)
    reader.finish()


@dataclass
class StoredFile:
    """One file of a stored image.

    Attributes:
        number: of the entry, from 0.
        entry: its record, without extents.
        attributes: records of type 65 that follow it.
        extents: its contents, each piece with its reference (``None`` for a hole); to be used before the next file.
    """

    number: int
    entry: Entry
    attributes: list[MoreAttributes]
    extents: Iterator[tuple[Reference | None, int, int]]


class PayloadCursor:
    """The payload manifest, followed by the names that extents give."""

    def __init__(self, references: Iterator[Reference]) -> None:
        self._references = references
        self._current: Reference | None = None

    def find(self, extent: Extent) -> Reference | None:
        """Give the reference of an extent: that of the one before, or the next."""
        name, offset, length = extent
        if name is None:
            return None
        if self._current is None or self._current.name != name:
            self._current = next(self._references, None)
        if self._current is None or self._current.name != name:
            raise BrokenImageError("an extent names a segment that is not the next of the payload")
        if offset + length > self._current.length:
            raise BrokenImageError("an extent goes beyond its segment")
        return self._current

    def finish(self) -> None:
        """Say that no extents follow."""
        if next(self._references, None) is not None:
            raise BrokenImageError("the payload names segments behind those of the last file")


def stored_files(records: Iterator[Record], payload: Iterator[Reference]) -> Iterator[StoredFile]:
    """Go through the files of an image with their contents' references.

    Args:
        records: of the entries, checked by :func:`read_records`.
        payload: the payload manifest.

    Raises:
        BrokenImageError: entries and payload do not fit together.
        DamagedError: as in :func:`read_records`.
    """
    cursor = PayloadCursor(payload)
    record = next(records, None)
    number = 0
    while isinstance(record, Entry):
        entry = record
        attributes: list[MoreAttributes] = []
        record = next(records, None)
        while isinstance(record, MoreAttributes):
            attributes.append(record)
            record = next(records, None)
        following: list[Record | None] = [record]
        extents = _extents(entry, records, cursor, following)
        yield StoredFile(number, entry, attributes, extents)
        for _ in extents:
            pass  # what the caller did not use still moves the cursor
        record = following[0]
        number += 1
    cursor.finish()
    for _ in records:
        pass  # nothing may follow the end; its reader says so


def _extents(
    entry: Entry, records: Iterator[Record], cursor: PayloadCursor, following: list[Record | None]
) -> Iterator[tuple[Reference | None, int, int]]:
    """Give the extents of one file; ``following`` is left with the first record behind them."""
    for extent in entry.extents:
        yield cursor.find(extent), extent[1], extent[2]
    while isinstance(following[0], MoreExtents):
        for extent in following[0].extents:
            yield cursor.find(extent), extent[1], extent[2]
        following[0] = next(records, None)
