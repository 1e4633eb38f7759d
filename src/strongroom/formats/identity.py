"""Identity of a domain: who signs for it, and which of its archive keys no longer count.

Source: ``docs/reference/formats/identity.md``. The archive certificate itself stands in
:mod:`strongroom.formats.signed`, because every check of an object needs it; the file of the root key in
:mod:`strongroom.formats.root_key`.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from strongroom.core.ids import DomainId, to_text
from strongroom.core.secret import Secret
from strongroom.formats import signed
from strongroom.formats.algorithms import Signature
from strongroom.formats.errors import ForeignError, RevokedError
from strongroom.formats.records import Moment, Number, check_ascending
from strongroom.formats.signed import (
    ARCHIVE_CERTIFICATE,
    ArchiveCertificate,
    Kind,
    P,
    Payload,
    Verified,
    domain_id_of,
)


class Revocation(msgspec.Struct, frozen=True, kw_only=True):
    """One archive certificate that no longer counts, for what was not shown to be signed before ``since``."""

    certificate: Number
    since: Moment
    reason: Annotated[str, msgspec.Meta(max_length=256)]


class RevocationList(Payload, frozen=True, kw_only=True):
    """All revoked archive certificates of a domain. Of two lists the one with the higher number holds."""

    number: Number
    issued: Moment
    revoked: Annotated[tuple[Revocation, ...], msgspec.Meta(max_length=1_024)]

    def __post_init__(self) -> None:
        check_ascending([item.certificate for item in self.revoked], "revoked")


REVOCATION_LIST: Final = Kind(b"SRREVL01", RevocationList, 1 << 20, "revocation list", by_root=True)


def check_revocation(verified: Verified[P], revocations: RevocationList) -> None:
    """Refuse an object whose archive key its domain has revoked.

    Args:
        verified: what :func:`strongroom.formats.signed.verify` gave.
        revocations: the newest list of the same domain.

    Raises:
        RevokedError: whether it is used all the same is for an administrator to decide; the context has
            ``since`` in ns.
        ForeignError: the list is of another domain.
    """
    if revocations.domain != verified.signer:
        raise ForeignError(
            f"the revocation list is of the domain {to_text(revocations.domain)}, "
            f"the object of {to_text(verified.signer)}"
        )
    revoked = {item.certificate: item.since for item in revocations.revoked}
    number = verified.archive_number
    if number is not None and number in revoked:
        raise RevokedError(
            f"the archive key number {number} of the domain {to_text(verified.signer)} was revoked",
            context={"archive_number": number, "since": revoked[number]},
        )


class _PrivateKey:
    """An Ed25519 private key."""

    def __init__(self, seed: Secret) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed.reveal())

    @property
    def public_key(self) -> bytes:
        """The public key, 32 bytes."""
        return self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """Sign with Ed25519; 64 bytes."""
        return self._key.sign(message)


class RootKeySigner(_PrivateKey):
    """Signs with the root key: archive certificates and revocation lists, nothing else.

    Args:
        seed: the private key, 32 bytes (RFC 8032: the seed).
    """

    certificate: Final = None

    @property
    def root_public_key(self) -> bytes:
        """The domain's root public key, 32 bytes."""
        return self.public_key

    @property
    def domain(self) -> DomainId:
        """The domain that this key makes."""
        return domain_id_of(self.public_key)

    def certify(self, public_key: bytes, *, number: int, issued: int) -> bytes:
        """Make an archive certificate.

        Args:
            public_key: the archive public key, 32 bytes.
            number: higher than that of every certificate before.
            issued: time of issue, ns.

        Raises:
            OutOfBoundsError: the number, the time or the key is not one.
        """
        certificate = ArchiveCertificate(
            domain=self.domain, number=number, alg=Signature.ED25519, key=public_key, issued=issued
        )
        return signed.sign(ARCHIVE_CERTIFICATE, certificate, self)


class ArchiveSigner(_PrivateKey):
    """Signs what lasts, with an archive key.

    Args:
        seed: the private key, 32 bytes (RFC 8032: the seed).
        certificate: the whole archive certificate of this key.

    Raises:
        DamagedError: the certificate does not hold.
        ForeignError: the certificate is of another key.
    """

    def __init__(self, seed: Secret, certificate: bytes) -> None:
        super().__init__(seed)
        verified = signed.verify(ARCHIVE_CERTIFICATE, certificate)
        if verified.payload.key != self.public_key:
            raise ForeignError(f"the archive certificate number {verified.payload.number} is of another key")
        self._certificate = certificate
        self._root_public_key = verified.root
        self._domain = verified.signer

    @property
    def root_public_key(self) -> bytes:
        """The domain's root public key, 32 bytes."""
        return self._root_public_key

    @property
    def certificate(self) -> bytes:
        """The whole archive certificate object."""
        return self._certificate

    @property
    def domain(self) -> DomainId:
        """The domain that this key signs for."""
        return self._domain
