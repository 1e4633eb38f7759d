"""A database, and engines that run jobs on it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Engine

from strongroom.core.clock import ManualClock
from strongroom.database import read, transact
from strongroom.jobs import (
    Handler,
    Intervals,
    Job,
    JobContext,
    JobEngine,
    JobId,
    JobState,
    JobStore,
    NewJob,
    Queue,
)
from strongroom.settings.system import SystemClock, SystemEntropy

INTERVALS = Intervals(
    poll=timedelta(milliseconds=20),
    report=timedelta(milliseconds=20),
    beat=timedelta(milliseconds=100),
    ttl=timedelta(milliseconds=600),
    trouble=timedelta(milliseconds=20),
)
QUEUE = Queue("all", concurrency=4)
Run = Callable[[JobContext], Mapping[str, Any]]


class Bench:
    """A database, and engines that are stopped at the end."""

    def __init__(self, database: Engine) -> None:
        self.database = database
        self.clock = SystemClock()
        self.store = JobStore(self.clock)
        self.engines: list[JobEngine] = []

    def make(
        self,
        handlers: Mapping[str, Run | Handler],
        queues: Sequence[Queue] = (QUEUE,),
        clock: ManualClock | None = None,
        intervals: Intervals = INTERVALS,
    ) -> JobEngine:
        complete = {
            kind: handler if isinstance(handler, Handler) else Handler(handler, "all")
            for kind, handler in handlers.items()
        }
        engine = JobEngine(self.database, complete, queues, clock or self.clock, SystemEntropy(), intervals)
        self.engines.append(engine)
        return engine

    def start(self, handlers: Mapping[str, Run | Handler], **options: Any) -> JobEngine:
        engine = self.make(handlers, **options)
        engine.start()
        return engine

    def submit(self, kind: str = "work", **options: Any) -> JobId:
        return transact(self.database, lambda c: self.store.submit(c, NewJob(kind, **options))).id

    def get(self, job_id: JobId) -> Job:
        with read(self.database) as connection:
            return self.store.get(connection, job_id)

    def wait(self, job_id: JobId, *states: JobState) -> Job:
        """Wait until a job is in one of the states, by default until it has ended."""
        wanted = states or (JobState.DONE, JobState.FAILED, JobState.CANCELLED)
        pause = threading.Event()
        for _ in range(1000):
            job = self.get(job_id)
            if job.state in wanted:
                return job
            pause.wait(0.01)
        raise AssertionError(f"job {job_id} is {job.state.value} after ten seconds")

    def cancel(self, job_id: JobId) -> None:
        transact(self.database, lambda connection: self.store.request_cancel(connection, job_id))

    def stop(self) -> None:
        """Stop all engines."""
        for engine in self.engines:
            engine.stop(timedelta(seconds=2))
