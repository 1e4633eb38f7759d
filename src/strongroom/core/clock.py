"""Time, handed in: nothing below ``services`` reads a clock of its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """Wall clock and monotonic clock of one process."""

    def now(self) -> datetime:
        """Tell the wall-clock time, aware, in UTC."""

    def monotonic(self) -> float:
        """Tell seconds from an arbitrary start; never goes back."""


class ManualClock:
    """A clock that stands still until it is moved; for tests and simulation."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = start
        self._monotonic = 0.0

    def now(self) -> datetime:
        """Tell the time that was set."""
        return self._now

    def monotonic(self) -> float:
        """Tell the seconds by which the clock was moved."""
        return self._monotonic

    def advance(self, by: timedelta) -> None:
        """Move both clocks forward."""
        self._now += by
        self._monotonic += by.total_seconds()


def to_ns(moment: datetime) -> int:
    """Convert an aware time to whole nanoseconds since 1970, exactly."""
    delta = moment - EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000_000 + delta.microseconds * 1_000


def from_ns(ns: int) -> datetime:
    """Convert nanoseconds since 1970 to an aware time, cut to microseconds."""
    return EPOCH + timedelta(microseconds=ns // 1_000)
