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
from strongroom.formats.entries import Entry, FileType, Mode, MoreAttributes, OwnerName, Path, SignedMoment, Target
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
KNOWN: Final = 7
LOST: Final = 8
END: Final = 9
HOLES: Final = 10

MAX_RUNS: Final = 4_096
MAX_HOLES: Final = 65_536
MAX_PROBLEM_BYTES: Final = entries.MAX_PATH_BYTES + 8_192
MAX_CODE_LENGTH: Final = 64
MAX_MESSAGE_LENGTH: Final = 1_024
CONTENTS_LOST: Final = 256
"""Flag of a known file, and of no record: the pool has lost contents of it, so they must be read anew."""
_MAX_END_BYTES: Final = 256
_MAX_LOST_BYTES: Final = 8_192
_MAX_HOLE_BYTES: Final = (1 << 63) - 1
_MOST_FILES: Final = (1 << 63) - 1

_HEAD: Final = struct.Struct(">BI")
_RUN: Final = struct.Struct(">QQ")
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
    """Runs of files that are as in the previous image: number of the first, and how many."""

    runs: list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Holes:
    """Where the holes of the file before are: offset and length of each, ascending, none touching the next."""

    holes: list[tuple[int, int]]


class Known(msgspec.Struct, array_like=True, gc=False):
    """A file of the previous image, as a client compares it: the first elements of its record in *entries*."""

    type: FileType
    path: Path
    mode: Mode
    uid: Count
    gid: Count
    user: OwnerName
    group: OwnerName
    mtime: SignedMoment
    ctime: SignedMoment
    device: Count
    inode: Count
    size: Count
    target: Target | None
    flags: Count

    @classmethod
    def of(cls, entry: Entry) -> Known:
        """Take what a client compares from a record."""
        return cls(
            entry.type,
            entry.path,
            entry.mode,
            entry.uid,
            entry.gid,
            entry.user,
            entry.group,
            entry.mtime,
            entry.ctime,
            entry.device,
            entry.inode,
            entry.size,
            entry.target,
            entry.flags,
        )


@dataclass(frozen=True, slots=True)
class KnownFiles:
    """Files of the previous image, in order."""

    files: list[Known]


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


Block: TypeAlias = bytes | memoryview | Hole | Cut | Entries | Same | KnownFiles | Problem | Lost | Holes | StreamEnd
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


def same(runs: list[tuple[int, int]]) -> bytes:
    """Write a block that says which files are as in the previous image.

    Args:
        runs: number of the first file, and how many; ascending, at most :data:`MAX_RUNS`.
    """
    return head(SAME, len(runs) * _RUN.size) + b"".join([_RUN.pack(*run) for run in runs])


def holes(rows: list[tuple[int, int]]) -> bytes:
    """Write a block that says where the holes of a file are.

    Args:
        rows: offset and length of each, ascending, at least one and at most :data:`MAX_HOLES`.
    """
    return head(HOLES, len(rows) * _RUN.size) + b"".join([_RUN.pack(*row) for row in rows])


def known(files: list[Known]) -> bytes:
    """Write a block of files of the previous image.

    Raises:
        ValueError: a body longer than its bound; a mistake of the caller.
    """
    body = records.encode(files)
    return head(KNOWN, len(body)) + body


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
        if kind not in (ENTRIES, SAME, PROBLEM, HOLE, CUT, KNOWN, LOST, END, HOLES):
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
    if kind == KNOWN:
        return KnownFiles(records.decode(body, list[Known], max_bytes=MAX_BLOCK_BYTES, what="list of known files"))
    if kind == PROBLEM:
        return records.decode(body, Problem, max_bytes=MAX_PROBLEM_BYTES, what="problem")
    if kind == LOST:
        return records.decode(body, Lost, max_bytes=_MAX_LOST_BYTES, what="lost contents")
    if kind == END:
        return records.decode(body, StreamEnd, max_bytes=_MAX_END_BYTES, what="end of the image stream")
    if kind == HOLES:
        return Holes(_read_holes(body))
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


def _read_holes(body: bytes) -> list[tuple[int, int]]:
    if not body or len(body) % _RUN.size or len(body) > MAX_HOLES * _RUN.size:
        raise DamagedError("a block of holes is empty, too long, or cut within a row")
    rows = list(_RUN.iter_unpack(body))
    end = -1
    for offset, length in rows:
        if offset <= end or length == 0 or offset + length > _MAX_HOLE_BYTES:
            raise DamagedError("the rows of a block of holes are empty, touch, or are not ascending")
        end = offset + length
    return rows


def _read_same(body: bytes) -> list[tuple[int, int]]:
    if not body or len(body) % _RUN.size:
        raise DamagedError("a block of same files is empty, or cut within a run")
    runs = list(_RUN.iter_unpack(body))
    next_number = 0
    for first, count in runs:
        if first < next_number or count == 0 or first + count > _MOST_FILES:
            raise DamagedError("the runs of a block of same files are empty, or not ascending")
        next_number = first + count
    return runs
