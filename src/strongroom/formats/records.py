"""Records: MessagePack with exactly one encoding, typed, bounded before it is believed.

Source: ``docs/reference/formats/conventions.md``, section *Records*.

Most records have the fields that their type has, in its order. Then one typed reading and one writing are
all there is to do: equal bytes show that the encoding is the allowed one and that nothing unknown is in it.
Only a record with other keys, or in another order, is read a second time to see whether it is merely new or
wrong.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Annotated, Any, Final, TypeVar

import msgspec

from strongroom.formats.errors import DamagedError, NewerFormatError, OutOfBoundsError

MAX_DEPTH: Final = 16
_ARRAY_32: Final = struct.Struct(">BI")
_MAX_REASON_CHARACTERS: Final = 200

Bytes8 = Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]
Bytes12 = Annotated[bytes, msgspec.Meta(min_length=12, max_length=12)]
Bytes16 = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
Bytes32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Bytes48 = Annotated[bytes, msgspec.Meta(min_length=48, max_length=48)]
MAX_INTEGER: Final = (1 << 63) - 1
Moment = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1, extra={"unit": "ns"})]
"""Nanoseconds since 1970."""
Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
StreamBytes = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]
RetentionSeconds = Annotated[int, msgspec.Meta(ge=0, le=1 << 33)]
Incarnation = Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]
"""Of a domain: raised by each restore of its primary."""
PolicyName = Annotated[str, msgspec.Meta(max_length=112, extra={"unit": "characters"})]
"""Name of a lifecycle policy; empty for none."""
GivenPolicyName = Annotated[str, msgspec.Meta(min_length=1, max_length=112, extra={"unit": "characters"})]
Number = Annotated[int, msgspec.Meta(ge=1, lt=1 << 32)]
"""A number that rises: of a certificate, a list, a generation."""
CopyNumber = Annotated[int, msgspec.Meta(ge=1, lt=1 << 16)]
Word = Annotated[str, msgspec.Meta(min_length=1, max_length=32)]
"""One of a page's words; a word that is not there yet is for the type to refuse as newer."""
Feature = Annotated[str, msgspec.Meta(max_length=64)]
Features = Annotated[tuple[Feature, ...], msgspec.Meta(max_length=64)]

T = TypeVar("T")
Ordered = TypeVar("Ordered", bytes, int)

_encoder = msgspec.msgpack.Encoder()
_plain = msgspec.msgpack.Decoder()
_decoders: dict[type, msgspec.msgpack.Decoder[Any]] = {}  # one for each type, made at its first use


class _Features(msgspec.Struct, frozen=True):
    features: Features = ()


def encode(value: object) -> bytes:
    """Write a record. Structs become maps (or arrays, if they say so) in the order of their fields."""
    return _encoder.encode(value)


def encode_checked(value: T, *, max_bytes: int, what: str) -> bytes:
    """Write a record, after making sure that a reader will take it.

    Raises:
        OutOfBoundsError: a field, or the whole, breaks a rule of its format.
    """
    try:
        data = _encoder.encode(value)
        decode(data, type(value), max_bytes=max_bytes, what=what)
    except (DamagedError, NewerFormatError, UnicodeEncodeError, OverflowError) as error:
        raise OutOfBoundsError(f"a {what} cannot say this: {_reason(error)}") from error
    return data


def decode(
    data: bytes | memoryview, kind: type[T], *, max_bytes: int, what: str, exact: bool = False, most: int = MAX_INTEGER
) -> T:
    """Read a record of a known type.

    Args:
        data: the whole record and nothing else.
        kind: a msgspec struct whose annotations carry the bounds of every field. Its ``__post_init__`` may
            refuse with ``ValueError`` what annotations cannot say, and with ``NewerFormatError`` what is
            not known yet.
        max_bytes: bound of the record's length.
        what: what is being read, for messages.
        exact: refuse unknown keys and any other order of keys than the type's.
        most: the largest integer that a field of the type may have.

    Raises:
        DamagedError: too long, not MessagePack, not in canonical form, or not of this type.
        NewerFormatError: the record needs a feature, or uses an id or a word, that this program does not
            have.
    """
    if len(data) > max_bytes:
        raise DamagedError(f"the {what} has {len(data)} bytes, more than the {max_bytes} that are allowed")
    try:
        value = _decoder(kind).decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # A later version may have changed the very field that does not fit.
        _refuse_features(_features_of(data), what)
        raise DamagedError(f"the {what} is not as its format says: {_reason(error)}") from error
    _check_texts(value, what)
    if _encoder.encode(value) != data:
        if exact:
            raise DamagedError(f"the {what} is not in its only allowed encoding")
        decode_plain(data, max_bytes=max_bytes, what=what, most=most)
    _refuse_features(getattr(value, "features", None), what)
    return value


def decode_list(bodies: list[bytes], kind: type[T]) -> list[T] | None:
    """Read many records of one type in one call.

    Args:
        bodies: the records, each of bounded length.
        kind: a msgspec struct without text, ``features`` or rules of its own beside its annotations.

    Returns:
        The records; ``None`` when :func:`decode` must look at each, because one may be against a rule.
    """
    found = decode_beginnings(bodies, kind)
    return found if found is not None and list(map(_encoder.encode, found)) == bodies else None


def decode_beginnings(bodies: list[bytes], kind: type[T]) -> list[T] | None:
    """Read the first elements of many arrays in one call; what follows them is looked at by nobody.

    Args:
        bodies: records that are arrays, each of bounded length.
        kind: a msgspec struct that is an array of fewer elements.

    Returns:
        The structs; ``None`` when an array is of another type.
    """
    try:
        found: list[T] = _decoder(list[kind]).decode(_ARRAY_32.pack(0xDD, len(bodies)) + b"".join(bodies))  # type: ignore[valid-type]
    except (msgspec.DecodeError, RecursionError):
        return None
    return found


