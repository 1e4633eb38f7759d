"""What can go wrong with one file, while the rest goes on.

Source: ``docs/reference/protocols/image-stream.md``, tables of codes.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from strongroom.core.errors import InputError, RefusedError, ResourceError, UnavailableError

VANISHED: Final = "client.vanished"
UNREADABLE: Final = "client.unreadable"
CHANGED: Final = "client.changed"
SHRANK: Final = "client.shrank"
UNSUPPORTED: Final = "client.unsupported"
NOT_KEPT: Final = "client.not-kept"
BAD_PATH: Final = "client.bad-path"
READ_ANEW: Final = "client.read-anew"

EXISTS: Final = "client.exists"
UNSAFE_PATH: Final = "client.unsafe-path"
NOT_WRITTEN: Final = "client.not-written"
NOT_PERMITTED: Final = "client.not-permitted"
LINK_MISSING: Final = "client.link-missing"


@dataclass(frozen=True, slots=True)
class Trouble:
    """A problem with one file: its path, a stable code, and the facts.

    Attributes:
        path: of the file.
        code: stable.
        message: the facts.
        kind: what many files may have in common, such as ``socket``; such problems are counted and told once for each
            kind. Empty for a problem of its own.
    """

    path: bytes
    code: str
    message: str
    kind: str = ""


Report: TypeAlias = Callable[[Trouble], None]


@dataclass(slots=True)
class Kinds:
    """Counts problems that are told once for each kind, with the first file of each as an example.

    A kind is a word of ours, or an attribute's name space, so there are few.
    """

    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    _first: dict[tuple[str, str], Trouble] = field(default_factory=dict)

    def add(self, trouble: Trouble) -> None:
        """Count one more file."""
        key = trouble.code, trouble.kind
        self._first.setdefault(key, trouble)
        self.counts[key] = self.counts.get(key, 0) + 1

    def summaries(self) -> list[tuple[int, Trouble]]:
        """Give for each kind how many files it has, and the problem of the first of them, its message about all."""
        found: list[tuple[int, Trouble]] = []
        for key, first in self._first.items():
            count = self.counts[key]
            files = "1 file" if count == 1 else f"{count} files"
            found.append((count, replace(first, message=f"{files}: {first.message}")))
        return found


class BadRootError(InputError):
    """What to back up is not named by an absolute path."""

    code = "client.bad-root"
    default_hint = "give absolute paths without zero bytes"


class BadPatternError(InputError):
    """A pattern of files to leave out is not well formed."""

    code = "client.bad-pattern"
    default_hint = "close every '[' with a ']', and give no empty pattern"


class TargetFullError(ResourceError):
    """The file system has no room for what is restored."""

    code = "client.target-full"
    default_hint = "make room, and restore again; files that are whole stay"


class StreamLostError(UnavailableError):
    """The bytes of an image stopped coming."""

    code = "client.stream-lost"
    default_hint = "look at the connection to the media server, and restore again"


class TargetChangedError(RefusedError):
    """A folder of the target was moved away while files were restored into it."""

    code = "client.target-changed"
    default_hint = "keep others from the target while a restore runs, and restore again"


def reading_failed(path: bytes, error: OSError) -> Trouble:
    """Name what an error of the system means for a file that is read."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE):
        return Trouble(path, VANISHED, "it was listed, and is gone or replaced now")
    return Trouble(path, UNREADABLE, reason(error))


def reason(error: OSError) -> str:
    """Write the system's reason without the path, which the problem has already."""
    return (error.strerror or str(error)).lower()
