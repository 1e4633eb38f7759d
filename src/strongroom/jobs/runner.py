"""One attempt in a thread of its own: calls the handler, and records how it ended."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine

from strongroom.core.clock import Clock
from strongroom.core.errors import ResourceError, StrongroomError, UnavailableError
from strongroom.database import DOCUMENT_BYTES, encode_document, transact
from strongroom.jobs import attempts, endings
from strongroom.jobs.context import JobContext, StopReason
from strongroom.jobs.endings import Ending
from strongroom.jobs.errors import FencedError, InternalError
from strongroom.jobs.model import Job, JobError
from strongroom.jobs.policy import RetryPolicy

logger = logging.getLogger(__name__)

SETTLE_AGAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Handler:
    """How one kind of job is done.

    Args:
        run: does the work and returns its result, JSON. It may be called again for the same job after any
        line of
            it, so its effects go through :meth:`~strongroom.jobs.context.JobContext.effect`, or can be
            repeated.
        queue: whose limits it shares.
        retry: what to do after errors.
    """

    run: Callable[[JobContext], Mapping[str, Any]]
    queue: str
    retry: RetryPolicy = field(default_factory=RetryPolicy)


class Runner:
    """One attempt and its thread.

    Args:
        database: holds the job.
        context: the attempt.
        handler: does it.
        clock: tells when things happen.
        ended: called at the very end, in the thread.
    """

    def __init__(
        self,
        database: Engine,
        context: JobContext,
        handler: Handler,
        clock: Clock,
        ended: Callable[[Runner], None],
    ) -> None:
        self.context = context
        self._database = database
        self._handler = handler
        self._clock = clock
        self._ended = ended
        self._over = threading.Event()
        # A daemon: the process must be able to end while a handler hangs.
        self._thread = threading.Thread(target=self._run, name=f"job-{context.job_id}", daemon=True)

    def start(self) -> None:
        """Begin.

        Raises:
            RuntimeError: the machine has no thread left; the attempt has ended then, though the table says otherwise.
        """
        try:
            self._thread.start()
        except RuntimeError:
            self._ended(self)
            raise

    def join(self, timeout_seconds: float) -> None:
        """Wait for the end of the attempt, even if it has not begun."""
        self._over.wait(timeout_seconds)

    def report(self) -> None:
        """Write the newest progress and log lines, if there are any."""
        progress, lines = self.context.unwritten()
        if progress is None and not lines:
            return
        job = self.context.job
        try:
            transact(
                self._database,
                lambda connection: attempts.write_progress(connection, job.id, job.attempt, progress, lines),
            )
        except FencedError:
            self.context.stop(StopReason.FENCED)
            return
        self.context.written(progress, len(lines))

    def _run(self) -> None:
        try:
            self._settle(self._decide())
        finally:
            self._ended(self)
            self._over.set()

    def _decide(self) -> Callable[[Job], Ending]:
        """Call the handler; give what to do with the job after it."""
        try:
            result = self._handler.run(self.context)
            encode_document(dict(result), DOCUMENT_BYTES)
        except StrongroomError as error:
            if (reason := self.context.obeyed) is not None:
                return self._after(reason)
            self._log_failure(error)
            known = JobError.of(error)
        except BaseException as error:  # noqa: BLE001 - a handler's SystemExit, too, ends one job only
            log_defect("a job failed of a defect", error, job=self.context.job_id, kind=self.context.job.kind)
            said = InternalError(f"the job failed of a defect: {type(error).__name__}")
            self._log_failure(said)
            known = JobError.of(said)
        else:
            if (reason := self.context.obeyed) is not None:
                return self._after(reason)
            return lambda job: endings.after_result(job, result)
        return lambda job: endings.after_error(job, known, self._handler.retry, self._clock.now())

    def _after(self, reason: StopReason) -> Callable[[Job], Ending]:
        match reason:
            case StopReason.CANCELLED:
                return endings.after_cancel
            case StopReason.STOPPING | StopReason.FENCED:  # for the latter the fence has the last word
                return lambda job: endings.after_stop(job, self._clock.now())

    def _log_failure(self, error: StrongroomError) -> None:
        self.context.log(error.message, level="error", code=error.code, hint=error.hint)

    def _settle(self, decide: Callable[[Job], Ending]) -> None:
        """Record the end, however long the database is away: the work is done, and must not be done again."""
        job = self.context.job
        progress, lines = self.context.unwritten(last=True)

        def write(connection: Connection) -> Ending:
            attempts.write_progress(connection, job.id, job.attempt, progress, lines)
            return attempts.end(connection, job.id, job.attempt, decide, self._clock.now())

        while True:
            try:
                ending = transact(self._database, write)
            except FencedError:
                logger.warning(
                    "an attempt ended too late",
                    extra={"event": "jobs.fenced", "job": job.id, "attempt": job.attempt},
                )
                return
            except (UnavailableError, ResourceError) as error:
                logger.warning(
                    "the end of an attempt cannot be recorded yet",
                    extra={"event": "jobs.trouble", "job": job.id, "code": error.code},
                )
                threading.Event().wait(SETTLE_AGAIN_SECONDS)
            else:
                logger.info(
                    "an attempt ended",
                    extra={"event": f"jobs.{ending.outcome}", "job": job.id, "attempt": job.attempt},
                )
                return


def log_defect(message: str, error: BaseException, **facts: str | int) -> None:
    """Put a traceback into the log: the only place that it goes to."""
    logger.error(message, exc_info=error, extra={"event": "jobs.defect", **facts})
