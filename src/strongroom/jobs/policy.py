"""What an operator decides: how many jobs run side by side, and how often one is tried."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

LONGEST_EXPONENT = 60


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How a kind of job is tried again after an error that says ``retry == "later"``.

    Args:
        failures: how many tries may fail; after the last the job has failed.
        first: how long to wait after the first.
        factor: by how much each wait is longer than the one before.
        longest: no wait is longer.
        interruptions: how often the process may end in the middle, before the job is suspected of ending it.
    """

    failures: int = 8
    first: timedelta = timedelta(seconds=30)
    factor: float = 2.0
    longest: timedelta = timedelta(hours=1)
    interruptions: int = 20

    def delay(self, failures: int) -> timedelta | None:
        """Tell how long to wait after the n-th failure; None when the job is to be given up."""
        if failures >= self.failures:
            return None
        exponent = min(failures - 1, LONGEST_EXPONENT)  # a larger one could overflow
        seconds = min(self.first.total_seconds() * self.factor**exponent, self.longest.total_seconds())
        return timedelta(seconds=seconds)


@dataclass(frozen=True, slots=True)
class Queue:
    """Jobs that share a limit.

    It limits load. It is no lock: an attempt that was fenced off may still run, so whoever must be alone with
    a thing takes a lease of that thing.

    Args:
        name: handlers name their queue by it.
        concurrency: how many run at once, over all processes.
        per_executor: how many run at once in one process; None leaves it to ``concurrency``.
    """

    name: str
    concurrency: int
    per_executor: int | None = None
