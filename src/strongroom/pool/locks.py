"""Retention locks of a pool: what may not go before when, and who says so.

Source: ``docs/reference/formats/locks.md``. The truth are lock records in the pool itself. A cache beside the index
knows the end of each object's lock; an end in it only ever becomes later, and it is made again from the records when it
is missing, so that neither the loss of the cache nor of the catalog shortens a lock. A record that cannot be read keeps
everything until the end that its name tells.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from strongroom.core.clock import Clock, from_ns, to_ns
from strongroom.core.entropy import Entropy
from strongroom.core.errors import IntegrityError
from strongroom.core.ids import UUID_BYTES, ContainerId, MediumId
from strongroom.formats import lock_record
from strongroom.formats.errors import DamagedError
from strongroom.formats.lock_record import (
    LAST_NS,
    LOCK,
    MODE,
    MODES,
    MOST_CONTAINERS,
    MOST_OBJECTS,
    LockMode,
    LockRecord,
    ModeRecord,
)
from strongroom.pool import names
from strongroom.pool.cache_file import CacheFile
from strongroom.pool.errors import (
    IndexDamagedError,
    LockedError,
    LocksUnreadError,
    ObjectMissingError,
    WeakerLockError,
)
from strongroom.pool.lock_clock import LEAD_NS, NS, LockClock
from strongroom.pool.store import PoolStore, Term

logger = logging.getLogger(__name__)

FILE_NAME: Final = "locks.sqlite"
DEFAULT_ROUNDING_DAYS: Final = 7
_DAY_NS: Final = 86_400 * NS
_BATCH: Final = 500
_TABLES: Final = """
CREATE TABLE record (key TEXT PRIMARY KEY, until_ns INTEGER NOT NULL, at_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE object (key TEXT PRIMARY KEY, until_ns INTEGER NOT NULL) WITHOUT ROWID;
"""
_ENTER: Final = (
    "INSERT INTO object VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET until_ns = MAX(until_ns, excluded.until_ns)"
)


@dataclass(frozen=True, slots=True)
class LockFacts:
    """How a pool is locked.

    Attributes:
        mode: how strictly.
        rounding_days: ends of locks are rounded up to whole multiples of this.
        clock_ns: the lock clock; 0 while nothing was ever locked here.
        objects: how many objects are locked now.
        latest_ns: when the last of these locks ends.
    """

    mode: LockMode
    rounding_days: int
    clock_ns: int
    objects: int
    latest_ns: int


class Locks:
    """The locks of one pool; may be shared by threads.

    Args:
        store: the pool's storage; it removes nothing from now on that is locked.
        folder: where the cache lies.
        medium: the pool.
        clock: moves the lock clock on.
        entropy: gives the names of lock records.

    Raises:
        PoolReadError, PoolWriteError: the storage refused.
    """

    def __init__(self, store: PoolStore, folder: Path, medium: MediumId, clock: Clock, entropy: Entropy) -> None:
        self._store = store
        self._medium = medium
        self._wall = clock
        self._entropy = entropy
        self._clock = LockClock(store, medium, clock)
        self._file = CacheFile(folder / FILE_NAME, schema=1, tables=lambda: _TABLES)
        self._locking = threading.RLock()
        self._mode = LockMode.NONE
        self._mode_number = 0
        self._rounding_days = DEFAULT_ROUNDING_DAYS
        self._unread_until_ns = 0
        self._fixed_own_until_ns = 0
        self._lifted = 0
        store.guard(self.require_removable)
        try:
            self.refresh()
        except IndexDamagedError:
            self._file.empty()
            self.refresh()

    @property
    def mode(self) -> LockMode:
        """How strictly the pool's locks hold; what is stored in it is locked unless it is *none*."""
        return self._mode

    @property
    def lifted(self) -> int:
        """How many locks were lifted since the pool was opened: what was locked before may not be there any more."""
        return self._lifted

    def now_ns(self) -> int:
        """Tell the time of the lock clock."""
        return self._clock.now_ns()

    def refresh(self) -> None:
        """Take in what other media servers, or an earlier state of the cache, have not told; forget what is over.

        Raises:
            PoolReadError, PoolWriteError: the storage refused.
        """
        with self._locking:
            modes = self._read_modes()
            if not modes and self._mode is LockMode.NONE:
                return  # nothing was ever locked here
            self._clock.load()
            for at_ns in modes:
                self._clock.reach(at_ns)
            self._read_records()

    def strengthen(self, mode: LockMode, rounding_days: int) -> None:
        """Lock what is stored from now on; a mode is never made less strict.

        Raises:
            WeakerLockError: it is stricter already.
            LocksUnreadError: how strict it is cannot be told.
            PoolFullError, PoolWriteError, PoolReadError: the storage refused.
        """
        with self._locking:
            self.refresh()
            if mode < self._mode or mode is LockMode.NONE:
                raise WeakerLockError(f"the pool's lock mode is '{self._mode.word}', and cannot become '{mode.word}'")
            if (mode, rounding_days) == (self._mode, self._rounding_days):
                return
            if self._mode is LockMode.NONE:
                self._clock.reach(to_ns(self._wall.now()))
            number = self._mode_number + 1
            record = ModeRecord(
                medium=self._medium,
                number=number,
                mode=mode.word,
                rounding_days=rounding_days,
                at=self.now_ns(),
                features=(),
            )
            self._clock.keep(at_once=True)
            self._store.put(names.lock_mode_key(number), lock_record.encode(MODE, record))
            self._read_modes()
            logger.info(
                "the pool locks what is stored in it",
                extra={"event": "pool-locked", "mode": mode.word, "rounding_days": rounding_days},
            )

    def end_of(self, seconds: int | None) -> int:
        """Tell when a lock of so many seconds ends that begins now, rounded up; ``None`` is for ever.

        The clock of another media server may be before ours: it does not end the lock early.
        """
        if seconds is None:
            return LAST_NS
        step = self._rounding_days * _DAY_NS
        end = -(-(self.now_ns() + LEAD_NS + seconds * NS) // step) * step
        return end if end <= LAST_NS else LAST_NS

    def lock(self, keys: Collection[str], until_ns: int) -> int:
        """Lock objects until a time of the lock clock; durable when this returns. One that is locked longer stays so.

        Returns:
            How many of them had not been locked for so long.

        Raises:
            PoolFullError, PoolWriteError, PoolReadError: the storage refused; what was locked before stays so.
        """
        if self._mode is LockMode.NONE:
            raise ValueError("a pool without a lock mode locks nothing")
        with self._locking:
            shorter = sorted(self._shorter(keys, until_ns))
            if not shorter:
                return 0
            now_ns = self.now_ns()
            term = Term(self._mode, until_ns, now_ns)
            # before the record: after it nobody would ask for these again
            if not self._latest_ns():
                self._store.fix([stored.key for stored in self._store.list(names.JOURNAL)], term)
            self._store.fix(shorter, term)
            own = []
            for containers, objects in _chunks(shorter):
                record = LockRecord(
                    medium=self._medium,
                    at=now_ns,
                    until=until_ns,
                    containers=tuple(containers),
                    objects=tuple(objects),
                    features=(),
                )
                key = names.lock_record_key(until_ns, self._entropy.bytes(UUID_BYTES))
                self._store.put(key, lock_record.encode(LOCK, record))
                own.append(key)
                self._enter(key, record)
            self._store.fix(own, term)
            self._fix_own(term)
            return len(shorter)

    def fix(self, key: str) -> None:
        """Have the storage keep an object that is locked already: a new journal batch, or a fragment written again.

        Raises:
            PoolWriteError, PoolReadError: the storage refused.
        """
        until_ns, now_ns = self.until_ns(key), self.now_ns()
        if until_ns > now_ns:
            self._store.fix([key], Term(self._mode, until_ns, now_ns))

    def until_ns(self, key: str) -> int:
        """Tell when the lock of an object ends, or ended; 0 for one that has none."""
        if key == names.MEDIUM or key.startswith((names.JOURNAL, names.REVOCATIONS)):
            return max(self._latest_ns(), self._unread_until_ns)
        if key.startswith(names.LOCKS):
            return self._until_of_own(key)
        with self._file.using() as db:
            row = db.execute("SELECT until_ns FROM object WHERE key = ?", (key,)).fetchone()
        return max(row[0] if row else 0, self._unread_until_ns)

    def is_locked(self, key: str) -> bool:
        """Tell whether an object is locked now."""
        return self.until_ns(key) > self.now_ns()

    def locked(self, prefix: str) -> Iterator[str]:
        """Give the keys that begin with ``prefix``, which ends with a slash, and are locked now.

        Raises:
            LocksUnreadError: that cannot be told, because a lock record cannot be read.
        """
        now_ns = self.now_ns()
        if self._unread_until_ns > now_ns:
            raise LocksUnreadError(
                f"a lock record cannot be read, so everything is kept until {shown_end(self._unread_until_ns)}"
            )
        after, end = prefix, prefix[:-1] + chr(ord("/") + 1)
        while True:
            with self._file.using() as db:
                rows = db.execute(
                    "SELECT key, until_ns FROM object WHERE key > ? AND key < ? ORDER BY key LIMIT ?",
                    (after, end, _BATCH),
                ).fetchall()
            for key, until_ns in rows:
                after = key
                if until_ns > now_ns:
                    yield key
            if len(rows) < _BATCH:
                return

    def require_removable(self, key: str, lift: bool) -> None:
        """Make sure that an object may be removed.

        Args:
            key: the object.
            lift: an administrator lifts its governance lock.

        Raises:
            LockedError: it is locked; the message says until when.
        """
        until_ns, now_ns = self.until_ns(key), self.now_ns()
        if until_ns <= now_ns:
            return
        is_own = key == names.MEDIUM or key.startswith((names.JOURNAL, names.REVOCATIONS, names.LOCKS))
        if lift and self._mode is LockMode.GOVERNANCE and not is_own:
            self._lifted += 1
            logger.warning("a governance lock was lifted", extra={"event": "lock-lifted", "key": key})
            return
        raise LockedError(
            f"'{key}' is locked until {shown_end(until_ns)} of the pool's lock clock, which is at {shown_end(now_ns)}",
            context={"key": key, "until": shown_end(until_ns)},
        )

    def check(self, key: str) -> None:
        """Check an object that says something about locks: its digest, and that it is the one that its key says.

        Raises:
            DamagedError, NewerFormatError: it does not hold.
            ObjectMissingError: it is not there.
            PoolReadError: the storage refused.
        """
        if key.startswith(names.LOCK_MODES):
            self._mode_in(key)
        elif key.startswith(names.LOCK_CLOCKS):
            self._clock.read(key)
        else:
            self._record_in(key)

    def facts(self) -> LockFacts:
        """Tell how the pool is locked."""
        if self._mode is LockMode.NONE:
            return LockFacts(LockMode.NONE, self._rounding_days, 0, 0, 0)
        now_ns = self.now_ns()
        with self._file.using() as db:
            (count,) = db.execute("SELECT COUNT(*) FROM object WHERE until_ns > ?", (now_ns,)).fetchone()
        return LockFacts(self._mode, self._rounding_days, now_ns, count, self._latest_ns())

    def keep_clock(self, *, at_once: bool = False) -> None:
        """Keep the lock clock in the pool, now and then; called often.

        Raises:
            PoolFullError, PoolWriteError, PoolReadError: the storage refused.
        """
        if self._mode is not LockMode.NONE:
            self._clock.keep(at_once=at_once)

    def close(self) -> None:
        """Close the cache."""
        self._file.close()

    # ------------------------------------------------------------ within

    def _read_modes(self) -> list[int]:
        """Read how strict the pool is; give the times of the lock clock at which that was said.

        What cannot be read may have been the strictest.
        """
        times = []
        for stored in list(self._store.list(names.LOCK_MODES)):
            try:
                found = self._mode_in(stored.key)
            except IntegrityError as error:
                logger.warning(
                    "a lock mode cannot be read, and counts as compliance: %s",
                    error.message,
                    extra={"event": "lock-mode-damaged", "key": stored.key},
                )
                self._mode = LockMode.COMPLIANCE
                self._mode_number = max(self._mode_number, _number_of(stored.key))
                times.append(0)
                continue
            self._mode = max(self._mode, MODES[found.mode])
            if found.number >= self._mode_number:
                self._mode_number, self._rounding_days = found.number, found.rounding_days
            times.append(found.at)
        return times

    def _read_records(self) -> None:
        """Take in records that are new, and remove those whose locks are over."""
        with self._file.using() as db:
            known = {row[0]: row[1] for row in db.execute("SELECT key, at_ns FROM record")}
        self._clock.reach(max(known.values(), default=0))
        unread_until_ns, ended = 0, []
        for stored in list(self._store.list(names.LOCK_RECORDS)):
            until_ns = names.lock_time_of(stored.key)
            if until_ns is not None and until_ns <= self.now_ns():
                ended.append(stored.key)
                continue
            if stored.key in known:
                continue
            try:
                found = self._record_in(stored.key)
            except ObjectMissingError:
                continue  # it was over, and another media server has removed it
            except IntegrityError as error:
                logger.warning(
                    "a lock record cannot be read, and keeps the whole pool: %s",
                    error.message,
                    extra={"event": "lock-record-damaged", "key": stored.key},
                )
                unread_until_ns = max(unread_until_ns, LAST_NS if until_ns is None else until_ns)
                continue
            self._clock.reach(found.at)
            self._enter(stored.key, found)
        self._unread_until_ns = unread_until_ns
        for key in ended:
            self._store.remove(key)
        now_ns = self.now_ns()
        with self._file.using() as db:
            db.execute("DELETE FROM record WHERE until_ns <= ?", (now_ns,))
            db.execute("DELETE FROM object WHERE until_ns <= ?", (now_ns,))

    def _mode_in(self, key: str) -> ModeRecord:
        found = lock_record.decode(MODE, self._store.read(key, 0, MODE.max_bytes + 1))
        if (found.medium, names.lock_mode_key(found.number)) != (self._medium, key):
            raise DamagedError("it is of another pool, or has another number than its name says")
        return found

    def _record_in(self, key: str) -> LockRecord:
        found = lock_record.decode(LOCK, self._store.read(key, 0, LOCK.max_bytes + 1))
        if (found.medium, found.until) != (self._medium, names.lock_time_of(key)):
            raise DamagedError("it is of another pool, or has another end than its name says")
        return found

    def _enter(self, key: str, record: LockRecord) -> None:
        keys = (*(names.container_key(ContainerId(one)) for one in record.containers), *record.objects)
        with self._file.using() as db:
            db.executemany(_ENTER, [(one, record.until) for one in keys])
            db.execute("INSERT OR IGNORE INTO record VALUES (?, ?, ?)", (key, record.until, record.at))

    def _shorter(self, keys: Collection[str], until_ns: int) -> set[str]:
        """Give those that are not locked so long."""
        rest, shorter = iter(sorted(set(keys))), set[str]()
        while batch := list(islice(rest, _BATCH)):
            marks = ",".join("?" * len(batch))
            statement = f"SELECT key FROM object WHERE key IN ({marks}) AND until_ns >= ?"  # noqa: S608 - marks only
            with self._file.using() as db:
                longer = {row[0] for row in db.execute(statement, (*batch, until_ns))}
            shorter.update(set(batch) - longer)
        return shorter

    def _latest_ns(self) -> int:
        with self._file.using() as db:
            (latest,) = db.execute("SELECT COALESCE(MAX(until_ns), 0) FROM record").fetchone()
        return int(latest)

    def _until_of_own(self, key: str) -> int:
        """Tell when an object goes that says something about locks."""
        told_ns = names.lock_time_of(key)
        if key.startswith(names.LOCK_RECORDS) and told_ns is not None:
            return told_ns
        if key.startswith(names.LOCK_CLOCKS) and told_ns is not None and told_ns < self._clock.kept_ns:
            return 0  # a later one is kept
        return LAST_NS

    def _fix_own(self, term: Term) -> None:
        """Keep what the pool is read and locked by as long as the last lock."""
        if term.until_ns <= self._fixed_own_until_ns:
            return
        own = [names.MEDIUM]
        own += [stored.key for kind in (names.REVOCATIONS, names.LOCK_MODES) for stored in self._store.list(kind)]
        self._store.fix(own, term)
        self._fixed_own_until_ns = term.until_ns


def _chunks(keys: Sequence[str]) -> Iterator[tuple[list[bytes], list[str]]]:
    """Give container ids and other keys in portions that fit into a record."""
    containers: list[bytes] = []
    objects: list[str] = []
    for key in keys:
        container = names.container_of(key)
        if container is None:
            objects.append(key)
        else:
            containers.append(container)
        if len(containers) == MOST_CONTAINERS or len(objects) == MOST_OBJECTS:
            yield containers, objects
            containers, objects = [], []
    if containers or objects:
        yield containers, objects


def _number_of(key: str) -> int:
    word = key.rpartition("/")[2]
    return int(word) if word.isascii() and word.isdigit() else 0


def shown_end(ns: int) -> str:
    """Write a time of a lock clock for people."""
    return "the end of time" if ns >= LAST_NS else f"{from_ns(ns):%Y-%m-%d %H:%M:%S}Z"
