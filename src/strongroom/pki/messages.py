"""What a host and a primary say to each other before they know each other; JSON, bounded.

Specified in ``docs/reference/protocols/enrolment.md``. Unknown fields are ignored, so that neighbouring
releases understand each other.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeVar

import msgspec

PRODUCT: Final = "strongroom"
MAX_MESSAGE_BYTES: Final = 262_144
CA_PATH: Final = "/v1/ca"
ENROL_PATH: Final = "/v1/enrol"
RENEW_PATH: Final = "/v1/renew"
REISSUE_PATH: Final = "/v1/reissue"
CRL_PATH: Final = "/v1/crl"

Name = Annotated[str, msgspec.Meta(max_length=253)]
Der = Annotated[bytes, msgspec.Meta(max_length=16_384)]
Hex32 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
HostUUID = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]


class CADocument(msgspec.Struct, frozen=True, kw_only=True):
    """The roots and issuers of a domain; public, and believed by nobody before the pin was compared."""

    product: str
    domain: Hex32
    name: Name
    roots: Annotated[list[Der], msgspec.Meta(min_length=1, max_length=4)]
    issuers: Annotated[list[Der], msgspec.Meta(max_length=8)]
    time: int


class EnrolRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A host asks for its certificate; the token is worth what it admits to, so this never shows itself."""

    token: Annotated[str, msgspec.Meta(max_length=128)]
    request: Der
    role: Annotated[str, msgspec.Meta(max_length=32)]
    label: Name
    names: Annotated[list[Name], msgspec.Meta(max_length=32)] = []
    home: Hex32 | None = None
    host: HostUUID | None = None

    def __repr__(self) -> str:
        return f"EnrolRequest(token=***, role={self.role!r}, label={self.label!r})"


class RenewRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A host asks for its next certificate over a connection that its present one secures."""

    request: Der


class ReissueRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A host that lost its certificate or its key asks for another one, as the host that it was."""

    token: Annotated[str, msgspec.Meta(max_length=128)]
    request: Der
    home: Hex32
    host: HostUUID

    def __repr__(self) -> str:
        return f"ReissueRequest(token=***, host={self.host!r})"


class IssuedDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to all three: a chain without the root, the host's own certificate first."""

    home: Hex32
    host: HostUUID
    chain: Annotated[list[Der], msgspec.Meta(min_length=1, max_length=4)]


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Why it was refused, in the form of RFC 9457 with our code and cure."""

    code: Annotated[str, msgspec.Meta(max_length=64)]
    detail: Annotated[str, msgspec.Meta(max_length=1024)] = ""
    hint: Annotated[str, msgspec.Meta(max_length=1024)] = ""


M = TypeVar("M")


def encode(message: msgspec.Struct) -> bytes:
    """Write a message."""
    return msgspec.json.encode(message)


def decode(data: bytes, kind: type[M]) -> M:
    """Read a message.

    Raises:
        msgspec.DecodeError: too long, not JSON, or not this message; the caller knows whose fault that is.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        raise msgspec.DecodeError(f"a message of {len(data)} bytes is too long")
    return msgspec.json.decode(data, type=kind)
