"""Repairing a pool, as a job: what the catalog knows is written again, and its media server mends the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, select

from strongroom.catalog.media import get_medium
from strongroom.catalog.model import CopyState
from strongroom.catalog.tables import copies, fragments
from strongroom.core.errors import IntegrityError, NotFoundError, RefusedError, ResourceError
from strongroom.core.ids import HostId, ImageId, MediumId, from_text, to_text
from strongroom.database import read, transact
from strongroom.formats import fragment
from strongroom.jobs import Handler, JobContext, JobId, JobState, NewJob, Queue, RetryPolicy
from strongroom.jobs.tables import jobs as job_rows
from strongroom.pool import names
from strongroom.services import messages, upkeep_messages
from strongroom.services.primary import pools
from strongroom.services.primary.image_work import ImageWork, checked_fragment
from strongroom.services.primary.media_client import MediaClients
from strongroom.services.primary.opening import Primary
from strongroom.services.primary.scrubbing import SCRUB

REPAIR: Final = "repair"
_PAGE: Final = 256
_MOST_LINES: Final = 300
"""Lines in the job's log; a log keeps 500."""
_MOST_SHOWN: Final = 100


class PoolBusyError(RefusedError):
    """Jobs are at work in the pool."""

    code = "pool.busy"
    default_hint = "wait until they have ended ('strongroom job list --state running'), or look with '--dry-run'"


class _Held(NamedTuple):
    """A copy that the catalog calls complete."""

    row: int
    image: ImageId
    copy: int


class PoolWork:
    """Jobs about whole pools.

    Args:
        primary: whose.
        media: the domain's media servers.
        images: verifies the images that stay damaged.
    """

    def __init__(self, primary: Primary, media: MediaClients, images: ImageWork) -> None:
        self._primary = primary
        self._media = media
        self._images = images

    def queues(self) -> list[Queue]:
        """Give the queues of these jobs."""
        return [Queue("pools", 1)]

    def handlers(self) -> dict[str, Handler]:
        """Give the handlers of these jobs."""
        retry = RetryPolicy(first=self._primary.settings.times.retry)
        return {REPAIR: Handler(self._repair, "pools", retry)}

    def submit_repair(self, connection: Connection, medium: MediumId, *, dry_run: bool) -> JobId:
        """Submit the repair of a pool.

        Raises:
            PoolBusyError: jobs are running in it, and this is more than a look.
        """
        if not dry_run:
            _require_idle(connection, medium)
        return self._primary.jobs.submit(
            connection,
            NewJob(
                REPAIR,
                subject=to_text(medium),
                params={"medium": to_text(medium), "dry_run": dry_run},
                unique_key=f"repair {medium.hex()} {dry_run}",
            ),
        ).id

    def _repair(self, context: JobContext) -> Mapping[str, Any]:
        medium = MediumId(from_text(context.params["medium"]))
        dry_run = bool(context.params["dry_run"])
        with read(self._primary.engine) as connection:
            if not dry_run:
                _require_idle(connection, medium)
            host = pools.host_of(get_medium(connection, medium))
        written = list(self._write_fragments(context, host, medium, dry_run=dry_run))
        answer = self._media.repair_pool(host, upkeep_messages.RepairPool(medium=medium, dry_run=dry_run))
        lines = [
            *_container_lines(answer, dry_run=dry_run),
            *(_headers_line(image, dry_run=dry_run) for image in written),
            *(f"'{image.name}' is damaged still: {'; '.join(image.problems)}" for image in _still(answer, written)),
        ]
        for line in lines[:_MOST_LINES]:
            context.log(line)
        damaged = [image.image for image in _still(answer, written) if image.image is not None]
        jobs = [] if dry_run else transact(self._primary.engine, lambda c: self._verify(c, damaged))
        return {
            "dry_run": dry_run,
            "containers": answer.container_count,
            "items_saved": sum(one.copied for one in answer.containers),
            "index_entries": answer.indexed,
            "headers": len(written),
            "images_damaged": answer.image_count - len(answer.images) + len(_still(answer, written)),
            "images": [to_text(image) for image in damaged[:_MOST_SHOWN]],
            "verify_jobs": jobs[:_MOST_SHOWN],
            "lines": [line[:500] for line in lines[:_MOST_SHOWN]],
        }

    def _write_fragments(
        self, context: JobContext, host: HostId, medium: MediumId, *, dry_run: bool
    ) -> Iterator[ImageId]:
        """Write the headers of complete copies that are damaged or gone, from the catalog; give their images."""
        with read(self._primary.engine) as connection:
            where = get_medium(connection, medium)
        for held in self._complete(medium):
            context.check()
            name = names.image_key(held.image, held.copy)
            try:
                checked_fragment(name, self._media.read_fragment(host, medium, held.image, held.copy), where)
                continue
            except (IntegrityError, NotFoundError, ResourceError):
                pass  # damaged, gone, or unreadable: the catalog has the same bytes
            data = self._signed(held.row)
            if not dry_run:
                self._media.restore_fragment(
                    host, messages.FragmentToWrite(medium=medium, image=held.image, copy=held.copy, data=data)
                )
            yield held.image

    def _complete(self, medium: MediumId) -> Iterator[_Held]:
        """Give the copies of a pool that are complete, a page of rows at a time."""
        last = 0
        while True:
            with read(self._primary.engine) as connection:
                rows = connection.execute(
                    select(copies.c.id, copies.c.image, copies.c.number)
                    .where(
                        copies.c.medium == medium,
                        copies.c.domain == self._primary.domain,
                        copies.c.state == CopyState.COMPLETE,
                        copies.c.id > last,
                    )
                    .order_by(copies.c.id)
                    .limit(_PAGE)
                ).all()
            for row in rows:
                last = row.id
                yield _Held(row.id, ImageId(row.image), row.number)
            if len(rows) < _PAGE:
                return

    def _signed(self, copy: int) -> bytes:
        """Give what was signed of a copy, as the catalog keeps it."""
        with read(self._primary.engine) as connection:
            row = connection.execute(
                select(fragments.c.header, fragments.c.trailer).where(
                    fragments.c.copy_id == copy, fragments.c.number == 1
                )
            ).one()
        data = bytes(row.header) + bytes(row.trailer)
        fragment.verify(data, pinned=self._primary.domain)
        return data

    def _verify(self, connection: Connection, images: list[bytes]) -> list[int]:
        """Submit the verification of images, which names the files that are lost."""
        found = (self._images.submit_verify_of(connection, ImageId(image)) for image in images)
        return [job for job in found if job is not None]


