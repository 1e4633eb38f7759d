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
from strongroom.formats import records
from strongroom.formats.algorithms import Signature, label
from strongroom.formats.errors import DamagedError, ForeignError, NewerFormatError, SignatureError
from strongroom.formats.records import Bytes32, Moment

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

    number: Annotated[int, msgspec.Meta(ge=1, lt=1 << 32)]
    alg: int
    key: Bytes32
    # ``from`` is a word of the language
    issued: Moment = msgspec.field(name="from")


ARCHIVE_CERTIFICATE: Final = Kind(b"SRARCC01", ArchiveCertificate, 512, "archive certificate", by_root=True)


class _Seal(msgspec.Struct, frozen=True, kw_only=True):
    alg: int
    root: Bytes32
    cert: Annotated[bytes, msgspec.Meta(max_length=MAX_CERTIFICATE_BYTES)] | None
    sig: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]


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
    archive_number: int | None
    data: bytes


def domain_id_of(root_public_key: bytes, algorithm: int = Signature.ED25519) -> DomainId:
    """Compute a domain id from its root public key."""
    return DomainId(hashlib.sha256(_DOMAIN_LABEL + bytes((algorithm,)) + root_public_key).digest())


def sign(kind: Kind[P], payload: P, signer: Signer) -> bytes:
    """Make a signed object.

    Raises:
        ValueError: the signer is not of the sort that this kind needs, or the payload names another domain:
            mistakes of the caller, never of data.
    """
    if (signer.certificate is None) != kind.by_root:
        raise ValueError(f"{kind.what} is not signed by this sort of key")
    if payload.domain != domain_id_of(signer.root_public_key):
        raise ValueError(f"{kind.what} names another domain than its signer's")
    body = records.encode(payload)
    if len(body) > kind.max_payload_bytes:
        raise DamagedError(f"{kind.what} would have {len(body)} bytes, more than its bound {kind.max_payload_bytes}")
    front = kind.magic + _U32.pack(len(body)) + body
    signature = signer.sign(_message(front, signer.certificate))
    seal = records.encode(
        _Seal(alg=Signature.ED25519, root=signer.root_public_key, cert=signer.certificate, sig=signature)
    )
    return front + _U32.pack(len(seal)) + seal


def verify(kind: Kind[P], data: bytes, *, pinned: DomainId | None = None) -> Verified[P]:
    """Check a signed object and give its payload.

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
    front, seal_bytes = _split(kind, data)
    seal = records.decode(seal_bytes, _Seal, max_bytes=MAX_SEAL_BYTES, what=f"seal of the {kind.what}")
    if seal.alg != Signature.ED25519:
        raise NewerFormatError(f"{kind.what} is signed with algorithm {seal.alg}, which this program does not have")
    if (seal.cert is None) != kind.by_root:
        raise SignatureError(f"{kind.what} is signed by the wrong sort of key")
    signer = domain_id_of(seal.root, seal.alg)
    if seal.cert is None:
        key, number = seal.root, None
    else:
        certificate = _checked_certificate(seal.cert, seal.root)
        key, number = certificate.key, certificate.number
    _check_signature(key, seal.sig, _message(front, seal.cert), kind.what)
    payload = records.decode(front[MAGIC_BYTES + 4 :], kind.payload, max_bytes=kind.max_payload_bytes, what=kind.what)
    if payload.domain != signer:
        raise SignatureError(f"{kind.what} names the domain {payload.domain.hex()} and is signed by {signer.hex()}")
    if pinned is not None and signer != pinned:
        raise ForeignError(f"{kind.what} belongs to the domain {signer.hex()}, not to {pinned.hex()}")
    return Verified(payload, signer, number, data)


def length_at(kind: Kind[P], data: bytes | memoryview, offset: int = 0) -> int:
    """Tell how long the object is that begins at ``offset``, from its length fields alone.

    Raises:
        DamagedError: not an object of this kind, or its lengths go beyond its bounds or the data.
        NewerFormatError: a later version of this kind.
    """
    view = memoryview(data)[offset:]
    _check_magic(kind, bytes(view[:MAGIC_BYTES]))
    if len(view) < MAGIC_BYTES + 4:
        raise DamagedError(f"{kind.what} is cut short")
    (payload_length,) = _U32.unpack_from(view, MAGIC_BYTES)
    if payload_length > kind.max_payload_bytes:
        raise DamagedError(f"{kind.what} claims {payload_length} bytes, more than its bound {kind.max_payload_bytes}")
    seal_at = MAGIC_BYTES + 4 + payload_length
    if len(view) < seal_at + 4:
        raise DamagedError(f"{kind.what} is cut short")
    (seal_length,) = _U32.unpack_from(view, seal_at)
    if seal_length > MAX_SEAL_BYTES or len(view) < seal_at + 4 + seal_length:
        raise DamagedError(f"the seal of the {kind.what} is cut short or too long")
    return int(seal_at + 4 + seal_length)


def _split(kind: Kind[P], data: bytes) -> tuple[bytes, bytes]:
    """Cut an object into what is signed (magic, length, payload) and its seal."""
    if len(data) > kind.max_bytes:
        raise DamagedError(f"{kind.what} has {len(data)} bytes, more than its bound {kind.max_bytes}")
    if length_at(kind, data) != len(data):
        raise DamagedError(f"something follows the {kind.what}")
    (payload_length,) = _U32.unpack_from(data, MAGIC_BYTES)
    seal_at = MAGIC_BYTES + 4 + payload_length
    return data[:seal_at], data[seal_at + 4 :]


def _check_magic(kind: Kind[P], magic: bytes) -> None:
    if magic == kind.magic:
        return
    if magic[:6] == kind.magic[:6] and magic[6:].isdigit() and magic[6:] > kind.magic[6:]:
        raise NewerFormatError(f"this {kind.what} has version {magic[6:].decode()}, which this program does not have")
    raise DamagedError(f"this is not a {kind.what}: it begins with {magic!r}")


def _message(front: bytes, certificate: bytes | None) -> bytes:
    bound = bytes(32) if certificate is None else hashlib.sha256(certificate).digest()
    return _SIGNED_LABEL + front + bound


def _check_signature(key: bytes, signature: bytes, message: bytes, what: str) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise SignatureError(f"the signature of the {what} does not hold") from error


@lru_cache(maxsize=256)
def _checked_certificate(certificate: bytes, root: bytes) -> ArchiveCertificate:
    """Check an archive certificate; cached, because all objects of a domain carry the same few."""
    verified = verify(ARCHIVE_CERTIFICATE, certificate)
    if verified.signer != domain_id_of(root):
        raise SignatureError("the archive certificate belongs to another root key than the seal names")
    if verified.payload.alg != Signature.ED25519:
        raise NewerFormatError(f"archive certificate for algorithm {verified.payload.alg}, which is not known here")
    return verified.payload
