"""Which clients' jobs somebody attends to: a media server says so every few seconds of each session that it has.

Silence is counted in rounds of the primary's own housekeeping, not in time. A primary that was stopped, that starts
again, or whose clock is set, has heard nobody and counted nothing; so it never takes a live session for a lost one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Final

SILENT_ROUNDS: Final = 9
"""Rounds of five seconds, against a word every five seconds."""


class Attendance:
    """Counts how long nobody was heard of each job; may be shared by threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._silent: dict[int, int] = {}

    def heard(self, jobs: Iterable[int]) -> None:
        """Somebody has a session for each of these."""
        with self._lock:
            self._silent.update(dict.fromkeys(jobs, 0))

    def end_round(self, open_jobs: Iterable[int]) -> list[int]:
        """Count one more round of silence for each job that is open, and forget all others.

        Returns:
            The jobs of which nobody was heard for :data:`SILENT_ROUNDS` rounds.
        """
        with self._lock:
            self._silent = {job: self._silent.get(job, 0) + 1 for job in open_jobs}
            return [job for job, rounds in self._silent.items() if rounds > SILENT_ROUNDS]
