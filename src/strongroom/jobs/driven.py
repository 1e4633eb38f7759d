"""Jobs that a client drives: a backup or a restore runs in the client's own process, not in a handler.

Such a job is running from the moment it is made, has one attempt, and no executor, so no engine takes it over; it ends
when whoever watches over it says so, who must notice when client and server are gone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, select, update

from strongroom.core.errors import StrongroomError
from strongroom.jobs import attempts
from strongroom.jobs.endings import Ending
from strongroom.jobs.errors import FencedError
from strongroom.jobs.model import Job, JobError, JobId, JobState, LogLine, NewJob, Progress
from strongroom.jobs.rows import to_job
from strongroom.jobs.store import JobStore
from strongroom.jobs.tables import NOBODY, jobs

_ATTEMPT: Final = 1


def begin(connection: Connection, store: JobStore, job: NewJob, now: datetime) -> JobId:
    """Make a job that runs already."""
    submitted = store.submit(connection, job)
    attempts.begin(connection, submitted.id, NOBODY, now)
    connection.execute(update(jobs).where(jobs.c.id == submitted.id).values(executor_id=None))
    return submitted.id


def advance(connection: Connection, job: JobId, progress: Progress, lines: list[LogLine] | None = None) -> bool:
    """Note how far it is.

    Returns:
        Whether to go on: nobody asked to cancel it.

    Raises:
        FencedError: it has ended.
    """
    attempts.write_progress(connection, job, _ATTEMPT, progress, lines or [])
    row = connection.execute(select(jobs.c.cancel_requested).where(jobs.c.id == job)).one()
    return not row.cancel_requested


def log(connection: Connection, job: JobId, at: datetime, level: str, message: str, facts: Mapping[str, Any]) -> None:
    """Add a line to the job's log."""
    attempts.append_log(connection, job, [LogLine(_ATTEMPT, at, level, message, dict(facts))])


def finish(connection: Connection, job: JobId, result: Mapping[str, Any], now: datetime) -> None:
    """Say that it is done; may be repeated.

    Raises:
        FencedError: it has ended otherwise.
    """
    _end(connection, job, lambda found: Ending("done", JobState.DONE, found.failures, 0, result=result), now)


def fail(connection: Connection, job: JobId, error: StrongroomError, now: datetime) -> None:
    """Say that it failed; nothing happens when it has ended already."""
    told = JobError.of(error)
    try:
        _end(connection, job, lambda found: Ending("failed", JobState.FAILED, found.failures + 1, 0, error=told), now)
    except FencedError:
        return  # it ended before: done, cancelled or failed, and stays so


def running(connection: Connection, kinds: frozenset[str]) -> list[Job]:
    """Give the driven jobs of some kinds that have not ended."""
    query = select(jobs).where(
        jobs.c.kind.in_(sorted(kinds)), jobs.c.state == JobState.RUNNING, jobs.c.executor_id.is_(None)
    )
    return [to_job(row) for row in connection.execute(query)]


def _end(connection: Connection, job: JobId, decide: Callable[[Job], Ending], now: datetime) -> None:
    row = connection.execute(select(jobs.c.state).where(jobs.c.id == job)).one_or_none()
    if row is not None and row.state == JobState.DONE:
        return
    attempts.end(connection, job, _ATTEMPT, decide, now)
