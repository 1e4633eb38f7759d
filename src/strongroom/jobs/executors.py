"""Executors: the processes that run jobs, how they show that they live, and who takes over from the dead.

An executor raises a number in its row at every beat. The others watch the numbers by their own monotonic
clock, so no two clocks need to agree. An executor whose number stood still for the time to live is declared
dead: its row is removed, and its running jobs are queued anew, in one transaction. If it was only stopped, it
finds its row gone, drops what it was doing, and begins anew under another id; the fence keeps its old
attempts from doing harm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update

from strongroom.jobs import attempts
from strongroom.jobs.endings import Ending
from strongroom.jobs.model import Job, JobId, JobState, LogLine
from strongroom.jobs.tables import job_attempts, job_executors, jobs


@dataclass(slots=True)
class LeaseWatch:
    """What one executor has seen of the others: pure, without clock or database.

    Args:
        ttl_seconds: how long a number may stand still.
    """

    ttl_seconds: float
    _seen: dict[bytes, tuple[int, float]] = field(default_factory=dict)

    def observe(self, beats: Mapping[bytes, int], now: float) -> set[bytes]:
        """Take note of the numbers, and tell which executors are dead.

        Args:
            beats: by executor, all that have a row.
            now: seconds of the monotonic clock.
        """
        self._seen = {
            executor: (number, now)
            if executor not in self._seen or self._seen[executor][0] != number
            else self._seen[executor]
            for executor, number in beats.items()
        }
        return {executor for executor, (_, since) in self._seen.items() if now - since >= self.ttl_seconds}


def register(connection: Connection, executor_id: bytes, host: str, process_id: int, now: datetime) -> None:
    """Enter an executor."""
    connection.execute(
        insert(job_executors).values(id=executor_id, host=host, process_id=process_id, started=now, beats=0)
    )


def beat(connection: Connection, executor_id: bytes) -> bool:
    """Show that an executor lives; False when it was declared dead."""
    raised = connection.execute(
        update(job_executors).where(job_executors.c.id == executor_id).values(beats=job_executors.c.beats + 1)
    )
    return raised.rowcount == 1


def beats(connection: Connection) -> dict[bytes, int]:
    """Give the number of every executor."""
    return {row.id: row.beats for row in connection.execute(select(job_executors.c.id, job_executors.c.beats))}


def remove(connection: Connection, dead: set[bytes]) -> None:
    """Remove executors that have stopped, or are declared dead."""
    connection.execute(delete(job_executors).where(job_executors.c.id.in_(dead)))


def has_row(connection: Connection, executor_id: bytes) -> bool:
    """Tell whether an executor counts as living; it stays so until the transaction ends."""
    query = select(job_executors.c.id).where(job_executors.c.id == executor_id).with_for_update(read=True)
    return connection.execute(query).first() is not None


def orphans(connection: Connection) -> list[tuple[JobId, int]]:
    """Give the running jobs, with their attempts, whose executors have no row."""
    rows = connection.execute(
        select(jobs.c.id, jobs.c.attempt)
        .where(
            jobs.c.state == JobState.RUNNING,
            jobs.c.executor_id.is_not(None),  # a client drives it: nobody takes that over
            jobs.c.executor_id.not_in(select(job_executors.c.id)),
        )
        .order_by(jobs.c.id)
    )
    return [(JobId(row.id), row.attempt) for row in rows]


def take_over(connection: Connection, decide: Callable[[Job], Ending], now: datetime) -> int:
    """End the orphans, as ``decide`` says, and tell how many.

    Those that hold the lock of their fence at the moment are left: they were stopped in the middle of an
    effect, and the server ends that soon. Until then they stay orphans, and are found the next time.
    """
    count = 0
    for job_id, attempt in orphans(connection):
        row = connection.execute(
            select(job_attempts.c.id)
            .where(
                job_attempts.c.job_id == job_id,
                job_attempts.c.attempt == attempt,
                job_attempts.c.ended.is_(None),
            )
            .with_for_update(skip_locked=True)
        ).first()
        if row is None:
            continue
        ending = attempts.end(connection, job_id, attempt, decide, now)
        message = f"the process ended in the middle; the job is now {ending.state.value}"
        attempts.append_log(connection, job_id, [LogLine(attempt, now, "warning", message, {})])
        count += 1
    return count
