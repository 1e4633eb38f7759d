"""Records: MessagePack with exactly one encoding, typed, bounded before it is believed.

Source: ``docs/reference/formats/conventions.md``, section *Records*.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeVar

import msgspec

from strongroom.formats.errors import DamagedError, NewerFormatError

MAX_DEPTH: Final = 16

Bytes12 = Annotated[bytes, msgspec.Meta(min_length=12, max_length=12)]
Bytes16 = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
Bytes32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Moment = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
"""Nanoseconds since 1970."""
Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
Features = Annotated[list[Annotated[str, msgspec.Meta(max_length=64)]], msgspec.Meta(max_length=64)]

T = TypeVar("T")

_encoder = msgspec.msgpack.Encoder()
_plain = msgspec.msgpack.Decoder()


def encode(value: object) -> bytes:
    """Write a record. Structs become maps (or arrays, if they say so) in the order of their fields."""
    return _encoder.encode(value)


def decode(data: bytes | memoryview, kind: type[T], *, max_bytes: int, what: str) -> T:
    """Read a record of a known type.

    Args:
        data: the whole record and nothing else.
        kind: a msgspec struct whose annotations carry the bounds of every field.
        max_bytes: bound of the record's length.
        what: what is being read, for messages.

    Raises:
        DamagedError: too long, not MessagePack, not in canonical form, or not of this type.
        NewerFormatError: the record needs a feature that this program does not have.
    """
    if len(data) > max_bytes:
        raise DamagedError(f"{what} has {len(data)} bytes, more than the {max_bytes} that are allowed")
    try:
        plain = _plain.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise DamagedError(f"{what} is not a record: {error}") from error
    _check_plain(plain, what, MAX_DEPTH)
    if _encoder.encode(plain) != data:
        raise DamagedError(f"{what} is not in its only allowed encoding")
    _check_features(plain, what)
    try:
        return msgspec.convert(plain, kind, strict=True)
    except msgspec.ValidationError as error:
        raise DamagedError(f"{what} does not have its fields: {error}") from error


def _check_plain(value: object, what: str, depth: int) -> None:
    """Refuse the types that records do not have, and deep nesting."""
    if depth == 0:
        raise DamagedError(f"{what} is nested too deeply")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise DamagedError(f"{what} has a key that is not text")
            _check_plain(item, what, depth - 1)
    elif isinstance(value, list):
        for item in value:
            _check_plain(item, what, depth - 1)
    elif value is not None and not isinstance(value, bool | int | str | bytes):
        raise DamagedError(f"{what} has a value of a type that records do not have: {type(value).__name__}")


def _check_features(plain: object, what: str) -> None:
    """Refuse features that this program lacks, before the typed reading can call them damage."""
    features = plain.get("features") if isinstance(plain, dict) else None
    if isinstance(features, list) and features:
        raise NewerFormatError(f"{what} needs the feature {features[0]!r}, which this program does not have")
