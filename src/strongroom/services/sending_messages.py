"""What a primary and its media server say of images on their way to or from another domain.

As in ``services.messages``, unknown keys are ignored and new keys have defaults.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from strongroom.formats.copy_header import COPY_HEADER
from strongroom.formats.hop import HOP
from strongroom.formats.records import Bytes16, Bytes32, Count
from strongroom.services.messages import Text

_Secret32 = Bytes32


class LimitSending(msgspec.Struct, frozen=True, kw_only=True):
    """How fast images may leave, all sessions together; 0 lets them wait, nil is no limit."""

    bytes_per_second: Count | None


class SendImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image is to be sent to another domain."""

    job: Count
    medium: Bytes16
    image: Bytes16
    copy: Count
    to: Bytes32
    addresses: list[Text]
    roots: list[bytes]
    credential: Bytes16
    secret: _Secret32
    sending: Bytes16
    hop: Annotated[bytes, msgspec.Meta(max_length=HOP.max_bytes)]

    def __repr__(self) -> str:
        return f"SendImage(job={self.job}, ***)"


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """An image was stored at the target."""

    frames: Count
    frame_bytes: Count
    pages: Count
    receipt: bytes | None


class SendUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of the answer to *send-image*: how far it is; the last one has the outcome."""

    bytes: Count = 0
    frames: Count = 0
    sent: Sent | None = None
    document: dict[str, object] | None = None


class Receive(msgspec.Struct, frozen=True, kw_only=True):
    """Another domain's media server offers an image."""

    sender: Bytes32
    host: Bytes16
    credential: Bytes16
    secret: _Secret32
    sending: Bytes16
    hop: Annotated[bytes, msgspec.Meta(max_length=HOP.max_bytes)]
    copy_header: Annotated[bytes, msgspec.Meta(max_length=COPY_HEADER.max_bytes)]

    def __repr__(self) -> str:
        return "Receive(***)"


class Receiving(msgspec.Struct, frozen=True, kw_only=True):
    """The image may come."""

    session: Bytes16
    medium: Bytes16


class CommitReceived(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of a received image is on stable storage but its fragment."""

    session: Bytes16
    tags: list[Bytes32]
    frames: Count
    frame_bytes: Count
    followed: Count = 0


class WrittenAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The image is acknowledged; with a receipt if one could be given at once."""

    receipt: bytes | None = None
