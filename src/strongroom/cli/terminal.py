"""Words for a terminal: text made harmless, sizes and times that people read."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
# C0, DEL and C1 steer a terminal; so do the marks that turn the direction of writing. Half a surrogate pair cannot be
# printed.
_STEERING: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def safe(text: str) -> str:
    """Escape what a terminal would obey instead of show: a name in a backup may be an attack on who reads it."""
    return _STEERING.sub(lambda found: found.group().encode("unicode_escape").decode("ascii"), text)


def shown_path(path: bytes) -> str:
    """Show a path of any bytes."""
    return safe(path.decode("utf-8", "backslashreplace"))


def encode_path(path: bytes) -> str:
    """Write a path for JSON without loss."""
    return base64.b64encode(path).decode("ascii")


def path_of(item: Mapping[str, Any]) -> str:
    """Show the path of an item that a server listed."""
    try:
        return shown_path(base64.b64decode(item["path_b64"], validate=True))
    except (KeyError, TypeError, binascii.Error):
        return safe(str(item.get("path", "")))


def size(count: int | None) -> str:
    """Show a number of bytes with three digits and a binary unit."""
    if count is None:
        return "-"
    value = float(count)
    for unit in _UNITS:
        if value < 1024 or unit == _UNITS[-1]:
            break
        value /= 1024
    return f"{count} B" if unit == "B" else f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"


def span(seconds: float | None) -> str:
    """Show a length of time in its two largest units."""
    if seconds is None:
        return "-"
    left = int(seconds)
    days, left = divmod(left, 86_400)
    hours, left = divmod(left, 3_600)
    minutes, left = divmod(left, 60)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {left} s" if minutes else f"{left} s"


def sized(items: Iterable[dict[str, Any]], *fields: str) -> Iterator[dict[str, Any]]:
    """Copy items, one by one, with some of their fields shown as sizes; for people, never for JSON."""
    for item in items:
        yield item | {field: size(item.get(field)) for field in fields}
