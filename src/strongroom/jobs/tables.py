"""The tables of jobs. A job is the work, an attempt is one try at it by one process."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger as Big
from sqlalchemy import Boolean, CheckConstraint, Column, ForeignKey, Index, Integer, String, Table, Text, text

from strongroom.database import Document, Identity, Moment, metadata, row_id
from strongroom.jobs.model import LIVE_STATES, JobState

EXECUTOR_BYTES = 16
NOBODY: Final = bytes(EXECUTOR_BYTES)
"""The executor of attempts that a client drives."""


def _quoted(states: frozenset[JobState]) -> str:
    return ", ".join(sorted(f"'{state.value}'" for state in states))


jobs = Table(
    "jobs",
    metadata,
    Column("id", row_id(), primary_key=True),
    Column("kind", String(64), nullable=False),
    Column("subject", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("unique_key", Text),
    Column("parent_id", row_id(), ForeignKey("jobs.id", ondelete="SET NULL"), index=True),
    Column("params", Document, nullable=False),
    Column("progress", Document(4096)),
    Column("result", Document),
    Column("error", Document),
    Column("cancel_requested", Boolean, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("interruptions", Integer, nullable=False),
    Column("executor_id", Identity(EXECUTOR_BYTES)),
    Column("fence", Big),
    Column("created", Moment, nullable=False),
    Column("not_before", Moment, nullable=False),
    Column("started", Moment),
    Column("ended", Moment),
    CheckConstraint(f"state IN ({_quoted(frozenset(JobState))})", name="state"),
    # The engine looks here several times a second, past whatever number of ended jobs.
    Index("ix_jobs_state_priority_id", "state", "priority", "id"),
    Index("ix_jobs_ended", "ended"),
    Index(
        "ix_jobs_unique_key_live",
        "unique_key",
        unique=True,
        sqlite_where=text(f"state IN ({_quoted(LIVE_STATES)})"),
        postgresql_where=text(f"state IN ({_quoted(LIVE_STATES)})"),
    ),
    sqlite_autoincrement=True,  # a number is never used again, even after the newest job was removed
)

job_attempts = Table(
    "job_attempts",
    metadata,
    Column("id", row_id(), primary_key=True),  # rises over all jobs: the fencing token
    Column("job_id", row_id(), ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("executor_id", Identity(EXECUTOR_BYTES), nullable=False),
    Column("started", Moment, nullable=False),
    Column("ended", Moment),
    Column("outcome", String(16)),
    Column("error", Document),
    Index("uq_job_attempts_job_id_attempt", "job_id", "attempt", unique=True),
    sqlite_autoincrement=True,
)

job_log = Table(
    "job_log",
    metadata,
    Column("id", row_id(), primary_key=True),
    Column("job_id", row_id(), ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("at", Moment, nullable=False),
    Column("level", String(8), nullable=False),
    Column("message", Text, nullable=False),
    Column("facts", Document(4096), nullable=False),
    Index("ix_job_log_job_id_id", "job_id", "id"),
    sqlite_autoincrement=True,
)

# Over job and step, not attempt: what one attempt did, the next must not do again.
job_effects = Table(
    "job_effects",
    metadata,
    Column("job_id", row_id(), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("step", String(200), primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("at", Moment, nullable=False),
    Column("document", Document, nullable=False),
)

# The processes that run jobs. Who has no row here is dead, whatever it believes itself.
job_executors = Table(
    "job_executors",
    metadata,
    Column("id", Identity(EXECUTOR_BYTES), primary_key=True),
    Column("host", Text, nullable=False),
    Column("process_id", Integer, nullable=False),
    Column("started", Moment, nullable=False),
    Column("beats", Big, nullable=False),
)
