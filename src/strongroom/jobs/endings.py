"""How attempts end, and what becomes of the job then: decisions only, no database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from strongroom.jobs.errors import JobCutOffError
from strongroom.jobs.model import Job, JobError, JobState
from strongroom.jobs.policy import RetryPolicy


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of an attempt.

    Args:
        outcome: of the attempt, as :class:`~strongroom.jobs.model.Attempt` lists them.
        state: of the job from now on.
        result: JSON, when done.
        error: why it failed, or why it is tried again.
        not_before: when the next attempt may begin; None when there is none.
        failures: the job's count from now on.
        interruptions: the job's count from now on.
    """

    outcome: str
    state: JobState
    failures: int
    interruptions: int
    result: Mapping[str, Any] | None = None
    error: JobError | None = None
    not_before: datetime | None = None


def after_result(job: Job, result: Mapping[str, Any]) -> Ending:
    """The handler has done its work."""
    return Ending("done", JobState.DONE, job.failures, job.interruptions, result=result)


def after_cancel(job: Job) -> Ending:
    """The handler has noticed that it should stop, and has."""
    return Ending("cancelled", JobState.CANCELLED, job.failures, job.interruptions)


def after_stop(job: Job, now: datetime) -> Ending:
    """The engine stops: not the job's fault, so it costs no try."""
    if job.cancel_requested:
        return after_cancel(job)
    return Ending("stopped", JobState.QUEUED, job.failures, job.interruptions, not_before=now)


def after_error(job: Job, error: JobError, policy: RetryPolicy, now: datetime) -> Ending:
    """The handler raised an error."""
    failures = job.failures + 1
    delay = policy.delay(failures) if error.retry == "later" else None
    if delay is None:
        return Ending("failed", JobState.FAILED, failures, job.interruptions, error=error)
    if job.cancel_requested:
        return after_cancel(job)
    return Ending("retry", JobState.WAITING, failures, job.interruptions, error=error, not_before=now + delay)


def after_cut_off(job: Job, policy: RetryPolicy, now: datetime) -> Ending:
    """The process ended in the middle, or lost its claim to the job."""
    if job.cancel_requested:
        return after_cancel(job)
    interruptions = job.interruptions + 1
    if interruptions > policy.interruptions:
        error = JobError.of(JobCutOffError(f"the process ended in the middle of the job {interruptions} times"))
        return Ending("cut-off", JobState.FAILED, job.failures, interruptions, error=error)
    return Ending("cut-off", JobState.QUEUED, job.failures, interruptions, not_before=now)
