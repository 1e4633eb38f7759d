"""The image stream: the files of an image between client and media server, in blocks.

Source: ``docs/reference/protocols/image-stream.md``. The reader takes buffers of any sizes and passes
contents on as they come, so that it never holds more than one block of records.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Final, TypeAlias

import msgspec

from strongroom.formats import entries, records
from strongroom.formats.entries import Entry, MoreAttributes, Path
from strongroom.formats.errors import DamagedError, NewerFormatError
from strongroom.formats.magic import check_magic
from strongroom.formats.records import Count

MAGIC: Final = b"SRSTRM01"
MAX_BLOCK_BYTES: Final = 4 << 20
DATA: Final = 1
ENTRIES: Final = 2
SAME: Final = 3
PROBLEM: Final = 4
HOLE: Final = 5
CUT: Final = 6
LOST: Final = 7
END: Final = 9

MAX_PROBLEM_BYTES: Final = entries.MAX_PATH_BYTES + 8_192
MAX_CODE_LENGTH: Final = 64
MAX_MESSAGE_LENGTH: Final = 1_024
_MAX_END_BYTES: Final = 256
_MAX_LOST_BYTES: Final = 8_192
_MAX_HOLE_BYTES: Final = (1 << 63) - 1

_HEAD: Final = struct.Struct(">BI")
_U32: Final = struct.Struct(">I")
_U64: Final = struct.Struct(">Q")

Buffer: TypeAlias = bytes | memoryview


@dataclass(frozen=True, slots=True)
class Hole:
    """A run of zero bytes that takes no room in a sparse file."""

    length: int


@dataclass(frozen=True, slots=True)
class Cut:
    """The client says that contents which belong together begin, or end, here."""


@dataclass(frozen=True, slots=True)
class Entries:
    """Records of files, each with the extended attributes that follow it."""

    records: list[Entry | MoreAttributes]


@dataclass(frozen=True, slots=True)
class Same:
    """Files whose contents are those of a record of the previous image, named by its number."""

    records: list[tuple[int, Entry]]


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Something that went wrong with one file; the backup went on."""

    path: Path
    code: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_CODE_LENGTH)]
    message: Annotated[str, msgspec.Meta(max_length=MAX_MESSAGE_LENGTH)]


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """Contents that a restore cannot give, and why: the file that they belong to is not restored."""

    length: Annotated[int, msgspec.Meta(ge=1, le=_MAX_HOLE_BYTES)]
    code: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_CODE_LENGTH)]
    message: Annotated[str, msgspec.Meta(max_length=MAX_MESSAGE_LENGTH)]


class StreamEnd(msgspec.Struct, frozen=True, kw_only=True):
    """The last block: files, bytes of contents, problems."""

    files: Count
    content: Count
    problems: Count


Block: TypeAlias = bytes | memoryview | Hole | Cut | Entries | Same | Problem | Lost | StreamEnd
"""What a reader gives; plain bytes are contents, cut anywhere."""


def head(kind: int, length: int) -> bytes:
    """Write what stands before a block's body.

    Raises:
        ValueError: a body longer than its bound; a mistake of the caller.
    """
    if length > MAX_BLOCK_BYTES:
        raise ValueError(f"a block of {length} bytes is longer than its bound {MAX_BLOCK_BYTES}")
    return _HEAD.pack(kind, length)


def hole(length: int) -> bytes:
    """Write a block that stands for ``length`` zero bytes."""
    return _HEAD.pack(HOLE, _U64.size) + _U64.pack(length)


def cut() -> bytes:
    """Write a block that says where a large file begins, or ends."""
    return _HEAD.pack(CUT, 0)


def same(number: int, record: bytes) -> bytes:
    """Write one item of a block *same*: a number, and a record as :func:`entries.encode` wrote it."""
    return _U64.pack(number) + record


def problem(path: bytes, code: str, message: str) -> bytes:
    """Write a block that reports a problem; the message is cut to its bound."""
    body = records.encode(Problem(path=path, code=code, message=message[:MAX_MESSAGE_LENGTH]))
    return _HEAD.pack(PROBLEM, len(body)) + body


def lost(length: int, code: str, message: str) -> bytes:
    """Write a block that stands for contents that cannot be given; the message is cut to its bound."""
    body = records.encode(Lost(length=length, code=code, message=message[:MAX_MESSAGE_LENGTH]))
    return _HEAD.pack(LOST, len(body)) + body


def end(files: int, content: int, problems: int) -> bytes:
    """Write the last block."""
    body = records.encode(StreamEnd(files=files, content=content, problems=problems))
    return _HEAD.pack(END, len(body)) + body


