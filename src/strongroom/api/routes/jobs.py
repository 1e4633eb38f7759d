"""Jobs: watching, cancelling, resuming; what clients tell of theirs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import Path, Query
from pydantic import Field
from sqlalchemy import Connection

from strongroom.api.errors import BadRequestError
from strongroom.api.fields import LARGEST_INT, Answer, Body, Name
from strongroom.api.paging import DEFAULT_LIMIT, LARGEST_LIMIT, After, Limit, Page, number
from strongroom.api.routing import Routes
from strongroom.api.security import CallerDep, PartsDep
from strongroom.database import read
from strongroom.jobs import Job, JobFilter, JobId, JobState, driven

routes = Routes("jobs")
JobNumber = Annotated[int, Path(ge=1, le=LARGEST_INT)]
_OF_CLIENTS: Final = ("backup", "restore")


class ProgressShown(Answer):
    """How far a job has come; 0 is not known."""

    bytes_done: int
    bytes_total: int
    files: int
    bytes_per_second: int
    message: str


class JobErrorShown(Answer):
    """Why a job failed, or is tried again."""

    code: str
    message: str
    hint: str
    retry: str


class ProblemOfFiles(Body):
    """What many files have in common."""

    code: Annotated[str, Field(min_length=1, max_length=64)]
    message: Annotated[str, Field(max_length=1_024)]
    files: Annotated[int, Field(ge=1, le=LARGEST_INT)]


class ProblemsReport(Body):
    """What went wrong with files, once for each kind of it."""

    problems: Annotated[list[ProblemOfFiles], Field(min_length=1, max_length=100)]


class JobShown(Answer):
    """A job, in short."""

    job: int
    kind: str
    subject: str
    state: JobState
    parent: int | None
    cancel_requested: bool
    attempt: int
    progress: ProgressShown | None
    error: JobErrorShown | None
    created: datetime
    not_before: datetime
    started: datetime | None
    ended: datetime | None


class LineShown(Answer):
    """A line of a job's log."""

    attempt: int
    at: datetime
    level: str
    message: str
    facts: dict[str, Any]


class AttemptShown(Answer):
    """One try."""

    attempt: int
    started: datetime
    ended: datetime | None
    outcome: str | None
    error: JobErrorShown | None


class JobWhole(JobShown):
    """A job with all that is known of it."""

    params: dict[str, Any]
    result: dict[str, Any] | None
    attempts: list[AttemptShown]
    log: list[LineShown] = Field(description="the lines that are kept, oldest first")


@routes.get("/jobs", "job.read")
def list_jobs(
    parts: PartsDep,
    state: Annotated[list[JobState] | None, Query()] = None,
    kind: Annotated[Name | None, Query()] = None,
    parent: Annotated[int | None, Query(ge=1, le=LARGEST_INT)] = None,
    after: After = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Page[JobShown]:
    """List jobs, newest first."""
    which = JobFilter(
        states=state or (),
        kinds=() if kind is None else (kind,),
        parent_id=None if parent is None else JobId(parent),
        before_id=JobId(number(after, LARGEST_INT)),
        limit=min(limit + 1, LARGEST_LIMIT),
    )
    with read(parts.engine) as connection:
        found = parts.jobs.find(connection, which)
    # The table gives a thousand at once; a page of so many is followed by another one, perhaps an empty one.
    more = len(found) > limit or len(found) == LARGEST_LIMIT
    shown = found[:limit]
    return Page(items=[_shown(job) for job in shown], next=str(shown[-1].id) if more else None)


@routes.get("/jobs/{job}", "job.read")
def show_job(job: JobNumber, parts: PartsDep) -> JobWhole:
    """Show a job with its attempts and its log."""
    with read(parts.engine) as connection:
        return _whole(connection, parts, JobId(job))


@routes.post("/jobs/{job}/cancel", "job.cancel", on="job:{job}")
def cancel_job(job: JobNumber, caller: CallerDep) -> JobShown:
    """Cancel a job and its parts; one that runs stops within a second or so."""
    jobs = caller.parts.jobs
    return _shown(caller.transact(lambda connection: jobs.request_cancel(connection, JobId(job))))


@routes.post("/jobs/{job}/problems", "job.report", on="job:{job}")
def report_problems(job: JobNumber, body: ProblemsReport, caller: CallerDep) -> JobShown:
    """Add what went wrong with files, as the client of a backup or restore saw it, to the job's log."""
    parts = caller.parts

    def deed(connection: Connection) -> Job:
        found = parts.jobs.get(connection, JobId(job))
        if found.kind not in _OF_CLIENTS:
            raise BadRequestError(f"'job': a job '{found.kind}' has no client that could tell")
        for one in body.problems:
            facts = {"code": one.code, "files": one.files}
            driven.log(connection, found.id, parts.clock.now(), "warning", one.message, facts)
        return found

    return _shown(caller.transact(deed, facts={"problems": sum(one.files for one in body.problems)}))


@routes.post("/jobs/{job}/resume", "job.resume", on="job:{job}")
def resume_job(job: JobNumber, caller: CallerDep) -> JobShown:
    """Queue a failed or cancelled job anew; what it has done is not done again."""
    jobs = caller.parts.jobs
    return _shown(caller.transact(lambda connection: jobs.resume(connection, JobId(job))))


def _shown(job: Job) -> JobShown:
    return JobShown(
        job=job.id,
        kind=job.kind,
        subject=job.subject,
        state=job.state,
        parent=job.parent_id,
        cancel_requested=job.cancel_requested,
        attempt=job.attempt,
        progress=None if job.progress is None else ProgressShown(**job.progress.to_document()),
        error=None if job.error is None else JobErrorShown(**job.error.to_document()),
        created=job.created,
        not_before=job.not_before,
        started=job.started,
        ended=job.ended,
    )


def _whole(connection: Connection, parts: PartsDep, number_: JobId) -> JobWhole:
    job = parts.jobs.get(connection, number_)
    return JobWhole(
        params=job.params,
        result=job.result,
        attempts=[
            AttemptShown(
                attempt=one.attempt,
                started=one.started,
                ended=one.ended,
                outcome=one.outcome,
                error=None if one.error is None else JobErrorShown(**one.error.to_document()),
            )
            for one in parts.jobs.attempts(connection, number_)
        ],
        log=[
            LineShown(attempt=line.attempt, at=line.at, level=line.level, message=line.message, facts=line.facts)
            for line in parts.jobs.log_lines(connection, number_)
        ],
        **_shown(job).model_dump(),
    )
