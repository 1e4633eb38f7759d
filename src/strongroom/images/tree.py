"""The files of a stored image by path, in any order: what a mounted image needs.

The entries stand in the order of a walk, so what is below a folder stands together. One pass over them notes a place
every few hundred files; a file is then found by a search among these and a look at the files behind one of them.
"""

from __future__ import annotations

import copy
import struct
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final, NamedTuple

from strongroom.formats import entries
from strongroom.formats.entries import End, Entry, Extent, MoreAttributes, MoreExtents, Record, walk_key
from strongroom.formats.entry_stream import Sequence
from strongroom.formats.errors import DamagedError
from strongroom.images.errors import BrokenImageError
from strongroom.images.stored_image import StoredImage
from strongroom.pool.seek import SeekableStream

_FILES_IN_GROUP: Final = 256
_BYTES_IN_GROUP: Final = 256 << 10
_GROUPS: Final = 16
_U32: Final = struct.Struct(">I")


class Used(NamedTuple):
    """How many references of the payload some extents use, and the segment of the last: extents can go on in it."""

    references: int = 0
    last: bytes | None = None

    def with_extents(self, extents: list[Extent]) -> Used:
        """Give what is used together with further extents."""
        count, last = self
        for name, _, _ in extents:
            if name is not None and name != last:
                count, last = count + 1, name
        return Used(count, last)


class Node(NamedTuple):
    """A file of the image.

    Attributes:
        entry: its record, with its own extents.
        behind: where in the entries the record behind it begins.
        used: the references of the payload that the files before it use.
    """

    entry: Entry
    behind: int
    used: Used


class _Group(NamedTuple):
    """Some files in a row: the key of the first path, where its record begins, references before, and how many."""

    key: bytes
    at: int
    used: Used
    files: int


