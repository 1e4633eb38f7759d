"""Work on a whole pool that the primary waits for, answered in pieces: what it is at, and at last the outcome.

Whoever asked ends the work by closing the connection.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec
from aiohttp import web

from strongroom.core.clock import Clock
from strongroom.replication.pace import Pace
from strongroom.services.media.errors import CancelledError
from strongroom.services.media.jobs import JobThread
from strongroom.services.record_http import CONTENT_TYPE, piece

_UPDATE_SECONDS: Final = 1.0

T = TypeVar("T", bound=msgspec.Struct)


class LongWork:
    """One piece of such work while it runs.

    Args:
        job: the job that it is done for.

    Attributes:
        message: what it is at.
        done: bytes that are done.
        total: bytes that there are to do; 0 when they are not counted.
    """

    def __init__(self, job: int) -> None:
        self.message = ""
        self.done = 0
        self.total = 0
        self._job = job
        self._stop = threading.Event()

    def check(self, message: str, done: int = 0, total: int = 0) -> None:
        """Take what it is at.

        Raises:
            CancelledError: nobody waits for it any more.
        """
        self.message, self.done, self.total = message, done, total
        if self._stop.is_set():
            raise CancelledError(f"the job {self._job} was cancelled")

    def pace(self, clock: Clock, bytes_per_second: int) -> Callable[[int], None]:
        """Make what waits until so many bytes may be read or written; the wait ends with the work."""
        pace = Pace(clock, bytes_per_second)
        return lambda count: pace.take(count, self._stop)

    async def answer(
        self, request: web.Request, name: str, run: Callable[[], T], update: Callable[[LongWork], T]
    ) -> web.StreamResponse:
        """Do the work in a thread, and answer what it is at.

        Args:
            request: of the primary.
            name: of the thread.
            run: does the work, and gives the last piece.
            update: makes the other pieces.
        """
        async with JobThread(name) as thread:
            task = thread.start(run)
            try:
                response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE})
                await response.prepare(request)
                while not task.done():
                    await asyncio.wait({task}, timeout=_UPDATE_SECONDS)
                    if not task.done():
                        await response.write(piece(update(self)))
                await response.write(piece(task.result()))
                await response.write_eof()
                return response
            finally:
                self._stop.set()
                await asyncio.wait({task})
