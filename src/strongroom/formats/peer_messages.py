"""What primaries of two domains say to each other.

Source: ``docs/reference/protocols/peer.md``. Changes are additive: unknown keys are ignored, an unknown kind of
message is answered with ``unknown``, and no reader depends on the order of keys. Bodies of messages travel as bytes,
so that a message that this program does not know cannot spoil the others beside it.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeVar

import msgspec

from strongroom.formats import records
from strongroom.formats.domain_statement import DOMAIN_STATEMENT, PeerAddress, Root
from strongroom.formats.receipt import RECEIPT
from strongroom.formats.records import Bytes16, Count, Moment
from strongroom.formats.trust_binding import TRUST_BINDING

VERSION: Final = 1
CONTENT_TYPE: Final = "application/vnd.strongroom.record"
MAX_RECORD_BYTES: Final = 1 << 20
MAX_INTRODUCTION_BYTES: Final = 256 << 10
MAX_MESSAGES: Final = 256
MAX_BODY_BYTES: Final = 72 << 10
"""A whole receipt fits, whose payload may have 64 KiB."""
MAX_DONE: Final = 1_024
MAX_TOKEN_BYTES: Final = 256
MAX_DER_BYTES: Final = 16 << 10
MAX_SLP_NAME: Final = 112
SPEAKER_RESERVE_BYTES: Final = 160 << 10
"""What a record may need beside its messages: a statement, ``done``, capabilities."""

Whole = Annotated[bytes, msgspec.Meta(max_length=DOMAIN_STATEMENT.max_bytes)]
Der = Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_DER_BYTES)]
Rising = Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]
Version = Annotated[int, msgspec.Meta(ge=1, lt=1 << 16)]
Word = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Text = Annotated[str, msgspec.Meta(max_length=1_024)]


class DomainRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of ``GET /v1/domain``: who the domain is, and what time it thinks it is."""

    roots: Annotated[tuple[Root, ...], msgspec.Meta(min_length=1, max_length=4)]
    statement: Whole
    time: Moment


class TrustRequest(msgspec.Struct, frozen=True, kw_only=True):
    """``POST /v1/trust``: one domain adds another."""

    version: Version
    token: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TOKEN_BYTES)]
    statement: Whole
    request: Der
    binding: Annotated[bytes, msgspec.Meta(max_length=TRUST_BINDING.max_bytes)]

    def __repr__(self) -> str:
        return f"TrustRequest(version={self.version}, token=***)"


class TrustAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to it: the certificate, and what the called domain's administrator has decided so far."""

    nonce: Bytes16
    chain: Annotated[tuple[Der, ...], msgspec.Meta(min_length=1, max_length=4)]
    statement: Whole
    state: Word
    number: Count


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message; ``re`` names the one that it answers."""

    id: Bytes16
    kind: Word
    re: Bytes16 | None
    body: Annotated[bytes, msgspec.Meta(max_length=MAX_BODY_BYTES)]


class ExchangeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Request and answer of ``POST /v1/exchange``."""

    version: Version
    capabilities: Annotated[tuple[Word, ...], msgspec.Meta(max_length=64)]
    incarnation: Rising
    start: Rising
    instance: Bytes16
    state: Word
    number: Count
    statement: Whole
    messages: Annotated[tuple[Message, ...], msgspec.Meta(max_length=MAX_MESSAGES)]
    done: Annotated[tuple[Bytes16, ...], msgspec.Meta(max_length=MAX_DONE)]
    newer: Bytes16 | None = None


class ErrorRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request was refused; to a known primary with what the speaker's administrator has decided about it."""

    code: Word
    message: Text
    hint: Text
    retry: Word
    state: Word | None = None
    number: Count | None = None
    newer: Bytes16 | None = None


# ---------------------------------------------------------------- bodies of messages


class Empty(msgspec.Struct, frozen=True, kw_only=True):
    """Body of a message that says everything by its kind."""


class TrustCheck(msgspec.Struct, frozen=True, kw_only=True):
    """``trust.check``: how does it look from there?"""

    time: Moment


class TrustChecked(msgspec.Struct, frozen=True, kw_only=True):
    """``trust.checked``: what the other holds of the asker."""

    time: Moment
    state: Word
    crl: Count


class StorageServer(msgspec.Struct, frozen=True, kw_only=True):
    """One pool that images may be sent to."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    medium: Bytes16
    media: Annotated[tuple[PeerAddress, ...], msgspec.Meta(max_length=64)]


class StorageListed(msgspec.Struct, frozen=True, kw_only=True):
    """``storage.listed``."""

    servers: Annotated[tuple[StorageServer, ...], msgspec.Meta(max_length=256)]


class SLPCheck(msgspec.Struct, frozen=True, kw_only=True):
    """``slp.check``: is there an import SLP of this name?"""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_SLP_NAME)]


class SLPChecked(msgspec.Struct, frozen=True, kw_only=True):
    """``slp.checked``."""

    exists: bool
    active: bool
    data_class: Annotated[str, msgspec.Meta(max_length=128)]


class ImageReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """``image.receipt``: a whole receipt object."""

    receipt: Annotated[bytes, msgspec.Meta(max_length=RECEIPT.max_bytes)]


class ImagePending(msgspec.Struct, frozen=True, kw_only=True):
    """``image.pending``: receipts that the speaker still waits for."""

    sending: Annotated[tuple[Bytes16, ...], msgspec.Meta(max_length=1_024)]


class Unknown(msgspec.Struct, frozen=True, kw_only=True):
    """``unknown``: the speaker does not know this kind."""

    kind: Word


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """``refused``: the speaker knows this kind, and does not do it."""

    kind: Word
    code: Word
    message: Text
    hint: Text


KINDS: Final[dict[str, type[msgspec.Struct]]] = {
    "trust.check": TrustCheck,
    "trust.checked": TrustChecked,
    "storage.list": Empty,
    "storage.listed": StorageListed,
    "slp.check": SLPCheck,
    "slp.checked": SLPChecked,
    "image.receipt": ImageReceipt,
    "image.pending": ImagePending,
    "unknown": Unknown,
    "refused": Refused,
}
"""The kinds of version 1 and their bodies."""

T = TypeVar("T", bound=msgspec.Struct)

_BOUNDS: Final[dict[type[msgspec.Struct], tuple[int, str]]] = {
    DomainRecord: (MAX_INTRODUCTION_BYTES, "domain record"),
    TrustRequest: (MAX_INTRODUCTION_BYTES, "trust request"),
    TrustAnswer: (MAX_INTRODUCTION_BYTES, "trust answer"),
    ExchangeRecord: (MAX_RECORD_BYTES, "exchange record"),
    ErrorRecord: (16 << 10, "error record"),
    **{body: (MAX_BODY_BYTES, f"body of '{kind}'") for kind, body in KINDS.items()},
}


def encode(message: msgspec.Struct) -> bytes:
    """Write a record, after making sure that a reader will take it.

    Raises:
        OutOfBoundsError: a field, or the whole, breaks a rule.
    """
    bound, what = _BOUNDS[type(message)]
    return records.encode_checked(message, max_bytes=bound, what=what)


def decode(data: bytes, kind: type[T]) -> T:
    """Read a record of a known type from anywhere.

    Raises:
        DamagedError: too long, malformed, or not of this type.
    """
    bound, what = _BOUNDS[kind]
    return records.decode(data, kind, max_bytes=bound, what=what)


def message_size(message: Message) -> int:
    """Tell at most how many bytes a message takes in a record."""
    return len(message.body) + len(message.kind.encode()) + 96
