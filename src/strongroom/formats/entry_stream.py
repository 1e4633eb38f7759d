"""The stream *entries* as a whole: from buffers of any sizes to records, with what holds between them.

Source: ``docs/reference/formats/entries.md``.
"""

from __future__ import annotations

import operator
from itertools import islice
from typing import Final, TypeGuard

from strongroom.formats import entries
from strongroom.formats.entries import End, Entry, MoreAttributes, MoreExtents, Record, shown, walk_key
from strongroom.formats.errors import DamagedError

_FOLLOWED: Final = entries.EXTENTS_FOLLOW | entries.ATTRIBUTES_FOLLOW


def stands_alone(record: Record) -> TypeGuard[Entry]:
    """Tell whether a record is of a file, and none that belong to it follow."""
    return type(record) is Entry and not record.flags & _FOLLOWED


class RecordCutter:
    """Cuts a stream of entries into records as it comes; keeps one incomplete record in memory and no more.

    Attributes:
        whole: the records that the last :meth:`feed` gave, as they stand in the stream.
        rest: the beginning of a record that is not whole yet.
    """

    def __init__(self) -> None:
        self.whole = b""
        self.rest = b""

    def feed(self, data: bytes | memoryview) -> list[bytes]:
        """Take the next bytes, and give the records that are whole now, without their lengths.

        Raises:
            DamagedError: a record claims more than its bound.
        """
        data = b"".join((self.rest, data))
        bodies, used = entries.cut(data)
        self.whole, self.rest = data[:used], data[used:]
        return bodies


class EntriesReader:
    """Reads a stream of entries; keeps one incomplete record in memory and no more.

    Attributes:
        bodies: the records that the last :meth:`feed` gave, without their lengths.
        stored: these records as they stand in the stream.
    """

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.stored = b""
        self._cutter = RecordCutter()
        self._sequence = Sequence(with_extents=True)
        self._end: End | None = None

    def feed(self, data: bytes | memoryview) -> list[Record]:
        """Take the next bytes, and give the records that are whole now.

        Raises:
            DamagedError: against the page, within a record or between records.
            NewerFormatError: a record of a type that this program does not know.
        """
        if self._end is not None and data:
            raise DamagedError("something follows the end of the entries")
        self.bodies = self._cutter.feed(data)
        self.stored = self._cutter.whole
        found = entries.decode_all(self.bodies)
        self._sequence.take_all(found)
        for record in found[-1:]:
            self._end = record if isinstance(record, End) else None
        if self._end is not None and self._cutter.rest:
            raise DamagedError("something follows the end of the entries")
        return found

    def finish(self) -> End:
        """Say that there are no more bytes, and get the last record.

        Raises:
            DamagedError: the stream is incomplete.
        """
        if self._end is None:
            raise DamagedError("the entries end without a record of type 127")
        return self._end


