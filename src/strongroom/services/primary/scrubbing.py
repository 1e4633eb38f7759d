"""Scrubs: jobs that have a media server read and check every object of a pool, by time and by hand.

A pass begins at a moment, and what was checked since counts: an attempt after a kill goes on where the one before was,
and so does the job after one that was cancelled or has failed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, func, select

from strongroom.catalog.media import get_medium
from strongroom.catalog.model import Medium
from strongroom.catalog.tables import copies
from strongroom.core.clock import from_ns, to_ns
from strongroom.core.ids import ImageId, MediumId, from_text, to_text
from strongroom.database import read, transact
from strongroom.jobs import Handler, Job, JobContext, JobFilter, JobId, JobState, NewJob, Queue, RetryPolicy
from strongroom.services import upkeep_messages
from strongroom.services.primary import pools
from strongroom.services.primary.image_work import ImageWork
from strongroom.services.primary.media_client import MediaClients
from strongroom.services.primary.opening import Primary

SCRUB: Final = "scrub"
_MOST_LINES: Final = 300
"""Lines in the job's log; a log keeps 500."""
_MOST_SHOWN: Final = 100


class Scrubbing:
    """Scrubs pools.

    Args:
        primary: whose.
        media: the domain's media servers.
        images: verifies the images that need what is damaged, which names their files.
    """

    def __init__(self, primary: Primary, media: MediaClients, images: ImageWork) -> None:
        self._primary = primary
        self._media = media
        self._images = images

    def queues(self) -> list[Queue]:
        """Give the queue of these jobs."""
        return [Queue("scrubbing", 1)]

    def handlers(self) -> dict[str, Handler]:
        """Give the handler of these jobs."""
        retry = RetryPolicy(first=self._primary.settings.times.retry)
        return {SCRUB: Handler(self._scrub, "scrubbing", retry)}

    def submit(self, connection: Connection, medium: Medium, *, bytes_per_second: int | None) -> JobId:
        """Submit the scrub of a pool.

        Args:
            connection: in the caller's transaction.
            medium: the pool.
            bytes_per_second: how fast it reads at most; ``None`` for what the settings say.
        """
        last = self._last(connection, medium)
        is_cut_off = last is not None and last.ended is not None and last.state is not JobState.DONE
        since = last.params["since_ns"] if last and is_cut_off else to_ns(self._primary.clock.now())
        job = NewJob(
            SCRUB,
            subject=medium.label,
            params={
                "medium": to_text(medium.medium),
                "since_ns": since,
                "bytes_per_second": bytes_per_second or self._primary.settings.upkeep.scrub_bytes_per_second,
            },
            unique_key=f"scrub {medium.medium.hex()}",
        )
        return self._primary.jobs.submit(connection, job).id

    def go_on(self) -> None:
        """Submit the scrubs that are due."""
        now = self._primary.clock.now()
        with read(self._primary.engine) as connection:
            due = [
                pool
                for pool in pools.own_pools(connection, self._primary.domain)
                if (at := self.next_at(connection, pool)) is not None and at <= now
            ]
        for pool in due:
            transact(self._primary.engine, partial(self.submit, medium=pool, bytes_per_second=None))

    def next_at(self, connection: Connection, pool: Medium) -> datetime | None:
        """Tell when a pool is scrubbed next by itself; ``None`` while it is, and while there is nothing in it."""
        last = self._last(connection, pool)
        if last is not None:
            return None if last.ended is None else last.ended + self._primary.settings.upkeep.scrub
        written = select(func.min(copies.c.written_ns)).where(copies.c.medium == pool.medium)
        first = connection.execute(written).scalar_one()
        return None if first is None else from_ns(first) + self._primary.settings.upkeep.scrub

    def _last(self, connection: Connection, pool: Medium) -> Job | None:
        found = self._primary.jobs.find(connection, JobFilter(kinds=(SCRUB,), subject=pool.label, limit=1))
        return found[0] if found else None

    def _scrub(self, context: JobContext) -> Mapping[str, Any]:
        medium = MediumId(from_text(context.params["medium"]))
        with read(self._primary.engine) as connection:
            pool = get_medium(connection, medium)
        request = upkeep_messages.ScrubPool(
            job=context.job_id,
            medium=medium,
            since_ns=context.params["since_ns"],
            bytes_per_second=context.params["bytes_per_second"],
        )
        found = self._media.scrub_pool(pools.host_of(pool), request, context)
        for line in list(_lines(found))[:_MOST_LINES]:
            context.log(line, level="error")
        jobs = transact(self._primary.engine, lambda c: self._verify(c, context, found))
        return {
            "objects": found.objects,
            "bytes": found.bytes,
            "damaged": found.damaged_count,
            "images_damaged": found.image_count,
            "images": [to_text(one.image) for one in found.images if one.image is not None][:_MOST_SHOWN],
            "verify_jobs": jobs[:_MOST_SHOWN],
            "lines": [line[:500] for line in _lines(found)][:_MOST_SHOWN],
        }

    def _verify(self, connection: Connection, context: JobContext, found: upkeep_messages.Scrubbed) -> list[int]:
        """Submit the verification of images that need what is damaged, which names the files that are lost."""
        context.fence(connection)
        images = [ImageId(one.image) for one in found.images[:_MOST_SHOWN] if one.image is not None]
        submitted = (self._images.submit_verify_of(connection, image) for image in images)
        return [job for job in submitted if job is not None]


def _lines(found: upkeep_messages.Scrubbed) -> Iterator[str]:
    for one in found.damaged:
        yield f"'{one.key}' is damaged: {one.problem}"
    for image in found.images:
        yield f"the image in '{image.name}' needs what is damaged: {'; '.join(image.problems)}"
