"""P2: in a bucket that was made with object lock, the storage itself keeps what is locked; in another one, the pool."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from strongroom.core.ids import ContainerId
from strongroom.formats.lock_record import LockMode
from strongroom.pool import bucket as bucket_module
from strongroom.pool import names
from strongroom.pool.bucket import BucketStore
from strongroom.pool.errors import LockedError, ObjectMissingError
from strongroom.pool.locks import FILE_NAME, Locks
from strongroom.settings.system import SystemClock
from tests.support.locking import WanderingClock, pass_time
from tests.support.pool import MEDIUM, CountedEntropy
from tests.support.seaweed import BUCKET, LOCKED_BUCKET, Seaweed

KEY = names.container_key(ContainerId(b"c" * 16))
LARGE = names.container_key(ContainerId(b"d" * 16))
FREE = names.container_key(ContainerId(b"e" * 16))
DAY = 86_400


class LockedBucket:
    """A pool in a bucket, with some objects and its locks."""

    def __init__(self, seaweed: Seaweed, bucket: str, work: Path) -> None:
        self.seaweed = seaweed
        self.place = seaweed.place(bucket=bucket)
        self.work = work
        self.resources = ExitStack()
        self.client = self.resources.enter_context(seaweed.client())
        self.clock = WanderingClock()
        BucketStore.create(self.place, seaweed.key, work, b"medium header", CountedEntropy()).close()
        self.opened = 0
        self.open()
        for key in (KEY, FREE):
            self.store.put(key, b"contents")
        upload = self.store.upload()
        upload.append(CountedEntropy().bytes(bucket_module.PART_BYTES + 1))
        upload.finish(LARGE)

    def open(self) -> None:
        self.opened += 1
        entropy = CountedEntropy(str(self.opened))
        self.store = BucketStore.open(self.place, self.seaweed.key, self.work, entropy)
        self.locks = Locks(self.store, self.store.index_path, MEDIUM, self.clock, entropy)

    def reopen_without_cache(self) -> None:
        self.close()
        for file in self.store.index_path.glob(f"{FILE_NAME}*"):
            file.unlink()
        self.open()

    def close(self) -> None:
        self.locks.close()
        self.store.close()

    def end(self) -> None:
        self.close()
        self.resources.close()

    def retention(self, key: str) -> dict[str, Any]:
        found = self.client.get_object_retention(Bucket=self.place.bucket, Key=f"{self.place.prefix}/{key}")
        retention: dict[str, Any] = found["Retention"]
        return retention

    def versions(self, key: str) -> list[str]:
        page = self.client.list_object_versions(Bucket=self.place.bucket, Prefix=f"{self.place.prefix}/{key}")
        return [found["VersionId"] for found in page.get("Versions", ())]

    def delete(self, key: str, **how: object) -> None:
        """Do what whoever has the access key can do."""
        (version,) = self.versions(key)
        self.client.delete_object(Bucket=self.place.bucket, Key=f"{self.place.prefix}/{key}", VersionId=version, **how)


@pytest.fixture
def pool(seaweed: Seaweed, tmp_path: Path) -> Iterator[LockedBucket]:
    made = LockedBucket(seaweed, LOCKED_BUCKET, tmp_path / "work")
    yield made
    made.end()


def test_the_storage_keeps_what_is_locked_from_who_has_the_access_key_p2(pool: LockedBucket) -> None:
    pool.locks.strengthen(LockMode.COMPLIANCE, 1)
    end_ns = pool.locks.end_of(30 * DAY)
    pool.locks.lock([KEY, LARGE], end_ns)
    left = timedelta(seconds=(end_ns - pool.locks.now_ns()) / 10**9)
    for key in (KEY, LARGE, names.MEDIUM, names.lock_mode_key(1)):
        held = pool.retention(key)
        assert held["Mode"] == "COMPLIANCE"
        assert left - timedelta(minutes=5) < held["RetainUntilDate"] - SystemClock().now() < left + timedelta(minutes=5)
        for how in ({}, {"BypassGovernanceRetention": True}):
            with pytest.raises(ClientError, match="AccessDenied"):
                pool.delete(key, **how)
    (record,) = pool.store.list(names.LOCK_RECORDS)
    assert pool.retention(record.key)["Mode"] == "COMPLIANCE"
    with pytest.raises(LockedError):
        pool.store.remove(KEY)
    pool.store.remove(FREE)
    assert pool.versions(FREE) == []  # its room is free
    with pytest.raises(ObjectMissingError):
        pool.store.read(FREE)


def test_a_lock_is_extended_in_the_storage_and_never_made_shorter_p2(pool: LockedBucket) -> None:
    pool.locks.strengthen(LockMode.GOVERNANCE, 1)
    pool.locks.lock([KEY], pool.locks.end_of(30 * DAY))
    first = pool.retention(KEY)["RetainUntilDate"]
    pool.locks.lock([KEY], pool.locks.end_of(90 * DAY))
    longer = pool.retention(KEY)["RetainUntilDate"]
    assert longer - first > timedelta(days=55)
    pool.locks.lock([KEY, LARGE], pool.locks.end_of(1 * DAY))
    assert pool.retention(KEY)["RetainUntilDate"] == longer
    pool.locks.strengthen(LockMode.COMPLIANCE, 1)
    pool.locks.lock([LARGE], pool.locks.end_of(10 * DAY))
    held = pool.retention(LARGE)
    assert held["Mode"] == "COMPLIANCE"


def test_a_governance_lock_is_lifted_in_the_storage_too_p2(pool: LockedBucket) -> None:
    pool.locks.strengthen(LockMode.GOVERNANCE, 1)
    pool.locks.lock([KEY], pool.locks.end_of(30 * DAY))
    with pytest.raises(ClientError, match="AccessDenied"):
        pool.delete(KEY)
    pool.store.remove(KEY, lift=True)
    assert pool.versions(KEY) == []


def test_a_storage_that_keeps_an_object_longer_than_the_pool_says_so_p2(pool: LockedBucket) -> None:
    pool.locks.strengthen(LockMode.COMPLIANCE, 1)
    pool.locks.lock([KEY], pool.locks.end_of(5 * DAY))
    pass_time(pool.clock, pool.locks, timedelta(days=8))  # for the storage no time has passed
    with pytest.raises(LockedError, match="in its bucket until"):
        pool.store.remove(KEY)
    assert pool.store.read(KEY) == b"contents"


def test_locks_in_a_bucket_outlive_the_cache_p2(pool: LockedBucket) -> None:
    pool.locks.strengthen(LockMode.COMPLIANCE, 1)
    end_ns = pool.locks.end_of(5 * DAY)
    pool.locks.lock([KEY, LARGE], end_ns)
    pool.reopen_without_cache()
    assert (pool.locks.mode, pool.locks.until_ns(KEY), pool.locks.until_ns(FREE)) == (LockMode.COMPLIANCE, end_ns, 0)
    with pytest.raises(LockedError):
        pool.store.remove(LARGE)


def test_a_bucket_without_object_lock_is_kept_by_the_pool_alone_and_the_log_says_so_p2(
    seaweed: Seaweed, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pool = LockedBucket(seaweed, BUCKET, tmp_path / "work")
    pool.locks.strengthen(LockMode.COMPLIANCE, 1)
    with caplog.at_level(logging.WARNING):
        pool.locks.lock([KEY], pool.locks.end_of(5 * DAY))
        pool.locks.lock([LARGE], pool.locks.end_of(5 * DAY))
    assert [getattr(record, "event", "") for record in caplog.records] == ["no-object-lock"]
    with pytest.raises(LockedError):
        pool.store.remove(KEY)
    pool.store.remove(FREE)
    pool.end()