def decode_plain(data: bytes | memoryview, *, max_bytes: int, what: str, most: int = MAX_INTEGER) -> object:
    """Read any record into plain values, known or not.

    Raises:
        DamagedError: too long, not MessagePack, nested too deeply, or not in canonical form.
    """
    if len(data) > max_bytes:
        raise DamagedError(f"the {what} has {len(data)} bytes, more than the {max_bytes} that are allowed")
    try:
        plain = _plain.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedError(f"the {what} is not a record: {_reason(error)}") from error
    _check_plain(plain, what, MAX_DEPTH, most)
    if _encoder.encode(plain) != data:
        raise DamagedError(f"the {what} is not in its only allowed encoding")
    return plain


def check_word(word: str, known: Collection[str], what: str) -> None:
    """Refuse a word that a later version may know.

    Raises:
        NewerFormatError: it is not one of the known words.
    """
    if word not in known:
        raise NewerFormatError(f"{what} {word!r} is not one that this program has")


def check_ascending(values: Sequence[Ordered], what: str) -> None:
    """Refuse values that do not rise from each to the next.

    Raises:
        ValueError: two are equal or out of order; :func:`decode` makes a ``DamagedError`` of it.
    """
    if not all(one < other for one, other in pairwise(values)):
        raise ValueError(f"'{what}' is not ascending")


def _decoder(kind: type[T]) -> msgspec.msgpack.Decoder[T]:
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.msgpack.Decoder(kind)
    return decoder


def _features_of(data: bytes | memoryview) -> Sequence[str]:
    try:
        return _decoder(_Features).decode(data).features
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ()


def _refuse_features(features: Sequence[str] | None, what: str) -> None:
    if features:
        raise NewerFormatError(f"the {what} needs the feature {features[0]!r}, which this program does not have")


def _check_plain(value: object, what: str, depth: int, most: int) -> None:
    """Refuse the types that records do not have, and deep nesting."""
    if isinstance(value, dict | list):
        if depth == 0:
            raise DamagedError(f"the {what} is nested too deeply")
        for key in value if isinstance(value, dict) else ():
            if not isinstance(key, str):
                raise DamagedError(f"the {what} has a key that is not text")
            _check_text(key, what)
        for item in value.values() if isinstance(value, dict) else value:
            _check_plain(item, what, depth - 1, most)
    elif isinstance(value, str):
        _check_text(value, what)
    elif isinstance(value, int):
        if not -(1 << 63) <= value <= most:
            raise DamagedError(f"the {what} has an integer beyond its range")
    elif value is not None and not isinstance(value, bytes):
        raise DamagedError(f"the {what} has a value of a type that records do not have: {type(value).__name__}")


class _Texts:
    """Where text stands in structs of one type: what annotations bound in code points, and formats in bytes.

    A bound counts bytes of UTF-8, unless the annotation says ``extra={"unit": "characters"}``.
    """

    def __init__(self, kind: type[msgspec.Struct]) -> None:
        self.own: list[tuple[str, int]] = []
        self.below: list[str] = []
        for field in msgspec.inspect.type_info(kind).fields:  # type: ignore[attr-defined]  # of a struct
            for alternative in _alternatives(field.type):
                found = alternative
                if isinstance(found, msgspec.inspect.StrType):
                    self.own.append((field.name, found.max_length or 0))
                elif isinstance(found, msgspec.inspect.Metadata) and isinstance(found.type, msgspec.inspect.StrType):
                    self.own.append((field.name, 0))
                if isinstance(found, msgspec.inspect.VarTupleType | msgspec.inspect.ListType):
                    found = found.item_type
                if isinstance(found, msgspec.inspect.StructType) and not _texts_of(found.cls).none:
                    self.below.append(field.name)

    @property
    def none(self) -> bool:
        """Whether there is no text, so that a long array of such structs need not be walked."""
        return not self.own and not self.below


_texts: dict[type, _Texts] = {}


def _texts_of(kind: type[msgspec.Struct]) -> _Texts:
    found = _texts.get(kind)
    if found is None:
        found = _texts[kind] = _Texts(kind)
    return found


def _alternatives(found: msgspec.inspect.Type) -> tuple[msgspec.inspect.Type, ...]:
    return found.types if isinstance(found, msgspec.inspect.UnionType) else (found,)


def _check_texts(value: object, what: str) -> None:
    """Refuse text that is too long in bytes, or has a zero byte, in a struct and what it holds."""
    if not isinstance(value, msgspec.Struct):
        return
    texts = _texts_of(type(value))
    for name, max_bytes in texts.own:
        text = getattr(value, name)
        if text is not None:
            _check_text(text, what, max_bytes)
    for name in texts.below:
        below = getattr(value, name)
        for item in below if isinstance(below, tuple | list) else (below,):
            _check_texts(item, what)


def _check_text(text: str, what: str, max_bytes: int = 0) -> None:
    """Refuse a zero byte, and more bytes than a bound; 0 is none."""
    if "\0" in text:
        raise DamagedError(f"the {what} has text with a zero byte in it")
    if max_bytes and not text.isascii() and len(text.encode("utf-8")) > max_bytes:
        raise DamagedError(f"the {what} has text of more than the {max_bytes} bytes that are allowed")


def _reason(error: Exception) -> str:
    """Say what a library found, without repeating much of hostile input."""
    return str(error)[:_MAX_REASON_CHARACTERS]
