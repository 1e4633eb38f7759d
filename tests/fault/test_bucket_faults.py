"""P3: a pool in object storage whose storage, or whose network, fails for a while or for good."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from strongroom.core.secret import Secret
from strongroom.pool import bucket, s3
from strongroom.pool.bucket import PART_BYTES, UPLOADS, BucketStore
from strongroom.pool.errors import (
    BucketDeniedError,
    BucketMissingError,
    BucketUnreachableError,
    NotAPoolError,
    ObjectExistsError,
    PoolExistsError,
    PoolReadError,
)
from strongroom.pool.incoming import INCOMING
from strongroom.pool.index import open_index
from strongroom.pool.place import BucketKey, BucketPlace
from strongroom.pool.salvage import salvage
from tests.support.faulty_http import Fault, FaultyProxy, faulty
from tests.support.pool import DOMAIN, MEDIUM, CountedEntropy, Keys, Pool
from tests.support.seaweed import Seaweed

KEY = "containers/ab/abcd"
DATA = CountedEntropy("data").bytes(2 * PART_BYTES + 1)


@pytest.fixture
def proxy(seaweed: Seaweed) -> Iterator[FaultyProxy]:
    with faulty(seaweed.port) as proxy:
        yield proxy


@pytest.fixture
def place(seaweed: Seaweed, proxy: FaultyProxy) -> BucketPlace:
    return seaweed.place(proxy.port)


@pytest.fixture
def store(place: BucketPlace, seaweed: Seaweed, tmp_path: Path) -> Iterator[BucketStore]:
    store = BucketStore.create(place, seaweed.key, tmp_path / "work", b"medium header", CountedEntropy())
    yield store
    store.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Storages that are asked twice before something fails, so that failing takes no minute."""
    made = s3._client
    monkeypatch.setattr(s3, "_client", lambda place, key, attempts: made(place, key, min(attempts, 2)))


def send(store: BucketStore, data: bytes = DATA, key: str = KEY) -> None:
    upload = store.upload()
    try:
        upload.append(data)
        upload.finish(key)
    finally:
        upload.abort()


def again(place: BucketPlace, seaweed: Seaweed, work: Path) -> BucketStore:
    return BucketStore.open(place, seaweed.key, work, CountedEntropy("again"))


@pytest.mark.parametrize(
    ("fault", "method", "text", "times"),
    [
        (Fault.UNAVAILABLE, "PUT", "partNumber", 3),
        (Fault.CUT, "PUT", "partNumber=2", 2),
        (Fault.SLOW, "PUT", "partNumber=1", 1),
        (Fault.LOST, "PUT", "partNumber=2", 1),
        (Fault.LOST, "POST", "uploadId", 1),
        (Fault.UNAVAILABLE, "POST", "uploads", 2),
    ],
)
def test_an_upload_goes_on_when_the_storage_comes_back(
    store: BucketStore, proxy: FaultyProxy, seaweed: Seaweed, fault: Fault, method: str, text: str, times: int
) -> None:
    proxy.fail(fault, method, text, times)
    send(store)
    assert proxy.met == [fault.name] * times
    proxy.heal()
    assert store.read(KEY) == DATA


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.CUT, Fault.UNAVAILABLE])
def test_a_small_object_is_stored_when_the_storage_comes_back(
    store: BucketStore, proxy: FaultyProxy, fault: Fault
) -> None:
    proxy.fail(fault, "PUT", "journal/", 1)
    store.put("journal/1", b"batch")
    proxy.fail(fault, "PUT", "containers/", 1)
    send(store, b"small container")
    assert len(proxy.met) == 2
    assert (store.read("journal/1"), store.read(KEY)) == (b"batch", b"small container")


def test_a_read_goes_on_when_an_answer_breaks_off(store: BucketStore, proxy: FaultyProxy) -> None:
    send(store)
    proxy.fail(Fault.HALF, "GET", "containers/", 2)
    assert store.read(KEY, 5, 1 << 20) == DATA[5 : 5 + (1 << 20)]
    assert proxy.met == ["HALF", "HALF"]


