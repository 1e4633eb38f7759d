"""Randomness, handed in, so that vectors and simulations can be repeated."""

from __future__ import annotations

from typing import Protocol


class Entropy(Protocol):
    """A source of random bytes fit for keys."""

    def bytes(self, count: int) -> bytes:
        """Give ``count`` random bytes."""
