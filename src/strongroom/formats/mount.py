"""What a client with a mounted image asks the media server, one question a request.

Source: ``docs/reference/protocols/mount.md``.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeVar

import msgspec

from strongroom.formats import records
from strongroom.formats.entries import Path
from strongroom.formats.records import Count

MAX_QUESTION_BYTES: Final = 200_000
MAX_READ_BYTES: Final = 8 << 20
MAX_LISTED: Final = 4_096
MAX_LISTED_BYTES: Final = 4 << 20
OPENED_BYTES: Final = 4_096
"""Bound of the first record, with its length before it."""

Q = TypeVar("Q", bound=msgspec.Struct)


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """The image is open: how many files it has, and bytes of contents."""

    files: Count
    content: Count


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What is at a path?"""

    path: Path


class List(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a folder, behind a name?"""

    folder: Path
    after: Annotated[bytes, msgspec.Meta(max_length=65_536)] = b""


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of a file."""

    path: Path
    offset: Count
    length: Annotated[int, msgspec.Meta(ge=1, le=MAX_READ_BYTES)]


def encode(message: msgspec.Struct) -> bytes:
    """Write a question or answer."""
    return records.encode(message)


def decode(data: bytes, kind: type[Q]) -> Q:
    """Read one.

    Raises:
        DamagedError: it is not of this kind.
    """
    return records.decode(data, kind, max_bytes=MAX_QUESTION_BYTES, what=kind.__name__)
