"""Rows to values."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from strongroom.jobs.model import Attempt, Job, JobError, JobState, LogLine, Progress


def to_job(row: Row[Any]) -> Job:
    """Read a row of ``jobs``."""
    values = dict(row._mapping)
    values["state"] = JobState(values["state"])
    values["progress"] = None if values["progress"] is None else Progress(**values["progress"])
    values["error"] = to_error(values["error"])
    return Job(**values)


def to_error(document: dict[str, Any] | None) -> JobError | None:
    """Read the document of an error."""
    return None if document is None else JobError(**document)


def to_attempt(row: Row[Any]) -> Attempt:
    """Read a row of ``job_attempts``."""
    return Attempt(row.id, row.attempt, row.executor_id, row.started, row.ended, row.outcome, to_error(row.error))


def to_log_line(row: Row[Any]) -> LogLine:
    """Read a row of ``job_log``."""
    return LogLine(row.attempt, row.at, row.level, row.message, row.facts)
