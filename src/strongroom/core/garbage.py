"""How often Python looks for garbage that refers to itself."""

from __future__ import annotations

import gc
from typing import Final

_YOUNG: Final = 10_000
"""Objects that are made before it looks among them; Python's own number is 700, of which one record of a file has two.

A batch of records is read, used and dropped: with 700 a media server spends a third of the time of copying records on
looking through those that are in use anyway.
"""
_ROUNDS: Final = 5
"""After so many looks among the young, those are looked at that survived; Python's number is 10."""


def look_seldom() -> None:
    """Look rarely, and never again among what is there now: code, which stays."""
    gc.freeze()
    gc.set_threshold(_YOUNG, _ROUNDS, _ROUNDS)
