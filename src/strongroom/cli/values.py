"""Kinds of words on the command line, checked before anything is asked of a server."""

from __future__ import annotations

import re
from typing import Any, Final

import click

_UNITS: Final = {"s": 1, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800, "y": 31_536_000}
_RATE: Final = re.compile(r"([0-9]{1,9})([KMG]?)")
_SHIFTS: Final = {"": 0, "K": 10, "M": 20, "G": 30}
_DAY: Final = 86_400
_DURATION: Final = re.compile(r"([0-9]{1,9}) ?(s|min|h|d|w|y)")


class Seconds(click.ParamType[int]):
    """A length of time such as ``90d``, as seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read ``NUMBER`` and one of s, min, h, d, w, y.

        There is no ``m``: who means months would lose a backup after minutes.
        """
        if isinstance(value, int):
            return value
        match = _DURATION.fullmatch(str(value).strip())
        if match is None or int(match[1]) == 0:
            self.fail(f"'{value}' is not a length of time; write 30d, 12h or 1y, or s, min or w", param, ctx)
        return int(match[1]) * _UNITS[match[2]]


class Rate(click.ParamType[int]):
    """A rate such as ``20M``, as bytes a second."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read ``NUMBER`` and, for KiB, MiB or GiB a second, one of K, M, G."""
        if isinstance(value, int):
            return value
        match = _RATE.fullmatch(str(value).strip())
        if match is None or int(match[1]) == 0:
            self.fail(f"'{value}' is not a rate; write 20M for 20 MiB a second, or K or G", param, ctx)
        return int(match[1]) << _SHIFTS[match[2]]


class Retention(click.ParamType[str]):
    """A length of time as text, or one of some words."""

    name = "retention"

    def __init__(self, *words: str) -> None:
        self._words = words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check, and give days, or seconds when it is not whole days."""
        text = str(value).strip()
        if text in self._words:
            return text
        seconds = Seconds().convert(text, param, ctx)
        # The REST interface knows seconds to days; what is more is written in them.
        return f"{seconds // _DAY}d" if seconds % _DAY == 0 else f"{seconds}s"


class HostPort(click.ParamType[str]):
    """Where another domain's primary listens: ``HOST:PORT``."""

    name = "host:port"
    _form: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):([0-9]{1,5})")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the form; names are resolved by who connects."""
        match = self._form.fullmatch(str(value))
        if match is None or not 0 < int(match[2]) < 65_536:
            self.fail(f"'{value}' is not HOST:PORT", param, ctx)
        return str(value)
