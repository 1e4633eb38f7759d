"""Sessions of clients that run here, and the word to the primary that they do."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from strongroom.core.errors import StrongroomError
from strongroom.services import messages
from strongroom.services.media.primary import PrimaryClient

logger = logging.getLogger(__name__)

ATTEND_SECONDS: Final = 5.0


class Sessions:
    """The jobs whose clients are connected; may be shared by threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connections: Counter[int] = Counter()

    @contextmanager
    def of(self, job: int) -> Iterator[None]:
        """Count a connection of a job's client while it lasts."""
        with self._lock:
            self._connections[job] += 1
        try:
            yield
        finally:
            with self._lock:
                self._connections[job] -= 1
                self._connections = +self._connections

    def jobs(self) -> list[int]:
        """Give the jobs that have a connection."""
        with self._lock:
            return sorted(self._connections)


class Attending:
    """Tells the primary every few seconds which clients' sessions live, however idle they are.

    It has a thread of its own: opening a pool may hold up the beat for minutes, and must not end a backup.

    Args:
        primary: who is told.
        sessions: what is told.
    """

    def __init__(self, primary: PrimaryClient, sessions: Sessions) -> None:
        self._primary = primary
        self._sessions = sessions
        self._stopped = threading.Event()

    def begin(self) -> None:
        """Say that this process has no session yet: those of an earlier one are over.

        Raises:
            StrongroomError: the primary did not hear it.
        """
        self._primary.attend(messages.Attend(jobs=[], began=True))

    def run(self) -> None:
        """Tell in this thread until :meth:`stop`; what is not heard is told again with the next word."""
        while not self._stopped.wait(ATTEND_SECONDS):
            jobs = self._sessions.jobs()
            if not jobs:
                continue
            try:
                self._primary.attend(messages.Attend(jobs=jobs))
            except StrongroomError as error:
                logger.warning(
                    "the primary did not hear of the sessions: %s",
                    error.message,
                    extra={"event": "attend-failed", "code": error.code},
                )

    def stop(self) -> None:
        """Let :meth:`run` return."""
        self._stopped.set()
