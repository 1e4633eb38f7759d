"""The frame around everything that is signed and lasts.

Source: ``docs/reference/formats/signed-object.md`` and ``identity.md``. The domain id alone checks an object.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Final, Generic, Protocol, TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from strongroom.core.ids import DomainId
from strongroom.formats import ed25519, records
from strongroom.formats.algorithms import Signature, known, label
from strongroom.formats.errors import DamagedError, ForeignError, SignatureError
from strongroom.formats.magic import check_magic
from strongroom.formats.records import Bytes32, Moment, Number

MAGIC_BYTES: Final = 8
MAX_SEAL_BYTES: Final = 2_048
MAX_CERTIFICATE_BYTES: Final = 1_024
_U32: Final = struct.Struct(">I")
_SIGNED_LABEL: Final = label("signed-object")
_DOMAIN_LABEL: Final = label("domain-id")


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """What every signed payload has: the domain that signed it."""

    domain: Bytes32


P = TypeVar("P", bound=Payload)


@dataclass(frozen=True)
class Kind(Generic[P]):
    """One kind of signed object: its magic, its bound, its payload, and which key signs it."""

    magic: bytes
    payload: type[P]
    max_payload_bytes: int
    what: str
    by_root: bool = False

    @property
    def max_bytes(self) -> int:
        """Bound of a whole object of this kind."""
        return MAGIC_BYTES + 8 + self.max_payload_bytes + MAX_SEAL_BYTES


class ArchiveCertificate(Payload, frozen=True, kw_only=True):
    """Says which key signs what lasts; made by the root key."""

    number: Number
    alg: int
    key: Bytes32
    # ``from`` is a word of the language
    issued: Moment = msgspec.field(name="from")

    def __post_init__(self) -> None:
        known(Signature, self.alg, "signature algorithm")


ARCHIVE_CERTIFICATE: Final = Kind(b"SRARCC01", ArchiveCertificate, 512, "archive certificate", by_root=True)


class _Seal(msgspec.Struct, frozen=True, kw_only=True):
    alg: int
    root: Bytes32
    cert: Annotated[bytes, msgspec.Meta(max_length=MAX_CERTIFICATE_BYTES)] | None
    sig: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]

    def __post_init__(self) -> None:
        known(Signature, self.alg, "signature algorithm")


class Signer(Protocol):
    """Who can sign for a domain: the root key (no certificate) or an archive key (with its certificate)."""

    @property
    def root_public_key(self) -> bytes:
        """The domain's root public key, 32 bytes."""

    @property
    def certificate(self) -> bytes | None:
        """The whole archive certificate object, or ``None`` for the root key."""

    def sign(self, message: bytes) -> bytes:
        """Sign with Ed25519; 64 bytes."""


@dataclass(frozen=True)
class Verified(Generic[P]):
    """A checked object: who signed it, and what it says."""

    payload: P
    signer: DomainId
    root: bytes
    archive_number: int | None
    data: bytes


def domain_id_of(root_public_key: bytes, algorithm: int = Signature.ED25519) -> DomainId:
    """Compute a domain id from its root public key."""
    return DomainId(hashlib.sha256(_DOMAIN_LABEL + bytes((algorithm,)) + root_public_key).digest())


@dataclass(frozen=True)
class _Authority:
    """A key that may sign, and for whom; made once for each certificate."""

    signer: DomainId
    key: Ed25519PublicKey
    archive_number: int | None
    bound: bytes


def sign(kind: Kind[P], payload: P, signer: Signer) -> bytes:
    """Make a signed object.

    Raises:
        OutOfBoundsError: a field of the payload breaks a rule of its format.
        ValueError: the signer is not of the sort that this kind needs, or the payload names another domain:
            mistakes of the caller, never of data.
    """
    if (signer.certificate is None) != kind.by_root:
        raise ValueError(f"the {kind.what} is not signed by this sort of key")
    if payload.domain != domain_id_of(signer.root_public_key):
        raise ValueError(f"the {kind.what} names another domain than its signer's")
    body = records.encode_checked(payload, max_bytes=kind.max_payload_bytes, what=kind.what)
    front = kind.magic + _U32.pack(len(body)) + body
    signature = signer.sign(_message(front, _bound(signer.certificate)))
    seal = records.encode_checked(
        _Seal(alg=Signature.ED25519, root=signer.root_public_key, cert=signer.certificate, sig=signature),
        max_bytes=MAX_SEAL_BYTES,
        what=f"seal of the {kind.what}",
    )
    return front + _U32.pack(len(seal)) + seal


