"""R10: whatever a dead receiver left, exactly the whole good items at its front are kept, in a container that holds."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from strongroom.core.ids import DomainId, FrameId, MediumId, PageId
from strongroom.formats import container as container_format
from strongroom.formats import frame, manifest_page
from strongroom.formats.algorithms import Compression
from strongroom.pool.containers import read_contents
from strongroom.pool.incoming import INCOMING
from strongroom.pool.receiver import FrameReceiver
from strongroom.pool.salvage import salvage
from strongroom.pool.verify import verify_container
from tests.support.pool import DOMAIN, MEDIUM, OTHER_DOMAIN, Pool

HEADER = container_format.HEADER_BYTES
FRAMES = [
    bytes(frame.seal([(bytes([n]) * 32, size)], Compression.NONE, random.Random(n).randbytes(size)))  # noqa: S311 - test data
    for n, size in enumerate((300, 9_000, 20_000, 1, 5_000))
]
IDS = [frame.frame_id(data) for data in FRAMES]
ENDS = [HEADER + sum(map(len, FRAMES[: n + 1])) for n in range(len(FRAMES))]
WHOLE = ENDS[-1]
BLOCK = 4_096


@pytest.fixture(scope="module")
def left() -> bytes:
    """What a receiver had written when it was killed."""
    with tempfile.TemporaryDirectory() as path:
        pool = Pool.create(Path(path) / "pool")
        receiver = FrameReceiver(
            pool.store, pool.index, medium=MEDIUM, origin=OTHER_DOMAIN, clock=pool.clock, entropy=pool.entropy
        )
        for frame_id, data in zip(IDS, FRAMES, strict=True):
            receiver.add_frame(frame_id, data)
        (file,) = (pool.folder.path / INCOMING).iterdir()
        data = file.read_bytes()
        receiver.abort()
        pool.index.close()
    assert len(data) == WHOLE
    return data


@contextmanager
def salvaged(data: bytes) -> Iterator[tuple[Pool, list[bytes]]]:
    """Open a pool in whose incoming this lies; give it, and the ids that it has then."""
    with tempfile.TemporaryDirectory() as path:
        pool = Pool.create(Path(path) / "pool")
        pool.index.close()
        (pool.folder.path / INCOMING / "left").write_bytes(data)
        pool = Pool.open(Path(path) / "pool")
        assert list((pool.folder.path / INCOMING).iterdir()) == []
        assert pool.report.problems == []
        ids: list[bytes] = []
        for container, *_ in pool.index.containers():
            assert list(verify_container(pool.store, container, MEDIUM)) == []
            contents = read_contents(pool.store, container, MEDIUM)
            assert contents.header.origin == OTHER_DOMAIN
            assert contents.mark == container_format.NO_MARK
            ids += [item.id for item in contents.items]
        yield pool, ids
        pool.index.close()


def whole_before(offset: int) -> list[FrameId]:
    return [frame_id for frame_id, end in zip(IDS, ENDS, strict=True) if end <= offset]


def test_everything_is_kept_and_found_again(left: bytes) -> None:
    with salvaged(left) as (pool, ids):
        assert ids == IDS
        assert pool.index.lacking(IDS, OTHER_DOMAIN) == []
        assert pool.index.lacking(IDS, DOMAIN) == IDS
        found = pool.index.locate(IDS, OTHER_DOMAIN)
        for frame_id, data in zip(IDS, FRAMES, strict=True):
            ((container, offset, length, _),) = found[frame_id]
            assert pool.store.read(f"containers/{container.hex()[:2]}/{container.hex()}", offset, length) == data


@settings(max_examples=60, deadline=None)
@given(length=st.integers(0, WHOLE))
@example(length=HEADER)
@example(length=ENDS[0])
@example(length=ENDS[2] - 1)
def test_a_torn_tail_costs_the_torn_item(left: bytes, length: int) -> None:
    with salvaged(left[:length]) as (_, ids):
        assert ids == whole_before(length)


@settings(max_examples=60, deadline=None)
@given(block=st.integers(0, WHOLE // BLOCK), count=st.integers(1, 4), is_short=st.booleans())
def test_blocks_that_never_reached_the_disk_cost_what_lay_in_them(
    left: bytes, block: int, count: int, is_short: bool
) -> None:
    """After a power cut: the file has its length, or part of it, and some blocks are zeros."""
    start, end = block * BLOCK, min(WHOLE, (block + count) * BLOCK)
    data = left[:start] + bytes(end - start) + (b"" if is_short else left[end:])
    with salvaged(data) as (_, ids):
        assert ids == whole_before(start)


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, WHOLE - 1), bit=st.integers(0, 7))
def test_a_changed_byte_never_makes_a_damaged_container(left: bytes, at: int, bit: int) -> None:
    """What lies before is kept; an item whose body was changed is another one, which no page names."""
    data = bytearray(left)
    data[at] ^= 1 << bit
    with salvaged(bytes(data)) as (_, ids):
        before = whole_before(at)
        assert ids[: len(before)] == before
        damaged = IDS[len(before)]
        assert damaged not in ids


@settings(max_examples=40, deadline=None)
@given(tail=st.binary(max_size=6_000), length=st.sampled_from(ENDS))
def test_garbage_behind_the_items_is_cut_off(left: bytes, tail: bytes, length: int) -> None:
    with salvaged(left[:length] + tail) as (_, ids):
        assert ids[: len(whole_before(length))] == whole_before(length)
        assert len(ids) <= len(IDS)


@settings(max_examples=30, deadline=None)
@given(data=st.binary(max_size=9_000))
def test_anything_else_is_removed(data: bytes) -> None:
    with salvaged(data) as (_, ids):
        assert ids == []


@pytest.mark.parametrize(("medium", "origin"), [(MEDIUM, DOMAIN), (bytes(16), OTHER_DOMAIN)])
def test_what_this_domain_was_writing_or_another_pool_is_removed(left: bytes, medium: bytes, origin: DomainId) -> None:
    header = replace(container_format.decode_header(left), medium=MediumId(medium), origin=origin)
    with salvaged(container_format.encode_header(header) + left[HEADER:]) as (_, ids):
        assert ids == []


def test_a_container_that_is_in_the_pool_already_stays(left: bytes) -> None:
    """Killed once more, when the copy in incoming had not gone yet."""
    with salvaged(left) as (pool, _):
        (pool.folder.path / INCOMING / "left").write_bytes(left[: ENDS[1]])
        salvage(pool.folder, medium=MEDIUM, own=DOMAIN)
        assert list((pool.folder.path / INCOMING).iterdir()) == []
        ((container, *_),) = pool.index.containers()
        assert len(list(read_contents(pool.store, container, MEDIUM).items)) == len(IDS)


def test_pages_are_kept_like_frames(tmp_path: Path) -> None:
    source = Pool.create(tmp_path / "source")
    root = source.write_manifest(source.write([b"some contents" * 100]))
    page = source.pages().page(root.page)
    target = Pool.create(tmp_path / "target")
    receiver = FrameReceiver(
        target.store, target.index, medium=MEDIUM, origin=OTHER_DOMAIN, clock=target.clock, entropy=target.entropy
    )
    receiver.add_page(root.page, page)
    (file,) = (target.folder.path / INCOMING).iterdir()
    assert manifest_page.page_id(page) == root.page
    with salvaged(file.read_bytes() + b"torn") as (pool, ids):
        assert ids == [root.page]
        assert pool.index.lacking([PageId(root.page)], OTHER_DOMAIN) == []
    receiver.abort()
