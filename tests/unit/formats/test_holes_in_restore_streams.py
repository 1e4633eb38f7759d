"""P1: where holes are told in the stream of a restore, and what a lying sender is told."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from strongroom.formats import entries, image_stream
from strongroom.formats.entries import Entry
from strongroom.formats.errors import DamagedError
from strongroom.formats.image_stream import MAX_HOLES, Hole, Lost, read_blocks
from strongroom.formats.restore_stream import members


def record(path: bytes, kind: int = entries.REGULAR, size: int = 0) -> bytes:
    data = entries.encode(Entry(kind, path, 0o644, 0, 0, b"", b"", 0, 0, 1, 1, size))
    return image_stream.head(image_stream.ENTRIES, len(data)) + data


def contents(length: int) -> bytes:
    return image_stream.head(image_stream.DATA, length) + bytes(length)


HOLES = image_stream.holes([(2, 3), (6, 4)])


def read(*blocks: bytes, files: int = 1, content: int = 10) -> list[list[tuple[int, int]]]:
    """Give the holes of each file, once all contents were taken."""
    found: list[list[tuple[int, int]]] = []
    for member in members([image_stream.MAGIC, *blocks, image_stream.end(files, content, 0)], lambda _: None):
        found.append(member.holes)
        lengths = [piece.length if isinstance(piece, Hole | Lost) else len(piece) for piece in member.pieces()]
        assert sum(lengths) == member.entry.size
    return found


def test_holes_belong_to_the_file_in_front_of_them_p1() -> None:
    blocks = (record(b"/a", size=10), contents(10), record(b"/b", size=10), HOLES, contents(10), record(b"/c"))
    assert read(*blocks, files=3, content=20) == [[], [(2, 3), (6, 4)], []]


@pytest.mark.parametrize(
    "blocks",
    [
        lambda: (record(b"/a", size=10), contents(10), HOLES),
        lambda: (record(b"/a", size=10), contents(4), HOLES, contents(6)),
        lambda: (record(b"/a", size=10), HOLES, HOLES, contents(10)),
        lambda: (HOLES, record(b"/a", size=10), contents(10)),
        lambda: (record(b"/a", size=9), HOLES, contents(10)),
        lambda: (record(b"/a", entries.FOLDER), HOLES),
        lambda: (record(b"/a"), HOLES, contents(10)),
        lambda: (record(b"/a", size=10), record(b"/b"), contents(10)),
    ],
    ids=["behind", "within", "twice", "before", "too far", "of a folder", "of nothing", "records before contents"],
)
def test_holes_in_a_wrong_place_are_refused_p1(blocks: Callable[[], tuple[bytes, ...]]) -> None:
    with pytest.raises(DamagedError):
        read(*blocks())


def test_more_holes_than_a_block_may_have_are_refused_p1() -> None:
    rows = b"".join(struct.pack(">2Q", 2 * row, 1) for row in range(MAX_HOLES + 1))
    with pytest.raises(DamagedError):
        list(read_blocks([image_stream.MAGIC, image_stream.head(image_stream.HOLES, len(rows)) + rows]))