def _require_idle(connection: Connection, medium: MediumId) -> None:
    running = select(job_rows.c.id, job_rows.c.kind, job_rows.c.params).where(
        job_rows.c.state == JobState.RUNNING, job_rows.c.kind.not_in((REPAIR, SCRUB))
    )
    for row in connection.execute(running):
        image = row.params.get("image")
        if row.params.get("medium") == to_text(medium) or (image and _holds(connection, medium, image)):
            raise PoolBusyError(f"the job {row.id} ('{row.kind}') is at work in the pool")


def _holds(connection: Connection, medium: MediumId, image: str) -> bool:
    query = select(copies.c.id).where(copies.c.medium == medium, copies.c.image == from_text(image)).limit(1)
    return connection.execute(query).first() is not None


def _still(answer: upkeep_messages.RepairAnswer, written: list[ImageId]) -> list[upkeep_messages.DamagedImage]:
    """Leave out images of which only the headers were damaged: these were, or would be, written again."""
    names_written = {image.hex() for image in written}
    return [one for one in answer.images if one.image is not None or one.name[10:42] not in names_written]


def _container_lines(answer: upkeep_messages.RepairAnswer, *, dry_run: bool) -> Iterator[str]:
    if answer.indexed:
        done = "would be" if dry_run else "were"
        yield f"{answer.indexed} containers {done} entered in the index anew, or taken out of it"
    for one in answer.containers:
        lost = "what it has lost is not known" if one.lost is None else f"{one.lost} lost"
        saved = f"{one.whole} whole items, {lost}"
        if one.copied:
            saved += f"; {one.copied} of them {'would go' if dry_run else 'went'} into a new container"
        if one.why_kept:
            fate = f"it stays: {one.why_kept}"
        elif dry_run:
            fate = "the damaged file would be put aside"
        else:
            fate = f"the damaged file lies at '{one.aside}'"
        yield f"container '{one.container.hex()}': {'; '.join(one.problems[:1])}: {saved}; {fate}"


def _headers_line(image: ImageId, *, dry_run: bool) -> str:
    done = "would be" if dry_run else "were"
    return f"the headers of the image '{to_text(image)}' {done} written again from the catalog"
