"""Certificates and private keys of one host, a folder for each domain that issued some.

A host has a certificate of its own domain, and one of each other domain that it talks to; it shows each domain the one
that the domain issued. The private key never leaves the host.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
from cryptography import x509

from strongroom.core.errors import NotFoundError, Retry
from strongroom.core.ids import DIGEST_BYTES, DomainId
from strongroom.core.secret import Secret
from strongroom.formats import records
from strongroom.formats.errors import DamagedError
from strongroom.kms import durable
from strongroom.pki.ca import load_certificate
from strongroom.pki.keys import make_host_key, make_request
from strongroom.pki.tls import Credential

_MAX_BYTES = 256 << 10


class NoCertificateHereError(NotFoundError):
    """This host has no certificate of that domain."""

    code = "host.no-certificate"
    retry: Retry = "later"  # an administrator gets one, and what waited for it goes on
    default_hint = "get one: 'strongroom cert issue --to HOST:PORT --fingerprint F --token-file FILE'"


class _Held(msgspec.Struct, frozen=True, kw_only=True):
    domain: records.Bytes32
    chain: list[bytes]
    roots: list[bytes]


@dataclass(frozen=True)
class Held:
    """A certificate that a domain issued to this host, and how to verify that domain's hosts."""

    domain: DomainId
    credential: Credential
    roots: tuple[x509.Certificate, ...]


class Identities:
    """The certificates of one host.

    Args:
        folder: where they lie; mode 0700.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def make_request(self, domain: DomainId) -> bytes:
        """Make a private key for a domain, if there is none yet, and a certificate request for it.

        Returns:
            PKCS #10, DER.
        """
        path = self._path(domain) / "key"
        if not path.exists():
            durable.make_folder(self._folder)
            durable.make_folder(path.parent)
            durable.replace_file(path, make_host_key().reveal())
        return make_request(Secret(path.read_bytes()))

    def take(self, domain: DomainId, chain: list[bytes], roots: list[bytes]) -> None:
        """Keep what a domain issued for the key that :meth:`make_request` made."""
        held = _Held(domain=domain, chain=chain, roots=roots)
        durable.replace_file(self._path(domain) / "certificate", records.encode(held))

    def get(self, domain: DomainId) -> Held:
        """Give the certificate of a domain.

        Raises:
            NoCertificateHereError: there is none.
            DamagedError: its file was changed.
        """
        folder = self._path(domain)
        try:
            data, key = (folder / "certificate").read_bytes(), (folder / "key").read_bytes()
        except FileNotFoundError as error:
            raise NoCertificateHereError(f"this host has no certificate of the domain '{domain.hex()}'") from error
        held = records.decode(data, _Held, max_bytes=_MAX_BYTES, what="certificate file")
        if held.domain != domain:
            raise DamagedError(f"the certificate file of '{domain.hex()}' is another domain's")
        roots = tuple(load_certificate(root) for root in held.roots)
        return Held(domain, Credential(tuple(held.chain), Secret(key)), roots)

    def domains(self) -> list[DomainId]:
        """Tell which domains issued a certificate to this host."""
        if not self._folder.is_dir():
            return []
        return [
            DomainId(bytes.fromhex(path.parent.name))
            for path in sorted(self._folder.glob("*/certificate"))
            if len(path.parent.name) == 2 * DIGEST_BYTES
        ]

    def drop(self, domain: DomainId) -> None:
        """Destroy what is held of a domain."""
        folder = self._path(domain)
        for name in ("certificate", "key"):
            (folder / name).unlink(missing_ok=True)
        if folder.is_dir():
            folder.rmdir()

    def _path(self, domain: DomainId) -> Path:
        return self._folder / domain.hex()
