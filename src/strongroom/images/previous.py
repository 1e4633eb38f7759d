"""The previous image of a client, as a backup refers to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from strongroom.core.ids import DataKeyId, FrameId
from strongroom.formats import entries, frame
from strongroom.formats.entries import Entry
from strongroom.images.errors import NotSameError
from strongroom.images.open_pool import OpenPool
from strongroom.images.stored_files import StoredFile
from strongroom.images.stored_image import StoredImage
from strongroom.pool.keys import KeysUsable
from strongroom.pool.references import Reference

_CHECKED_AT_ONCE: Final = 4_096


class PreviousFiles:
    """The files of the previous image, found by rising number.

    Args:
        image: open for reading.
        pool: where both images lie.
        usable: tells which data keys may be referred to; ``None`` when the new image is not encrypted.
    """

    def __init__(self, image: StoredImage, pool: OpenPool, usable: KeysUsable | None) -> None:
        self._files: Iterator[StoredFile] = image.files()
        self._pool = pool
        self._usable = usable
        self._referred: dict[FrameId, DataKeyId] = {}

    def find(self, number: int, entry: Entry) -> StoredFile:
        """Give the file that a client calls unchanged.

        Args:
            number: of its record in the previous image.
            entry: its record now.

        Raises:
            NotSameError: there is none of this number, one behind it was asked for before, or it is not this file.
        """
        for file in self._files:
            if file.number < number:
                continue
            before = file.entry
            if file.number > number or (before.type, before.path, before.size) != (entry.type, entry.path, entry.size):
                break
            return file
        raise NotSameError(f"{entries.shown(entry.path)} is not record {number} of the previous image")

    def note(self, reference: Reference) -> None:
        """Note that the new image refers to a frame.

        Raises:
            NotSameError: as :meth:`check`.
        """
        self._referred[reference.frame_id] = reference.data_key_id
        if len(self._referred) >= _CHECKED_AT_ONCE:
            self.check()

    def check(self) -> None:
        """Check that all frames that were noted are in the pool, under usable data keys.

        Raises:
            NotSameError: one is not.
        """
        referred, self._referred = self._referred, {}
        # in a condemned container too: the previous image stays until this one is stored, and so does what it needs
        if len(self._pool.index.locate(list(referred), self._pool.domain)) < len(referred):
            raise NotSameError("contents of the previous image are no longer in the pool")
        keys = set(referred.values())
        if self._usable is None:
            unusable = keys - {frame.NO_KEY}
        else:
            unusable = keys.difference(self._usable(keys))
        if unusable:
            raise NotSameError("contents of the previous image are encrypted under a key that is no longer used")