def verify(kind: Kind[P], data: bytes, *, pinned: DomainId | None = None) -> Verified[P]:
    """Check a signed object and give its payload.

    Whether the certificate was revoked is another question:
    :func:`strongroom.formats.identity.check_revocation`.

    Args:
        kind: what it must be.
        data: the whole object and nothing behind it.
        pinned: the domain that must have signed it; ``None`` accepts any, and the caller compares the signer.

    Raises:
        DamagedError: cut, changed or malformed.
        SignatureError: the signature or the certificate does not hold.
        NewerFormatError: a later version, algorithm or feature.
        ForeignError: authentic, and signed by another domain than the pinned one.
    """
    seal_at = _seal_offset(kind, data)
    front = data[:seal_at]
    # Nothing signs the seal, so nothing in it may be free: else one object could have many digests.
    seal = records.decode(
        data[seal_at + 4 :], _Seal, max_bytes=MAX_SEAL_BYTES, what=f"seal of the {kind.what}", exact=True
    )
    if (seal.cert is None) != kind.by_root:
        raise SignatureError(f"the {kind.what} is signed by the wrong sort of key")
    authority = _root_authority(seal.root) if seal.cert is None else _archive_authority(seal.cert, seal.root)
    try:
        authority.key.verify(seal.sig, _message(front, authority.bound))
    except InvalidSignature as error:
        raise SignatureError(f"the signature of the {kind.what} does not hold") from error
    payload = records.decode(front[MAGIC_BYTES + 4 :], kind.payload, max_bytes=kind.max_payload_bytes, what=kind.what)
    if payload.domain != authority.signer:
        raise SignatureError(
            f"the {kind.what} names the domain {payload.domain.hex()}, and {authority.signer.hex()} signed it"
        )
    if pinned is not None and authority.signer != pinned:
        raise ForeignError(f"the {kind.what} belongs to the domain {authority.signer.hex()}, not to {pinned.hex()}")
    return Verified(payload, authority.signer, seal.root, authority.archive_number, data)


def length_at(kind: Kind[P], data: bytes | memoryview, offset: int = 0) -> int:
    """Tell how long the object is that begins at ``offset``, from its length fields alone.

    Raises:
        DamagedError: not an object of this kind, or its lengths go beyond its bounds or the data.
        NewerFormatError: a later version of this kind.
    """
    check_magic(bytes(data[offset : offset + MAGIC_BYTES]), kind.magic, f"the {kind.what}")
    payload_length = _length_field(data, offset + MAGIC_BYTES, kind.max_payload_bytes, kind.what)
    seal_at = MAGIC_BYTES + 4 + payload_length
    seal_length = _length_field(data, offset + seal_at, MAX_SEAL_BYTES, f"seal of the {kind.what}")
    return seal_at + 4 + seal_length


def _seal_offset(kind: Kind[P], data: bytes) -> int:
    """Tell where the length of the seal stands, after checking that the lengths fill the data exactly."""
    if length_at(kind, data) != len(data):
        raise DamagedError(f"something follows the {kind.what}")
    (payload_length,) = _U32.unpack_from(data, MAGIC_BYTES)
    return MAGIC_BYTES + 4 + int(payload_length)


def _length_field(data: bytes | memoryview, offset: int, bound: int, what: str) -> int:
    """Read a length; refuse one that goes beyond its bound or behind the end of the data."""
    if len(data) < offset + 4:
        raise DamagedError(f"the {what} is cut short")
    (length,) = _U32.unpack_from(data, offset)
    if length > bound:
        raise DamagedError(f"the {what} claims {length} bytes, more than the {bound} that are allowed")
    if len(data) < offset + 4 + length:
        raise DamagedError(f"the {what} is cut short")
    return int(length)


def _message(front: bytes, bound: bytes) -> bytes:
    return b"".join((_SIGNED_LABEL, front, bound))


def _bound(certificate: bytes | None) -> bytes:
    """Give what ties a signature to its certificate."""
    return bytes(32) if certificate is None else hashlib.sha256(certificate).digest()


def _root_authority(root: bytes) -> _Authority:
    return _Authority(domain_id_of(root), _public_key(root), None, _bound(None))


# All objects of a domain carry one of few certificates. Only what is right is kept, and not much of it, so
# hostile certificates can cost time and nothing else.
@lru_cache(maxsize=256)
def _archive_authority(certificate: bytes, root: bytes) -> _Authority:
    """Check an archive certificate against the root key that the seal beside it names."""
    verified = verify(ARCHIVE_CERTIFICATE, certificate)
    if verified.signer != domain_id_of(root):
        raise SignatureError("the archive certificate belongs to another root key than the seal names")
    return _Authority(verified.signer, _public_key(verified.payload.key), verified.payload.number, _bound(certificate))


def _public_key(data: bytes) -> Ed25519PublicKey:
    try:
        return ed25519.public_key(data)
    except ValueError as error:
        raise SignatureError(str(error)) from error
