"""The fence: only the current attempt of a job may change anything, and each step changes it once.

A process that was stopped, or cut off from the database, runs on when it wakes, and knows nothing of the
attempt that has taken its place meanwhile. So every effect of a job asks here first, in the transaction of
the effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from strongroom.core.errors import InputError
from strongroom.database import racing
from strongroom.jobs.errors import FencedError
from strongroom.jobs.model import JobId
from strongroom.jobs.tables import job_attempts, job_effects


def check_fence(connection: Connection, job_id: JobId, attempt: int) -> int:
    """Make sure that an attempt is the current one, and stays it until the transaction ends.

    Returns:
        The fencing token of the attempt, for storage that compares tokens itself.

    Raises:
        FencedError: the attempt has ended, or another one has taken over.
    """
    # The row of the attempt, not of the job: taking over ends the attempt and has to wait for this lock,
    # while the engine writes progress into the job's row and has not. SQLite has one writer and needs no
    # lock.
    row = connection.execute(
        select(job_attempts.c.id, job_attempts.c.ended)
        .where(job_attempts.c.job_id == job_id, job_attempts.c.attempt == attempt)
        .with_for_update(read=True)
    ).one_or_none()
    if row is None or row.ended is not None:
        raise FencedError(
            f"attempt {attempt} of job {job_id} is not the current one",
            context={"job": job_id, "attempt": attempt},
        )
    return int(row.id)


def record_effect(
    connection: Connection,
    job_id: JobId,
    attempt: int,
    step: str,
    now: datetime,
    document: Mapping[str, Any] | None = None,
) -> bool:
    """Record that a step has its effect, in the transaction of the effect.

    Args:
        connection: the transaction that also makes the effect.
        job_id: the job.
        attempt: its current attempt.
        step: names the step within the job, whatever the attempt; 1 to 200 characters.
        now: the time.
        document: what a later attempt needs to know of it; JSON.

    Returns:
        True the first time: make the effect. False when this or an earlier attempt has made it: leave it.

    Raises:
        FencedError: the attempt is not the current one.
    """
    if not 0 < len(step) <= 200:
        raise InputError("the name of a step has 1 to 200 characters")
    check_fence(connection, job_id, attempt)
    known = select(job_effects.c.step).where(job_effects.c.job_id == job_id, job_effects.c.step == step)
    if connection.execute(known).first() is not None:
        return False
    row = {"job_id": job_id, "step": step, "attempt": attempt, "at": now, "document": dict(document or {})}
    with racing():
        connection.execute(insert(job_effects).values(**row))
    return True


def effects(connection: Connection, job_id: JobId) -> dict[str, dict[str, Any]]:
    """Give the steps that have had their effect, each with its document."""
    rows = connection.execute(select(job_effects.c.step, job_effects.c.document).where(job_effects.c.job_id == job_id))
    return {row.step: row.document for row in rows}
