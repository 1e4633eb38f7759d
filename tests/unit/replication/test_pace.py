"""R10: limits that change while sessions run."""

from __future__ import annotations

import threading
from datetime import timedelta

from strongroom.core.clock import ManualClock
from strongroom.replication.pace import Pace


def passes(pace: Pace, count: int) -> bool:
    """Whether so many bytes go through without a wait that must be ended."""
    stop = threading.Event()
    timer = threading.Timer(0.1, stop.set)
    timer.start()
    pace.take(count, stop)
    timer.cancel()
    return not stop.is_set()


def test_without_a_limit_nothing_waits() -> None:
    pace = Pace(ManualClock())
    assert all(passes(pace, 1 << 30) for _ in range(3))


def test_what_goes_over_the_limit_is_made_up_for() -> None:
    clock = ManualClock()
    pace = Pace(clock, 1_000)
    assert passes(pace, 5_000)
    assert not passes(pace, 1)
    clock.advance(timedelta(seconds=6))
    assert passes(pace, 1)


def test_a_limit_of_zero_holds_until_it_is_lifted() -> None:
    pace = Pace(ManualClock(), 0)
    assert not passes(pace, 1)
    threading.Timer(0.02, pace.set_limit, [None]).start()
    stop = threading.Event()
    pace.take(1, stop)
    assert pace.limit is None


def test_quiet_times_save_up_one_second_at_most() -> None:
    clock = ManualClock()
    pace = Pace(clock, 1_000)
    clock.advance(timedelta(hours=1))
    assert passes(pace, 1_500)
    assert not passes(pace, 1)
