"""Jobs: work that survives the process that does it.

A *job* is the work, an *attempt* is one try at it by one process, an *executor* is such a process. The table
of jobs alone says what is to be done; the engine holds nothing that it cannot lose.

What the rest of the product may rely on, and has to do:

- A job that was committed is done in the end, or has failed with a reason, whatever process is killed when.
- A handler may be called again after any of its lines. So an effect is recorded in the transaction that makes
  it (:meth:`JobContext.effect`), or can be repeated without harm.
- Two attempts of a job may *run* at once (a process that was stopped does not know that it was declared
  dead), but
  only one may have effects: each of them asks the fence first, in its transaction. Storage beyond the
  database compares fencing tokens, which rise from attempt to attempt.
- Nothing waits in a handler: what waits for a time is a job with ``not_before``, what waits for an event is a
  row of whoever knows the event, who then submits a job.
- Queues limit load; they are no locks.
"""

from strongroom.jobs.context import JobContext
from strongroom.jobs.engine import Intervals, JobEngine
from strongroom.jobs.errors import (
    BadJobError,
    ClientJobError,
    EngineRunningError,
    FencedError,
    InternalError,
    JobCancelledError,
    JobCutOffError,
    JobEndedError,
    JobLiveError,
    JobNotFoundError,
    JobStoppingError,
)
from strongroom.jobs.model import Attempt, Job, JobError, JobId, JobState, LogLine, NewJob, Progress
from strongroom.jobs.policy import Queue, RetryPolicy
from strongroom.jobs.runner import Handler
from strongroom.jobs.store import JobFilter, JobStore, Submitted

__all__ = [
    "Attempt",
    "BadJobError",
    "ClientJobError",
    "EngineRunningError",
    "FencedError",
    "Handler",
    "InternalError",
    "Intervals",
    "Job",
    "JobCancelledError",
    "JobContext",
    "JobCutOffError",
    "JobEndedError",
    "JobEngine",
    "JobError",
    "JobFilter",
    "JobId",
    "JobLiveError",
    "JobNotFoundError",
    "JobState",
    "JobStoppingError",
    "JobStore",
    "LogLine",
    "NewJob",
    "Progress",
    "Queue",
    "RetryPolicy",
    "Submitted",
]
