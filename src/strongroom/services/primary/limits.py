"""A limit on what strangers may ask in a while, so that guessing and flooding from one address cost others nothing."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from strongroom.core.clock import Clock
from strongroom.core.errors import UnavailableError

WINDOW_SECONDS: Final = 60.0
MAX_ADDRESSES: Final = 4_096


class RateLimitedError(UnavailableError):
    """One address has asked too often."""

    code = "peer.rate-limited"
    default_hint = "wait a minute"


class RateLimit:
    """Counts requests of each address in windows of a minute; remembers a bounded number of addresses.

    Args:
        clock: its monotonic time.
        per_minute: how many are let through.
    """

    def __init__(self, clock: Clock, per_minute: int = 120) -> None:
        self._clock = clock
        self._per_minute = per_minute
        self._seen: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def count(self, address: str) -> None:
        """Count a request.

        Raises:
            RateLimitedError: it is one too many.
        """
        now = self._clock.monotonic()
        began, count = self._seen.pop(address, (now, 0))
        if now - began >= WINDOW_SECONDS:
            began, count = now, 0
        self._seen[address] = (began, count + 1)
        while len(self._seen) > MAX_ADDRESSES:
            self._seen.popitem(last=False)
        if count >= self._per_minute:
            raise RateLimitedError(f"'{address}' has asked {count} times within a minute")
