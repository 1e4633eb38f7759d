"""A limit on bytes in a second that can be changed while sessions run."""

from __future__ import annotations

import threading
from typing import Final

from strongroom.core.clock import Clock

_BURST_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.5


class Pace:
    """Lets bytes through at a limited rate; shared by the threads of all sessions.

    Args:
        clock: its monotonic time.
        bytes_per_second: the limit; 0 lets nothing through, ``None`` everything.
    """

    def __init__(self, clock: Clock, bytes_per_second: int | None = None) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._limit = bytes_per_second
        self._saved = 0.0
        self._at = clock.monotonic()

    @property
    def limit(self) -> int | None:
        """Bytes in a second; ``None`` for no limit."""
        return self._limit

    def set_limit(self, bytes_per_second: int | None) -> None:
        """Change the limit; who waits goes on at once if it may."""
        with self._changed:
            self._limit = bytes_per_second
            self._saved = min(self._saved, 0.0)
            self._at = self._clock.monotonic()
            self._changed.notify_all()

    def take(self, count: int, stop: threading.Event) -> None:
        """Wait until so many bytes may go.

        A message is never cut: what goes over the limit is made up for by waiting longer before the next one.

        Args:
            count: bytes.
            stop: lets the wait end at once.
        """
        with self._changed:
            while not stop.is_set():
                wait = self._seconds_to_wait()
                if wait <= 0:
                    break
                self._changed.wait(min(wait, _LOOK_SECONDS))
            self._saved -= count

    def _seconds_to_wait(self) -> float:
        now = self._clock.monotonic()
        if self._limit is None:
            self._saved, self._at = 0.0, now
            return 0.0
        self._saved = min(self._saved + (now - self._at) * self._limit, self._limit * _BURST_SECONDS)
        self._at = now
        if self._limit == 0:
            return _LOOK_SECONDS
        return -self._saved / self._limit
