"""P3: what every store does, whatever lies under it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from strongroom.pool import bucket
from strongroom.pool.bucket import BucketStore
from strongroom.pool.errors import ObjectExistsError, ObjectMissingError
from strongroom.pool.folder import Folder
from strongroom.pool.store import PoolStore, StoredObject
from tests.support.pool import CountedEntropy
from tests.support.seaweed import Seaweed


@pytest.fixture(params=["folder", "bucket", "bucket-without-conditions"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], PoolStore]:
    """Make a pool at the first call, and open it again at the next ones."""
    if request.param == "folder":
        Folder.create(tmp_path / "pool", b"medium header", CountedEntropy())
        return lambda: Folder.open(tmp_path / "pool", CountedEntropy("again"))
    seaweed: Seaweed = request.getfixturevalue("seaweed")
    place, key, work = seaweed.place(), seaweed.key, tmp_path / "work"
    if request.param == "bucket-without-conditions":
        request.getfixturevalue("monkeypatch").setattr(bucket, "_is_conditional", lambda *_: False)
    BucketStore.create(place, key, work, b"medium header", CountedEntropy()).close()
    return lambda: BucketStore.open(place, key, work, CountedEntropy("again"))


@pytest.fixture
def store(make: Callable[[], PoolStore]) -> Iterator[PoolStore]:
    store = make()
    yield store
    store.close()


def test_an_object_is_read_whole_and_in_ranges(store: PoolStore) -> None:
    store.put("containers/ab/abcd", b"0123456789")
    assert store.read("containers/ab/abcd") == b"0123456789"
    assert store.read("containers/ab/abcd", 3, 4) == b"3456"
    assert store.read("containers/ab/abcd", 7) == b"789"
    assert store.size("containers/ab/abcd") == 10


def test_a_range_beyond_the_end_is_short(store: PoolStore) -> None:
    store.put("journal/1", b"0123456789")
    assert store.read("journal/1", 8, 100) == b"89"
    assert store.read("journal/1", 20, 5) == b""
    assert store.read("journal/1", 20) == b""


def test_an_empty_object_is_an_object(store: PoolStore) -> None:
    store.put("journal/1", b"")
    assert store.read("journal/1") == b""
    assert list(store.list("journal/")) == [StoredObject("journal/1", 0)]


def test_the_same_bytes_again_change_nothing(store: PoolStore) -> None:
    store.put("journal/1", b"batch")
    store.put("journal/1", bytearray(b"batch"))
    assert store.read("journal/1") == b"batch"


def test_nothing_is_overwritten(store: PoolStore) -> None:
    store.put("journal/1", b"batch")
    with pytest.raises(ObjectExistsError):
        store.put("journal/1", b"other")
    upload = store.upload()
    upload.append(b"other")
    with pytest.raises(ObjectExistsError):
        upload.finish("journal/1")
    upload.abort()
    assert store.read("journal/1") == b"batch"


@pytest.mark.parametrize("key", ["journal/1", "containers/ff/ffff", "containers/ff"])
def test_what_is_not_there_is_missing(store: PoolStore, key: str) -> None:
    store.put("containers/ff/fff0", b"beside it")
    with pytest.raises(ObjectMissingError):
        store.read(key)
    with pytest.raises(ObjectMissingError):
        store.size(key)


def test_an_upload_has_no_name_until_it_is_finished(store: PoolStore) -> None:
    upload = store.upload()
    upload.append(b"first ")
    upload.append(memoryview(b"second"))
    assert list(store.list("containers/")) == []
    upload.finish("containers/ab/abcd")
    assert store.read("containers/ab/abcd") == b"first second"
    upload.abort()
    assert store.read("containers/ab/abcd") == b"first second"


def test_an_aborted_upload_leaves_nothing(store: PoolStore) -> None:
    upload = store.upload()
    upload.append(b"x")
    upload.abort()
    upload.abort()
    assert list(store.list("containers/")) == []


def test_objects_are_listed_by_prefix_in_order_of_key(store: PoolStore) -> None:
    for key in ("containers/b0/b0ff", "containers/a1/a1ff", "containers/a1/a100", "journal/2"):
        store.put(key, key.encode())
    assert [stored.key for stored in store.list("containers/")] == [
        "containers/a1/a100",
        "containers/a1/a1ff",
        "containers/b0/b0ff",
    ]
    assert list(store.list("envelopes/")) == []
    assert list(store.list("nothing/such/")) == []


def test_a_removed_object_is_gone_and_its_key_is_free(store: PoolStore) -> None:
    store.put("journal/1", b"batch")
    store.remove("journal/1")
    store.remove("journal/1")
    with pytest.raises(ObjectMissingError):
        store.read("journal/1")
    store.put("journal/1", b"other")
    assert store.read("journal/1") == b"other"


def test_listing_goes_on_behind_a_key(store: PoolStore) -> None:
    keys = [f"journal/{number:04x}" for number in range(5)]
    for key in keys:
        store.put(key, b"batch")
    assert [stored.key for stored in store.list("journal/", keys[1])] == keys[2:]
    assert [stored.key for stored in store.list("journal/", "journal/0001x")] == keys[2:]


def test_a_long_upload_is_whole(store: PoolStore) -> None:
    data = CountedEntropy().bytes(2 * bucket.PART_BYTES + 12_345)
    upload = store.upload()
    for start in range(0, len(data), 1_000_003):
        upload.append(data[start : start + 1_000_003])
    upload.finish("containers/ab/abcd")
    assert store.size("containers/ab/abcd") == len(data)
    assert store.read("containers/ab/abcd") == data
    assert store.read("containers/ab/abcd", bucket.PART_BYTES - 5, 10) == data[bucket.PART_BYTES - 5 :][:10]
    again = store.upload()
    again.append(data)
    with pytest.raises(ObjectExistsError):
        again.finish("containers/ab/abcd")
    again.abort()


def test_what_a_living_writer_has_is_no_leftover(make: Callable[[], PoolStore], store: PoolStore) -> None:
    upload = store.upload()
    upload.append(b"under way")
    other = make()
    assert list(other.leftovers()) == []
    other.close()
    upload.abort()


def test_a_leftover_becomes_an_object(make: Callable[[], PoolStore], tmp_path: Path) -> None:
    store = make()
    upload = store.upload()
    upload.append(b"0123456789")
    os.close(upload._handle)  # type: ignore[attr-defined]  # its writer dies
    for leftover in store.leftovers():
        leftover.keep("containers/ab/abcd", 5, b"end")
    assert store.read("containers/ab/abcd") == b"01234end"
    store.close()
    again = make()
    assert list(again.leftovers()) == []
    again.close()


def test_an_object_put_aside_is_out_of_the_pool_and_its_bytes_are_kept(store: PoolStore) -> None:
    for contents in (b"first", b"second", b""):
        store.put("containers/ab/abcd", contents)
        store.set_aside("containers/ab/abcd")
        with pytest.raises(ObjectMissingError):
            store.read("containers/ab/abcd")
    kept = [store.read(item.key) for item in store.list("damaged/")]
    assert sorted(kept) == [b"", b"first", b"second"]
    with pytest.raises(ObjectMissingError):
        store.set_aside("containers/ab/abcd")
