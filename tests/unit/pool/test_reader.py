"""P1: frames and pages are read back verified; what is wrong is named."""

from __future__ import annotations

import errno
import os
import random
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from strongroom.formats import frame
from strongroom.formats.errors import DamagedError
from strongroom.pool import names
from strongroom.pool.errors import DataKeyMissingError, FrameMissingError, PageMissingError, PoolReadError
from strongroom.pool.reader import FrameReader
from strongroom.pool.receiver import FrameReceiver
from strongroom.pool.references import Reference
from strongroom.pool.writer import WriterLimits
from tests.support.pool import DOMAIN, MEDIUM, OTHER_DOMAIN, Pool

SMALL = WriterLimits(frame_bytes=4_000, container_bytes=20_000)
RANDOM = random.Random(4)  # noqa: S311 - test data
STREAM = [RANDOM.randbytes(1_000) for _ in range(40)]


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return Pool.create(tmp_path / "pool")


def damage(pool: Pool, reference: Reference, at: int) -> str:
    """Flip a byte of the frame of a reference; give the container's id."""
    place = pool.index.locate([reference.frame_id], DOMAIN)[reference.frame_id][0]
    path = pool.folder.path / names.container_key(place.container)
    data = bytearray(path.read_bytes())
    data[place.offset + at] ^= 1
    path.write_bytes(data)
    return place.container.hex()


def test_segments_come_in_the_order_of_the_references_with_little_in_memory(pool: Pool) -> None:
    references = pool.write(STREAM, SMALL)
    order = list(range(40)) * 2 + [0, 39, 0]
    with FrameReader(
        pool.store,
        pool.index,
        origin=DOMAIN,
        key_for=pool.keys.given.get,
        cache_bytes=5_000,
        ahead_bytes=9_000,
    ) as reader:
        got = [bytes(segment) for segment in reader.read(references[number] for number in order)]
        assert got == [STREAM[number] for number in order]


@pytest.mark.parametrize("at", [5, 50, 200, 3_000])
def test_a_changed_frame_is_refused_naming_container_and_frame(pool: Pool, at: int) -> None:
    references = pool.write(STREAM, SMALL)
    container = damage(pool, references[8], at)
    with pool.reader() as reader, pytest.raises(DamagedError) as caught:
        list(reader.read(references))
    assert container in caught.value.message
    assert references[8].frame_id.hex() in caught.value.message
    assert caught.value.context == {"container": container, "frame": references[8].frame_id.hex()}


def test_segments_before_the_bad_one_are_given(pool: Pool) -> None:
    references = pool.write(STREAM, SMALL)
    damage(pool, references[8], 200)
    with pool.reader() as reader:
        segments = reader.read(references)
        assert [bytes(segment) for segment in islice(segments, 8)] == STREAM[:8]
        with pytest.raises(DamagedError):
            next(segments)


def test_another_copy_of_a_damaged_frame_is_used(pool: Pool) -> None:
    references = pool.write(STREAM[:4], SMALL)
    (source,) = pool.store.list("containers/")
    place = pool.index.locate([references[0].frame_id], DOMAIN)[references[0].frame_id][0]
    whole = pool.store.read(source.key, place.offset, place.length)
    damage(pool, references[0], 200)
    pool.index.remove(place.container)
    receiver = FrameReceiver(
        pool.store, pool.index, medium=MEDIUM, origin=DOMAIN, clock=pool.clock, entropy=pool.entropy
    )
    receiver.add_frame(references[0].frame_id, whole)
    receiver.flush()
    pool.index.refresh(pool.store)
    assert len(pool.index.locate([references[0].frame_id], DOMAIN)[references[0].frame_id]) == 2
    with pool.reader() as reader:
        assert [bytes(segment) for segment in reader.read(references)] == STREAM[:4]


def test_a_frame_that_no_container_holds_is_missing(pool: Pool) -> None:
    references = pool.write(STREAM, SMALL)
    with pool.reader() as reader, pytest.raises(FrameMissingError, match=(b"x" * 32).hex()):
        reader.frame(type(references[0].frame_id)(b"x" * 32))
    place = pool.index.locate([references[0].frame_id], DOMAIN)[references[0].frame_id][0]
    pool.store.remove(names.container_key(place.container))
    with pool.reader() as reader, pytest.raises(FrameMissingError):
        list(reader.read(references))


def test_a_frame_of_another_origin_is_missing(pool: Pool) -> None:
    references = pool.write(STREAM[:4], SMALL)
    reader = FrameReader(pool.store, pool.index, origin=OTHER_DOMAIN, key_for=pool.keys.given.get)
    with reader, pytest.raises(FrameMissingError):
        reader.frame(references[0].frame_id)


def test_without_its_key_a_frame_is_verified_and_not_read(pool: Pool) -> None:
    references = pool.write(STREAM[:4], SMALL)
    with FrameReader(pool.store, pool.index, origin=DOMAIN, key_for=lambda _: None) as reader:
        assert frame.frame_id(reader.stored(references[0].frame_id).data) == references[0].frame_id
        with pytest.raises(DataKeyMissingError, match=references[0].data_key_id.hex()):
            list(reader.read(references))


@pytest.mark.parametrize(
    "change",
    [
        {"position": 1},
        {"position": 9},
        {"length": 999},
        {"frame_bytes": 1},
        {"frame_length": 1},
        {"data_key_id": b"k" * 16},
    ],
)
def test_a_reference_that_does_not_fit_its_frame_is_refused(pool: Pool, change: dict[str, Any]) -> None:
    reference = pool.write(STREAM[:4], SMALL)[0]
    with pool.reader() as reader, pytest.raises(DamagedError, match="than the manifest says"):
        list(reader.read([reference._replace(**change)]))


def test_a_read_that_the_disk_refuses_names_the_file(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    references = pool.write(STREAM[:4], SMALL)

    def broken(*_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("os.pread", broken)
    with pool.reader() as reader, pytest.raises(PoolReadError, match=str(pool.folder.path)):
        list(reader.read(references))


def test_pages_are_read_verified(pool: Pool) -> None:
    root = pool.write_manifest(pool.write(STREAM, SMALL))
    assert pool.pages().page(root.page)
    ((key, _),) = [
        (names.container_key(container), size)
        for container, _, content, size in pool.index.containers()
        if content == 2
    ]
    path = pool.folder.path / key
    data = bytearray(path.read_bytes())
    data[150] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedError, match=key[-32:]):
        pool.pages().page(root.page)
    path.unlink()
    with pytest.raises(PageMissingError):
        pool.pages().page(root.page)


def test_a_page_that_is_there_is_not_stored_again(pool: Pool) -> None:
    references = pool.write(STREAM, SMALL)
    assert pool.write_manifest(references) == pool.write_manifest(references)
    assert sum(content == 2 for _, _, content, _ in pool.index.containers()) == 1
