"""The previous image of a client, as a backup refers to it.

What of it may be referred to, the client was told before (``images.previous_listing``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias, cast

from strongroom.core.ids import DataKeyId, FrameId
from strongroom.formats import frame
from strongroom.formats.entries import End, Entry, Extent, MoreAttributes, MoreExtents, Record
from strongroom.formats.entry_stream import stands_alone
from strongroom.images.errors import NotSameError
from strongroom.images.open_pool import OpenPool
from strongroom.images.stored_files import PayloadCursor, Source
from strongroom.images.stored_image import StoredImage
from strongroom.pool.keys import KeysUsable
from strongroom.pool.references import Reference

_CHECKED_AT_ONCE: Final = 4_096


Referred: TypeAlias = dict[FrameId, DataKeyId]
"""Frames that an image refers to, and the data keys that they are encrypted under."""


def not_to_refer_to(referred: Referred, pool: OpenPool, usable: KeysUsable | None) -> set[FrameId]:
    """Tell which frames no new image may refer to: the pool has lost them, or their data keys are no longer used.

    What lies in a container in which damage was read counts as lost, until a repair has saved what is whole of it.

    Frames in a condemned container may be referred to: the previous image stays until the new one is stored, and so
    does what it needs.

    Args:
        referred: frames of the previous image.
        pool: where they lie.
        usable: tells which data keys may be referred to; ``None`` when the new image is not encrypted.
    """
    places = pool.index.locate(list(referred), pool.domain)
    lost = {frame_id for frame_id in referred if pool.index.distrusted.has_all(places.get(frame_id, []))}
    keys = set(referred.values())
    good = {frame.NO_KEY} if usable is None else usable(keys)
    return lost | {frame_id for frame_id, key in referred.items() if key not in good}


@dataclass(slots=True)
class PreviousRun:
    """Records of files that stand one behind the other, with what follows each.

    Attributes:
        records: as they are stored, each with its length before it.
        files: how many files begin here; none where a long file goes on.
        content: sum of their sizes.
        first: path of the first.
        last: path of the last.
        references: what their contents refer to, in order.
    """

    records: bytes
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
        self._batches = image.stored_records()
        self._records: list[Record] = []
        self._stored = b""
        self._places: list[int] = []
        self._at = 0  # of the next record
        self._others: deque[int] = deque()  # where a record is not that of a file which nothing follows
        self._cursor = PayloadCursor(image.readable_payload())
        self._last: Reference | None = None  # what the last extent lies in
        self._number = 0  # of the next file
        self._pool = pool
        self._usable = usable
        self._referred: Referred = {}

    @property
    def passed(self) -> int:
        """How many segments of the payload the files that were passed lie in."""
        return self._cursor.passed

    def run(self, first: int, count: int) -> Iterator[PreviousRun]:
        """Give the files that a client calls unchanged, in parts of bounded length.

        Args:
            first: number of the first of them.
            count: how many they are.

        Raises:
            NotSameError: there are not so many, or one behind the first was asked for before.
        """
        if first < self._number:
            raise NotSameError(f"the file {first} of the previous image was passed before")
        for _ in self._take(first, is_wanted=False):
            pass  # what is lost of these does not matter
        yield from self._take(first + count, is_wanted=True)

    def _take(self, until: int, *, is_wanted: bool) -> Iterator[PreviousRun]:
        """Go on to a file."""
        while self._number < until:
            self._fill()
            end = self._others[0] if self._others else len(self._records)
            if self._at < end:
                yield self._take_plain(min(end, self._at + until - self._number), is_wanted=is_wanted)
            else:
                yield self._take_other(is_wanted=is_wanted)
                while self._fill() and isinstance(self._records[self._at], MoreExtents | MoreAttributes):
                    yield self._take_other(is_wanted=is_wanted)

    def _take_plain(self, end: int, *, is_wanted: bool) -> PreviousRun:
        """Take files that nothing follows."""
        files = cast("list[Entry]", self._records[self._at : end])
        references: list[Reference] = []
        name, reach = (None, 0) if self._last is None else (self._last.name, self._last.length)
        for file in files:
            extents = file.extents
            if not extents:
                continue
            if len(extents) == 1 and extents[0][0] == name and extents[0][1] + extents[0][2] <= reach and references:
                continue  # it lies in the segment of the one before, as most small files do
            self._refer(extents, references, is_wanted=is_wanted)
            name, reach = (None, 0) if self._last is None else (self._last.name, self._last.length)
        found = PreviousRun(
            self._stored[self._places[self._at] : self._places[end]],
            len(files),
            sum([file.size for file in files]),
            files[0].path,
            files[-1].path,
            references,
        )
        self._at = end
        self._number += len(files)
        return found

    def _take_other(self, *, is_wanted: bool) -> PreviousRun:
        """Take one record, be it of a file or what follows one."""
        record = self._records[self._at]
        found = PreviousRun(self._stored[self._places[self._at] : self._places[self._at + 1]])
        if isinstance(record, Entry):
            found.files, found.content = 1, record.size
            found.first = found.last = record.path
            self._number += 1
        elif isinstance(record, End):
            raise NotSameError(f"the previous image has no file {self._number}")
        if isinstance(record, Entry | MoreExtents):
            self._refer(record.extents, found.references, is_wanted=is_wanted)
        self._at += 1
        self._others.popleft()
        return found

    def _fill(self) -> bool:
        """Have a record at hand; ``False`` when there is none."""
        while self._at == len(self._records):
            batch = next(self._batches, None)
            if batch is None:
                return False
            self._records, self._stored, self._places = batch
            self._at = 0
            self._others = deque([at for at, record in enumerate(self._records) if not stands_alone(record)])
        return True

    def _refer(self, extents: list[Extent], references: list[Reference], *, is_wanted: bool) -> None:
        """Note what extents lie in."""
        last = self._last
        for extent in extents:
            name, offset, length = extent
            if last is not None and last.name == name and offset + length <= last.length:
                reference: Source = last
            else:
                reference = self._cursor.find(extent)
            if reference is None:
                continue
            last = reference if isinstance(reference, Reference) else None
            if not is_wanted:
                continue
            if last is None:
                raise NotSameError("contents of the previous image are lost")
            if not references or references[-1] is not last:
                references.append(last)
        self._last = last

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
        lost = not_to_refer_to(referred, self._pool, self._usable)
        if lost:
            raise NotSameError(f"{len(lost)} frames of the previous image are lost, or under a key that is not used")
