"""The previous image of a client, as a backup refers to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from strongroom.core.ids import DataKeyId, FrameId
from strongroom.formats import frame, image_stream
from strongroom.formats.entries import Entry, Extent, MoreAttributes, MoreExtents, Record
from strongroom.formats.image_stream import Known
from strongroom.images.errors import NotSameError
from strongroom.images.open_pool import OpenPool
from strongroom.images.stored_files import PayloadCursor
from strongroom.images.stored_image import StoredImage
from strongroom.pool.keys import KeysUsable
from strongroom.pool.references import Reference

_CHECKED_AT_ONCE: Final = 4_096
_LISTED_AT_ONCE: Final = 2_048
_RECORDS_AT_ONCE: Final = 1_024


def previous_listing(image: StoredImage) -> Iterator[bytes]:
    """Give the files of an image without contents: what a client compares its files with.

    Raises:
        KeyUnavailableError, IntegrityError, NotFoundError, PoolReadError: the entries cannot be read whole.
    """
    yield image_stream.MAGIC
    files = content = listed_bytes = 0
    known: list[Known] = []
    for record in image.records():
        if not isinstance(record, Entry):
            continue
        files += 1
        content += record.size
        known.append(Known.of(record))
        listed_bytes += len(record.path) + len(record.target or b"")
        if len(known) == _LISTED_AT_ONCE or listed_bytes >= image_stream.MAX_BLOCK_BYTES // 4:
            yield image_stream.known(known)
            known, listed_bytes = [], 0
    if known:
        yield image_stream.known(known)
    yield image_stream.end(files, content, 0)


@dataclass(slots=True)
class PreviousRun:
    """Records of files that stand one behind the other, with all that follows each.

    Attributes:
        records: as they are stored.
        files: how many files they are.
        content: sum of their sizes.
        first: path of the first.
        last: path of the last.
        references: what their contents refer to, in order.
    """

    records: list[bytes] = field(default_factory=list)
    files: int = 0
    content: int = 0
    first: bytes = b""
    last: bytes = b""
    references: list[Reference] = field(default_factory=list)


class PreviousFiles:
    """The files of the previous image, taken in runs by rising number.

    Args:
        image: open for reading.
        pool: where both images lie.
        usable: tells which data keys may be referred to; ``None`` when the new image is not encrypted.
    """

    def __init__(self, image: StoredImage, pool: OpenPool, usable: KeysUsable | None) -> None:
        self._records = image.stored_records()
        self._record = next(self._records, None)
        self._cursor = PayloadCursor(image.payload_references())
        self._number = -1  # of the last file that was passed
        self._pool = pool
        self._usable = usable
        self._referred: dict[FrameId, DataKeyId] = {}

    def run(self, first: int, count: int) -> Iterator[PreviousRun]:
        """Give the files that a client calls unchanged, in parts of bounded length.

        Args:
            first: number of the first of them.
            count: how many they are.

        Raises:
            NotSameError: there are not so many, or one behind the first was asked for before.
        """
        if first <= self._number:
            raise NotSameError(f"the file {first} of the previous image was passed before")
        while self._number < first - 1:
            self._pass_file(PreviousRun())
        part = PreviousRun()
        while self._number < first + count - 1:
            self._pass_file(part)
            if len(part.records) >= _RECORDS_AT_ONCE or len(part.references) >= _RECORDS_AT_ONCE:
                yield part
                part = PreviousRun()
        if part.files:
            yield part

    def _pass_file(self, part: PreviousRun) -> None:
        """Take the next file into a part."""
        found = self._record
        if found is None or not isinstance(found[0], Entry):
            raise NotSameError(f"the previous image has no file {self._number + 1}")
        (entry, body) = found[0], found[1]
        part.first = part.first or entry.path
        part.last = entry.path
        part.files += 1
        part.content += entry.size
        found = self._take_record(body, entry.extents, part)
        while found is not None and isinstance(found[0], MoreExtents | MoreAttributes):
            more, body = found
            found = self._take_record(body, more.extents if isinstance(more, MoreExtents) else [], part)
        self._record = found
        self._number += 1

    def _take_record(self, body: bytes, extents: list[Extent], part: PreviousRun) -> tuple[Record, bytes] | None:
        part.records.append(body)
        for extent in extents:
            reference = self._cursor.find(extent)
            if reference is not None and (not part.references or part.references[-1] is not reference):
                part.references.append(reference)
        return next(self._records, None)

    def note(self, references: list[Reference]) -> None:
        """Note that the new image refers to frames.

        Raises:
            NotSameError: as :meth:`check`.
        """
        for reference in references:
            self._referred[reference.frame_id] = reference.data_key_id
        if len(self._referred) >= _CHECKED_AT_ONCE:
            self.check()

    def check(self) -> None:
        """Check that all frames that were noted are in the pool, under usable data keys.

        Raises:
            NotSameError: one is not.
        """
        referred, self._referred = self._referred, {}
        if self._pool.index.lacking(list(referred), self._pool.domain):
            raise NotSameError("contents of the previous image are no longer in the pool")
        keys = set(referred.values())
        if self._usable is None:
            unusable = keys - {frame.NO_KEY}
        else:
            unusable = keys.difference(self._usable(keys))
        if unusable:
            raise NotSameError("contents of the previous image are encrypted under a key that is no longer used")
