"""The lock clock of a pool: it goes only while its media server runs, and never back.

It begins with the time of the wall clock, and is moved on by the monotonic clock alone. What it has reached is kept in
the pool: after a stop it goes on from there, so that it may be late and never early. Locks that end by it may last
longer than was wanted, and never shorter, whatever happens to the wall clock, and whichever earlier state of the pool
comes back.
"""

from __future__ import annotations

import logging
import threading
from typing import Final

from strongroom.core.clock import Clock
from strongroom.core.errors import IntegrityError
from strongroom.core.ids import MediumId
from strongroom.formats import lock_record
from strongroom.formats.errors import DamagedError
from strongroom.formats.lock_record import CLOCK, LAST_NS, ClockRecord
from strongroom.pool import names
from strongroom.pool.errors import ObjectMissingError
from strongroom.pool.store import Store

logger = logging.getLogger(__name__)

NS: Final = 1_000_000_000
KEPT_EVERY_NS: Final = 600 * NS
"""What a crash costs, as a rule: by so much the clock is late after it."""
LEAD_NS: Final = 86_400 * NS
"""By so much the clock may go on from what is kept; it waits there. So two media servers differ by this at the most."""


class LockClock:
    """One pool's clock; may be shared by threads. Several media servers may keep one: the latest time holds.

    Args:
        store: the pool's storage.
        medium: the pool.
        clock: its monotonic half moves this one on.
    """

    def __init__(self, store: Store, medium: MediumId, clock: Clock) -> None:
        self._store = store
        self._medium = medium
        self._clock = clock
        self._lock = threading.Lock()
        self._base_ns = 0
        self._base_seconds = clock.monotonic()
        self._kept_ns = 0
        self._bound_ns = LEAD_NS

    @property
    def kept_ns(self) -> int:
        """The latest time that is known to be kept in the pool; 0 before the first."""
        return self._kept_ns

    def now_ns(self) -> int:
        """Tell the time; never less than before."""
        with self._lock:
            return self._now_ns()

    def reach(self, at_ns: int) -> None:
        """Go on from a time that the clock was known to have, if that is later."""
        with self._lock:
            self._set(max(self._now_ns(), min(at_ns, LAST_NS)))
            self._bound_ns = max(self._bound_ns, min(at_ns + LEAD_NS, LAST_NS))

    def load(self) -> None:
        """Take the latest time that is kept in the pool, if it is later than ours.

        Raises:
            PoolReadError: the storage refused.
        """
        keys = [stored.key for stored in self._store.list(names.LOCK_CLOCKS)]
        for key in reversed(keys):
            try:
                found = self.read(key)
            except ObjectMissingError:
                continue  # another media server has kept a later one since
            except IntegrityError as error:
                logger.warning(
                    "a lock clock does not count: %s", error.message, extra={"event": "lock-clock-damaged", "key": key}
                )
                continue
            self.reach(found.at)
            with self._lock:
                self._kept_ns = max(self._kept_ns, found.at)
            return

    def read(self, key: str) -> ClockRecord:
        """Read a time that is kept in the pool.

        Raises:
            DamagedError, NewerFormatError: it does not hold.
            ObjectMissingError: it is not there.
            PoolReadError: the storage refused.
        """
        found = lock_record.decode(CLOCK, self._store.read(key, 0, CLOCK.max_bytes + 1))
        if (found.medium, names.lock_clock_key(found.at)) != (self._medium, key):
            raise DamagedError("it is of another pool, or another time than its name says")
        return found

    def keep(self, *, at_once: bool = False) -> None:
        """Keep the time in the pool, if it is long enough since it was kept.

        Raises:
            PoolFullError, PoolWriteError, PoolReadError: the storage refused.
        """
        at_ns = self.now_ns()
        if at_ns <= self._kept_ns or not (at_once or at_ns - self._kept_ns >= KEPT_EVERY_NS):
            return
        record = ClockRecord(medium=self._medium, at=at_ns, features=())
        self._store.put(names.lock_clock_key(at_ns), lock_record.encode(CLOCK, record))
        with self._lock:
            self._kept_ns = max(self._kept_ns, at_ns)
            self._bound_ns = max(self._bound_ns, min(at_ns + LEAD_NS, LAST_NS))
        for stored in list(self._store.list(names.LOCK_CLOCKS)):
            earlier = names.lock_time_of(stored.key)
            if earlier is not None and earlier < at_ns:
                self._store.remove(stored.key)

    def _now_ns(self) -> int:
        passed = max(0.0, self._clock.monotonic() - self._base_seconds)
        now_ns = min(self._base_ns + int(passed * NS), LAST_NS)
        if now_ns <= self._bound_ns:
            return now_ns
        self._set(self._bound_ns)  # the time in which nothing was kept is lost, and does not come back in one leap
        return self._bound_ns

    def _set(self, at_ns: int) -> None:
        self._base_ns = at_ns
        self._base_seconds = self._clock.monotonic()
