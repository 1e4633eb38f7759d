"""C2: the cuts of the forerunner are tried first, and change nothing but how long it takes to find them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.core.ids import DataKeyId, FrameId, SegmentName
from strongroom.core.secret import Secret
from strongroom.formats.errors import DamagedError
from strongroom.formats.segment import PAYLOAD_CHUNKS, Buffer, SegmentNamer
from strongroom.pool.chunker import Chunker
from strongroom.pool.expected import Expected
from strongroom.pool.references import Named, Reference

RANDOM = random.Random(3)  # noqa: S311 - test data
NAMER = SegmentNamer(Secret(b"n" * 32))
DATA = RANDOM.randbytes(20 << 20)
NEW = RANDOM.randbytes(6 << 20)

Segments = list[tuple[SegmentName, bytes]]


def names(segments: Sequence[Buffer]) -> list[SegmentName]:
    return [NAMER.name(segment) for segment in segments]


def references_from(segments: Segments) -> Callable[[int], Iterator[Reference]]:
    def from_number(number: int) -> Iterator[Reference]:
        for name, data in segments[number:]:
            yield Reference(name, FrameId(bytes(32)), DataKeyId(bytes(16)), 0, 0, 0, len(data))

    return from_number


def expecting(segments: Segments) -> Expected:
    return Expected(references_from(segments), PAYLOAD_CHUNKS.minimum)


def cut(data: bytes, expected: Expected | None = None) -> Segments:
    chunker = Chunker(PAYLOAD_CHUNKS, names, expected)
    found: list[Named] = []
    for start in range(0, len(data), 1 << 20):
        found += chunker.feed(data[start : start + (1 << 20)])
    found += chunker.end_run()
    segments = [(name, bytes(piece)) for name, piece in found]
    assert b"".join(piece for _, piece in segments) == data
    assert [name for name, _ in segments] == names([piece for _, piece in segments])
    return segments


BEFORE = cut(DATA)


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many segments the chunker searched an end for."""
    counted: list[int] = []
    by_content = Chunker._cut_by_content

    def search(self: Chunker, at: int, keep_bytes: int, most: int | None) -> list[tuple[SegmentName, int]]:
        found = by_content(self, at, keep_bytes, most)
        counted.append(len(found))
        return found

    monkeypatch.setattr(Chunker, "_cut_by_content", search)
    return counted


def test_what_did_not_change_is_not_searched(searched: list[int]) -> None:
    assert cut(DATA, expecting(BEFORE)) == BEFORE
    # no more than the last block of the stream, whose last segment was cut by the end
    assert sum(searched) <= 2


def test_one_search_for_each_change_in_place(searched: list[int]) -> None:
    changed = bytearray(DATA)
    for at in range(1 << 20, len(changed), 2 << 20):
        changed[at] ^= 1
    after = cut(bytes(changed), expecting(BEFORE))
    assert sum(searched) <= 35
    assert after == cut(bytes(changed))


_edits = st.lists(
    st.tuples(
        st.integers(0, len(DATA)), st.integers(0, 3 << 20), st.integers(0, len(NEW) - 1), st.integers(0, 3 << 20)
    ),
    max_size=4,
)


@settings(max_examples=15, deadline=None)
@given(edits=_edits, begin=st.integers(0, 200))
def test_any_edit_gives_the_segments_that_the_chunker_gives_without_a_forerunner(
    edits: list[tuple[int, int, int, int]], begin: int
) -> None:
    data = DATA
    for at, gone, start, length in edits:
        data = data[:at] + NEW[start : start + length] + data[at + gone :]
    expected = expecting(BEFORE[:-1])  # the last was cut by the end
    expected.move(begin)
    assert cut(data, expected) == cut(data)


@pytest.mark.parametrize(
    "after",
    [NEW + DATA, DATA[9 << 20 :], DATA[: 9 << 20] + NEW[: 5 << 20] + DATA[14 << 20 :]],
    ids=["inserted", "removed", "replaced"],
)
def test_the_place_is_found_again(searched: list[int], after: bytes) -> None:
    segments = cut(after, expecting(BEFORE))
    new = {name for name, _ in segments} - {name for name, _ in BEFORE}
    # what is new, at most a block behind it, and the last
    assert sum(searched) <= len(new) + (4 << 20) / PAYLOAD_CHUNKS.average + 4


def test_nothing_is_guessed_in_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = expecting(BEFORE)
    wrong: list[int] = []
    guessed = expected.guessed

    def count(right: int, bad: int) -> None:
        wrong.append(bad)
        guessed(right, bad)

    monkeypatch.setattr(expected, "guessed", count)
    cut(NEW, expected)
    assert sum(wrong) <= 4


def test_a_file_that_grew_in_small_steps_does_not_keep_their_ends() -> None:
    size = 5 << 20
    before = cut(DATA[:size])
    for _ in range(20):
        size += 3_000
        before = cut(DATA[:size], expecting(before))
    assert all(len(piece) >= PAYLOAD_CHUNKS.minimum for _, piece in before[:-1])
    assert len(before) <= len(cut(DATA[:size])) + 2


def test_many_equal_segments_do_not_lead_astray() -> None:
    data = DATA[: 3 << 20] + bytes(12 << 20) + DATA[3 << 20 : 9 << 20]
    whole = cut(data)
    merged = [one for one, next_ in zip(whole, [*whole[1:], None], strict=True) if one != next_]  # as manifests keep it
    assert cut(data, expecting(merged)) == whole


def test_a_damaged_forerunner_ends_the_guesses_and_not_the_backup() -> None:
    def from_number(number: int) -> Iterator[Reference]:
        yield from references_from(BEFORE[:10])(number)
        raise DamagedError("page 'ab' was changed")

    assert cut(DATA, Expected(from_number, PAYLOAD_CHUNKS.minimum)) == BEFORE
