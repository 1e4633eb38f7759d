"""P1, R7: manifests are built and read as a stream, and every page is checked."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.core.ids import DataKeyId, EnvelopeId, FrameId, PageId, SegmentName
from strongroom.formats import key_page, manifest_page
from strongroom.formats.errors import DamagedError
from strongroom.formats.manifest_page import Interior
from strongroom.pool.errors import PageMissingError
from strongroom.pool.key_pages import write_key_pages
from strongroom.pool.manifest import (
    ManifestBuilder,
    PageDamage,
    StreamRoot,
    leaves,
    read_manifest,
    references_of,
)
from strongroom.pool.references import Reference


class Pages:
    """Pages in memory, counting what is asked for."""

    def __init__(self) -> None:
        self.held: dict[PageId, bytes] = {}
        self.fetched: list[PageId] = []

    def put(self, page: bytes) -> PageId:
        page_id = manifest_page.page_id(page)
        self.held[page_id] = page
        return page_id

    def fetch(self, page_id: PageId) -> bytes:
        self.fetched.append(page_id)
        if page_id not in self.held:
            raise PageMissingError(f"no container holds page '{page_id.hex()}'")
        return self.held[page_id]

    def level(self, page_id: PageId) -> int:
        return self.held[page_id][4]


def references(count: int, seed: int = 1) -> list[Reference]:
    source = random.Random(seed)  # noqa: S311 - test data
    made = []
    for number in range(count):
        frame_id = FrameId((seed * 1_000_000 + number // 4).to_bytes(32, "big"))
        name = SegmentName(source.randbytes(32))
        made.append(Reference(name, frame_id, DataKeyId(b"k" * 16), 900, 4_000, number % 4, 1_000))
    return made


def build(pages: Pages, stream: Iterable[Reference], *, merge_repeats: bool = False) -> StreamRoot:
    builder = ManifestBuilder(pages.put, merge_repeats=merge_repeats)
    builder.add(stream)
    return builder.finish()


@pytest.mark.parametrize("count", [0, 1, 64, 1_025, 30_000])
def test_a_manifest_gives_back_its_references(count: int) -> None:
    pages, stream = Pages(), references(count)
    root = build(pages, stream)
    assert (root.segments, root.bytes) == (count, count * 1_000)
    assert list(read_manifest(root, pages.fetch, is_encrypted=True)) == stream


@settings(max_examples=30)
@given(st.lists(st.integers(0, 3), max_size=2_000))
def test_repeats_are_kept_or_merged_as_the_stream_wants(choices: list[int]) -> None:
    pages, few = Pages(), references(4)
    stream = [few[choice] for choice in choices]
    assert list(read_manifest(build(pages, stream), pages.fetch, is_encrypted=True)) == stream
    merged = [one for at, one in enumerate(stream) if at == 0 or stream[at - 1] != one]
    assert list(read_manifest(build(pages, stream, merge_repeats=True), pages.fetch, is_encrypted=True)) == merged


def test_the_tree_is_flat_and_its_pages_are_bounded() -> None:
    pages = Pages()
    root = build(pages, references(100_000))
    assert pages.level(root.page) == 2
    assert max(map(len, pages.held.values())) <= manifest_page.MAX_PAGE_BYTES
    leaf_count = sum(pages.level(page) == 0 for page in pages.held)
    assert 100_000 / 400 < leaf_count < 100_000 / 200


def test_an_insertion_shares_all_but_a_few_pages() -> None:
    pages, stream = Pages(), references(50_000)
    build(pages, stream)
    before = set(pages.held)
    build(pages, stream[:25_000] + references(3, seed=9) + stream[25_000:])
    assert len(set(pages.held) - before) <= 4


def test_a_stream_of_one_segment_over_and_over_still_ends_its_pages() -> None:
    pages, one = Pages(), references(1)
    root = build(pages, one * 5_000)
    assert list(read_manifest(root, pages.fetch, is_encrypted=True)) == one * 5_000
    assert len(pages.held) <= 4


def swap(pages: Pages, root: StreamRoot, child: StreamRoot, as_row: tuple[int, int]) -> StreamRoot:
    """A signed-looking tree whose root names a child with other counts than it has."""
    page = manifest_page.encode_interior(1, [(child.page, *as_row), (root.page, root.segments, root.bytes)])
    total = as_row[0] + root.segments, as_row[1] + root.bytes
    return StreamRoot(pages.put(page), *total)


@pytest.mark.parametrize("change", [(1, 0), (0, 1), (-1, 0)])
def test_a_child_that_holds_something_else_than_its_parent_says_is_refused(change: tuple[int, int]) -> None:
    pages = Pages()
    leaf, other = build(pages, references(10)), build(pages, references(10, seed=2))
    lying = swap(pages, leaf, other, (other.segments + change[0], other.bytes + change[1]))
    with pytest.raises(DamagedError, match="were signed"):
        list(read_manifest(lying, pages.fetch, is_encrypted=True))


def test_a_root_that_holds_something_else_than_the_image_header_says_is_refused() -> None:
    pages = Pages()
    root = build(pages, references(10))
    with pytest.raises(DamagedError, match="were signed"):
        list(read_manifest(root._replace(segments=11), pages.fetch, is_encrypted=True))


def test_a_child_of_the_wrong_level_is_refused() -> None:
    pages = Pages()
    leaf = build(pages, references(10))
    row = (leaf.page, leaf.segments, leaf.bytes)
    high = StreamRoot(pages.put(manifest_page.encode_interior(2, [row])), leaf.segments, leaf.bytes)
    with pytest.raises(DamagedError, match="level"):
        list(read_manifest(high, pages.fetch, is_encrypted=True))


def test_a_changed_page_is_refused() -> None:
    pages = Pages()
    root = build(pages, references(10))
    pages.held[root.page] = pages.held[root.page][:-1] + b"\xff"
    with pytest.raises(DamagedError, match="another digest"):
        list(read_manifest(root, pages.fetch, is_encrypted=True))


def test_reading_goes_on_behind_what_is_lost_and_says_which_segments() -> None:
    pages, stream = Pages(), references(60_000)
    root = build(pages, stream)
    top = manifest_page.decode(pages.held[root.page], root.page)
    assert isinstance(top, Interior)
    assert len(top.children) > 2
    lost = top.children[1]
    del pages.held[PageId(lost.page)]
    damages: list[PageDamage] = []
    got = [
        (first + at, reference)
        for first, leaf in leaves(root, pages.fetch, is_encrypted=True, on_damage=damages.append)
        for at, reference in enumerate(references_of(leaf))
    ]
    (damage,) = damages
    assert (damage.first_segment, damage.segments) == (top.children[0].references, lost.references)
    missing = range(damage.first_segment, damage.first_segment + damage.segments)
    assert got == [(at, reference) for at, reference in enumerate(stream) if at not in missing]


def test_a_page_that_was_seen_is_not_right_at_another_level() -> None:
    pages = Pages()
    leaf = build(pages, references(3))
    child = (leaf.page, leaf.segments, leaf.bytes)
    low = pages.put(manifest_page.encode_interior(1, [child]))
    top = pages.put(manifest_page.encode_interior(2, [(low, *child[1:]), child]))
    damages: list[PageDamage] = []
    root = StreamRoot(top, 2 * leaf.segments, 2 * leaf.bytes)
    visit = leaves(root, pages.fetch, is_encrypted=True, on_damage=damages.append, seen={})
    assert [first for first, _ in visit] == [0]
    (damage,) = damages
    assert (damage.page, damage.first_segment) == (leaf.page, leaf.segments)


def test_a_checker_visits_each_distinct_page_once() -> None:
    """A tree of shared pages can name more references than anyone could go through."""
    pages = Pages()
    child = build(pages, references(100))
    row = (child.page, child.segments, child.bytes)
    level = 0
    while level < 8:
        level += 1
        page = pages.put(manifest_page.encode_interior(level, [row] * 20))
        row = (page, row[1] * 20, row[2] * 20)
    root = StreamRoot(*row)
    visited = list(leaves(root, pages.fetch, is_encrypted=True, seen={}))
    assert len(pages.fetched) < 20
    assert len(visited) < 10


@pytest.mark.parametrize("is_encrypted", [True, False])
def test_frames_are_encrypted_exactly_when_the_image_is(is_encrypted: bool) -> None:
    pages = Pages()
    stream = references(3)
    if is_encrypted:
        stream = [reference._replace(data_key_id=DataKeyId(bytes(16))) for reference in stream]
    root = build(pages, stream)
    with pytest.raises(DamagedError, match="unlike its image"):
        list(read_manifest(root, pages.fetch, is_encrypted=is_encrypted))


def test_key_pages_are_cut_by_content_and_shared() -> None:
    pages, source = Pages(), random.Random(6)  # noqa: S311 - test data
    envelopes = sorted(EnvelopeId(source.randbytes(16)) for _ in range(5_000))
    before = write_key_pages(envelopes, pages.put)
    listed = [one for page in before for one in key_page.decode(pages.held[page], page)]
    assert listed == envelopes
    assert len(before) > 5
    after = write_key_pages(sorted([*envelopes, EnvelopeId(b"\x80" * 16)]), pages.put)
    assert len(set(after) - set(before)) <= 2
    assert write_key_pages([], pages.put) == []
