"""Retention locks of a pool: the objects that say what may not go before when, how strictly, and what time it is.

Source: ``docs/reference/formats/locks.md``. They are not signed: a media server has no key to sign with, and whoever
can write them could as well remove what they lock. Their digest shows damage.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from strongroom.core.ids import DIGEST_BYTES
from strongroom.formats import records
from strongroom.formats.algorithms import digest
from strongroom.formats.errors import DamagedError
from strongroom.formats.magic import check_magic
from strongroom.formats.records import Bytes16, Features, Moment, Number, Word, check_ascending, check_word

MAGIC_BYTES: Final = 8
HEAD_BYTES: Final = MAGIC_BYTES + 4
MOST_CONTAINERS: Final = 16_384
MOST_OBJECTS: Final = 4_096
MOST_ROUNDING_DAYS: Final = 366
LAST_NS: Final = (1 << 63) - 1
"""A lock until then never ends."""

Key = Annotated[str, msgspec.Meta(min_length=1, max_length=160)]


class LockMode(IntEnum):
    """How strictly a pool's locks hold; a higher one is stricter."""

    NONE = 0
    GOVERNANCE = 1
    COMPLIANCE = 2

    @property
    def word(self) -> str:
        """Give it as it is written."""
        return self.name.lower()


MODES: Final = {mode.word: mode for mode in LockMode}


class ModeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """From now on a pool locks what is stored in it."""

    medium: Bytes16
    number: Number
    mode: Word
    rounding_days: Annotated[int, msgspec.Meta(ge=1, le=MOST_ROUNDING_DAYS)]
    at: Moment
    features: Features

    def __post_init__(self) -> None:
        check_word(self.mode, MODES.keys() - {LockMode.NONE.word}, "the lock mode")


class ClockRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The lock clock was at this time."""

    medium: Bytes16
    at: Moment
    features: Features


class LockRecord(msgspec.Struct, frozen=True, kw_only=True):
    """These objects may not go before a time of the lock clock."""

    medium: Bytes16
    at: Moment
    until: Moment
    containers: Annotated[tuple[Bytes16, ...], msgspec.Meta(max_length=MOST_CONTAINERS)]
    objects: Annotated[tuple[Key, ...], msgspec.Meta(max_length=MOST_OBJECTS)]
    features: Features

    def __post_init__(self) -> None:
        check_ascending(self.containers, "containers")
        check_ascending([key.encode() for key in self.objects], "objects")
        if not self.containers and not self.objects:
            raise ValueError("a lock names nothing")


P = TypeVar("P", ModeRecord, ClockRecord, LockRecord)


class Kind(NamedTuple, Generic[P]):
    """One kind of these objects: its magic, its record, the bound of its length, and what people call it."""

    magic: bytes
    payload: type[P]
    max_bytes: int
    what: str


MODE: Final = Kind(b"SRLMOD01", ModeRecord, 512, "lock mode")
CLOCK: Final = Kind(b"SRLCLK01", ClockRecord, 512, "lock clock")
LOCK: Final = Kind(b"SRLOCK01", LockRecord, 1 << 20, "lock record")
KINDS: Final[tuple[Kind[Any], ...]] = (MODE, CLOCK, LOCK)


def encode(kind: Kind[P], payload: P) -> bytes:
    """Write an object.

    Raises:
        OutOfBoundsError: a field breaks a rule of its format.
    """
    body = records.encode_checked(payload, max_bytes=kind.max_bytes, what=kind.what)
    data = kind.magic + len(body).to_bytes(HEAD_BYTES - MAGIC_BYTES, "big") + body
    return data + digest(data)


def length_at(kind: Kind[Any], data: bytes) -> int:
    """Tell an object's whole length from its first 12 bytes, its bound checked.

    Raises:
        DamagedError: it is not of this kind, or longer than it can be.
        NewerFormatError: a later version.
    """
    check_magic(data[:MAGIC_BYTES], kind.magic, f"the {kind.what}")
    length = HEAD_BYTES + int.from_bytes(data[MAGIC_BYTES:HEAD_BYTES], "big") + DIGEST_BYTES
    if length > kind.max_bytes:
        raise DamagedError(f"the {kind.what} is longer than the {kind.max_bytes} bytes that are allowed")
    return length


def decode(kind: Kind[P], data: bytes) -> P:
    """Read an object.

    Raises:
        DamagedError: too long, cut short, changed, or not as its format says.
        NewerFormatError: a later version.
    """
    if len(data) != length_at(kind, data):
        raise DamagedError(f"the {kind.what} has not the length that it says")
    end = len(data) - DIGEST_BYTES
    if digest(data[:end]) != data[end:]:
        raise DamagedError(f"the {kind.what} has another digest")
    return records.decode(data[HEAD_BYTES:end], kind.payload, max_bytes=kind.max_bytes, what=kind.what)
