"""P2: whatever happens to clocks, processes and caches, no lock lasts shorter than was asked."""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from strongroom.core.ids import ContainerId
from strongroom.formats.lock_record import LockMode
from strongroom.pool import names
from strongroom.pool.errors import LockedError, WeakerLockError
from strongroom.pool.locks import Locks
from strongroom.pool.store import PoolStore
from tests.support.locking import MemoryStore, WanderingClock
from tests.support.pool import MEDIUM, CountedEntropy

NS = 10**9
KEYS = [names.container_key(ContainerId(bytes([number]) * 16)) for number in range(3)] + ["images/ab/" + "ab" * 16]
SPANS = st.timedeltas(timedelta(0), timedelta(days=2))
SERVERS = st.integers(0, 1)


class LockMachine(RuleBasedStateMachine):
    """Two media servers over one storage, which are killed, with clocks that are set and caches that are put back."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="locks-"))
        objects: dict[str, bytes] = {}
        fixed: dict[str, int] = {}
        self.stores = [MemoryStore(objects, fixed), MemoryStore(objects, fixed)]
        self.objects, self.fixed = objects, fixed
        self.clocks = [WanderingClock(), WanderingClock()]
        self.served: list[Locks] = []
        self.saved: Path | None = None
        self.passed_ns = 0
        self.asked: dict[str, int] = {}
        self.ever_asked: set[str] = set()
        self.mode = LockMode.NONE
        self.begun_ns = 0
        self.shown = [0, 0]

    def teardown(self) -> None:
        for locks in self.served:
            locks.close()
        shutil.rmtree(self.folder)

    @initialize(rounding=st.integers(1, 3))
    def begin(self, rounding: int) -> None:
        for number in (0, 1):
            (self.folder / str(number)).mkdir()
            self.served.append(self._open(number))
        self.served[0].strengthen(LockMode.GOVERNANCE, rounding)
        self.served[1].refresh()
        self.mode = LockMode.GOVERNANCE
        self.begun_ns = self.served[0].now_ns()

    def _open(self, server: int) -> Locks:
        store = cast("PoolStore", self.stores[server])  # as far as locks ask it
        entropy = CountedEntropy(f"{server} {self.passed_ns} {len(self.objects)}")
        return Locks(store, self.folder / str(server), MEDIUM, self.clocks[server], entropy)

    @rule(span=SPANS)
    def time_passes(self, span: timedelta) -> None:
        for clock in self.clocks:
            clock.advance(span)
        self.passed_ns += span // timedelta(microseconds=1) * 1_000

    @rule(server=SERVERS, moment=st.datetimes(datetime(1980, 1, 1), datetime(2200, 1, 1)))  # noqa: DTZ001 - made aware below
    def somebody_sets_the_wall_clock(self, server: int, moment: datetime) -> None:
        self.clocks[server].set_wall(moment.replace(tzinfo=UTC))

    @rule(server=SERVERS, keys=st.sets(st.sampled_from(KEYS), min_size=1), seconds=st.integers(0, 3 * 86_400))
    def lock(self, server: int, keys: set[str], seconds: int) -> None:
        locks = self.served[server]
        for key in keys:
            self.objects.setdefault(key, b"contents")
        locks.lock(keys, locks.end_of(seconds))
        self.ever_asked |= keys
        for key in keys:
            self.asked[key] = max(self.asked.get(key, 0), self.passed_ns + seconds * NS)

    @rule(server=SERVERS, mode=st.sampled_from(list(LockMode)), rounding=st.integers(1, 30))
    def change_the_mode(self, server: int, mode: LockMode, rounding: int) -> None:
        try:
            self.served[server].strengthen(mode, rounding)
        except WeakerLockError:
            assert mode < self.mode or mode is LockMode.NONE
        else:
            assert mode >= self.mode
            self.mode = mode

    @rule(server=SERVERS)
    def keep_the_clock(self, server: int) -> None:
        self.served[server].keep_clock()

    @rule(server=SERVERS, fate=st.sampled_from(["kept", "lost", "put back"]), down=SPANS)
    def kill(self, server: int, fate: str, down: timedelta) -> None:
        """End a server; the time in which it is down passes for the wall clock and the other one, not for it."""
        kept_ns = max((names.lock_time_of(key) or 0) for key in self.objects if key.startswith(names.LOCK_CLOCKS))
        self.served[server].close()
        cache = self.folder / str(server)
        if fate != "kept":
            shutil.rmtree(cache)
            if fate == "put back" and self.saved is not None:
                shutil.copytree(self.saved, cache)
            else:
                cache.mkdir()
        self.time_passes(down)
        self.clocks[server] = WanderingClock(self.clocks[server].now())
        self.served[server] = self._open(server)
        assert self.served[server].now_ns() >= kept_ns
        self.shown[server] = 0

    @rule(server=SERVERS)
    def copy_the_cache(self, server: int) -> None:
        self.served[server].close()
        self.saved = self.folder / "saved"
        shutil.rmtree(self.saved, ignore_errors=True)
        shutil.copytree(self.folder / str(server), self.saved)
        self.served[server] = self._open(server)
        self.shown[server] = 0

    @rule(server=SERVERS, key=st.sampled_from(KEYS), lift=st.booleans())
    def remove(self, server: int, key: str, lift: bool) -> None:
        locks = self.served[server]
        locks.refresh()
        try:
            self.stores[server].remove(key, lift=lift)
        except LockedError:
            assert key in self.ever_asked  # what was lifted and is gone stands in its record still
            return
        if not (lift and self.mode is LockMode.GOVERNANCE):
            assert self.passed_ns >= self.asked.get(key, 0), "it went before its time"
        self.asked.pop(key, None)

    @rule(server=SERVERS)
    def sweep_what_locks_keep(self, server: int) -> None:
        """Try to remove what says that something is locked."""
        self.served[server].refresh()
        for key in [key for key in self.objects if key.startswith(names.LOCKS)]:
            try:
                self.stores[server].remove(key)
            except LockedError:
                continue
            assert not key.startswith(names.LOCK_MODES)

    @invariant()
    def clocks_are_never_early_and_never_go_back(self) -> None:
        for number, locks in enumerate(self.served):
            now_ns = locks.now_ns()
            assert now_ns >= self.shown[number]
            assert now_ns <= self.begun_ns + self.passed_ns + 1_000  # what seconds as floats may add
            self.shown[number] = now_ns

    @invariant()
    def what_must_stay_is_there(self) -> None:
        for key, until_ns in self.asked.items():
            assert self.passed_ns >= until_ns or key in self.objects
            assert key in self.fixed


TestLocks = LockMachine.TestCase
TestLocks.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
