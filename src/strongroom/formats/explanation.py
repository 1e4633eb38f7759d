"""What an inspection says of a file: plain values, ready to be printed or written as JSON.

Text is given as it was found: whoever prints it to a terminal escapes control characters first.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import Final, Protocol, TypeAlias

import msgspec

from strongroom.core.clock import from_ns
from strongroom.core.ids import DIGEST_BYTES, UUID_BYTES, DomainId, to_text
from strongroom.formats.identity import RevocationList
from strongroom.formats.records import Moment

Shown: TypeAlias = "str | int | bool | list[Shown] | dict[str, Shown] | None"
_LONGEST_HEX: Final = 64
_NS: Final = 1_000_000_000


class Source(Protocol):
    """Bytes that can be read anywhere; a file, or a part of one."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    def read(self, offset: int, length: int) -> bytes:
        """Give ``length`` bytes from ``offset``, fewer at the end."""


@dataclass(frozen=True)
class BytesSource:
    """A source in memory."""

    data: bytes

    @property
    def size(self) -> int:
        """Length in bytes."""
        return len(self.data)

    def read(self, offset: int, length: int) -> bytes:
        """Give ``length`` bytes from ``offset``, fewer at the end."""
        return self.data[offset : offset + length]


@dataclass(frozen=True)
class Rest:
    """A source without its beginning."""

    whole: Source
    start: int

    @property
    def size(self) -> int:
        """Length in bytes."""
        return max(0, self.whole.size - self.start)

    def read(self, offset: int, length: int) -> bytes:
        """Give ``length`` bytes from ``offset``, fewer at the end."""
        return self.whole.read(self.start + offset, length)


class Outcome(StrEnum):
    """Answer of a reader to a signature; ``docs/reference/formats/signed-object.md``, section *Checking*."""

    PINNED = "pinned domain"
    UNKNOWN = "unknown domain"
    NEWER = "newer"
    REVOKED = "revoked"
    INVALID = "invalid"


@dataclass(frozen=True)
class SignatureReport:
    """What was found of a signature.

    Attributes:
        outcome: the answer.
        domain: who signed; ``None`` when nobody can be believed to have.
        archive_number: number of the archive certificate; ``None`` for the root key or nobody.
        reason: why, when the outcome is not a domain.
    """

    outcome: Outcome
    domain: DomainId | None = None
    archive_number: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class Knowledge:
    """What the reader was told beforehand; by default nothing."""

    pinned: frozenset[DomainId] = frozenset()
    revocations: Mapping[DomainId, RevocationList] = field(default_factory=dict)


@dataclass(frozen=True)
class Explanation:
    """What one object says, and how far it can be believed.

    Attributes:
        what: name of its format, for people.
        magic: its first bytes, as text.
        length: how many bytes belong to it.
        fields: what it says, in its own order; of a broken object what could be read, believed by nobody.
        signature: ``None`` for what is not signed.
        problems: what is wrong with it; empty when nothing is.
        parts: objects inside it, or the objects of a file one after the other.
    """

    what: str
    magic: str
    length: int
    fields: Mapping[str, Shown] = field(default_factory=dict)
    signature: SignatureReport | None = None
    problems: tuple[str, ...] = ()
    parts: tuple[Explanation, ...] = ()


Explainer = Callable[[Source, Knowledge], Explanation]
"""Explains what a source begins with; raises ``IntegrityError`` when it cannot say anything of it."""


def show_record(plain: object, kind: type | None = None) -> dict[str, Shown]:
    """Show a record as it was read, unknown keys included.

    Args:
        plain: what :func:`strongroom.formats.records.decode_plain` gave.
        kind: the struct that the record should be; tells which numbers are times.
    """
    shown = show(plain, kind)
    return shown if isinstance(shown, dict) else {"": shown}


def show(value: object, hint: object = None) -> Shown:
    """Show one value: identities as text, times in UTC, long bytes by their length."""
    struct, is_moment = _meaning(hint)
    match value:
        case None | bool() | str():
            return value
        case int():
            return show_moment(value) if is_moment else value
        case bytes():
            return show_bytes(value)
        case list() | tuple():
            return [show(item, struct) for item in value]
        case dict():
            hints = _hints(struct) if struct else {}
            return {str(key): show(item, hints.get(key)) for key, item in value.items()}
        case _:
            return str(value)


def show_bytes(value: bytes) -> str:
    """Show an identity as text, short bytes in hexadecimal, long ones by their length."""
    if len(value) in (UUID_BYTES, DIGEST_BYTES):
        return to_text(value)
    return value.hex() if len(value) <= _LONGEST_HEX else f"({len(value)} bytes)"


def show_moment(ns: int) -> str:
    """Show nanoseconds since 1970 in UTC, with all nine digits."""
    if not 0 <= ns < 1 << 63:
        return f"({ns} ns)"
    return f"{from_ns(ns):%Y-%m-%dT%H:%M:%S}.{ns % _NS:09d}Z"


@cache
def _hints(struct: type) -> dict[str, object]:
    """Give the annotation of each field by the name that stands in a record."""
    found = typing.get_type_hints(struct, include_extras=True)
    names = {f.name: f.encode_name for f in msgspec.structs.fields(struct)}
    return {names[name]: hint for name, hint in found.items() if name in names}


def _meaning(hint: object) -> tuple[type | None, bool]:
    """Tell which struct an annotation is about, if any, and whether it is a time."""
    if hint == Moment:
        return None, True
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return hint, False
    for inner in typing.get_args(hint):
        if isinstance(inner, type | types.GenericAlias | types.UnionType) or typing.get_origin(inner):
            struct, is_moment = _meaning(inner)
            if struct or is_moment:
                return struct, is_moment
    return None, False
