"""P3: what every store does, whatever lies under it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from strongroom.pool.errors import ObjectExistsError, ObjectMissingError
from strongroom.pool.folder import Folder
from strongroom.pool.store import Store, StoredObject
from tests.support.pool import CountedEntropy


def in_folder(path: Path) -> Store:
    return Folder.create(path / "pool", b"medium header", CountedEntropy())


ADAPTERS: dict[str, Callable[[Path], Store]] = {"folder": in_folder}


@pytest.fixture(params=ADAPTERS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return ADAPTERS[request.param](tmp_path)


def test_an_object_is_read_whole_and_in_ranges(store: Store) -> None:
    store.put("containers/ab/abcd", b"0123456789")
    assert store.read("containers/ab/abcd") == b"0123456789"
    assert store.read("containers/ab/abcd", 3, 4) == b"3456"
    assert store.read("containers/ab/abcd", 7) == b"789"
    assert store.size("containers/ab/abcd") == 10


def test_a_range_beyond_the_end_is_short(store: Store) -> None:
    store.put("journal/1", b"0123456789")
    assert store.read("journal/1", 8, 100) == b"89"
    assert store.read("journal/1", 20, 5) == b""
    assert store.read("journal/1", 20) == b""


def test_an_empty_object_is_an_object(store: Store) -> None:
    store.put("journal/1", b"")
    assert store.read("journal/1") == b""
    assert list(store.list("journal/")) == [StoredObject("journal/1", 0)]


def test_the_same_bytes_again_change_nothing(store: Store) -> None:
    store.put("journal/1", b"batch")
    store.put("journal/1", bytearray(b"batch"))
    assert store.read("journal/1") == b"batch"


def test_nothing_is_overwritten(store: Store) -> None:
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
def test_what_is_not_there_is_missing(store: Store, key: str) -> None:
    store.put("containers/ff/fff0", b"beside it")
    with pytest.raises(ObjectMissingError):
        store.read(key)
    with pytest.raises(ObjectMissingError):
        store.size(key)


def test_an_upload_has_no_name_until_it_is_finished(store: Store) -> None:
    upload = store.upload()
    upload.append(b"first ")
    upload.append(memoryview(b"second"))
    assert list(store.list("containers/")) == []
    upload.finish("containers/ab/abcd")
    assert store.read("containers/ab/abcd") == b"first second"
    upload.abort()
    assert store.read("containers/ab/abcd") == b"first second"


def test_an_aborted_upload_leaves_nothing(store: Store) -> None:
    upload = store.upload()
    upload.append(b"x")
    upload.abort()
    upload.abort()
    assert list(store.list("containers/")) == []


def test_objects_are_listed_by_prefix_in_order_of_key(store: Store) -> None:
    for key in ("containers/b0/b0ff", "containers/a1/a1ff", "containers/a1/a100", "journal/2"):
        store.put(key, key.encode())
    assert [stored.key for stored in store.list("containers/")] == [
        "containers/a1/a100",
        "containers/a1/a1ff",
        "containers/b0/b0ff",
    ]
    assert list(store.list("envelopes/")) == []
    assert list(store.list("nothing/such/")) == []


def test_a_removed_object_is_gone_and_its_key_is_free(store: Store) -> None:
    store.put("journal/1", b"batch")
    store.remove("journal/1")
    store.remove("journal/1")
    with pytest.raises(ObjectMissingError):
        store.read("journal/1")
    store.put("journal/1", b"other")
    assert store.read("journal/1") == b"other"