class ImageTree:
    """Looks files up; may be shared by threads.

    Args:
        image: open for reading; it must stay open.

    Attributes:
        lock: held while records are read; :meth:`records` is called with it.
        files: how many there are.
        content: bytes of their contents.

    Raises:
        KeyUnavailableError: the KMS has no usable key for the entries.
        BrokenImageError, DamagedError: the image is not as its pages and header say.
        FrameMissingError, PageMissingError, PoolReadError: a part of it cannot be read.
    """

    def __init__(self, image: StoredImage) -> None:
        self._image = image
        root = image.roots.entries
        self._stream = SeekableStream(root, image.pages.page, is_encrypted=image.is_encrypted)
        self.lock = threading.RLock()
        self._nodes: OrderedDict[int, list[Node]] = OrderedDict()
        self._groups: list[_Group] = []
        self.files = self.content = 0
        self._survey()
        self._keys = [group.key for group in self._groups]

    def find(self, path: bytes) -> Node | None:
        """Give the file of a path.

        A folder that the image has no record of, because it only leads to others, is made up: with mode 0555, of the
        superuser, and no time.

        Raises:
            KeyUnavailableError, IntegrityError, NotFoundError, PoolReadError: the entries cannot be read.
        """
        key = walk_key(path)
        with self.lock:
            node = next(self._from(key), None)
        if node is None:
            return _made_up(path) if path == b"/" else None
        if node.entry.path == path:
            return node
        return _made_up(path) if path == b"/" or walk_key(node.entry.path).startswith(key + b"\0") else None

    def children(self, folder: bytes, after: bytes = b"") -> Iterator[Node]:
        """Give what is directly in a folder, by name, each found when it is asked for.

        Args:
            folder: its path.
            after: begin behind this name.

        Raises:
            KeyUnavailableError, IntegrityError, NotFoundError, PoolReadError: the entries cannot be read.
        """
        above = walk_key(folder) + b"\0"
        key = above + after + b"\1" if after else above
        prefix = folder if folder == b"/" else folder + b"/"
        while True:
            with self.lock:
                node = next(self._from(key), None)
            if node is None or not walk_key(node.entry.path).startswith(above):
                return
            name = node.entry.path[len(prefix) :].partition(b"/")[0]
            if prefix + name == node.entry.path:
                yield node
            else:
                yield _made_up(prefix + name)
            # Behind everything that is below it: a zero byte stands for the slash, and 1 comes next.
            key = above + name + b"\1"

    def attributes(self, node: Node) -> list[MoreAttributes]:
        """Give the records of attributes that follow a file.

        Raises:
            KeyUnavailableError, IntegrityError, NotFoundError, PoolReadError: the entries cannot be read.
        """
        if not node.entry.flags & entries.ATTRIBUTES_FOLLOW:
            return []
        found: list[MoreAttributes] = []
        with self.lock:
            for _, _, record in self.records(node.behind):
                if not isinstance(record, MoreAttributes):
                    break
                found.append(record)
        return found

    def records(self, at: int) -> Iterator[tuple[int, int, Record]]:
        """Give the records from a place in the entries on, each with where it begins and ends.

        Raises:
            KeyUnavailableError, IntegrityError, NotFoundError, PoolReadError: the entries cannot be read.
        """
        buffer = bytearray()
        first = at
        # One by one: few segments are wanted, and others would be read ahead.
        for begin, reference in self._stream.from_byte(at):
            self._image.need_keys_of([reference])
            buffer += self._image.frames.frame(reference.frame_id).segment(reference)[max(0, first - begin) :]
            while (body := _record_in(buffer)) is not None:
                length = _U32.size + len(body)
                yield at, at + length, entries.decode(body)
                at += length
                del buffer[:length]

    def _from(self, key: bytes) -> Iterator[Node]:
        """Give the files whose key is not before a key."""
        number = max(0, bisect_right(self._keys, key) - 1)
        while number < len(self._groups):
            for node in self._load(number):
                if walk_key(node.entry.path) >= key:
                    yield node
            number += 1

    def _load(self, number: int) -> list[Node]:
        found = self._nodes.get(number)
        if found is not None:
            self._nodes.move_to_end(number)
            return found
        group = self._groups[number]
        found = []
        used = group.used
        for _, behind, record in self.records(group.at):
            if isinstance(record, Entry):
                found.append(Node(record, behind, used))
            if isinstance(record, Entry | MoreExtents):
                used = used.with_extents(record.extents)
            # A file with very many extents is the last of its group, and they are not read here.
            if len(found) == group.files:
                break
        if len(found) != group.files:
            raise BrokenImageError("the entries have changed since the image was opened")
        self._nodes[number] = found
        if len(self._nodes) > _GROUPS:
            self._nodes.popitem(last=False)
        return found

    def _survey(self) -> None:
        """Go through all records once, checking them, and note where groups begin."""
        sequence = Sequence(with_extents=True)
        used = Used()
        at = 0
        first: tuple[bytes, int, Used] | None = None
        files = 0
        end: End | None = None
        for record, length in self._all_records():
            if end is not None:
                raise DamagedError("something follows the end of the entries")
            sequence.take(record)
            if isinstance(record, Entry):
                if first is not None and (files == _FILES_IN_GROUP or at - first[1] >= _BYTES_IN_GROUP):
                    self._groups.append(_Group(*first, files))
                    first, files = None, 0
                if first is None:
                    first = walk_key(record.path), at, used
                files += 1
            if isinstance(record, Entry | MoreExtents):
                used = used.with_extents(record.extents)
            elif isinstance(record, End):
                end = record
            at += length
        if end is None:
            raise DamagedError("the entries end without a record of type 127")
        if first is not None:
            self._groups.append(_Group(*first, files))
        self.files, self.content = sequence.files, sequence.content

    def _all_records(self) -> Iterator[tuple[Record, int]]:
        buffer = bytearray()
        for piece in self._image.frames.read(self._image.references(self._image.roots.entries)):
            buffer += piece
            at = 0
            while (body := _record_in(buffer, at)) is not None:
                yield entries.decode(body), _U32.size + len(body)
                at += _U32.size + len(body)
            del buffer[:at]
        if buffer:
            raise DamagedError("the entries end within a record")


def _record_in(buffer: bytearray, at: int = 0) -> bytes | None:
    """Take the body of the record at a place of a buffer; ``None`` when it is not whole yet."""
    if len(buffer) - at < _U32.size:
        return None
    (length,) = _U32.unpack_from(buffer, at)
    if length > entries.MAX_RECORD_BYTES:
        raise DamagedError(f"an entry claims {length} bytes, more than its bound {entries.MAX_RECORD_BYTES}")
    end = at + _U32.size + length
    return bytes(buffer[at + _U32.size : end]) if len(buffer) >= end else None


def _made_up(path: bytes) -> Node:
    return Node(Entry(entries.FOLDER, path, 0o555, 0, 0, b"", b"", 0, 0, 0, 0, 0), 0, Used())


def without_extents(entry: Entry) -> Entry:
    """Give a record as clients get it."""
    plain = copy.copy(entry)
    plain.extents = []
    plain.flags &= ~entries.EXTENTS_FOLLOW
    return plain
