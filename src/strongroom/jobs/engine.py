"""The engine: begins jobs that are due, watches over those that run, and takes over from the dead.

One thread keeps the books, and each attempt has a thread of its own, which does not hold up the end of the
process. Everything that matters is in the tables; what is in memory here can be lost at any moment.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sqlalchemy import Connection, Engine, select

from strongroom.core.clock import Clock
from strongroom.core.entropy import Entropy
from strongroom.core.errors import InputError, StrongroomError
from strongroom.database import is_sqlite, read, transact
from strongroom.jobs import attempts, executors
from strongroom.jobs.context import JobContext, StopReason
from strongroom.jobs.endings import Ending, after_cut_off, after_stop
from strongroom.jobs.errors import FencedError
from strongroom.jobs.exclusive import ExclusiveFile
from strongroom.jobs.executors import LeaseWatch
from strongroom.jobs.heartbeat import Heartbeat
from strongroom.jobs.model import Job, JobId, JobState
from strongroom.jobs.policy import Queue, RetryPolicy
from strongroom.jobs.runner import Handler, Runner, log_defect
from strongroom.jobs.store import JobStore
from strongroom.jobs.tables import EXECUTOR_BYTES, jobs

logger = logging.getLogger(__name__)

REMOVED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Intervals:
    """How often the engine looks, and how long it waits.

    Args:
        poll: between two looks for due jobs and cancel requests; half of it is the mean latency.
        report: between two writings of progress.
        beat: between two signs of life; not used on SQLite.
        ttl: without a sign of life for so long, an executor is dead; several beats.
        trouble: before the next look when the database cannot be used.
        keep: ended jobs are removed when they are older.
        clean: between two such removals.
    """

    poll: timedelta = timedelta(milliseconds=200)
    report: timedelta = timedelta(seconds=1)
    beat: timedelta = timedelta(seconds=3)
    ttl: timedelta = timedelta(seconds=12)
    trouble: timedelta = timedelta(seconds=2)
    keep: timedelta = timedelta(days=90)
    clean: timedelta = timedelta(hours=1)


class JobEngine:
    """Runs jobs until it is stopped.

    Several engines may share a PostgreSQL database, one may use a SQLite file. Kinds without a handler here
    are left to other engines.

    Args:
        database: from :func:`strongroom.database.open_engine`, upgraded; stays the caller's.
        handlers: by kind of job.
        queues: those that the handlers name.
        clock: tells when things happen; how long to sleep between looks is the machine's business.
        entropy: names the executor.
        intervals: how often to look.
    """

    def __init__(
        self,
        database: Engine,
        handlers: Mapping[str, Handler],
        queues: Sequence[Queue],
        clock: Clock,
        entropy: Entropy,
        intervals: Intervals | None = None,
    ) -> None:
        self._database = database
        self._handlers = dict(handlers)
        self._queues = _by_name(handlers, queues)
        self._clock = clock
        self._entropy = entropy
        self._intervals = intervals or Intervals()
        self._executor_id = b""
        self._exclusive: ExclusiveFile | None = None
        self._heartbeat: Heartbeat | None = None
        self._watch = LeaseWatch(self._intervals.ttl.total_seconds())
        self._running: dict[tuple[JobId, int], Runner] = {}
        self._running_lock = threading.Lock()
        self._stopping = threading.Event()
        self._stopped = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._next_beat = self._next_report = self._next_clean = 0.0
        self._trouble: StrongroomError | None = None

    @property
    def executor_id(self) -> bytes:
        """Who this engine is in the tables: 16 bytes, others at each start."""
        return self._executor_id

    @property
    def trouble(self) -> StrongroomError | None:
        """Why the engine cannot use its database at the moment, for alarms; None when all is well."""
        return self._trouble

    def start(self) -> None:
        """Take up the work: first what a dead engine left, then what is due.

        Raises:
            EngineRunningError: another process runs the jobs of this database file.
            DatabaseBusyError, DatabaseFullError, DatabaseUnreachableError: as the database says.
        """
        if self._thread is not None:
            raise RuntimeError("an engine is started once")
        if is_sqlite(self._database):
            self._exclusive = ExclusiveFile(lock_path(self._database))
            self._exclusive.acquire()
        try:
            self._register(alone=self._exclusive is not None)
        except StrongroomError:
            self._release_exclusive()
            raise
        now = self._clock.monotonic()
        self._next_beat = now + self._intervals.beat.total_seconds()
        self._next_report = now
        self._next_clean = now
        self._thread = threading.Thread(target=self._keep_books, name="jobs", daemon=True)
        self._thread.start()

    def stop(self, grace: timedelta = timedelta(seconds=10)) -> None:
        """Stop: ask the handlers, wait for them, and give back what they did not finish.

        Args:
            grace: how long to wait; the jobs of handlers that take longer are queued anew, and what these
            still do
                is fenced off.
        """
        if self._thread is None or self._stopped.is_set():
            return
        self._stopping.set()
        for runner in self._runners():
            runner.context.stop(StopReason.STOPPING)
        self._wake.set()
        deadline = self._clock.monotonic() + grace.total_seconds()
        for runner in self._runners():
            runner.join(max(0.0, deadline - self._clock.monotonic()))
        self._stopped.set()
        self._wake.set()
        self._thread.join()
        if self._heartbeat is not None:
            self._heartbeat.stop()
        try:
            for runner in self._runners():
                self._end(
                    runner.context.job_id,
                    runner.context.attempt,
                    lambda job: after_stop(job, self._clock.now()),
                )
            transact(self._database, lambda connection: executors.remove(connection, {self._executor_id}))
        except StrongroomError as error:
            # The next engine finds the same as after a crash, and does the same.
            logger.warning("jobs were not given back", extra={"event": "jobs.stop-failed", "code": error.code})
        self._release_exclusive()

    def wake(self) -> None:
        """Look for due jobs now: for whoever has just committed one in this process."""
        self._wake.set()

    def _keep_books(self) -> None:
        while not self._stopped.is_set():
            pause = self._intervals.poll
            try:
                self._look()
                self._trouble = None
            except StrongroomError as error:
                if self._trouble is None or self._trouble.code != error.code:
                    logger.warning("the database cannot be used", extra={"event": "jobs.trouble", "code": error.code})
                self._trouble = error
                pause = self._intervals.trouble
            except Exception as error:  # noqa: BLE001 - a defect in one look must not end all jobs
                log_defect("looking after the jobs failed", error)
                pause = self._intervals.trouble
            self._wake.wait(pause.total_seconds())
            self._wake.clear()

    def _look(self) -> None:
        now = self._clock.monotonic()
        if self._exclusive is None and now >= self._next_beat:
            self._next_beat = now + self._intervals.beat.total_seconds()
            self._keep_lease()
        due = self._watch_running()
        if now >= self._next_report:
            self._next_report = now + self._intervals.report.total_seconds()
            for runner in self._runners():
                runner.report()
        if due and not self._stopping.is_set():
            self._begin_due()
        if now >= self._next_clean:
            self._next_clean = now + self._intervals.clean.total_seconds()
            self._remove_old()

    def _register(self, *, alone: bool) -> None:
        executor_id = self._entropy.bytes(EXECUTOR_BYTES)
        now = self._clock.now()

        def enter(connection: Connection) -> None:
            if alone:  # the file lock says that all others are dead
                executors.remove(connection, set(executors.beats(connection)))
            executors.register(connection, executor_id, socket.gethostname(), os.getpid(), now)
            executors.take_over(connection, self._cut_off, now)

        transact(self._database, enter)
        self._executor_id = executor_id
        if not alone:
            self._heartbeat = Heartbeat(self._database, executor_id, self._intervals.beat)
            self._heartbeat.start()

    def _keep_lease(self) -> None:
        if self._heartbeat is not None and self._heartbeat.lost:
            self._lose_lease()
        with read(self._database) as connection:
            beats = executors.beats(connection)
            lost = executors.orphans(connection)
        beats.pop(self._executor_id, None)
        dead = self._watch.observe(beats, self._clock.monotonic())
        if not dead and not lost:
            return
        now = self._clock.now()

        def replace_dead(connection: Connection) -> int:
            # Only who has not beaten since: it may have woken up, and be at work.
            still = {executor for executor in dead if executors.beats(connection).get(executor) == beats[executor]}
            executors.remove(connection, still)
            return executors.take_over(connection, self._cut_off, now)

        count = transact(self._database, replace_dead)
        if dead or count:
            logger.warning(
                "took over from dead executors",
                extra={"event": "jobs.taken-over", "executors": [one.hex() for one in dead], "jobs": count},
            )

    def _lose_lease(self) -> None:
        logger.warning("was declared dead, and begins anew", extra={"event": "jobs.lease-lost"})
        with self._running_lock:
            lost = list(self._running.values())
            self._running.clear()
        for runner in lost:
            runner.context.stop(StopReason.FENCED)
        self._register(alone=False)

    def _watch_running(self) -> bool:
        """Pass on cancel requests, find attempts that were lost, and tell whether jobs are due."""
        known = {(runner.context.job_id, runner.context.attempt): runner for runner in self._runners()}
        now = self._clock.now()
        with read(self._database) as connection:
            rows = connection.execute(
                select(jobs.c.id, jobs.c.attempt, jobs.c.cancel_requested).where(
                    jobs.c.state == JobState.RUNNING, jobs.c.executor_id == self._executor_id
                )
            ).all()
            due = attempts.due_jobs(connection, self._queues, self._executor_id, now)
        mine = {(JobId(row.id), int(row.attempt)): bool(row.cancel_requested) for row in rows}
        for key, runner in known.items():
            if key not in mine:
                runner.context.stop(StopReason.FENCED)
            elif mine[key]:
                runner.context.stop(StopReason.CANCELLED)
        lost = [key for key in mine if key not in known]
        for job_id, attempt in lost:
            # Begun in a commit whose answer did not arrive: nobody runs them.
            self._end(job_id, attempt, self._cut_off)
        return bool(due)

    def _begin_due(self) -> None:
        now = self._clock.now()

        def begin(connection: Connection) -> list[Job] | None:
            if not executors.has_row(connection, self._executor_id):
                return None
            due = attempts.due_jobs(connection, self._queues, self._executor_id, now)
            return [attempts.begin(connection, job_id, self._executor_id, now) for job_id in due]

        begun = transact(self._database, begin)
        if begun is None:
            self._lose_lease()
            return
        for job in begun:
            context = JobContext(job, self._clock)
            runner = Runner(self._database, context, self._handlers[job.kind], self._clock, self._ended)
            with self._running_lock:
                self._running[job.id, job.attempt] = runner
            if self._stopping.is_set():
                context.stop(StopReason.STOPPING)
            runner.start()

    def _ended(self, runner: Runner) -> None:
        with self._running_lock:
            self._running.pop((runner.context.job_id, runner.context.attempt), None)
        self._wake.set()  # its place is free

    def _runners(self) -> list[Runner]:
        with self._running_lock:
            return list(self._running.values())

    def _cut_off(self, job: Job) -> Ending:
        handler = self._handlers.get(job.kind)
        return after_cut_off(job, handler.retry if handler else RetryPolicy(), self._clock.now())

    def _end(self, job_id: JobId, attempt: int, decide: Callable[[Job], Ending]) -> None:
        now = self._clock.now()
        try:
            transact(self._database, lambda connection: attempts.end(connection, job_id, attempt, decide, now))
        except FencedError:
            logger.info("the attempt had ended", extra={"event": "jobs.fenced", "job": job_id})

    def _remove_old(self) -> None:
        store = JobStore(self._clock)
        before = self._clock.now() - self._intervals.keep
        while (
            transact(self._database, lambda connection: store.remove_ended(connection, before, REMOVED_AT_ONCE))
            == REMOVED_AT_ONCE
        ):
            if self._stopping.is_set():
                return

    def _release_exclusive(self) -> None:
        if self._exclusive is not None:
            self._exclusive.release()


def lock_path(database: Engine) -> Path:
    """Name the file whose lock an engine holds: one for each database file, by whatever name that was opened."""
    file = Path(str(database.url.database)).resolve()
    return file.with_name(f"{file.name}.jobs-lock")


def _by_name(handlers: Mapping[str, Handler], queues: Sequence[Queue]) -> dict[str, tuple[Queue, frozenset[str]]]:
    missing = {handler.queue for handler in handlers.values()} - {queue.name for queue in queues}
    if missing:
        raise InputError(f"no queue is named '{min(missing)}'")
    return {
        queue.name: (
            queue,
            frozenset(kind for kind, handler in handlers.items() if handler.queue == queue.name),
        )
        for queue in queues
    }
