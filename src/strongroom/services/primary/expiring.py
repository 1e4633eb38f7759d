"""Expiry: copies whose time is over leave the catalog, then their headers leave their pools; the data go by collection.

due ──tombstone in the outbox──► expired ──batch on the medium──► removable ──file gone──► forgotten

Each arrow can be gone again from the rows, so a job that was killed is simply run again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, select

from strongroom.catalog import guard
from strongroom.catalog.errors import CopyNotFoundError
from strongroom.catalog.expiry import count_due, due_for_expiry, expire_copy, forget_copy, mark_locked, removable_on
from strongroom.catalog.file_list import remove_file_list
from strongroom.catalog.images import get_image
from strongroom.catalog.media import get_medium
from strongroom.catalog.model import Copy, CopyKey, CopyState, Medium
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import DomainId, ImageId, from_text, to_text
from strongroom.database import read, transact
from strongroom.jobs import Handler, JobContext, JobState, NewJob, Queue, RetryPolicy
from strongroom.jobs.tables import jobs as job_rows
from strongroom.services import upkeep_messages
from strongroom.services.primary import pools
from strongroom.services.primary.client_work import MOUNT, RESTORE
from strongroom.services.primary.errors import ImageInUseError
from strongroom.services.primary.image_work import LIST_FILES, VERIFY
from strongroom.services.primary.media_client import MediaClients
from strongroom.services.primary.opening import Primary
from strongroom.services.primary.tables import client_work

logger = logging.getLogger(__name__)

EXPIRE: Final = "expire"
_AT_ONCE: Final = 200
_OVER: Final = "its retention is over"


class Expiring:
    """Expires copies, by time and by hand.

    Args:
        primary: whose.
        media: the domain's media servers.
    """

    def __init__(self, primary: Primary, media: MediaClients) -> None:
        self._primary = primary
        self._media = media
        self._began = primary.clock.now()
        self._began_monotonic = primary.clock.monotonic()

    def queues(self) -> list[Queue]:
        """Give the queue of these jobs."""
        return [Queue("expiry", 1)]

    def handlers(self) -> dict[str, Handler]:
        """Give the handler of these jobs."""
        return {EXPIRE: Handler(self._expire, "expiry", RetryPolicy(first=self._primary.settings.times.retry))}

    def go_on(self) -> None:
        """Move the guarded clock on, and submit the job that expires and removes, if there is anything for it."""

        def deed(connection: Connection) -> None:
            looked = self._look(connection)
            is_due = looked.stopped is None and self._due(connection, looked, limit=1)
            if is_due or any(removable_on(connection, pool.medium, limit=1) for pool in self._pools(connection)):
                self._primary.jobs.submit(connection, NewJob(EXPIRE, subject=EXPIRE, unique_key=EXPIRE))

        transact(self._primary.engine, deed)

    def expire_image(
        self, connection: Connection, image: ImageId, number: int | None, reason: str, *, lift: bool = False
    ) -> list[int]:
        """Expire the copies of an image on this domain's media, or one of them, before their time.

        With ``lift`` also those that a governance lock keeps.

        Returns:
            The numbers of the copies.

        Raises:
            ImageNotFoundError, CopyNotFoundError: there is no such image, or copy.
            ImageInUseError: a job reads it.
            ExpiryRefusedError: something keeps a copy; none is expired then.
        """
        copies = [copy for copy in get_image(connection, image).copies if self._is_ours(connection, copy, number)]
        if not copies:
            raise CopyNotFoundError(f"the image '{to_text(image)}' has no such copy on a medium of this domain")
        user = in_use(connection).get(image)
        if user is not None:
            raise ImageInUseError(f"the job {user} reads the image '{to_text(image)}'")
        now = guard.state(connection, now=self._primary.clock.now()).time
        for copy in copies:
            expire_copy(connection, copy.key, own=self._primary.domain, now=now, reason=reason, early=True, lift=lift)
        return sorted(copy.key.number for copy in copies)

    # ------------------------------------------------------------ within

    def _look(self, connection: Connection) -> guard.Guard:
        """Look at the clock: it may not go forward faster than this process has run, nor while none ran."""
        clock, limit = self._primary.clock, self._primary.settings.upkeep.expiry_jump
        now = clock.now()
        ran = timedelta(seconds=clock.monotonic() - self._began_monotonic)
        if now - self._began - ran > limit:
            self._began, self._began_monotonic = now, clock.monotonic()
            return guard.stop(connection, "the clock goes forward faster than time passes", now=now)
        return guard.look(connection, now=now, limit=limit)

    def _due(self, connection: Connection, looked: guard.Guard, *, limit: int) -> list[Copy]:
        """Give copies that expire now and that no job reads."""
        used = in_use(connection)
        found: list[Copy] = []
        after = 0
        while len(found) < limit:
            page = due_for_expiry(connection, own=self._primary.domain, now=looked.time, after=after, limit=_AT_ONCE)
            found += [copy for copy in page if copy.key.image not in used]
            if len(page) < _AT_ONCE:
                break
            after = page[-1].id
        return found[:limit]

    def _expire(self, context: JobContext) -> Mapping[str, Any]:
        expired, stopped = 0, transact(self._primary.engine, self._judge)
        while stopped is None:
            context.check()
            count = transact(self._primary.engine, lambda c: self._expire_some(c, context))
            expired += count
            if count == 0:
                break
        if stopped is not None:
            context.log(f"nothing expires: {stopped}", level="warning")
        removed = 0
        failure: StrongroomError | None = None
        with read(self._primary.engine) as connection:
            served = self._pools(connection)
        for pool in served:
            try:
                removed += self._remove(context, pool)
            except StrongroomError as error:  # the other pools are not kept waiting
                context.check()
                context.log(f"pool '{pool.label}': {error.message}", level="error", code=error.code)
                failure = error
        if failure is not None:
            raise failure
        return {"expired": expired, "removed": removed, "stopped": stopped}

    def _judge(self, connection: Connection) -> str | None:
        """Tell why nothing may expire in this pass, if nothing may; the confirmation counts for one pass."""
        looked = self._look(connection)
        if looked.stopped is not None:
            return looked.stopped
        due, complete = count_due(connection, own=self._primary.domain, now=looked.time)
        if guard.is_unusual(due, complete, percent=self._primary.settings.upkeep.expiry_share_percent):
            if not looked.is_confirmed:
                reason = f"{due} of {complete} copies would expire in one pass"
                logger.warning("expiry has stopped: %s", reason, extra={"event": "expiry-stopped"})
                return guard.stop(connection, reason, now=self._primary.clock.now()).stopped
            guard.use_confirmation(connection)
        return None

    def _expire_some(self, connection: Connection, context: JobContext) -> int:
        context.fence(connection)
        looked = self._look(connection)
        if looked.stopped is not None:
            return 0
        due = self._due(connection, looked, limit=_AT_ONCE)
        for copy in due:
            expire_copy(connection, copy.key, own=self._primary.domain, now=looked.time, reason=_OVER)
        return len(due)

    def _remove(self, context: JobContext, pool: Medium) -> int:
        """Remove the headers of expired copies from a pool, then forget the copies."""
        removed = 0
        while True:
            context.check()
            with read(self._primary.engine) as connection:
                gone = removable_on(connection, pool.medium, limit=_AT_ONCE)
            if not gone:
                return removed
            kept = self._remove_files(pool, gone)
            for one in kept:
                context.log(f"the pool '{pool.label}' keeps a copy of {to_text(one.image)}: it is locked")
            transact(self._primary.engine, partial(_mark_locked, own=self._primary.domain, kept=kept))
            locked = {(one.image, one.copy) for one in kept}
            gone = [copy for copy in gone if (copy.key.image, copy.key.number) not in locked]
            for image, salt in transact(self._primary.engine, partial(self._forget, context=context, gone=gone)):
                remove_file_list(self._primary.file_lists, image, salt)
            removed += len(gone)
            context.progress(files=removed, message=f"{removed} copies removed")

    def _remove_files(self, pool: Medium, gone: list[Copy]) -> list[upkeep_messages.StillLocked]:
        """Remove the headers of copies from a pool; give those that it keeps."""
        kept = []
        for lift in (False, True):
            names = names_of([copy for copy in gone if copy.lock_lifted is lift])
            if names:
                kept += self._media.remove_fragments(pools.host_of(pool), pool.medium, names, lift=lift)
        return kept

    def _forget(self, connection: Connection, context: JobContext, gone: list[Copy]) -> list[tuple[ImageId, bytes]]:
        context.fence(connection)
        lists = []
        for copy in gone:
            salt = forget_copy(connection, copy.key).file_list
            if salt is not None:
                lists.append((copy.key.image, salt))
        return lists

    def _pools(self, connection: Connection) -> list[Medium]:
        return pools.own_pools(connection, self._primary.domain)

    def _is_ours(self, connection: Connection, copy: Copy, number: int | None) -> bool:
        is_here = copy.state in (CopyState.COMPLETE, CopyState.INCOMPLETE)
        is_wanted = number is None or (copy.key.number == number and copy.key.domain == self._primary.domain)
        return is_here and is_wanted and get_medium(connection, copy.medium).domain == self._primary.domain


def _mark_locked(connection: Connection, own: DomainId, kept: list[upkeep_messages.StillLocked]) -> None:
    for one in kept:
        mark_locked(connection, CopyKey(ImageId(one.image), own, one.copy), one.until_ns)


def names_of(copies: list[Copy]) -> list[upkeep_messages.FragmentName]:
    """Name copies to a media server."""
    return [upkeep_messages.FragmentName(image=copy.key.image, copy=copy.key.number) for copy in copies]


def in_use(connection: Connection) -> dict[ImageId, int]:
    """Tell which images are read now, each with a job that reads it.

    A restore reads its image, a backup refers to the previous one. What is sent elsewhere is kept by its promise.
    """
    used: dict[ImageId, int] = {}
    for row in connection.execute(select(client_work)):
        if row.kind in (RESTORE, MOUNT):
            used[ImageId(row.image)] = row.job
        elif row.details.get("previous"):
            used[ImageId(from_text(row.details["previous"][0]))] = row.job
    reading = select(job_rows.c.id, job_rows.c.params).where(
        job_rows.c.state == JobState.RUNNING, job_rows.c.kind.in_([LIST_FILES, VERIFY])
    )
    for row in connection.execute(reading):
        used[ImageId(from_text(row.params["image"]))] = row.id
    return used
