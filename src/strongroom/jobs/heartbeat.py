"""The sign of life of an executor on a shared database."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta

from sqlalchemy import Engine

from strongroom.core.errors import StrongroomError
from strongroom.database import transact
from strongroom.jobs import executors

logger = logging.getLogger(__name__)


LAST_BEAT_SECONDS = 5.0
"""A database that does not answer must not keep the process from ending."""


class Heartbeat:
    """Beats for one executor, in a thread of its own: it must not wait behind anything else the engine does.

    Args:
        database: holds the executor's row.
        executor_id: whose row.
        interval: between two beats.
    """

    def __init__(self, database: Engine, executor_id: bytes, interval: timedelta) -> None:
        self._database = database
        self._executor_id = executor_id
        self._interval = interval
        self._lost = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="jobs-heartbeat", daemon=True)

    @property
    def lost(self) -> bool:
        """Whether the executor was declared dead."""
        return self._lost.is_set()

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def stop(self) -> None:
        """Beat no more, and wait for a beat that is under way: the caller may dispose of the database next."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(LAST_BEAT_SECONDS)

    def _beat(self) -> None:
        while not self._stop.wait(self._interval.total_seconds()):
            try:
                alive = transact(self._database, lambda c: executors.beat(c, self._executor_id))
            except StrongroomError as error:
                # Whoever can reach the database will take over; nothing else is to be done here.
                logger.warning("a sign of life was not given", extra={"event": "jobs.trouble", "code": error.code})
                continue
            if not alive:
                self._lost.set()
                return