@pytest.mark.usefixtures("impatient")
def test_what_cannot_be_sent_leaves_nothing(
    place: BucketPlace, store: BucketStore, proxy: FaultyProxy, seaweed: Seaweed, tmp_path: Path
) -> None:
    other = again(place, seaweed, tmp_path / "work")
    proxy.fail(Fault.UNAVAILABLE, "PUT", "partNumber=2")
    with pytest.raises(BucketUnreachableError, match="503"):
        send(other)
    assert seaweed.unfinished(place) == []
    assert list((tmp_path / "work" / INCOMING).iterdir()) == []
    assert list((tmp_path / "work" / UPLOADS).iterdir()) == []
    assert set(seaweed.objects(place)) == {"medium"}
    other.close()


@pytest.mark.usefixtures("impatient")
def test_an_upload_that_could_not_even_be_aborted_is_aborted_at_the_next_opening(
    place: BucketPlace, store: BucketStore, proxy: FaultyProxy, seaweed: Seaweed, tmp_path: Path
) -> None:
    other = again(place, seaweed, tmp_path / "work")
    for method in ("PUT", "DELETE"):
        proxy.fail(Fault.UNAVAILABLE, method, "uploadId")
    with pytest.raises(BucketUnreachableError):
        send(other)
    other.close()
    assert seaweed.unfinished(place) == [f"{place.prefix}/{KEY}"]
    proxy.heal()
    again(place, seaweed, tmp_path / "work").close()
    assert seaweed.unfinished(place) == []
    assert list((tmp_path / "work" / UPLOADS).iterdir()) == []


