"""What a handler is given: its job, and the ways to report, to ask, and to have an effect."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from enum import Enum
from threading import Lock
from typing import Any

from sqlalchemy import Connection

from strongroom.core.clock import Clock
from strongroom.core.errors import StrongroomError
from strongroom.database import encode_document
from strongroom.jobs import fencing
from strongroom.jobs.errors import FencedError, JobCancelledError, JobStoppingError
from strongroom.jobs.model import Job, JobId, LogLine, Progress

LONGEST_PROGRESS_MESSAGE = 300
MOST_FACT_BYTES = 4_096
MOST_WAITING_LINES = 500
SHORTEST_SAMPLE_SECONDS = 0.5


class StopReason(Enum):
    """Why a handler should stop before its work is done."""

    CANCELLED = JobCancelledError
    STOPPING = JobStoppingError
    FENCED = FencedError


class JobContext:
    """One attempt, as its handler sees it. May be used from several threads.

    Reports cost a handler nothing: the engine writes the newest of them about once a second.

    Args:
        job: as it was when the attempt began.
        clock: tells when things happen.
    """

    def __init__(self, job: Job, clock: Clock) -> None:
        self.job = job
        self._clock = clock
        self._lock = Lock()
        self._reason: StopReason | None = None
        self._obeyed: StopReason | None = None
        self._progress = Progress()
        self._reported = False
        self._lines: deque[LogLine] = deque(maxlen=MOST_WAITING_LINES)
        self._began = clock.monotonic()
        self._first_bytes: int | None = None
        self._sample = (self._began, 0)

    @property
    def job_id(self) -> JobId:
        """The number of the job."""
        return self.job.id

    @property
    def attempt(self) -> int:
        """Which try this is, from 1."""
        return self.job.attempt

    @property
    def params(self) -> Mapping[str, Any]:
        """What was submitted."""
        return self.job.params

    def progress(
        self,
        *,
        bytes_done: int | None = None,
        bytes_total: int | None = None,
        files: int | None = None,
        message: str | None = None,
    ) -> None:
        """Report how far the attempt has come; what is left out stays as it was."""
        with self._lock:
            old = self._progress
            if bytes_done is not None and self._first_bytes is None:
                self._first_bytes = bytes_done  # a resumed attempt does not begin at zero
                self._sample = (self._clock.monotonic(), bytes_done)
            self._progress = Progress(
                bytes_done=old.bytes_done if bytes_done is None else bytes_done,
                bytes_total=old.bytes_total if bytes_total is None else bytes_total,
                files=old.files if files is None else files,
                bytes_per_second=old.bytes_per_second,
                message=old.message if message is None else _clean(message)[:LONGEST_PROGRESS_MESSAGE],
            )
            self._reported = True

    def log(self, message: str, *, level: str = "info", **facts: str | int | float | bool | None) -> None:
        """Add a line to the job's own log, which operators read.

        Raises:
            DocumentError: the facts are not JSON, or too long.
        """
        encode_document(facts, MOST_FACT_BYTES)  # here, where the handler can be blamed, not when it is written
        line = LogLine(self.attempt, self._clock.now(), level[:8], _clean(message), dict(facts))
        with self._lock:
            self._lines.append(line)

    def cancelled(self) -> bool:
        """Tell whether to stop: cancelled, the engine stops, or the attempt lost its job. Costs nothing.

        A handler that has read True is taken to have stopped, whatever it returns. Use :meth:`check`, unless
        something has to be wound up first.
        """
        self._obeyed = self._reason
        return self._obeyed is not None

    def check(self) -> None:
        """Raise when the handler should stop; let the error pass. To be called every second or so.

        Raises:
            JobCancelledError: somebody asked for it.
            JobStoppingError: the engine stops; a later attempt goes on.
            FencedError: another attempt has taken over.
        """
        if self.cancelled():
            raise self.stop_error()

    def fence(self, connection: Connection) -> int:
        """Make sure, in the transaction of an effect, that this attempt is the current one.

        Returns:
            The fencing token, which rises with every attempt of any job.

        Raises:
            FencedError: another attempt has taken over.
        """
        return fencing.check_fence(connection, self.job_id, self.attempt)

    def effect(self, connection: Connection, step: str, document: Mapping[str, Any] | None = None) -> bool:
        """Record a step in the transaction of its effect: see :func:`strongroom.jobs.fencing.record_effect`.

        Returns:
            True the first time: make the effect. False when it has been made: leave it.

        Raises:
            FencedError: another attempt has taken over.
        """
        return fencing.record_effect(connection, self.job_id, self.attempt, step, self._clock.now(), document)

    def effects(self, connection: Connection) -> dict[str, dict[str, Any]]:
        """Give the steps that this or earlier attempts have done, each with its document."""
        return fencing.effects(connection, self.job_id)

    # What follows is the engine's side.

    @property
    def obeyed(self) -> StopReason | None:
        """The reason to stop that the handler has read."""
        return self._obeyed

    def stop(self, reason: StopReason) -> None:
        """Ask the handler to stop; the first reason stays, unless the attempt has lost its job."""
        if self._reason is None or reason is StopReason.FENCED:
            self._reason = reason

    def stop_error(self) -> StrongroomError:
        """Give the error that says why to stop."""
        reason = self._reason or StopReason.FENCED
        kind: type[StrongroomError] = reason.value
        said = {
            StopReason.CANCELLED: "job {0} was cancelled",
            StopReason.STOPPING: "job {0} stops with the engine, and goes on when it runs again",
            StopReason.FENCED: "attempt {1} of job {0} is not the current one",
        }
        return kind(said[reason].format(self.job_id, self.attempt))

    def unwritten(self, *, last: bool = False) -> tuple[Progress | None, list[LogLine]]:
        """Give the reports that are not written yet: the progress if there is news of it, and the lines.

        Args:
            last: the attempt has ended, so that the rate is that of all of it.
        """
        with self._lock:
            if not self._reported:
                return None, list(self._lines)
            self._measure(last)
            return self._progress, list(self._lines)

    def written(self, progress: Progress | None, lines: int) -> None:
        """Take note that reports are in the database."""
        with self._lock:
            if progress is self._progress:
                self._reported = False
            for _ in range(min(lines, len(self._lines))):
                self._lines.popleft()

    def _measure(self, last: bool) -> None:
        now = self._clock.monotonic()
        since, bytes_then = (self._began, self._first_bytes or 0) if last else self._sample
        if now - since < SHORTEST_SAMPLE_SECONDS:
            return
        rate = max(0, int((self._progress.bytes_done - bytes_then) / (now - since)))
        self._sample = (now, self._progress.bytes_done)
        self._progress = replace(self._progress, bytes_per_second=rate)


def _clean(text: str) -> str:
    """Make text that any database keeps: a file's name may hold what is not Unicode."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
