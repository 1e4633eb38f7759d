"""A stranger may not ask without limit."""

from __future__ import annotations

from datetime import timedelta

import pytest

from strongroom.core.clock import ManualClock
from strongroom.services.primary.limits import MAX_ADDRESSES, RateLimit, RateLimitedError


def test_one_address_is_refused_until_its_minute_is_over_and_others_are_not() -> None:
    clock = ManualClock()
    limit = RateLimit(clock, per_minute=3)
    for _ in range(3):
        limit.count("a")
    with pytest.raises(RateLimitedError):
        limit.count("a")
    limit.count("b")
    clock.advance(timedelta(seconds=60))
    limit.count("a")


def test_the_number_of_addresses_remembered_is_bounded() -> None:
    limit = RateLimit(ManualClock(), per_minute=1)
    for number in range(MAX_ADDRESSES + 10):
        limit.count(str(number))
    assert len(limit._seen) == MAX_ADDRESSES
