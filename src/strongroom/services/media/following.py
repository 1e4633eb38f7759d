"""Other media servers of the same pool: what they stored, condemned and removed is taken in before each piece of work.

Source: ``docs/reference/protocols/media-server.md`` and ADR 0014.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from strongroom.core.errors import IntegrityError
from strongroom.core.ids import ContainerId, to_text
from strongroom.images.open_pool import OpenPool
from strongroom.pool import names
from strongroom.pool.containers import Contents, read_contents, scan_contents
from strongroom.pool.errors import LockedError, ObjectMissingError, PoolReadError
from strongroom.pool.index import RefreshReport
from strongroom.services import upkeep_messages
from strongroom.services.media.primary import PrimaryClient

logger = logging.getLogger(__name__)

STORED: Final = "stored"
CONDEMNED: Final = "condemned"
REMOVED: Final = "removed"
_AT_A_BEAT: Final = 1
"""Pages of the log that a beat takes: it must not be late for the next one."""


class _OtherLogError(Exception):
    """The log ends before what was taken in: the primary's catalog was made anew, or is an older one."""


class Follower:
    """Brings the caches of one pool up to date with its log; may be shared by threads.

    Args:
        primary: keeps the log.
        pool: just opened, so that its index knows what the storage listed.
    """

    def __init__(self, primary: PrimaryClient, pool: OpenPool) -> None:
        self._primary = primary
        self._pool = pool
        self._lock = threading.Lock()
        self._listed: RefreshReport | None = pool.refreshed
        self._has_begun = False
        self._number = 0
        self._unread: dict[str, upkeep_messages.LogRow] = {}

    @property
    def number(self) -> int:
        """Up to which number the log was taken in, since the pool was listed."""
        return self._number if self._has_begun else 0

    def begin_again(self) -> None:
        """Take it that the pool was others' for a while: it is listed anew before the log is followed."""
        with self._lock:
            self._forget()

    def follow(self) -> None:
        """Take in what the log has by now.

        Raises:
            UnreachableError: the primary does not answer.
            BucketUnreachableError, PoolWriteError: the storage refused; it is taken in with the next call.
        """
        with self._lock:
            try:
                if self._has_begun:
                    self._go_on()
            except _OtherLogError:
                self._forget()
            if not self._has_begun:
                self._begin()
            if self._unread:
                self._take(list(self._unread.values()), are_new=False)

    def follow_some(self) -> None:
        """Take in a part of it, unless somebody is at it, or has yet to begin; raises as :meth:`follow` does."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._has_begun:
                self._go_on(_AT_A_BEAT)
        except _OtherLogError:
            self._forget()
        finally:
            self._lock.release()

    def _forget(self) -> None:
        self._has_begun, self._listed, self._number = False, None, 0
        self._unread.clear()

    def _go_on(self, most: int | None = None) -> None:
        for rows in islice(self._pages(), most):
            self._take(rows)

    def _begin(self) -> None:
        """Tell what the listing found new, and take the log's word for what is condemned."""
        listed = self._listed
        if listed is None:
            listed = self._pool.index.refresh(self._pool.store)
            self._pool.envelopes.refresh()
        for batch in _batched(names.container_key(container) for container in listed.added):
            self._primary.stored(self._pool.medium, batch)
        condemned: set[ContainerId] = set()
        self._number = 0
        for rows in self._pages():
            condemned |= {found for row in rows if row.state == CONDEMNED and (found := names.container_of(row.name))}
            self._take(rows)
        # What only this index calls condemned, nobody else hides: it is judged anew.
        self._pool.index.reprieve(self._pool.index.condemned().keys() - condemned)
        self._listed, self._has_begun = None, True

    def _pages(self) -> Iterator[Sequence[upkeep_messages.LogRow]]:
        more = True
        while more:
            answer = self._primary.follow(self._pool.medium, self._number)
            if answer.last < self._number:
                raise _OtherLogError
            if answer.rows:
                yield answer.rows
            more = answer.more and bool(answer.rows)

    def _take(self, rows: Sequence[upkeep_messages.LogRow], *, are_new: bool = True) -> None:
        self._pool.envelopes.take([row.name for row in rows if row.name.startswith(names.ENVELOPES)])
        removed = 0
        for row in rows:
            container = names.container_of(row.name)
            if container is None:
                continue
            if row.state == REMOVED:
                self._unread.pop(row.name, None)
                self._remove(row.name)
                self._pool.index.remove(container)
                removed += 1
                continue
            self._unread.pop(row.name, None)
            if not self._pool.index.knows(container):
                try:
                    contents = self._contents(container)
                except PoolReadError as error:
                    self._unread[row.name] = row
                    logger.warning(
                        "a container cannot be read now: %s",
                        error.message,
                        extra={"event": "container-problem", "container": container.hex(), "code": error.code},
                    )
                    continue
                if contents is None:
                    continue
                self._pool.index.add(contents)
            if row.state == CONDEMNED:
                self._pool.index.condemn([container], row.epoch)
            else:
                self._pool.index.reprieve([container])
        if removed:
            self._pool.index.purge()
        if are_new:
            self._number = rows[-1].number

    def _remove(self, name: str) -> None:
        """Remove a container that was let go: whoever was to do it may have died before.

        Where its governance lock was lifted, it is lifted here; a stricter one is not.
        """
        try:
            self._pool.store.remove(name, lift=True)
        except LockedError as error:
            logger.warning("a container stays: %s", error.message, extra={"event": "container-locked", "key": name})
        self._pool.checks.forget([name])

    def _contents(self, container: ContainerId) -> Contents | None:
        """Read a footer, or the items if it is damaged; ``None`` when there is nothing to be read."""
        store, medium = self._pool.store, self._pool.medium
        try:
            return read_contents(store, container, medium)
        except ObjectMissingError:
            return None  # removed since, which a later row says
        except IntegrityError as error:
            logger.warning(
                "a container has a problem: %s",
                error.message,
                extra={"event": "container-problem", "medium": to_text(medium), "container": container.hex()},
            )
        try:
            return scan_contents(store, container, medium)
        except (IntegrityError, ObjectMissingError):
            return None


class CollectionLog:
    """The log as one collection sees it; a :class:`~strongroom.pool.log.PoolLog`.

    Args:
        primary: keeps the log.
        said: the collection; what another attempt of its job has taken over is refused.
    """

    def __init__(self, primary: PrimaryClient, said: upkeep_messages.CollectPool) -> None:
        self._primary = primary
        self._said = said

    @property
    def is_shared(self) -> bool:
        """Tell whether others write in the pool too."""
        return self._said.shared

    def condemn(self, containers: Collection[ContainerId]) -> None:
        """Have every media server of the pool hear of it before its next piece of work."""
        self._mark("condemn", containers)

    def reprieve(self, containers: Collection[ContainerId]) -> None:
        """Take that back."""
        self._mark("reprieve", containers)

    def may_remove(self, container: ContainerId) -> bool:
        """Ask whether a condemned container may go; it is not taken back after that."""
        return bool(self._mark("remove", [container]))

    def _mark(self, step: str, containers: Collection[ContainerId]) -> list[str]:
        marked: list[str] = []
        for batch in _batched(names.container_key(container) for container in containers):
            marked += self._primary.mark_containers(
                upkeep_messages.MarkContainers(
                    job=self._said.job,
                    attempt=self._said.attempt,
                    medium=self._said.medium,
                    step=step,
                    names=batch,
                )
            )
        return marked


def _batched(found: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(found)
    while batch := list(islice(rest, upkeep_messages.MOST_NAMES)):
        yield batch
