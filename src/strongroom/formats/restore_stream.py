"""An image stream in the order of a restore: each record, then its contents.

Source: ``docs/reference/protocols/image-stream.md``, *Restore*.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeAlias

import msgspec

from strongroom.formats import entries
from strongroom.formats.entries import Attribute, Entry, MoreAttributes
from strongroom.formats.entry_stream import Sequence
from strongroom.formats.errors import DamagedError
from strongroom.formats.image_stream import (
    Block,
    Buffer,
    Cut,
    Entries,
    Hole,
    Holes,
    KnownFiles,
    Lost,
    Problem,
    Same,
    StreamEnd,
    read_blocks,
)

MAX_ATTRIBUTE_BYTES: Final = 16 << 20
"""Bound of all attributes of one file, because they are set together."""

Piece: TypeAlias = Buffer | Hole | Lost


class Member:
    """One file as it comes: its record with all its attributes, and its contents, once.

    Attributes:
        entry: the record; ``attributes`` has those of following records too.
        holes: offset and length of holes in its contents, if the other side was asked for them.
    """

    __slots__ = ("_take", "entry", "holes", "left")

    def __init__(self, entry: Entry, holes: list[tuple[int, int]], take: Callable[[int], Piece]) -> None:
        self.entry = entry
        self.holes = holes
        self.left = entry.size
        self._take = take

    def pieces(self) -> Iterator[Piece]:
        """Give the contents in pieces of any sizes; the next file skips what is left."""
        while self.left:
            piece = self._take(self.left)
            self.left -= piece.length if isinstance(piece, Hole | Lost) else len(piece)
            yield piece


def members(chunks: Iterable[Buffer], on_problem: Callable[[Problem], None]) -> Iterator[Member]:
    """Read a restore's image stream file by file.

    Args:
        chunks: the stream, in buffers of any sizes.
        on_problem: told of each problem that the other side reports.

    Raises:
        DamagedError: against the page; the stream broke off; totals differ.
        NewerFormatError: it needs a later program.
    """
    source = _Source(read_blocks(chunks), on_problem)
    while (member := source.next_member()) is not None:
        yield member
        for _ in member.pieces():
            pass


class _Source:
    """Takes blocks apart into records and contents, which come interleaved."""

    def __init__(self, blocks: Iterator[Block], on_problem: Callable[[Problem], None]) -> None:
        self._blocks = blocks
        self._on_problem = on_problem
        self._records: deque[Entry | MoreAttributes] = deque()
        self._piece: Piece | None = None
        self._holes: list[tuple[int, int]] = []
        self._end: StreamEnd | None = None
        self._sequence = Sequence(with_extents=False)

    def next_member(self) -> Member | None:
        """Give the next file, or ``None`` after a right end."""
        record = self._next_record()
        if record is None:
            self._finish()
            return None
        if not isinstance(record, Entry):
            raise DamagedError("attributes come where no file announced them")
        self._sequence.take(record)
        if record.flags & entries.ATTRIBUTES_FOLLOW:
            record.attributes = self._all_attributes(record)
        return Member(record, self._all_holes(record), self._take)

    def _all_holes(self, entry: Entry) -> list[tuple[int, int]]:
        """Take the holes, which stand between a file's record and its contents."""
        if entry.type == entries.REGULAR and entry.size and not self._is_begun():
            self._advance()
            if self._records:
                raise DamagedError("records come before the contents of the files before them")
        if self._records:
            return []
        holes, self._holes = self._holes, []
        if holes and (entry.type != entries.REGULAR or sum(holes[-1]) > entry.size):
            raise DamagedError(f"{entries.shown(entry.path)} has holes where it has no contents")
        return holes

    def _is_begun(self) -> bool:
        return bool(self._records or self._holes) or self._piece is not None or self._end is not None

    def _all_attributes(self, entry: Entry) -> list[Attribute]:
        found = list(entry.attributes)
        length = 0
        while self._peek_attributes():
            record = self._records.popleft()
            self._sequence.take(record)
            length += sum(len(name) + len(value) for name, value in record.attributes)
            if length > MAX_ATTRIBUTE_BYTES:
                raise DamagedError(
                    f"{entries.shown(entry.path)} has more than {MAX_ATTRIBUTE_BYTES} bytes of attributes"
                )
            found += record.attributes
        return found

    def _peek_attributes(self) -> bool:
        while not self._is_begun():
            self._advance()
        return bool(self._records) and isinstance(self._records[0], MoreAttributes)

    def _next_record(self) -> Entry | MoreAttributes | None:
        while not self._records:
            if self._piece is not None or self._holes:
                raise DamagedError("contents come that belong to no file")
            if self._end is not None:
                return None
            self._advance()
        return self._records.popleft()

    def _take(self, most: int) -> Piece:
        """Give the next contents, at most ``most`` bytes."""
        while self._piece is None:
            if self._holes:
                raise DamagedError("holes come behind contents, or twice")
            if self._end is not None:
                raise DamagedError("the image stream ends before the contents of its files")
            waiting = len(self._records)
            self._advance()
            if len(self._records) != waiting:
                raise DamagedError("records come before the contents of the files before them")
        piece = self._piece
        if isinstance(piece, Hole):
            self._piece = Hole(piece.length - most) if piece.length > most else None
            return Hole(min(most, piece.length))
        if isinstance(piece, Lost):
            self._piece = msgspec.structs.replace(piece, length=piece.length - most) if piece.length > most else None
            return msgspec.structs.replace(piece, length=min(most, piece.length))
        self._piece = piece[most:] if len(piece) > most else None
        return piece[:most]

    def _advance(self) -> None:
        block = next(self._blocks, None)
        match block:
            case Entries():
                self._records.extend(block.records)
            case Problem():
                self._on_problem(block)
            case StreamEnd():
                self._end = block
            case Holes():
                if self._holes or self._piece is not None:
                    raise DamagedError("holes come behind contents, or twice")
                self._holes = block.holes
            case Same() | Cut() | KnownFiles() | None:
                raise DamagedError("a restore's image stream has a block that has no place there")
            case _:
                self._piece = block

    def _finish(self) -> None:
        self._sequence.settle()
        if self._end is not None:
            self._sequence.check_totals(self._end.files, self._end.content)
        # Lets the reader see that nothing follows the end.
        if next(self._blocks, None) is not None:
            raise DamagedError("something follows the end of the image stream")
