"""Collections: jobs that have a media server free what no image of a pool needs.

The primary knows the sessions, the media server the containers. What a collection condemns goes when no session is
open that began before: often that is at once, in the same job; else in a job that follows when they have ended. The
first look of a job rewrites, the second only frees.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, func, select

from strongroom.catalog.copies import committing
from strongroom.catalog.expiry import due_for_expiry, expired_on
from strongroom.catalog.guard import state
from strongroom.catalog.media import advance_epoch, get_medium, oldest_session, open_epochs
from strongroom.catalog.model import Medium
from strongroom.catalog.tables import copies
from strongroom.core.clock import from_ns, to_ns
from strongroom.core.ids import HostId, MediumId, from_text, to_text
from strongroom.database import read, transact
from strongroom.jobs import Handler, Job, JobContext, JobFilter, JobId, JobState, NewJob, Queue, RetryPolicy
from strongroom.jobs.tables import jobs as job_rows
from strongroom.services import upkeep_messages
from strongroom.services.primary import pools
from strongroom.services.primary.errors import NotYoursError
from strongroom.services.primary.expiring import in_use, names_of
from strongroom.services.primary.media_client import MediaClients
from strongroom.services.primary.opening import Primary

COLLECT: Final = "collect"
_SLACK: Final = timedelta(hours=1)
"""By how much the clocks of primary and media server may differ."""
_MOST_PLANNED: Final = 10_000


class Collecting:
    """Collects pools, by time and by hand.

    Args:
        primary: whose.
        media: the domain's media servers.
    """

    def __init__(self, primary: Primary, media: MediaClients) -> None:
        self._primary = primary
        self._media = media

    def queues(self) -> list[Queue]:
        """Give the queue of these jobs."""
        return [Queue("collection", 1)]

    def handlers(self) -> dict[str, Handler]:
        """Give the handler of these jobs."""
        retry = RetryPolicy(first=self._primary.settings.times.retry)
        return {COLLECT: Handler(self._collect, "collection", retry)}

    def submit(self, connection: Connection, medium: Medium, *, dry_run: bool, lift: bool = False) -> JobId:
        """Submit the collection of a pool, or the plan of one; with ``lift`` also of what governance locks keep."""
        job = NewJob(
            COLLECT,
            subject=medium.label,
            params={"medium": to_text(medium.medium), "dry_run": dry_run, "lift": lift},
            unique_key=f"collect {medium.medium.hex()} {dry_run} {lift}",
        )
        return self._primary.jobs.submit(connection, job).id

    def go_on(self) -> None:
        """Submit the collections that are due."""
        with read(self._primary.engine) as connection:
            due = [pool for pool in pools.own_pools(connection, self._primary.domain) if self._is_due(connection, pool)]
        for pool in due:
            transact(self._primary.engine, partial(self.submit, medium=pool, dry_run=False))

    def _is_due(self, connection: Connection, pool: Medium) -> bool:
        """Tell whether it is time, or whether what the last collection condemned can go now."""
        now = self._primary.clock.now()
        last = self._last(connection, pool)
        if last is None:
            begun = _first_copy(connection, pool.medium)
            return begun is not None and now - begun >= self._primary.settings.upkeep.collect
        if last.ended is None:
            return False
        waits_for = (last.result or {}).get("waits_for_epoch")
        if waits_for is not None and _closed_before(connection, pool) > waits_for:
            return True
        return now - last.ended >= self._primary.settings.upkeep.collect

    def _last(self, connection: Connection, pool: Medium) -> Job | None:
        found = self._primary.jobs.find(connection, JobFilter(kinds=(COLLECT,), subject=pool.label, limit=50))
        return next((job for job in found if not job.params["dry_run"]), None)

    def _collect(self, context: JobContext) -> Mapping[str, Any]:
        medium = MediumId(from_text(context.params["medium"]))
        if context.params["dry_run"]:
            with read(self._primary.engine) as connection:
                request, pool = self._request(connection, context, medium, dry_run=True, rewrites=True)
            return _shown(self._media.collect_pool(pools.host_of(pool), request, context), request)
        first: upkeep_messages.Collected | None = None
        while True:
            with read(self._primary.engine) as connection:
                request, pool = self._request(connection, context, medium, dry_run=False, rewrites=first is None)
            found = self._media.collect_pool(pools.host_of(pool), request, context)
            for line in (*found.unread, *found.damaged):
                context.log(line, level="error")
            if found.full:
                context.log(f"no more was rewritten: {found.full}", level="warning")
            waits_for = transact(self._primary.engine, partial(_end, context=context, request=request, found=found))
            total = found if first is None else _added(first, found)
            with read(self._primary.engine) as connection:
                can_go = (
                    waits_for is not None and _closed_before(connection, get_medium(connection, medium)) > waits_for
                )
            if not can_go or first is not None:
                return {**_shown(total, request), "waits_for_epoch": waits_for}
            first = found

    def _request(
        self, connection: Connection, context: JobContext, medium: MediumId, *, dry_run: bool, rewrites: bool
    ) -> tuple[upkeep_messages.CollectPool, Medium]:
        """Tell who may refer to what, in one snapshot; what is committed after it belongs to a session in it."""
        pool = get_medium(connection, medium)
        oldest = oldest_session(connection, medium)
        return upkeep_messages.CollectPool(
            job=context.job_id,
            medium=medium,
            epoch=pool.epoch,
            closed_before=_closed_before(connection, pool),
            young_ns=None if oldest is None else to_ns(oldest - _SLACK),
            committing=[data for _, _, data in committing(connection, medium)],
            without=self._about_to_go(connection, medium) if dry_run else [],
            dry_run=dry_run,
            lift=bool(context.params.get("lift")),
            rewriting=self._rewriting() if rewrites else None,
        ), pool

    def _rewriting(self) -> upkeep_messages.Rewriting | None:
        upkeep = self._primary.settings.upkeep
        if not upkeep.rewrite_percent:
            return None
        return upkeep_messages.Rewriting(
            percent=upkeep.rewrite_percent,
            most_bytes=upkeep.rewrite_bytes,
            bytes_per_second=upkeep.rewrite_bytes_per_second,
        )

    def _about_to_go(self, connection: Connection, medium: MediumId) -> list[upkeep_messages.FragmentName]:
        now = state(connection, now=self._primary.clock.now())
        gone = expired_on(connection, medium, limit=_MOST_PLANNED)
        if now.stopped is None:
            used = in_use(connection)
            due = due_for_expiry(connection, own=self._primary.domain, now=now.time, limit=_MOST_PLANNED)
            gone += [copy for copy in due if copy.medium == medium and copy.key.image not in used]
        return names_of(gone)


def collected_on(connection: Connection, host: HostId, job: int) -> MediumId:
    """Tell the pool of a collection that runs on a media server.

    Raises:
        NotYoursError: it is another kind of job, or another media server's, or it does not run.
    """
    row = connection.execute(
        select(job_rows.c.kind, job_rows.c.params, job_rows.c.state).where(job_rows.c.id == job)
    ).one_or_none()
    if row is None or row.kind != COLLECT or row.state != JobState.RUNNING:
        raise NotYoursError(f"the job {job} collects nothing")
    return pools.require_served(connection, MediumId(from_text(row.params["medium"])), host).medium


def _closed_before(connection: Connection, pool: Medium) -> int:
    """Tell the epoch before which no session that may still commit began."""
    return min(open_epochs(connection, pool.medium) | {pool.epoch})


def _end(
    connection: Connection, context: JobContext, request: upkeep_messages.CollectPool, found: upkeep_messages.Collected
) -> int | None:
    """Begin a new epoch when something was condemned; give the one that must be over before all of it can go."""
    context.fence(connection)
    pool = get_medium(connection, MediumId(request.medium))
    if not (found.condemned.containers or found.waiting.containers or found.envelopes_waiting):
        return None
    if pool.epoch == request.epoch:
        advance_epoch(connection, pool.medium)
    return request.epoch


def _first_copy(connection: Connection, medium: MediumId) -> datetime | None:
    written = connection.execute(select(func.min(copies.c.written_ns)).where(copies.c.medium == medium)).scalar_one()
    return None if written is None else from_ns(written)


def _added(first: upkeep_messages.Collected, second: upkeep_messages.Collected) -> upkeep_messages.Collected:
    """Take what the second look found, and what both have done."""
    return upkeep_messages.Collected(
        images=second.images,
        pages=second.pages,
        found=first.found,
        unneeded=first.unneeded,
        sparse_bytes=second.sparse_bytes,
        rewritten=first.rewritten,
        copied_bytes=first.copied_bytes,
        rewrite_later=first.rewrite_later,
        damaged=[*first.damaged, *second.damaged],
        full=first.full,
        condemned=second.condemned,
        waiting=second.waiting,
        removed=upkeep_messages.Counted(
            containers=first.removed.containers + second.removed.containers,
            bytes=first.removed.bytes + second.removed.bytes,
        ),
        reprieved=first.reprieved + second.reprieved,
        envelopes=first.envelopes + second.envelopes,
        envelopes_waiting=second.envelopes_waiting,
        unread=second.unread,
        locked=second.locked,
    )


def _shown(found: upkeep_messages.Collected, request: upkeep_messages.CollectPool) -> dict[str, Any]:
    waiting = found.condemned.containers + found.waiting.containers
    return {
        "images": found.images,
        "images_expired": len(request.without),
        "containers": found.found.containers,
        "bytes": found.found.bytes,
        "unneeded_containers": found.unneeded.containers,
        "unneeded_bytes": found.unneeded.bytes,
        "locked_containers": found.locked.containers,
        "locked_bytes": found.locked.bytes,
        "sparse_bytes": found.sparse_bytes,
        "rewritten_containers": found.rewritten.containers,
        "rewritten_bytes": found.rewritten.bytes,
        "copied_bytes": found.copied_bytes,
        "rewrite_later_containers": found.rewrite_later,
        "damaged_containers": len(found.damaged),
        "removed_containers": found.removed.containers,
        "removed_bytes": found.removed.bytes,
        "waiting_containers": waiting,
        "waiting_bytes": found.condemned.bytes + found.waiting.bytes,
        "reprieved_containers": found.reprieved,
        "removed_envelopes": found.envelopes,
        "unread_containers": len(found.unread),
    }