class BlockReader:
    """Reads an image stream from buffers of any sizes."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._wanted = 0  # bytes that make the block whole that is cut between buffers
        self._data_left = 0
        self._begun = False
        self._end: StreamEnd | None = None

    def feed(self, data: Buffer) -> list[Block]:
        """Take the next bytes, and give what is whole now.

        Contents are views of ``data``, given as they come: use them before the buffer is used again.

        Raises:
            DamagedError: against the page.
            NewerFormatError: a later version of the stream, or a block of unknown type.
        """
        found: list[Block] = []
        view = memoryview(data)
        if self._data_left:
            view = self._pass_data(view, found)
        if self._rest:
            self._rest += view
            if len(self._rest) < self._wanted:
                return found
            view = memoryview(bytes(self._rest))
            self._rest.clear()
        while len(view):
            if self._end is not None:
                raise DamagedError("something follows the end of the image stream")
            used = self._take_block(view, found)
            if used == 0:
                self._rest += view
                break
            view = view[used:]
            if self._data_left:
                view = self._pass_data(view, found)
        return found

    def finish(self) -> StreamEnd:
        """Say that there are no more bytes, and get the end.

        Raises:
            DamagedError: the stream broke off.
        """
        if self._end is None:
            raise DamagedError("the image stream broke off before its end")
        return self._end

    def _pass_data(self, view: memoryview, found: list[Block]) -> memoryview:
        part = view[: self._data_left]
        if len(part):
            found.append(part)
            self._data_left -= len(part)
        return view[len(part) :]

    def _take_block(self, view: memoryview, found: list[Block]) -> int:
        """Read one block; give the bytes used, 0 when it is not whole."""
        if not self._begun:
            if len(view) < len(MAGIC):
                self._wanted = len(MAGIC)
                return 0
            check_magic(bytes(view[: len(MAGIC)]), MAGIC, "the image stream")
            self._begun = True
            return len(MAGIC)
        if len(view) < _HEAD.size:
            self._wanted = _HEAD.size
            return 0
        kind, length = _HEAD.unpack_from(view)
        if length > MAX_BLOCK_BYTES:
            raise DamagedError(f"a block claims {length} bytes, more than its bound {MAX_BLOCK_BYTES}")
        if kind == DATA:
            self._data_left = length
            return _HEAD.size
        if kind not in (ENTRIES, SAME, PROBLEM, HOLE, CUT, LOST, END):
            raise NewerFormatError(f"the image stream has a block of type {kind}, which this program does not have")
        whole = _HEAD.size + length
        if len(view) < whole:
            self._wanted = whole
            return 0
        block = _read_block(kind, bytes(view[_HEAD.size : whole]))
        if isinstance(block, StreamEnd):
            self._end = block
        found.append(block)
        return int(whole)


def read_blocks(chunks: Iterable[Buffer]) -> Iterator[Block]:
    """Read a whole image stream.

    Raises:
        DamagedError: against the page, or the stream broke off.
        NewerFormatError: it needs a later program.
    """
    reader = BlockReader()
    for chunk in chunks:
        yield from reader.feed(chunk)
    reader.finish()


def _read_block(kind: int, body: bytes) -> Block:
    if kind == ENTRIES:
        return Entries(_read_entries(body))
    if kind == SAME:
        return Same(_read_same(body))
    if kind == PROBLEM:
        return records.decode(body, Problem, max_bytes=MAX_PROBLEM_BYTES, what="problem")
    if kind == LOST:
        return records.decode(body, Lost, max_bytes=_MAX_LOST_BYTES, what="lost contents")
    if kind == END:
        return records.decode(body, StreamEnd, max_bytes=_MAX_END_BYTES, what="end of the image stream")
    if kind == CUT:
        if body:
            raise DamagedError("a block that marks a cut has a body")
        return Cut()
    if len(body) != _U64.size or not 0 < _U64.unpack(body)[0] <= _MAX_HOLE_BYTES:
        raise DamagedError("a block for a hole does not have its length")
    return Hole(_U64.unpack(body)[0])


def _read_entries(body: bytes) -> list[Entry | MoreAttributes]:
    found: list[Entry | MoreAttributes] = []
    for record in entries.split(body):
        if not isinstance(record, Entry | MoreAttributes):
            raise DamagedError("a block of entries has a record that has no place there")
        found.append(record)
    if not found:
        raise DamagedError("a block of entries is empty")
    return found


def _read_same(body: bytes) -> list[tuple[int, Entry]]:
    found: list[tuple[int, Entry]] = []
    at = 0
    while at < len(body):
        if len(body) - at < _U64.size + _U32.size:
            raise DamagedError("a block of same files is cut short")
        (number,) = _U64.unpack_from(body, at)
        record_at = at + _U64.size + _U32.size
        at = record_at + _U32.unpack_from(body, record_at - _U32.size)[0]
        if at > len(body):
            raise DamagedError("a block of same files is cut within a record")
        record = entries.decode(body[record_at:at])
        if not isinstance(record, Entry) or record.type != entries.REGULAR:
            raise DamagedError("only a regular file can be the same as one of the previous image")
        found.append((number, record))
    if not found:
        raise DamagedError("a block of same files is empty")
    return found
