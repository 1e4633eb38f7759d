"""What a job is, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NewType

from strongroom.core.errors import Retry, StrongroomError

JobId = NewType("JobId", int)
"""A whole number from 1 that rises with time and is never used again; people type it."""


class JobState(StrEnum):
    """Where a job stands; the page ``docs/reference/jobs.md`` draws the ways between."""

    QUEUED = "queued"
    """Starts as soon as its queue has room."""
    WAITING = "waiting"
    """Starts not before a moment: asked for later, or to be tried again."""
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


LIVE_STATES = frozenset({JobState.QUEUED, JobState.WAITING, JobState.RUNNING})
ENDED_STATES = frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED})


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed, or why it is to be tried again: as the error tree says it."""

    code: str
    message: str
    hint: str = ""
    retry: Retry = "never"

    @classmethod
    def of(cls, error: StrongroomError) -> JobError:
        """Keep what an operator needs of an error."""
        return cls(error.code, error.message, error.hint, error.retry)

    def to_document(self) -> dict[str, Any]:
        """Give it in the form that the table keeps."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job has come. Zero stands for not known."""

    bytes_done: int = 0
    bytes_total: int = 0
    files: int = 0
    bytes_per_second: int = 0
    message: str = ""

    def to_document(self) -> dict[str, Any]:
        """Give it in the form that the table keeps."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to submit.

    Args:
        kind: which handler does it, such as ``replication``; at most 64 characters.
        subject: what it is about, for people: an image, a pool.
        params: JSON for the handler; never a secret, because it is kept and shown.
        priority: higher starts sooner.
        unique_key: names the work; while a job with this key is live, no other is made.
        parent_id: the job that this one is part of; cancelling that one cancels this one.
        not_before: when it may start at the earliest; None for now.
    """

    kind: str
    subject: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    priority: int = 0
    unique_key: str | None = None
    parent_id: JobId | None = None
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the table has it.

    ``attempt`` counts the tries, ``failures`` those that ended with an error to be tried again,
    ``interruptions`` those whose process ended; the last two begin anew when a job is resumed. ``fence`` is
    the fencing token of the
    latest attempt: it rises over all jobs.
    """

    id: JobId
    kind: str
    subject: str
    state: JobState
    priority: int
    unique_key: str | None
    parent_id: JobId | None
    params: dict[str, Any]
    progress: Progress | None
    result: dict[str, Any] | None
    error: JobError | None
    cancel_requested: bool
    attempt: int
    failures: int
    interruptions: int
    executor_id: bytes | None
    fence: int | None
    created: datetime
    not_before: datetime
    started: datetime | None
    ended: datetime | None


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of a job's own log."""

    attempt: int
    at: datetime
    level: str
    message: str
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try: by which process, and how it ended.

    ``outcome`` is ``done``, ``failed``, ``retry``, ``cancelled``, ``stopped`` (the engine stopped),
    ``cut-off`` (the process ended), or None while it runs.
    """

    fence: int
    attempt: int
    executor_id: bytes
    started: datetime
    ended: datetime | None
    outcome: str | None
    error: JobError | None
