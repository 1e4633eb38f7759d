"""P1: segments are cut by content, whatever the sizes in which the stream comes."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyfastcdc import FastCDC

from strongroom.core.ids import SegmentName
from strongroom.core.secret import Secret
from strongroom.formats.segment import PAYLOAD_CHUNKS, Buffer, SegmentNamer
from strongroom.pool import chunker
from strongroom.pool.chunker import Chunker
from strongroom.pool.references import Named

NAMER = SegmentNamer(Secret(b"n" * 32))
DATA = random.Random(1).randbytes(9 << 20)  # noqa: S311 - test data
THRICE = DATA * 3
WHOLE = [
    chunk.length
    for chunk in FastCDC(128 << 10, min_size=32 << 10, max_size=512 << 10, normalized_chunking=2).cut_buf(DATA)
]


def names(segments: Sequence[Buffer]) -> list[SegmentName]:
    return [NAMER.name(segment) for segment in segments]


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    cutter = Chunker(PAYLOAD_CHUNKS, names)
    segments: list[Named] = []
    at = 0
    while at < len(data):
        size = sizes[at % len(sizes)]
        segments += cutter.feed(data[at : at + size])
        at += size
    segments += cutter.end_run()
    return [bytes(segment.data) for segment in segments]


@settings(max_examples=20)
@given(st.lists(st.integers(4_000, 6 << 20), min_size=1, max_size=5))
def test_the_sizes_of_the_buffers_do_not_move_a_cut(sizes: list[int]) -> None:
    segments = cut(DATA, sizes)
    assert [len(segment) for segment in segments] == WHOLE
    assert b"".join(segments) == DATA


def test_segments_stay_within_their_bounds() -> None:
    segments = cut(bytes(5 << 20) + DATA, [1 << 20])
    assert all(32 << 10 <= len(segment) <= 512 << 10 for segment in segments[:-1])


def test_an_insertion_moves_few_cuts() -> None:
    before = set(cut(DATA, [1 << 20]))
    after = set(cut(DATA[: 4 << 20] + b"inserted" + DATA[4 << 20 :], [1 << 20]))
    assert len(after - before) <= 3


def test_a_run_ends_where_it_is_told_and_the_next_is_cut_by_itself() -> None:
    cutter = Chunker(PAYLOAD_CHUNKS, names)
    first = cutter.feed(DATA[:100_000]) + cutter.end_run()
    second = cutter.feed(DATA) + cutter.end_run()
    assert [bytes(segment.data) for segment in first] == cut(DATA[:100_000], [1 << 20])
    assert [bytes(segment.data) for segment in second] == cut(DATA, [1 << 20])
    assert cutter.end_run() == []


def test_the_caller_may_use_its_buffer_again() -> None:
    buffer = bytearray(b"a" * 70_000)
    chunker = Chunker(PAYLOAD_CHUNKS, names)
    chunker.feed(buffer)
    buffer[:] = b"b" * 70_000
    chunker.feed(buffer)
    assert b"".join(segment.data for segment in chunker.end_run()) == b"a" * 70_000 + b"b" * 70_000


def test_segments_cannot_be_written_to() -> None:
    chunker = Chunker(PAYLOAD_CHUNKS, names)
    chunker.feed(b"x")
    with pytest.raises(TypeError):
        chunker.end_run()[0].data[0] = 1  # type: ignore[index]


@settings(max_examples=20)
@given(kept=st.lists(st.booleans(), min_size=1, max_size=40))
def test_a_segment_stays_as_it_is_for_as_long_as_somebody_holds_it(kept: list[bool]) -> None:
    cutter = Chunker(PAYLOAD_CHUNKS, names)
    held: list[tuple[int, Buffer]] = []
    at = number = 0
    for start in range(0, len(THRICE), 1 << 20):
        for _, segment in cutter.feed(THRICE[start : start + (1 << 20)]):
            if kept[number % len(kept)]:
                held.append((at, segment))
            at += len(segment)
            number += 1
    assert all(bytes(segment) == THRICE[at : at + len(segment)] for at, segment in held)


def test_memory_that_nobody_looks_at_any_more_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    new_block = chunker._new_block

    def counted() -> bytearray:
        made.append(1)
        return new_block()

    monkeypatch.setattr(chunker, "_new_block", counted)
    cutter = Chunker(PAYLOAD_CHUNKS, names)
    for start in range(0, len(THRICE), 1 << 20):
        cutter.feed(THRICE[start : start + (1 << 20)])
    assert sum(made) <= 3
