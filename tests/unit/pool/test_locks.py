"""P2: what is locked stays until the lock clock is there, whatever the wall clock says and whatever is lost."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from strongroom.core.clock import to_ns
from strongroom.formats import lock_record
from strongroom.formats.lock_record import CLOCK, LAST_NS, LOCK, ClockRecord, LockMode, LockRecord
from strongroom.pool import folder as folder_module
from strongroom.pool import names
from strongroom.pool.errors import LockedError, LocksUnreadError, WeakerLockError
from strongroom.pool.folder import Folder
from strongroom.pool.immutable import is_immutable, set_immutable
from strongroom.pool.lock_clock import KEPT_EVERY_NS
from strongroom.pool.locks import FILE_NAME, Locks
from tests.support.locking import WanderingClock, pass_time, removable_again
from tests.support.pool import MEDIUM, CountedEntropy

KEY = names.container_key(b"c" * 16)  # type: ignore[arg-type]
OTHER = names.container_key(b"d" * 16)  # type: ignore[arg-type]
ENVELOPE = "envelopes/ab/" + "ab" * 16 + "-" + "cd" * 32 + "-00000001"
DAY = timedelta(days=1)
DAY_NS = 86_400 * 10**9


class Locked:
    """A folder with some objects, and its locks, which can be opened again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = WanderingClock()
        self.opened = 0
        Folder.create(path, b"medium header", CountedEntropy())
        self.open()
        for key in (KEY, OTHER, ENVELOPE, "journal/0000000000000001"):
            self.store.put(key, b"contents of " + key.encode())

    def open(self) -> None:
        self.opened += 1
        entropy = CountedEntropy(str(self.opened))
        self.store = Folder.open(self.path, entropy)
        self.locks = Locks(self.store, self.store.index_path, MEDIUM, self.clock, entropy)

    def reopen(self, *, without_cache: bool = False) -> None:
        """Open it as after a crash: nothing is kept at the end."""
        self.locks.close()
        if without_cache:
            for file in self.store.index_path.glob(f"{FILE_NAME}*"):
                file.unlink()
        self.clock = WanderingClock(self.clock.now())  # another process: its monotonic clock begins anew
        self.open()

    def run(self, by: timedelta) -> None:
        pass_time(self.clock, self.locks, by)

    def is_kept(self, key: str = KEY) -> bool:
        try:
            self.store.remove(key)
        except LockedError:
            return True
        return False


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Locked]:
    with removable_again(tmp_path):
        made = Locked(tmp_path / "pool")
        yield made
        made.locks.close()