def test_only_uploads_whose_writers_are_gone_are_aborted(
    place: BucketPlace,
    store: BucketStore,
    seaweed: Seaweed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Own and alive, own and dead, unknown and young, unknown and old, under another prefix."""
    work = tmp_path / "work"
    living = store.upload()
    (work / UPLOADS / living._path.name).write_text(f"{place.prefix}/containers/aa/alive")
    (work / UPLOADS / "dead").write_text(f"{place.prefix}/containers/aa/dead")
    with seaweed.client() as client:
        for key in ("containers/aa/alive", "containers/aa/dead", "containers/aa/unknown", "elsewhere/x"):
            client.create_multipart_upload(Bucket=place.bucket, Key=f"{place.prefix}/{key}")
    again(place, seaweed, work).close()
    left = [f"{place.prefix}/{key}" for key in ("containers/aa/alive", "containers/aa/unknown", "elsewhere/x")]
    assert sorted(seaweed.unfinished(place)) == left
    living.abort()
    monkeypatch.setattr(bucket, "_ABANDONED_SECONDS", -1.0)
    again(place, seaweed, work).close()
    assert seaweed.unfinished(place) == [f"{place.prefix}/elsewhere/x"]


def test_a_key_that_may_not_list_uploads_opens_the_pool_and_says_so(
    place: BucketPlace, store: BucketStore, seaweed: Seaweed, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: object) -> Iterator[s3.Unfinished]:
        raise BucketDeniedError("no")

    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(s3.Bucket, "unfinished", refused)
        again(place, seaweed, tmp_path / "work").close()
    assert [record.__dict__["event"] for record in caplog.records] == ["uploads-not-aborted"]


def test_a_storage_without_conditions_is_found_out_and_nothing_is_replaced(
    place: BucketPlace, store: BucketStore, seaweed: Seaweed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unconditional(place: BucketPlace, key: BucketKey, attempts: int) -> Any:
        client = made(place, key, attempts)
        client.meta.events.register("provide-client-params.s3", forget)
        return client

    def forget(params: dict[str, Any], **_: object) -> None:
        params.pop("IfNoneMatch", None)

    made = s3._client
    monkeypatch.setattr(s3, "_client", unconditional)
    other = again(place, seaweed, tmp_path / "work")
    other.put("journal/1", b"batch")
    other.put("journal/1", b"batch")
    with pytest.raises(ObjectExistsError):
        other.put("journal/1", b"other")
    send(other)
    with pytest.raises(ObjectExistsError):
        send(other, DATA[:-1])
    assert (other.read("journal/1"), other.read(KEY)) == (b"batch", DATA)
    assert other.read("medium") == b"medium header"
    other.close()


# ---------------------------------------------------------------- listings that are late


def test_a_late_listing_loses_nothing_of_the_index(
    place: BucketPlace, store: BucketStore, proxy: FaultyProxy, seaweed: Seaweed, tmp_path: Path
) -> None:
    entropy = CountedEntropy("writer")
    index, report = open_index(store.index_path, store, entropy, medium=MEDIUM)
    pool = Pool(store, index, report, entropy, Keys(entropy))  # type: ignore[arg-type]  # not a folder, and none is asked for
    references = pool.write([b"segment" * 10_000])
    ((container, *_),) = index.containers()
    proxy.hidden.add(f"{place.prefix}/containers/{container.hex()[:2]}/{container.hex()}")
    assert list(store.list("containers/")) == []
    assert index.refresh(store).removed == []
    with pool.reader() as reader:
        assert b"".join(bytes(piece) for piece in reader.read(references)) == b"segment" * 10_000
    store.remove(f"containers/{container.hex()[:2]}/{container.hex()}")
    assert index.refresh(store).removed == [container]
    index.close()


# ---------------------------------------------------------------- what a dead receiver had taken


def test_what_a_dead_writer_was_writing_goes_and_costs_the_bucket_nothing(
    place: BucketPlace, store: BucketStore, seaweed: Seaweed, tmp_path: Path
) -> None:
    upload = store.upload()
    upload.append(b"no container")
    os.close(upload._handle)
    assert salvage(store, medium=MEDIUM, own=DOMAIN) == []
    assert list((tmp_path / "work" / INCOMING).iterdir()) == []
    assert set(seaweed.objects(place)) == {"medium"}


# ---------------------------------------------------------------- what an administrator did wrong


@pytest.mark.usefixtures("impatient")
def test_what_is_wrong_with_a_bucket_is_told(seaweed: Seaweed, tmp_path: Path) -> None:
    def create(place: BucketPlace, key: BucketKey = seaweed.key) -> None:
        BucketStore.create(place, key, tmp_path / "work", b"medium header", CountedEntropy()).close()

    good = seaweed.place()
    with pytest.raises(BucketMissingError, match="no-such-bucket"):
        create(BucketPlace.make("s3://no-such-bucket/p", good.endpoint))
    for key in (BucketKey("unknown", Secret(b"x")), BucketKey(seaweed.key.access_key, Secret(b"wrong"))):
        with pytest.raises(BucketDeniedError):
            create(good, key)
    with pytest.raises(BucketUnreachableError, match=r"127\.0\.0\.1:9"):
        create(BucketPlace.make("s3://bucket/p", "http://127.0.0.1:9"))
    with pytest.raises(BucketUnreachableError):  # no TLS there
        create(BucketPlace.make(f"s3://{good.bucket}/p", good.endpoint.replace("http:", "https:")))
    with pytest.raises(NotAPoolError):
        again(good, seaweed, tmp_path / "work")
    create(good)
    with pytest.raises(PoolExistsError):
        create(good)


def test_a_storage_that_lists_out_of_order_is_refused(store: BucketStore, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [f"{store._prefix}journal/{number}" for number in (2, 1)]
    page = {"Contents": [{"Key": key, "Size": 1} for key in keys]}
    monkeypatch.setattr(store._bucket._client, "list_objects_v2", lambda **_: page)
    with pytest.raises(PoolReadError, match="order"):
        list(store.list("journal/"))


# ---------------------------------------------------------------- counts


def test_requests_are_counted_by_kind_and_outlive_the_process(
    place: BucketPlace, store: BucketStore, proxy: FaultyProxy, seaweed: Seaweed, tmp_path: Path
) -> None:
    before = store.requests()
    proxy.fail(Fault.UNAVAILABLE, "PUT", "partNumber=1", 1)
    send(store)
    store.read(KEY, 0, 1_000)
    store.size(KEY)
    list(store.list("containers/"))
    store.remove(KEY)
    after = store.requests()
    grown = {name: after[name] - before[name] for name in after}
    sent = grown.pop("sent_bytes")
    # begin, three parts, one of them again, complete
    assert grown == {
        "put": 0, "get": 1, "head": 1, "list": 1, "delete": 1, "multipart": 6, "lock": 0, "received_bytes": 1_000,
    }  # fmt: skip
    assert len(DATA) + PART_BYTES <= sent < len(DATA) + PART_BYTES + 1_000
    other = again(place, seaweed, tmp_path / "work")
    assert other.requests()["multipart"] == after["multipart"]
    other.close()
