"""Patterns of files to leave out of a backup."""

from __future__ import annotations

import re
from collections.abc import Iterable

from strongroom.client.problems import BadPatternError


class Exclude:
    """Tells whether a path is left out, with all below it.

    A pattern that begins with ``/`` is compared with the whole path, another with the last names of a path: ``*.o``,
    ``build/tmp``. ``*`` and ``?`` match anything but ``/``; ``**`` matches ``/`` too; ``[a-c]`` and ``[!a-c]`` match
    one byte of a set.

    Args:
        patterns: bytes, as the file system has names.

    Attributes:
        matcher: gives something for an absolute path that is left out; ``None`` when nothing is.

    Raises:
        BadPatternError: an empty pattern, or a set that is not closed or not ordered.
    """

    def __init__(self, patterns: Iterable[bytes] = ()) -> None:
        sources = [_to_regex(pattern) for pattern in patterns]
        self.matcher = re.compile(b"|".join(sources), re.DOTALL).fullmatch if sources else None

    def __call__(self, path: bytes) -> bool:
        """Tell whether this absolute path is left out."""
        return self.matcher is not None and self.matcher(path) is not None


def _to_regex(pattern: bytes) -> bytes:
    if not pattern.strip(b"/"):
        raise BadPatternError("an empty pattern leaves nothing out, and '/' everything")
    found = b"" if pattern.startswith(b"/") else b"(?:.*/)?"
    rest = pattern.rstrip(b"/")
    while rest:
        token, rest = _token(rest, pattern)
        found += token
    try:
        re.compile(found)
    except re.error as error:
        raise BadPatternError(f"the pattern {pattern!r} is not well formed: {error}") from error
    return b"(?:" + found + b")"


def _token(rest: bytes, pattern: bytes) -> tuple[bytes, bytes]:
    """Turn the first token of a pattern into a regular expression; give it and what follows."""
    if rest.startswith(b"**"):
        return b".*", rest[2:]
    if rest.startswith(b"*"):
        return b"[^/]*", rest[1:]
    if rest.startswith(b"?"):
        return b"[^/]", rest[1:]
    if not rest.startswith(b"["):
        return re.escape(rest[:1]), rest[1:]
    negated = rest[1:2] == b"!"
    start = 2 if negated else 1
    # A bracket that comes first is a member of the set.
    close = rest.find(b"]", start + 1)
    if close < 0:
        raise BadPatternError(f"the pattern {pattern!r} has a set that is not closed")
    members = rest[start:close].replace(b"\\", b"\\\\").replace(b"[", b"\\[").replace(b"]", b"\\]")
    members = members.replace(b"^", b"\\^").replace(b"&", b"\\&").replace(b"~", b"\\~").replace(b"|", b"\\|")
    return (b"(?!/)[^" if negated else b"(?!/)[") + members + b"]", rest[close + 1 :]
