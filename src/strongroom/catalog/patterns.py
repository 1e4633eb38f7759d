"""Patterns of file names.

Patterns are bytes. ``*`` and ``?`` stand for anything but ``/``, ``[...]`` for one of some bytes, ``**`` for anything,
and a backslash takes the next byte as it is. A pattern without ``/`` is matched with the name alone, any other with the
whole path. It becomes an expression for RE2, whose time is linear whatever the pattern.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from strongroom.catalog.errors import PatternError

LONGEST_PATTERN = 4_096


@dataclass(frozen=True)
class Glob:
    """A checked pattern.

    Attributes:
        expression: for RE2, over bytes.
        whole_path: whether it is matched with the whole path, or with the name.
    """

    expression: str
    whole_path: bool


def parse_glob(pattern: bytes) -> Glob:
    """Read a pattern.

    Raises:
        PatternError: empty, too long, or a bracket or backslash without its end.
    """
    if not pattern or len(pattern) > LONGEST_PATTERN:
        raise PatternError(f"a pattern has 1 to {LONGEST_PATTERN} bytes, this one {len(pattern)}")
    parts: list[str] = []
    rest = memoryview(pattern)
    at = 0
    while at < len(rest):
        part, at = _token(pattern, at)
        parts.append(part)
    return Glob(r"(?s)\A" + "".join(parts) + r"\z", b"/" in pattern)


def _token(pattern: bytes, at: int) -> tuple[str, int]:
    """Translate what begins at an offset, and give the offset behind it."""
    match pattern[at : at + 1]:
        case b"*" if pattern[at : at + 2] == b"**":
            return ".*", at + 2
        case b"*":
            return "[^/]*", at + 1
        case b"?":
            return "[^/]", at + 1
        case b"[":
            return _class(pattern, at)
        case b"\\":
            if at + 1 == len(pattern):
                raise PatternError("a backslash ends the pattern")
            return _byte(pattern[at + 1]), at + 2
        case one:
            return _byte(one[0]), at + 1


def _class(pattern: bytes, at: int) -> tuple[str, int]:
    found = re.compile(rb"\[([!^]?)(\]?[^\]]*)\]").match(pattern, at)
    if found is None or not found[2]:
        raise PatternError("a bracket in the pattern has no end, or nothing in it")
    body, parts = found[2], ["/"] if found[1] else []
    place = 0
    while place < len(body):
        if body[place + 1 : place + 2] == b"-" and place + 2 < len(body):
            low, high = body[place], body[place + 2]
            if low > high:
                raise PatternError("a range in the pattern's brackets runs backwards")
            parts.append(f"{_byte(low)}-{_byte(high)}")
            place += 3
        else:
            parts.append(_byte(body[place]))
            place += 1
    return f"[{'^' if found[1] else ''}{''.join(parts)}]", found.end()


def _byte(value: int) -> str:
    return rf"\x{{{value:02x}}}"
