"""The jobs for those who submit, watch and cancel them, all inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from strongroom.core.clock import Clock
from strongroom.database import racing
from strongroom.jobs import fencing
from strongroom.jobs.errors import BadJobError, ClientJobError, JobEndedError, JobLiveError, JobNotFoundError
from strongroom.jobs.model import (
    ENDED_STATES,
    LIVE_STATES,
    Attempt,
    Job,
    JobId,
    JobState,
    LogLine,
    NewJob,
)
from strongroom.jobs.rows import to_attempt, to_job, to_log_line
from strongroom.jobs.tables import NOBODY, job_attempts, job_log, jobs

LONGEST_KIND = 64
LONGEST_SUBJECT = 500
LONGEST_KEY = 500
LONGEST_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs to list; an empty collection and None mean any.

    ``before_id`` continues a list: the smallest number of the page before.
    """

    states: Collection[JobState] = ()
    kinds: Collection[str] = ()
    subject: str | None = None
    parent_id: JobId | None = None
    created_from: datetime | None = None
    created_until: datetime | None = None
    before_id: JobId | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Submitted:
    """The job that does the work, and whether it was made now or was live already."""

    id: JobId
    created: bool


@dataclass(frozen=True, slots=True)
class JobStore:
    """The jobs of a domain.

    Args:
        clock: tells when things happen.
    """

    clock: Clock = field(repr=False)

    def submit(self, connection: Connection, job: NewJob) -> Submitted:
        """Queue a job, unless one with its unique key is live.

        The job starts after the caller's transaction is committed, and not at all when it is rolled back.

        Raises:
            BadJobError: a name is missing or too long, or there is no such parent.
            DocumentError: the parameters are not JSON, or too long.
        """
        _check(job)
        if job.unique_key is not None:
            live = _live(connection, job.unique_key)
            if live is not None:
                return Submitted(live, created=False)
        if job.parent_id is not None and not _exists(connection, job.parent_id):
            raise BadJobError(f"there is no job {job.parent_id} to be the parent")
        now = self.clock.now()
        waits = job.not_before is not None and job.not_before > now
        values = {
            "kind": job.kind,
            "subject": job.subject,
            "state": JobState.WAITING if waits else JobState.QUEUED,
            "priority": job.priority,
            "unique_key": job.unique_key,
            "parent_id": job.parent_id,
            "params": dict(job.params),
            "cancel_requested": False,
            "attempt": 0,
            "failures": 0,
            "interruptions": 0,
            "created": now,
            "not_before": job.not_before if waits else now,
        }
        with racing():
            number = connection.execute(insert(jobs).values(**values).returning(jobs.c.id)).scalar_one()
        return Submitted(JobId(number), created=True)

    def get(self, connection: Connection, job_id: JobId) -> Job:
        """Give a job.

        Raises:
            JobNotFoundError: no job has this number.
        """
        row = connection.execute(select(jobs).where(jobs.c.id == job_id)).one_or_none()
        if row is None:
            raise JobNotFoundError(f"there is no job {job_id}")
        return to_job(row)

    def find(self, connection: Connection, which: JobFilter | None = None) -> list[Job]:
        """Give the jobs that pass a filter, the newest first, at most ``limit`` (1 to 1000) of them."""
        which = which or JobFilter()
        if not 1 <= which.limit <= LONGEST_PAGE:
            raise BadJobError(f"a page has 1 to {LONGEST_PAGE} jobs")
        query = select(jobs).order_by(jobs.c.id.desc()).limit(which.limit)
        if which.states:
            query = query.where(jobs.c.state.in_([JobState(state) for state in which.states]))
        if which.kinds:
            query = query.where(jobs.c.kind.in_(list(which.kinds)))
        if which.subject is not None:
            query = query.where(jobs.c.subject == which.subject)
        if which.parent_id is not None:
            query = query.where(jobs.c.parent_id == which.parent_id)
        if which.created_from is not None:
            query = query.where(jobs.c.created >= which.created_from)
        if which.created_until is not None:
            query = query.where(jobs.c.created < which.created_until)
        if which.before_id is not None:
            query = query.where(jobs.c.id < which.before_id)
        return [to_job(row) for row in connection.execute(query)]

    def request_cancel(self, connection: Connection, job_id: JobId) -> Job:
        """Cancel a job and its parts: at once those that do not run, the others when they notice.

        Returns:
            The job as it is now: ``cancelled``, or ``running`` with ``cancel_requested``.

        Raises:
            JobNotFoundError: no job has this number.
            JobEndedError: it has ended already; nothing was changed.
        """
        job = self.get(connection, job_id)
        if job.state in ENDED_STATES:
            raise JobEndedError(f"job {job_id} has ended: {job.state.value}")
        found = {job_id}
        newest = found
        while newest:  # down the tree; a family seen twice would be one of a hand-made table
            children = select(jobs.c.id).where(jobs.c.parent_id.in_(newest))
            newest = {JobId(number) for number in connection.execute(children).scalars()} - found
            found |= newest
        connection.execute(
            update(jobs)
            .where(jobs.c.id.in_(found), jobs.c.state.in_([JobState.QUEUED, JobState.WAITING]))
            .values(state=JobState.CANCELLED, cancel_requested=True, ended=self.clock.now())
        )
        connection.execute(
            update(jobs).where(jobs.c.id.in_(found), jobs.c.state == JobState.RUNNING).values(cancel_requested=True)
        )
        return self.get(connection, job_id)

    def resume(self, connection: Connection, job_id: JobId) -> Job:
        """Queue a failed or cancelled job anew; it keeps its number, its log and the effects it has had.

        Raises:
            JobNotFoundError: no job has this number.
            JobLiveError: it is live, or done, or another job for the same work is live.
            ClientJobError: a client drove it.
        """
        job = self.get(connection, job_id)
        if job.state not in (JobState.FAILED, JobState.CANCELLED):
            raise JobLiveError(f"job {job_id} cannot be resumed, it is {job.state.value}")
        if any(attempt.executor_id == NOBODY for attempt in self.attempts(connection, job_id)):
            raise ClientJobError(f"job {job_id} cannot be resumed, its client is gone")
        values = {
            "state": JobState.QUEUED,
            "not_before": self.clock.now(),
            "cancel_requested": False,
            "failures": 0,
            "interruptions": 0,
            "error": None,
            "ended": None,
        }
        if job.unique_key is not None and _live(connection, job.unique_key) is not None:
            raise JobLiveError(f"job {job_id} cannot be resumed, another one for '{job.unique_key}' is live")
        with racing():
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(**values))
        return self.get(connection, job_id)

    def attempts(self, connection: Connection, job_id: JobId) -> list[Attempt]:
        """Give the attempts of a job, the first one first."""
        query = select(job_attempts).where(job_attempts.c.job_id == job_id).order_by(job_attempts.c.attempt)
        return [to_attempt(row) for row in connection.execute(query)]

    def log_lines(self, connection: Connection, job_id: JobId) -> list[LogLine]:
        """Give the lines of a job's log that are kept, the oldest first."""
        query = select(job_log).where(job_log.c.job_id == job_id).order_by(job_log.c.id)
        return [to_log_line(row) for row in connection.execute(query)]

    def check_fence(self, connection: Connection, job_id: JobId, attempt: int) -> int:
        """Make sure that an attempt is the current one: see :func:`strongroom.jobs.fencing.check_fence`."""
        return fencing.check_fence(connection, job_id, attempt)

    def record_effect(
        self,
        connection: Connection,
        job_id: JobId,
        attempt: int,
        step: str,
        document: Mapping[str, Any] | None = None,
    ) -> bool:
        """Record that a step has its effect: see :func:`strongroom.jobs.fencing.record_effect`."""
        return fencing.record_effect(connection, job_id, attempt, step, self.clock.now(), document)

    def effects(self, connection: Connection, job_id: JobId) -> dict[str, dict[str, Any]]:
        """Give the steps that have had their effect, each with its document."""
        return fencing.effects(connection, job_id)

    def remove_ended(self, connection: Connection, before: datetime, most: int = 500) -> int:
        """Remove jobs that ended before a time, with their attempts, logs and effects; the oldest first.

        Args:
            connection: a transaction of its own, so that others wait only shortly.
            before: jobs that ended earlier go.
            most: how many at most; call again while as many were removed.

        Returns:
            How many were removed.
        """
        oldest = select(jobs.c.id).where(jobs.c.ended < before).order_by(jobs.c.ended).limit(most)
        numbers = connection.execute(oldest).scalars().all()
        connection.execute(delete(jobs).where(jobs.c.id.in_(numbers)))
        return len(numbers)


def _check(job: NewJob) -> None:
    for name, text, shortest, longest in (
        ("kind", job.kind, 1, LONGEST_KIND),
        ("subject", job.subject, 0, LONGEST_SUBJECT),
        ("unique key", "-" if job.unique_key is None else job.unique_key, 1, LONGEST_KEY),
    ):
        if not shortest <= len(text) <= longest or not text.isprintable():
            raise BadJobError(f"the {name} of a job has {shortest} to {longest} printable characters")


def _exists(connection: Connection, job_id: JobId) -> bool:
    return connection.execute(select(jobs.c.id).where(jobs.c.id == job_id)).first() is not None


def _live(connection: Connection, unique_key: str) -> JobId | None:
    number = connection.execute(
        select(jobs.c.id).where(jobs.c.unique_key == unique_key, jobs.c.state.in_(LIVE_STATES))
    ).scalar_one_or_none()
    return None if number is None else JobId(number)
