"""Messages of a replication session, between a sending and a receiving media server.

Source: ``docs/reference/protocols/replication.md``. A message is a u32 length, a record of that length, and a body.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Annotated, Final, Literal

import msgspec

from strongroom.formats import records
from strongroom.formats.errors import DamagedError
from strongroom.formats.records import Bytes16, Bytes32, Count

VERSION: Final = 1
MAX_RECORD_BYTES: Final = 512 << 10
MAX_BODY_BYTES: Final = (8 << 20) + (256 << 10)
MAX_MESSAGE_BYTES: Final = 4 + MAX_RECORD_BYTES + MAX_BODY_BYTES
MAX_PAGES_ASKED: Final = 1_024
MAX_ENVELOPES_ASKED: Final = 4_096
MAX_FRAMES_OF_A_PAGE: Final = 1_024
_U32: Final = struct.Struct(">I")

Role = Literal["sender", "receiver"]
_Lengths = Annotated[list[Annotated[int, msgspec.Meta(ge=1, le=MAX_BODY_BYTES)]], msgspec.Meta(max_length=8_192)]


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """What every message has: its type."""


class Hello(Message, frozen=True, kw_only=True, tag="hello"):
    """Who speaks, and what it understands; the first message of both."""

    versions: Annotated[list[Count], msgspec.Meta(max_length=16)]
    role: Role
    domain: Bytes32
    capabilities: Annotated[list[Annotated[str, msgspec.Meta(max_length=64)]], msgspec.Meta(max_length=64)]


class Offer(Message, frozen=True, kw_only=True, tag="offer"):
    """The image that the sender would send. Body: the hop, then the sender's copy header, whole."""

    credential: Bytes16
    secret: Bytes32
    sending: Bytes16


class Accept(Message, frozen=True, kw_only=True, tag="accept"):
    """The receiver takes the image."""

    session: Bytes16


class WantEnvelopes(Message, frozen=True, kw_only=True, tag="want-envelopes"):
    """Key envelopes that the receiver lacks."""

    envelopes: Annotated[list[Bytes16], msgspec.Meta(min_length=1, max_length=MAX_ENVELOPES_ASKED)]


class Envelopes(Message, frozen=True, kw_only=True, tag="envelopes"):
    """Key envelopes in the order asked for; a long answer comes in several messages."""

    lengths: _Lengths


class WantPages(Message, frozen=True, kw_only=True, tag="want-pages"):
    """Key pages or manifest pages that the receiver lacks."""

    pages: Annotated[list[Bytes32], msgspec.Meta(min_length=1, max_length=MAX_PAGES_ASKED)]


class Pages(Message, frozen=True, kw_only=True, tag="pages"):
    """Pages in the order asked for; a long answer comes in several messages."""

    lengths: _Lengths


class FramesOfPage(msgspec.Struct, frozen=True, kw_only=True):
    """Frames of one leaf page, by a bit each."""

    page: Bytes32
    map: Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_FRAMES_OF_A_PAGE // 8)]


class WantFrames(Message, frozen=True, kw_only=True, tag="want-frames"):
    """Frames that the receiver lacks."""

    frames: Annotated[list[FramesOfPage], msgspec.Meta(min_length=1, max_length=1_024)]


class Frames(Message, frozen=True, kw_only=True, tag="frames"):
    """Frames in the order asked for; a long answer comes in several messages."""

    lengths: _Lengths


class Stored(Message, frozen=True, kw_only=True, tag="stored"):
    """Everything is on stable storage at the receiver, its own copy header too."""


class ReceiptMessage(Message, frozen=True, kw_only=True, tag="receipt"):
    """The receipt, whole, as the body."""


class Progress(Message, frozen=True, kw_only=True, tag="progress"):
    """How far the speaker is."""

    bytes: Count
    total: Count


class Error(Message, frozen=True, kw_only=True, tag="error"):
    """The session ends; the last message of the speaker."""

    code: Annotated[str, msgspec.Meta(max_length=64)]
    message: Annotated[str, msgspec.Meta(max_length=2_048)]
    hint: Annotated[str, msgspec.Meta(max_length=1_024)]
    retry: Literal["never", "later"]


AnyMessage = (
    Hello
    | Offer
    | Accept
    | WantEnvelopes
    | Envelopes
    | WantPages
    | Pages
    | WantFrames
    | Frames
    | Stored
    | ReceiptMessage
    | Progress
    | Error
)


def encode(message: AnyMessage, body: Sequence[bytes] = ()) -> bytes:
    """Write a message; the body is given in pieces and joined once."""
    record = records.encode(message)
    return b"".join((_U32.pack(len(record)), record, *body))


def decode(data: bytes) -> tuple[AnyMessage, memoryview]:
    """Read a message and its body.

    Raises:
        DamagedError: cut, too long, of an unknown type, or malformed.
    """
    if len(data) > MAX_MESSAGE_BYTES or len(data) < 4:
        raise DamagedError(f"a replication message of {len(data)} bytes is not allowed")
    (length,) = _U32.unpack_from(data)
    view = memoryview(data)
    if length > MAX_RECORD_BYTES or 4 + length > len(data):
        raise DamagedError("the record of a replication message is cut short or too long")
    message: AnyMessage = records.decode(
        bytes(view[4 : 4 + length]),
        AnyMessage,  # type: ignore[arg-type]  # msgspec takes unions, which mypy does not call a type
        max_bytes=MAX_RECORD_BYTES,
        what="replication message",
    )
    return message, view[4 + length :]


def cut(body: memoryview, lengths: Sequence[int]) -> list[bytes]:
    """Cut a body into the objects whose lengths the message states.

    Raises:
        DamagedError: the lengths do not add up to the body.
    """
    if sum(lengths) != len(body):
        raise DamagedError("the lengths in a replication message do not add up to its body")
    objects = []
    at = 0
    for length in lengths:
        objects.append(bytes(body[at : at + length]))
        at += length
    return objects


def bit_map(indexes: Sequence[int], count: int) -> bytes:
    """Write which of ``count`` frames are meant: bit *i mod 8*, lowest first, of byte *i div 8*."""
    bits = bytearray((count + 7) // 8)
    for index in indexes:
        bits[index >> 3] |= 1 << (index & 7)
    return bytes(bits)


def indexes_of(bits: bytes, count: int) -> list[int]:
    """Read which of ``count`` frames are meant.

    Raises:
        DamagedError: a bit behind the last frame is set, or the map has another length than ``count`` needs.
    """
    if len(bits) != (count + 7) // 8:
        raise DamagedError("a map of frames has another length than its page needs")
    found = [index for index in range(len(bits) * 8) if bits[index >> 3] >> (index & 7) & 1]
    if found and found[-1] >= count:
        raise DamagedError("a map of frames names a frame that its page does not have")
    return found
