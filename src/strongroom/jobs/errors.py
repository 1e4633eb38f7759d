"""Errors of jobs.

jobs.not-found       no job has this number
jobs.bad-job         what was submitted cannot be a job
jobs.ended           the job has ended, so it cannot be cancelled
jobs.live            the job, or its like, is live, so it cannot be resumed
jobs.fenced          another attempt has taken over
jobs.cancelled       somebody asked for the job to be cancelled
jobs.stopping        the engine stops; the job goes on later
jobs.cut-off         the process ended in the middle of the job, too often
jobs.internal        a defect of the product; the log has the traceback
jobs.engine-running  another process runs the jobs of this database file
"""

from __future__ import annotations

from strongroom.core.errors import (
    InputError,
    NotFoundError,
    RefusedError,
    StrongroomError,
    UnavailableError,
)


class JobNotFoundError(NotFoundError):
    """No job has this number; it may have been removed by age."""

    code = "jobs.not-found"


class BadJobError(InputError):
    """What was submitted cannot be a job."""

    code = "jobs.bad-job"


class JobEndedError(RefusedError):
    """The job has ended."""

    code = "jobs.ended"


class JobLiveError(RefusedError):
    """The job, or one for the same work, is live."""

    code = "jobs.live"
    default_hint = "Wait for it to end, or cancel it first."


class ClientJobError(RefusedError):
    """The job was driven by a client, which is gone: nothing here can go on with it."""

    code = "jobs.of-a-client"
    default_hint = "Run the backup or restore again; contents that were stored already are not stored twice."


class FencedError(RefusedError):
    """This attempt is not the current one any more: another process may be doing its work."""

    code = "jobs.fenced"


class JobCancelledError(RefusedError):
    """Somebody asked for the job to be cancelled; raised inside the handler."""

    code = "jobs.cancelled"


class JobStoppingError(UnavailableError):
    """The engine stops, and the job goes on when it runs again; raised inside the handler."""

    code = "jobs.stopping"


class JobCutOffError(RefusedError):
    """The process ended in the middle of the job again and again, perhaps because of it: no further try."""

    code = "jobs.cut-off"
    default_hint = "Look in the system's log for the reason (memory?), then resume the job."


class InternalError(StrongroomError):
    """A defect of the product."""

    code = "jobs.internal"
    default_hint = "Report it, with the lines of the log that name this job."


class EngineRunningError(RefusedError):
    """Another process runs the jobs of this database file."""

    code = "jobs.engine-running"
    default_hint = "Stop the other process first, or use PostgreSQL, which several can share."
