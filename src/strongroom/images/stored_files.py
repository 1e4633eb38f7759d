"""The stream *entries* of a stored image, read back: each file with its extents, in step with the payload manifest.

Both directions of work need it: a restore gives it out, a backup compares with the previous image. Nothing is held
but the entry at hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, NamedTuple, TypeAlias

from strongroom.core.errors import StrongroomError
from strongroom.formats.entries import LENGTH_BYTES, Entry, Extent, MoreAttributes, MoreExtents, Record
from strongroom.formats.entry_stream import EntriesReader
from strongroom.images.errors import BrokenImageError
from strongroom.pool.manifest import PageDamage
from strongroom.pool.references import Reference

_TOGETHER_BYTES: Final = 256 << 10


def together(chunks: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """Give segments of the entries joined, a hundred thousands of bytes at a time: each call for one has its price.

    What came before an error is given before it.
    """
    gathered: list[bytes | memoryview] = []
    length = 0
    try:
        for chunk in chunks:
            gathered.append(chunk)
            length += len(chunk)
            if length >= _TOGETHER_BYTES:
                yield b"".join(gathered)
                gathered, length = [], 0
    except StrongroomError:
        yield b"".join(gathered)
        raise
    yield b"".join(gathered)


def read_records(chunks: Iterable[bytes | memoryview]) -> Iterator[Record]:
    """Read the records of a whole stream.

    Raises:
        DamagedError: a record, or what holds between records, is not as the page says, or the stream breaks off.
    """
    reader = EntriesReader()
    for data in together(chunks):
        yield from reader.feed(data)
    reader.finish()


@dataclass(frozen=True)
class LostSegment:
    """A segment that an extent names and no readable page does; ``error`` says why."""

    name: bytes
    error: StrongroomError


Source: TypeAlias = Reference | LostSegment | None
"""Where a piece of a file comes from; ``None`` for a hole."""


class StoredRecords(NamedTuple):
    """Records that stand one behind the other.

    Attributes:
        records: read and checked.
        stored: as they are stored, each with its length before it.
        places: where each begins in :attr:`stored`, and where the last ends.
    """

    records: list[Record]
    stored: bytes
    places: list[int]


def read_stored(chunks: Iterable[bytes | memoryview]) -> Iterator[StoredRecords]:
    """Read the records of a whole stream, some at a time; raises as :func:`read_records`."""
    reader = EntriesReader()
    for data in together(chunks):
        records = reader.feed(data)
        lengths = [len(body) + LENGTH_BYTES for body in reader.bodies]
        yield StoredRecords(records, reader.stored, list(accumulate(lengths, initial=0)))
    reader.finish()


@dataclass
class StoredFile:
    """One file of a stored image.

    Attributes:
        number: of the entry, from 0.
        entry: its record, without extents.
        attributes: records of type 65 that follow it.
        extents: its contents, each piece with its source, offset and length; to be used before the next file.
    """

    number: int
    entry: Entry
    attributes: list[MoreAttributes]
    extents: Iterator[tuple[Source, int, int]]


class PayloadCursor:
    """The payload manifest, followed by the names that extents give.

    Attributes:
        passed: how many segments of the payload lie before the end of the one that was found last.
    """

    def __init__(self, references: Iterator[Reference] | Iterator[Reference | PageDamage]) -> None:
        self.passed = 0
        self._references = references
        self._current: Reference | LostSegment | None = None
        self._damage: PageDamage | None = None
        self._lost_left = 0

    def find(self, extent: Extent) -> Source:
        """Give the source of an extent: that of the one before, or the next."""
        name, offset, length = extent
        if name is None:
            return None
        if self._current is None or self._current.name != name:
            self._current = self._next(name)
        if self._current is None or self._current.name != name:
            raise BrokenImageError("an extent names a segment that is not the next of the payload")
        if isinstance(self._current, Reference) and offset + length > self._current.length:
            raise BrokenImageError("an extent goes beyond its segment")
        return self._current

    def _next(self, name: bytes) -> Reference | LostSegment | None:
        """Give the next segment; of those that a lost page named, only how many there were is known."""
        while not self._lost_left:
            found = next(self._references, None)
            if not isinstance(found, PageDamage):
                self.passed += found is not None
                return found
            self._damage, self._lost_left = found, found.segments
        self._lost_left -= 1
        self.passed += 1
        return LostSegment(name, self._damage.error) if self._damage is not None else None

    def finish(self) -> None:
        """Say that no extents follow."""
        if self._lost_left or next(self._references, None) is not None:
            raise BrokenImageError("the payload names segments behind those of the last file")


def stored_files(
    records: Iterator[Record], payload: Iterator[Reference] | Iterator[Reference | PageDamage]
) -> Iterator[StoredFile]:
    """Go through the files of an image with their contents' references.

    Args:
        records: of the entries, checked by :func:`read_records`.
        payload: the payload manifest, or what of it can be read.

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
) -> Iterator[tuple[Source, int, int]]:
    """Give the extents of one file; ``following`` is left with the first record behind them."""
    for extent in entry.extents:
        yield cursor.find(extent), extent[1], extent[2]
    while isinstance(following[0], MoreExtents):
        for extent in following[0].extents:
            yield cursor.find(extent), extent[1], extent[2]
        following[0] = next(records, None)