def test_a_locked_object_is_refused_with_its_end_until_the_lock_clock_is_there_p2(pool: Locked) -> None:
    pool.locks.strengthen(LockMode.COMPLIANCE, 7)
    end_ns = pool.locks.end_of(int(30 * DAY.total_seconds()))
    assert end_ns % (7 * DAY_NS) == 0
    assert 31 * DAY_NS <= end_ns - pool.locks.now_ns() < 38 * DAY_NS
    assert pool.locks.lock([KEY, ENVELOPE], end_ns) == 2
    with pytest.raises(LockedError, match="is locked until 2026-02-05 00:00:00Z") as refused:
        pool.store.remove(KEY)
    assert refused.value.context["until"] == "2026-02-05 00:00:00Z"
    with pytest.raises(LockedError):
        pool.store.remove(KEY, lift=True)
    assert pool.is_kept(ENVELOPE)
    assert not pool.is_kept(OTHER)
    pool.run(timedelta(microseconds=(end_ns - pool.locks.now_ns()) // 1_000 - 1))
    assert pool.is_kept()
    pool.run(timedelta(seconds=1))
    assert not pool.is_kept()
    assert not pool.is_kept(ENVELOPE)


def test_the_wall_clock_ends_no_lock_p2(pool: Locked) -> None:
    pool.locks.strengthen(LockMode.GOVERNANCE, 1)
    pool.locks.lock([KEY], pool.locks.end_of(3_600))
    for moment in (
        datetime(2090, 1, 1, tzinfo=UTC),
        datetime(1980, 1, 1, tzinfo=UTC),
        datetime(2026, 1, 1, tzinfo=UTC),
    ):
        pool.clock.set_wall(moment)
        assert pool.is_kept()
        pool.reopen()
        assert pool.is_kept()
        pool.reopen(without_cache=True)
        assert pool.is_kept()


def test_an_end_is_only_ever_made_later_p2(pool: Locked) -> None:
    pool.locks.strengthen(LockMode.GOVERNANCE, 1)
    later = pool.locks.end_of(int(50 * DAY.total_seconds()))
    assert pool.locks.lock([KEY], later) == 1
    assert pool.locks.lock([KEY], pool.locks.end_of(60)) == 0
    assert pool.locks.until_ns(KEY) == later
    assert pool.locks.lock([KEY], later + DAY_NS) == 1
    pool.reopen(without_cache=True)
    assert pool.locks.until_ns(KEY) == later + DAY_NS


def test_most_backups_extend_few_because_ends_are_rounded_p2(pool: Locked) -> None:
    pool.locks.strengthen(LockMode.GOVERNANCE, 7)
    extended = []
    for _ in range(28):
        extended.append(pool.locks.lock([KEY, OTHER], pool.locks.end_of(int(30 * DAY.total_seconds()))))
        pool.run(DAY)
    assert extended.count(0) == 23  # five steps of a week begin in four weeks
    assert sum(extended) == 10


def test_a_mode_is_only_made_stricter_and_survives_the_loss_of_the_cache_p2(pool: Locked) -> None:
    assert pool.locks.mode is LockMode.NONE
    pool.locks.strengthen(LockMode.GOVERNANCE, 7)
    pool.locks.strengthen(LockMode.GOVERNANCE, 14)
    assert pool.locks.facts().rounding_days == 14
    pool.locks.strengthen(LockMode.COMPLIANCE, 7)
    pool.reopen(without_cache=True)
    assert (pool.locks.mode, pool.locks.facts().rounding_days) == (LockMode.COMPLIANCE, 7)
    with pytest.raises(WeakerLockError, match="is 'compliance', and cannot become 'governance'"):
        pool.locks.strengthen(LockMode.GOVERNANCE, 7)
    with pytest.raises(WeakerLockError):
        pool.locks.strengthen(LockMode.NONE, 7)
    for stored in pool.store.list(names.LOCKS):
        assert pool.is_kept(stored.key)


def test_a_governance_lock_is_lifted_by_who_says_so_and_no_longer_once_it_is_compliance_p2(pool: Locked) -> None:
    pool.locks.strengthen(LockMode.GOVERNANCE, 1)
    pool.locks.lock([KEY, OTHER], pool.locks.end_of(3_600))
    assert pool.is_kept()
    pool.store.remove(KEY, lift=True)
    for key in (names.MEDIUM, "journal/0000000000000001", names.lock_mode_key(1)):
        with pytest.raises(LockedError):
            pool.store.remove(key, lift=True)
    pool.locks.strengthen(LockMode.COMPLIANCE, 1)
    with pytest.raises(LockedError):
        pool.store.remove(OTHER, lift=True)


def test_the_clock_goes_on_from_what_was_kept_and_never_faster_than_time_p2(pool: Locked) -> None:
    pool.locks.strengthen(LockMode.GOVERNANCE, 1)
    begun = pool.locks.now_ns()
    assert begun == to_ns(pool.clock.now())
    pool.clock.advance(timedelta(hours=5))
    pool.locks.keep_clock()
    pool.clock.advance(timedelta(minutes=3))
    pool.locks.keep_clock()  # too soon: nothing is written
    assert len(list(pool.store.list(names.LOCK_CLOCKS))) == 1
    pool.reopen()
    assert pool.locks.now_ns() == begun + 5 * 3_600 * 10**9
    pool.clock.advance(timedelta(hours=1))
    assert pool.locks.now_ns() == begun + 6 * 3_600 * 10**9
    assert KEPT_EVERY_NS >= 180 * 10**9


def test_a_clock_that_is_missing_goes_on_from_what_the_records_say_p2(pool: Locked) -> None:
    pool.locks.strengthen(LockMode.GOVERNANCE, 1)
    pool.run(timedelta(days=3))
    pool.locks.lock([KEY], pool.locks.end_of(3_600))
    locked_at = pool.locks.now_ns()
    for file in (pool.path / "locks" / "clock").iterdir():
        set_immutable(file, immutable=False)
        file.unlink()
    pool.clock.set_wall(datetime(2090, 1, 1, tzinfo=UTC))
    pool.reopen(without_cache=True)
    assert pool.locks.now_ns() == locked_at
    assert pool.is_kept()


@pytest.mark.parametrize("planted", ["damage", "another pool", "another time"])
def test_a_clock_that_does_not_hold_does_not_count_p2(pool: Locked, planted: str) -> None:
    pool.locks.strengthen(LockMode.GOVERNANCE, 1)
    at_ns, later = pool.locks.now_ns(), pool.locks.now_ns() + 10**18
    other = b"x" * 16 if planted == "another pool" else MEDIUM
    record = ClockRecord(medium=other, at=later + (planted == "another time"), features=())
    data = lock_record.encode(CLOCK, record)
    pool.store.put(names.lock_clock_key(later), data[:-1] + b"?" if planted == "damage" else data)
    pool.reopen()
    assert pool.locks.now_ns() == at_ns


def test_a_record_that_cannot_be_read_keeps_everything_until_its_end_p2(pool: Locked) -> None:
    pool.locks.strengthen(LockMode.GOVERNANCE, 1)
    end_ns = pool.locks.end_of(3_600)
    pool.locks.lock([KEY], end_ns)
    (stored,) = pool.store.list(names.LOCK_RECORDS)
    file = pool.path / stored.key
    set_immutable(file, immutable=False)
    file.chmod(0o600)
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    pool.reopen(without_cache=True)
    assert pool.is_kept(KEY)
    assert pool.is_kept(OTHER)
    with pytest.raises(LocksUnreadError):
        list(pool.locks.locked(names.CONTAINERS))
    pool.run(3 * DAY)
    pool.locks.refresh()
    assert not pool.is_kept(OTHER)


def test_a_mode_that_cannot_be_read_counts_as_the_strictest_p2(pool: Locked) -> None:
    pool.locks.strengthen(LockMode.GOVERNANCE, 1)
    pool.locks.lock([KEY], pool.locks.end_of(3_600))
    file = pool.path / names.lock_mode_key(1)
    set_immutable(file, immutable=False)
    file.write_bytes(b"?")
    pool.reopen()
    assert pool.locks.mode is LockMode.COMPLIANCE
    with pytest.raises(LockedError):
        pool.store.remove(KEY, lift=True)


def test_records_go_when_all_that_they_lock_is_over_p2(pool: Locked) -> None:
    pool.locks.strengthen(LockMode.GOVERNANCE, 1)
    pool.locks.lock([KEY], pool.locks.end_of(3_600))
    pool.locks.lock([OTHER], pool.locks.end_of(int(90 * DAY.total_seconds())))
    assert pool.locks.facts().objects == 2
    pool.run(3 * DAY)
    pool.locks.refresh()
    (left,) = pool.store.list(names.LOCK_RECORDS)
    assert names.lock_time_of(left.key) == pool.locks.until_ns(OTHER)
    assert pool.locks.facts().objects == 1
    assert list(pool.locks.locked(names.CONTAINERS)) == [OTHER]


def test_for_ever_is_for_ever_p2(pool: Locked) -> None:
    pool.locks.strengthen(LockMode.COMPLIANCE, 366)
    assert pool.locks.end_of(None) == LAST_NS
    assert pool.locks.end_of(1 << 33) == LAST_NS
    pool.locks.lock([KEY], LAST_NS)
    with pytest.raises(LockedError, match="until the end of time"):
        pool.store.remove(KEY)


def test_many_locks_lie_in_few_records_and_are_all_found_again_p2(
    pool: Locked, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool.locks.strengthen(LockMode.GOVERNANCE, 1)
    keys = [f"images/ab/{number:032x}-0001" for number in range(6_000)]
    monkeypatch.setattr(pool.store, "fix", lambda *_: None)  # they have no files
    pool.locks.lock(keys, pool.locks.end_of(3_600))
    records = [lock_record.decode(LOCK, pool.store.read(stored.key)) for stored in pool.store.list(names.LOCK_RECORDS)]
    assert sorted(len(record.objects) for record in records) == [6_000 - 4_096, 4_096]
    pool.reopen(without_cache=True)
    assert list(pool.locks.locked(names.IMAGES)) == keys


def test_another_pools_record_does_not_count_and_keeps_everything_p2(pool: Locked) -> None:
    pool.locks.strengthen(LockMode.GOVERNANCE, 1)
    end_ns = pool.locks.end_of(3_600)
    record = LockRecord(
        medium=b"x" * 16, at=pool.locks.now_ns(), until=end_ns, containers=(b"z" * 16,), objects=(), features=()
    )
    pool.store.put(names.lock_record_key(end_ns, b"r" * 16), lock_record.encode(LOCK, record))
    pool.locks.refresh()
    assert pool.is_kept(OTHER)


def can_be_immutable(path: Path) -> bool:
    probe = path / "probe"
    probe.touch()
    able = set_immutable(probe, immutable=True)
    set_immutable(probe, immutable=False)
    return able


def test_files_are_immutable_where_that_is_permitted_until_they_may_go_p2(pool: Locked, tmp_path: Path) -> None:
    if not can_be_immutable(tmp_path):
        pytest.skip("files cannot be made immutable here")
    pool.locks.strengthen(LockMode.COMPLIANCE, 1)
    pool.locks.lock([KEY], pool.locks.end_of(3_600))
    before = "journal/0000000000000001"
    for key in (KEY, names.MEDIUM, before, *(stored.key for stored in pool.store.list(names.LOCK_RECORDS))):
        with pytest.raises(PermissionError):
            (pool.path / key).unlink()
    new = "journal/0000000000000002"
    pool.store.put(new, b"a batch of later")
    assert not is_immutable(pool.path / new)
    pool.locks.fix(new)
    assert is_immutable(pool.path / new)
    pool.run(3 * DAY)
    pool.store.remove(KEY)
    assert not (pool.path / KEY).exists()


def test_where_files_cannot_be_made_immutable_one_line_says_so_p2(
    pool: Locked, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(folder_module, "set_immutable", lambda *_, **__: False)
    pool.locks.strengthen(LockMode.COMPLIANCE, 1)
    with caplog.at_level(logging.WARNING):
        pool.locks.lock([KEY], pool.locks.end_of(3_600))
        pool.locks.lock([OTHER], pool.locks.end_of(3_600))
    assert [record.event for record in caplog.records] == ["not-immutable"]  # type: ignore[attr-defined]
    assert pool.is_kept()


def test_a_clock_that_cannot_be_kept_waits_and_does_not_leap_afterwards_p2(pool: Locked) -> None:
    pool.locks.strengthen(LockMode.GOVERNANCE, 1)
    begun = pool.locks.now_ns()
    pool.clock.advance(timedelta(days=30))  # stopped, or with a storage that takes nothing
    assert pool.locks.now_ns() == begun + DAY_NS
    pool.locks.keep_clock()
    assert pool.locks.now_ns() == begun + DAY_NS
    pool.run(DAY)
    assert pool.locks.now_ns() == begun + 2 * DAY_NS
