"""The clock and the randomness of the machine; the only place that asks for them."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """Tell the wall-clock time, aware, in UTC."""
        return datetime.now(UTC)  # noqa: TID251 - this is the one clock that the others are handed

    def monotonic(self) -> float:
        """Tell seconds from an arbitrary start; never goes back."""
        return time.monotonic()


class SystemEntropy:
    """The kernel's random numbers, fit for keys."""

    def bytes(self, count: int) -> bytes:
        """Give ``count`` random bytes."""
        return os.urandom(count)
