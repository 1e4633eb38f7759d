"""Secret bytes that never show themselves in a log, a traceback or a dump."""

from __future__ import annotations

import hmac
from typing import NoReturn


class Secret:
    """Key or token bytes; ``repr`` and ``str`` give ``***``, pickling and copying are refused.

    The bytes leave only through :meth:`reveal`, so that every use can be found by its name.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = bytes(value)

    def reveal(self) -> bytes:
        """Give the bytes to the code that must use them."""
        return self._value

    def __len__(self) -> int:
        return len(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value, other._value)

    __hash__ = None  # type: ignore[assignment]  # a hash would let secrets be told apart by timing in tables

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written out")
