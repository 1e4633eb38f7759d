"""Attempts: beginning one, keeping its progress and log, ending it. For the engine; others use the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, Select, delete, func, insert, literal, select, update

from strongroom.database import Moment
from strongroom.jobs.endings import Ending
from strongroom.jobs.errors import FencedError
from strongroom.jobs.fencing import check_fence
from strongroom.jobs.model import ENDED_STATES, Job, JobId, JobState, LogLine, Progress
from strongroom.jobs.policy import Queue
from strongroom.jobs.rows import to_job
from strongroom.jobs.tables import job_attempts, job_log, jobs

LONGEST_MESSAGE = 2_000
MOST_LOG_LINES = 500
"""Lines kept of one job; the newest stay."""


def due_jobs(
    connection: Connection,
    queues: Mapping[str, tuple[Queue, frozenset[str]]],
    executor_id: bytes,
    now: datetime,
) -> list[JobId]:
    """Choose the jobs to begin, as far as their queues have room: the highest priority, then the oldest.

    Args:
        connection: reads, or is about to begin them.
        queues: by name: the queue and the kinds that are in it.
        executor_id: who asks.
        now: what may not begin yet is left.
    """
    every_kind = frozenset().union(*(kinds for _, kinds in queues.values()))
    if connection.execute(_due(every_kind, now).limit(1)).first() is None:
        return []  # nearly always; the rest is not worth asking then
    running = connection.execute(
        select(jobs.c.kind, jobs.c.executor_id, func.count())
        .where(jobs.c.state == JobState.RUNNING)
        .group_by(jobs.c.kind, jobs.c.executor_id)
    ).all()
    chosen: list[JobId] = []
    for queue, kinds in queues.values():
        everywhere = sum(count for kind, _, count in running if kind in kinds)
        here = sum(count for kind, executor, count in running if kind in kinds and executor == executor_id)
        free = queue.concurrency - everywhere
        if queue.per_executor is not None:
            free = min(free, queue.per_executor - here)
        if free > 0:
            due = connection.execute(_due(kinds, now).limit(free)).scalars()
            chosen.extend(JobId(number) for number in due)
    return chosen


def begin(connection: Connection, job_id: JobId, executor_id: bytes, now: datetime) -> Job:
    """Begin the next attempt of a job that :func:`due_jobs` chose in the same transaction."""
    attempt = connection.execute(select(jobs.c.attempt).where(jobs.c.id == job_id)).scalar_one() + 1
    fence = connection.execute(
        insert(job_attempts)
        .values(job_id=job_id, attempt=attempt, executor_id=executor_id, started=now)
        .returning(job_attempts.c.id)
    ).scalar_one()
    row = connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id)
        .values(
            state=JobState.RUNNING,
            attempt=attempt,
            fence=fence,
            executor_id=executor_id,
            started=func.coalesce(jobs.c.started, literal(now, Moment())),
        )
        .returning(*jobs.c)
    ).one()
    return to_job(row)


def end(connection: Connection, job_id: JobId, attempt: int, decide: Callable[[Job], Ending], now: datetime) -> Ending:
    """End an attempt, and do with its job what ``decide`` says.

    Raises:
        FencedError: the attempt had ended already; nothing was changed.
    """
    # First of all, and whatever else: this waits for an effect that is being written under the fence.
    ended = connection.execute(
        update(job_attempts)
        .where(job_attempts.c.job_id == job_id, job_attempts.c.attempt == attempt, job_attempts.c.ended.is_(None))
        .values(ended=now)
    )
    if ended.rowcount != 1:
        raise FencedError(
            f"attempt {attempt} of job {job_id} is not the current one",
            context={"job": job_id, "attempt": attempt},
        )
    job = to_job(connection.execute(select(jobs).where(jobs.c.id == job_id)).one())
    ending = decide(job)
    error = None if ending.error is None else ending.error.to_document()
    connection.execute(
        update(job_attempts)
        .where(job_attempts.c.job_id == job_id, job_attempts.c.attempt == attempt)
        .values(outcome=ending.outcome, error=error)
    )
    connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id)
        .values(
            state=ending.state,
            result=None if ending.result is None else dict(ending.result),
            error=error,
            failures=ending.failures,
            interruptions=ending.interruptions,
            not_before=ending.not_before or job.not_before,
            ended=now if ending.state in ENDED_STATES else None,
            executor_id=None,
        )
    )
    return ending


def write_progress(
    connection: Connection, job_id: JobId, attempt: int, progress: Progress | None, lines: Sequence[LogLine]
) -> None:
    """Write the newest progress and log lines of an attempt.

    Raises:
        FencedError: the attempt is not the current one.
    """
    check_fence(connection, job_id, attempt)
    if progress is not None:
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(progress=progress.to_document()))
    if lines:
        append_log(connection, job_id, lines)


def append_log(connection: Connection, job_id: JobId, lines: Iterable[LogLine]) -> None:
    """Add lines to the log of a job, and remove the oldest beyond what is kept."""
    connection.execute(
        insert(job_log),
        [
            {
                "job_id": job_id,
                "attempt": line.attempt,
                "at": line.at,
                "level": line.level,
                "message": line.message[:LONGEST_MESSAGE],
                "facts": line.facts,
            }
            for line in lines
        ],
    )
    oldest_kept = (
        select(job_log.c.id)
        .where(job_log.c.job_id == job_id)
        .order_by(job_log.c.id.desc())
        .offset(MOST_LOG_LINES - 1)
        .limit(1)
        .scalar_subquery()
    )
    connection.execute(delete(job_log).where(job_log.c.job_id == job_id, job_log.c.id < oldest_kept))


def _due(kinds: frozenset[str], now: datetime) -> Select[int]:
    return (
        select(jobs.c.id)
        .where(
            jobs.c.state.in_([JobState.QUEUED, JobState.WAITING]),
            jobs.c.not_before <= now,
            jobs.c.kind.in_(sorted(kinds)),
        )
        .order_by(jobs.c.priority.desc(), jobs.c.id)
    )