class Sequence:
    """Checks what holds between the records of one stream: order, what flags announce, sizes and totals.

    Args:
        with_extents: whether this is the stored stream, where extents add up to sizes; between client and
            media server there are none.
    """

    def __init__(self, *, with_extents: bool) -> None:
        self._with_extents = with_extents
        self._key: bytes | None = None
        self._entry: Entry | None = None
        self._attribute_records = 0
        self._extent_records = 0
        self._last_attribute = b""
        self._extended = 0
        self.files = 0
        self.content = 0

    def take_all(self, found: list[Record]) -> None:
        """Look at the next records; the same as :meth:`take` of each, faster.

        Raises:
            DamagedError: one may not come where it is.
        """
        if self._take_plain(found):
            return
        for record in found:
            if stands_alone(record):
                self.settle()
                self._take_entry(record)
                if self._with_extents and self._extended != record.size:
                    raise self._not_its_size(record)
                self._entry = None  # nothing may follow it, and nothing is left to look at
            else:
                self.take(record)

    def _take_plain(self, found: list[Record]) -> bool:
        """Take files of which each is right and nothing follows; ``False``, and nothing taken, if one is not so."""
        files = [record for record in found if type(record) is Entry and not record.flags & _FOLLOWED]
        if not files or len(files) != len(found):
            return False
        keys = [walk_key(file.path) for file in files]
        if self._key is not None and keys[0] <= self._key:
            return False
        if not all(map(operator.lt, keys, islice(keys, 1, None))):
            return False
        for file in files:
            extents = file.extents
            if not extents:
                if file.size and self._with_extents:
                    return False
            elif len(extents) == 1 and self._with_extents:
                if extents[0][2] != file.size:
                    return False
            elif not self._with_extents or sum([extent[2] for extent in extents]) != file.size:
                return False
        self.settle()
        self._entry = None
        self._key = keys[-1]
        self.files += len(files)
        self.content += sum([file.size for file in files])
        return True

    def take_run(self, first: bytes, last: bytes, files: int, content: int) -> None:
        """Take files of another stream that is right, whole with all that follows each.

        Args:
            first: path of the first of them.
            last: path of the last.
            files: how many they are.
            content: sum of their sizes.

        Raises:
            DamagedError: they may not come here.
        """
        self.settle()
        if self._key is not None and walk_key(first) <= self._key:
            raise DamagedError(f"the entry {shown(first)} is out of order")
        self._key = walk_key(last)
        self._entry = None
        self.files += files
        self.content += content

    def take(self, record: Record) -> None:
        """Look at the next record.

        Raises:
            DamagedError: it may not come here.
        """
        match record:
            case Entry():
                self.settle()
                self._take_entry(record)
            case MoreAttributes():
                self._take_attributes(record)
            case MoreExtents():
                self._take_extents(record)
            case End():
                self.settle()
                self.check_totals(record.files, record.content)

    def settle(self) -> None:
        """Say that no more records of the last file come.

        Raises:
            DamagedError: it announced more than came, or its extents do not add up to its size.
        """
        entry = self._entry
        if entry is None:
            return
        if entry.flags & entries.ATTRIBUTES_FOLLOW and not self._attribute_records:
            raise DamagedError(f"the attributes that {shown(entry.path)} announced are missing")
        if entry.flags & entries.EXTENTS_FOLLOW and not self._extent_records:
            raise DamagedError(f"the extents that {shown(entry.path)} announced are missing")
        if self._with_extents and self._extended != entry.size:
            raise self._not_its_size(entry)

    def check_totals(self, files: int, content: int) -> None:
        """Compare what an end says with what came.

        Raises:
            DamagedError: they differ.
        """
        if (files, content) != (self.files, self.content):
            raise DamagedError(
                f"the end tells of {files} files of {content} bytes, and {self.files} of {self.content} came"
            )

    def _take_entry(self, entry: Entry) -> None:
        key = walk_key(entry.path)
        if self._key is not None and key <= self._key:
            raise DamagedError(f"the entry {shown(entry.path)} is out of order")
        if not self._with_extents and (entry.extents or entry.flags & entries.EXTENTS_FOLLOW):
            raise DamagedError(f"the entry {shown(entry.path)} has extents, which have no place in this stream")
        self._key = key
        self._entry = entry
        self._attribute_records = self._extent_records = 0
        self._last_attribute = entry.attributes[-1][0] if entry.attributes else b""
        self._extended = sum([extent[2] for extent in entry.extents]) if entry.extents else 0
        self.files += 1
        self.content += entry.size

    def _not_its_size(self, entry: Entry) -> DamagedError:
        return DamagedError(
            f"extents of {self._extended} bytes stand for the {entry.size} bytes of {shown(entry.path)}"
        )

    def _take_attributes(self, record: MoreAttributes) -> None:
        if self._entry is None or not self._entry.flags & entries.ATTRIBUTES_FOLLOW or self._extent_records:
            raise DamagedError("attributes come where no file announced them")
        if not record.attributes or record.attributes[0][0] <= self._last_attribute:
            raise DamagedError("extended attributes are not in the order of their names")
        self._attribute_records += 1
        self._last_attribute = record.attributes[-1][0]

    def _take_extents(self, record: MoreExtents) -> None:
        if self._entry is None or not self._entry.flags & entries.EXTENTS_FOLLOW:
            raise DamagedError("extents come where no file announced them")
        self._extent_records += 1
        self._extended += sum(extent[2] for extent in record.extents)
