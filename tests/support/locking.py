"""What tests of retention locks share: a clock whose wall half is set at will, and files that can be removed again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from strongroom.core.clock import ManualClock
from strongroom.formats.segment import Buffer
from strongroom.pool.errors import ObjectExistsError, ObjectMissingError
from strongroom.pool.immutable import is_immutable, set_immutable
from strongroom.pool.locks import Locks
from strongroom.pool.store import MayRemove, StoredObject, Term


class WanderingClock(ManualClock):
    """A clock whose wall half somebody sets, while the monotonic half goes on."""

    def set_wall(self, moment: datetime) -> None:
        self._now = moment

    def move_wall(self, by: timedelta) -> None:
        self._now += by


def pass_time(clock: ManualClock, locks: Locks, by: timedelta) -> None:
    """Let a media server run for some time, and keep the lock clock as it does with its beats."""
    step = timedelta(hours=12)
    while by > timedelta(0):
        clock.advance(min(by, step))
        by -= step
        locks.keep_clock()


@contextmanager
def removable_again(path: Path) -> Iterator[None]:
    """Let a test lock files below a folder, and clear what the file system keeps of that when it is over."""
    try:
        yield
    finally:
        for file in path.rglob("*"):
            if file.is_file() and not file.is_symlink() and is_immutable(file):
                set_immutable(file, immutable=False)


class MemoryStore:
    """The objects of a pool in memory, as one media server sees them; ``fixed`` are those that it was told to keep."""

    def __init__(self, objects: dict[str, bytes], fixed: dict[str, int]) -> None:
        self.objects = objects
        self.fixed = fixed
        self._may_remove: MayRemove | None = None

    def put(self, key: str, data: Buffer) -> None:
        if self.objects.setdefault(key, bytes(data)) != bytes(data):
            raise ObjectExistsError(f"the pool already holds '{key}'")

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        if key not in self.objects:
            raise ObjectMissingError(f"the pool has no '{key}'")
        return self.objects[key][offset : None if length is None else offset + length]

    def list(self, prefix: str, after: str = "") -> Iterator[StoredObject]:
        for key in sorted(self.objects):
            if key.startswith(prefix) and key > after:
                yield StoredObject(key, len(self.objects[key]))

    def remove(self, key: str, *, lift: bool = False) -> None:
        if self._may_remove is not None:
            self._may_remove(key, lift)
        self.objects.pop(key, None)

    def guard(self, may_remove: MayRemove) -> None:
        self._may_remove = may_remove

    def fix(self, keys: Sequence[str], term: Term) -> None:
        for key in keys:
            self.fixed[key] = max(term.until_ns, self.fixed.get(key, 0))
