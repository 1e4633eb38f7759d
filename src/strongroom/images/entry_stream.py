"""The stream *entries* of a stored image, read back: each file with its extents, in step with the payload manifest.

Both directions of work need it: a restore gives it out, a backup compares with the previous image. Nothing is held
but the entry at hand.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from strongroom.formats import entries
from strongroom.formats.entries import End, Entry, Extent, MoreAttributes, MoreExtents, Record
from strongroom.formats.errors import DamagedError
from strongroom.images.errors import BrokenImageError
from strongroom.pool.references import Reference

_U32: Final = struct.Struct(">I")


def read_records(chunks: Iterable[bytes | memoryview]) -> Iterator[Record]:
    """Cut the bytes of a stream into records, checking the order of paths and the end.

    Raises:
        DamagedError: a record is damaged, paths are out of order, or the stream does not end as it must.
    """
    rest = bytearray()
    last_path: bytes | None = None
    files = content = 0
    ended = False
    for chunk in chunks:
        if ended:
            raise DamagedError("something follows the last record of the entries")
        rest += chunk
        at = 0
        while len(rest) - at >= _U32.size:
            (length,) = _U32.unpack_from(rest, at)
            if length > entries.MAX_RECORD_BYTES:
                raise DamagedError(f"an entry claims {length} bytes, more than its bound")
            if len(rest) - at - _U32.size < length:
                break
            if ended:
                raise DamagedError("something follows the last record of the entries")
            record = entries.decode(bytes(rest[at + _U32.size : at + _U32.size + length]))
            at += _U32.size + length
            if isinstance(record, Entry):
                key = entries.walk_key(record.path)
                if last_path is not None and key <= last_path:
                    raise DamagedError(f"{entries.shown(record.path)} is out of the order of the walk")
                last_path = key
                files += 1
                content += record.size
            elif isinstance(record, End):
                if (record.files, record.content) != (files, content):
                    raise DamagedError("the last record of the entries has other sums than the records before it")
                ended = True
            yield record
        del rest[:at]
    if not ended or rest:
        raise DamagedError("the entries end before their last record")


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


class _Cursor:
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


def stored_files(records: Iterator[Record], payload: Iterator[Reference]) -> Iterator[StoredFile]:
    """Go through the files of an image with their contents' references.

    Args:
        records: of the entries, checked by :func:`read_records`.
        payload: the payload manifest.

    Raises:
        BrokenImageError: entries and payload do not fit together.
        DamagedError: as in :func:`read_records`.
    """
    cursor = _Cursor(payload)
    record = next(records, None)
    number = 0
    while record is not None and not isinstance(record, End):
        if not isinstance(record, Entry):
            raise DamagedError("more extents or attributes stand behind no file")
        entry = record
        attributes: list[MoreAttributes] = []
        record = next(records, None)
        while isinstance(record, MoreAttributes) and entry.flags & entries.ATTRIBUTES_FOLLOW:
            attributes.append(record)
            record = next(records, None)
        if bool(attributes) != bool(entry.flags & entries.ATTRIBUTES_FOLLOW):
            raise DamagedError(f"the attributes of {entries.shown(entry.path)} are missing")
        following: list[Record | None] = [record]
        extents = _extents(entry, records, cursor, following)
        yield StoredFile(number, entry, attributes, extents)
        for _ in extents:
            pass  # what the caller did not use still moves the cursor
        record = following[0]
        number += 1


def _extents(
    entry: Entry, records: Iterator[Record], cursor: _Cursor, following: list[Record | None]
) -> Iterator[tuple[Reference | None, int, int]]:
    total = 0
    for extent in entry.extents:
        total += extent[2]
        yield cursor.find(extent), extent[1], extent[2]
    entry.extents = []
    more = False
    while isinstance(following[0], MoreExtents):
        if not entry.flags & entries.EXTENTS_FOLLOW:
            raise DamagedError(f"extents follow {entries.shown(entry.path)} that it does not announce")
        more = True
        for extent in following[0].extents:
            total += extent[2]
            yield cursor.find(extent), extent[1], extent[2]
        following[0] = next(records, None)
    if total != entry.size or more != bool(entry.flags & entries.EXTENTS_FOLLOW):
        raise BrokenImageError(f"the extents of {entries.shown(entry.path)} are not its contents")
