"""The previous image of a client, as a backup refers to it.

What of it may be referred to, the client was told before (``images.previous_listing``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from strongroom.core.ids import DataKeyId, FrameId
from strongroom.formats import frame
from strongroom.formats.entries import Entry, Extent, MoreAttributes, MoreExtents, Record
from strongroom.images.errors import NotSameError
from strongroom.images.open_pool import OpenPool
from strongroom.images.stored_files import LostSegment, PayloadCursor
from strongroom.images.stored_image import StoredImage
from strongroom.pool.keys import KeysUsable
from strongroom.pool.references import Reference

_CHECKED_AT_ONCE: Final = 4_096
_RECORDS_AT_ONCE: Final = 1_024


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
        self._record: tuple[Record, bytes] | None = None
        self._cursor = PayloadCursor(image.readable_payload())
        self._number = -1  # of the last file that was passed
        self._pool = pool
        self._usable = usable
        self._referred: Referred = {}

    def run(self, first: int, count: int) -> Iterator[PreviousRun]:
        """Give the files that a client calls unchanged, in parts of bounded length.

        Args:
            first: number of the first of them.
            count: how many they are.

        Raises:
            NotSameError: there are not so many, or one behind the first was asked for before.
        """
        if self._number < 0:
            self._record = next(self._records, None)  # not before: a client may know that they cannot be read
        if first <= self._number:
            raise NotSameError(f"the file {first} of the previous image was passed before")
        while self._number < first - 1:
            self._pass_file(None)
        part = PreviousRun()
        while self._number < first + count - 1:
            self._pass_file(part)
            if len(part.records) >= _RECORDS_AT_ONCE or len(part.references) >= _RECORDS_AT_ONCE:
                yield part
                part = PreviousRun()
        if part.files:
            yield part

    def _pass_file(self, part: PreviousRun | None) -> None:
        """Take the next file into a part, or leave it out: what is lost of it does not matter then."""
        found = self._record
        if found is None or not isinstance(found[0], Entry):
            raise NotSameError(f"the previous image has no file {self._number + 1}")
        (entry, body) = found[0], found[1]
        if part is not None:
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

    def _take_record(self, body: bytes, extents: list[Extent], part: PreviousRun | None) -> tuple[Record, bytes] | None:
        if part is not None:
            part.records.append(body)
        for extent in extents:
            reference = self._cursor.find(extent)
            if part is None or reference is None:
                continue
            if isinstance(reference, LostSegment):
                raise NotSameError("contents of the previous image are lost")
            if not part.references or part.references[-1] is not reference:
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
        lost = not_to_refer_to(referred, self._pool, self._usable)
        if lost:
            raise NotSameError(f"{len(lost)} frames of the previous image are lost, or under a key that is not used")
