"""The entries of the previous image, joined with the walk: what did not change is not read again."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator

from strongroom.formats import entries
from strongroom.formats.entries import Entry, walk_key
from strongroom.formats.entry_stream import Sequence
from strongroom.formats.errors import DamagedError
from strongroom.formats.image_stream import Buffer, Entries, StreamEnd, read_blocks

_UNSURE = entries.CHANGED | entries.SHRANK | entries.ATTRIBUTES_FOLLOW


def previous_entries(chunks: Iterable[Buffer]) -> Iterator[Entry]:
    """Read the entries of the previous image as the media server sends them.

    Raises:
        DamagedError: against the page, or the stream broke off.
        NewerFormatError: it needs a later program.
    """
    sequence = Sequence(with_extents=False)
    for block in read_blocks(chunks):
        match block:
            case Entries():
                for record in block.records:
                    sequence.take(record)
                    if isinstance(record, Entry):
                        yield record
            case StreamEnd():
                sequence.settle()
                sequence.check_totals(block.files, block.content)
            case _:
                raise DamagedError("the previous entries have a block that has no place there")


class Previous:
    """Finds the record of an unchanged file, while a walk passes.

    Args:
        found: records of the previous image, in the order of a walk.
        read_again_from_ns: files whose ctime is at or after this time are not taken for unchanged: the start of
            the previous backup by this client's clock, less two seconds. ``None`` when there is no previous image.
    """

    def __init__(self, found: Iterable[Entry], read_again_from_ns: int | None) -> None:
        self._entries = iter(found)
        self._read_again_from_ns = read_again_from_ns
        self._number = -1
        self._entry: Entry | None = None
        self._key = b""
        self._advance()

    def same(self, path: bytes, status: os.stat_result) -> tuple[int, Entry] | None:
        """Give number and record of a regular file that did not change since.

        Args:
            path: later in the order of a walk than the path of the call before.
            status: of the file, now.
        """
        entry = self._entry
        if entry is None:
            return None
        key = walk_key(path)
        while entry is not None and self._key < key:
            entry = self._advance()
        if entry is None or self._key != key or not self._is_unchanged(entry, status):
            return None
        return self._number, entry

    def _is_unchanged(self, entry: Entry, status: os.stat_result) -> bool:
        return (
            entry.type == entries.REGULAR
            and stat.S_ISREG(status.st_mode)
            and entry.size == status.st_size
            and entry.mtime == status.st_mtime_ns
            and entry.ctime == status.st_ctime_ns
            and entry.inode == entries.identity(status.st_ino)
            and entry.device == entries.identity(status.st_dev)
            and not entry.flags & _UNSURE
            and (self._read_again_from_ns is None or entry.ctime < self._read_again_from_ns)
        )

    def _advance(self) -> Entry | None:
        entry = self._entry = next(self._entries, None)
        if entry is not None:
            self._number += 1
            self._key = walk_key(entry.path)
        return entry
