"""What the subject alternative name of a certificate holds: identities as URIs, and names to call.

    strongroom:domain:<domain id>            in a root: the domain whose root this is
    strongroom:host:<home domain>:<uuid>     in a host's certificate: who the host is, at home
    strongroom:primary:<domain id>           in the primary's server certificate alone

The ids are lower-case hexadecimal; the host id is a UUID. They identify, and give no authority.
"""

from __future__ import annotations

import ipaddress
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from strongroom.core.ids import DIGEST_BYTES, DomainId, HostId, to_text
from strongroom.pki.errors import CertificateDamagedError, HostNameError

MAX_NAMES: Final = 32
MAX_NAME_CHARACTERS: Final = 253
_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", re.ASCII)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class HostNames:
    """Names by which a host is called; checked, in one spelling, without repeats."""

    dns: tuple[str, ...] = ()
    addresses: tuple[Address, ...] = ()

    @classmethod
    def read(cls, names: Iterable[str]) -> HostNames:
        """Sort names into DNS names and addresses.

        Raises:
            HostNameError: too many, or one that is neither; wildcards are neither.
        """
        dns: dict[str, None] = {}
        addresses: dict[Address, None] = {}
        for count, name in enumerate(names, start=1):
            if count > MAX_NAMES:
                raise HostNameError(f"a host has at most {MAX_NAMES} names")
            address = _as_address(name)
            if address is None:
                dns[_as_dns(name)] = None
            else:
                addresses[address] = None
        return cls(tuple(dns), tuple(addresses))

    @property
    def texts(self) -> tuple[str, ...]:
        """All of them as text."""
        return (*self.dns, *(str(address) for address in self.addresses))


@dataclass(frozen=True)
class CertificateIdentity:
    """Who a host certificate says its holder is.

    Args:
        home: domain the host belongs to.
        host: id that its home domain gave it.
        primary_of: domain whose primary it is; None for all other hosts.
    """

    home: DomainId
    host: HostId
    primary_of: DomainId | None


def domain_uri(domain: DomainId) -> str:
    """Name a domain, as its root certificate does."""
    return f"strongroom:domain:{domain.hex()}"


def host_uri(home: DomainId, host: HostId) -> str:
    """Name a host."""
    return f"strongroom:host:{home.hex()}:{to_text(host)}"


def primary_uri(domain: DomainId) -> str:
    """Name the primary of a domain."""
    return f"strongroom:primary:{domain.hex()}"


def read_domain(root: x509.Certificate) -> DomainId:
    """Read from a root certificate whose root it is.

    Raises:
        CertificateDamagedError: it does not name one domain.
    """
    found = [_domain(uri[2]) for uri in _uris(root, "domain", 3)]
    if len(found) != 1:
        raise CertificateDamagedError(f"the root certificate names {len(found)} domains, not one")
    return found[0]


def read_identity(certificate: x509.Certificate) -> CertificateIdentity:
    """Read from a host certificate whose it is.

    Raises:
        CertificateDamagedError: it does not name one host, or names several primaries.
    """
    hosts = _uris(certificate, "host", 4)
    primaries = [_domain(uri[2]) for uri in _uris(certificate, "primary", 3)]
    if len(hosts) != 1 or len(primaries) > 1:
        raise CertificateDamagedError("the certificate does not name one host")
    try:
        host = uuid.UUID(hosts[0][3])
    except ValueError as error:
        raise CertificateDamagedError("the certificate names a host by something that is no UUID") from error
    return CertificateIdentity(_domain(hosts[0][2]), HostId(host.bytes), primaries[0] if primaries else None)


def _uris(certificate: x509.Certificate, noun: str, parts: int) -> list[list[str]]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError) as error:
        raise CertificateDamagedError("the certificate has no readable alternative names") from error
    all_uris = (uri.split(":") for uri in extension.value.get_values_for_type(x509.UniformResourceIdentifier))
    found = [uri for uri in all_uris if uri[:2] == ["strongroom", noun]]
    if any(len(uri) != parts for uri in found):
        raise CertificateDamagedError(f"the certificate has a malformed name of the kind '{noun}'")
    return found


def _domain(text: str) -> DomainId:
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise CertificateDamagedError("the certificate names a domain by something that is no domain id")
    value = bytes.fromhex(text)
    assert len(value) == DIGEST_BYTES  # noqa: S101 - 64 digits
    return DomainId(value)


def _as_address(name: str) -> Address | None:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        raise HostNameError(f"'{name}' is an address of one link only")
    return address


def _as_dns(name: str) -> str:
    lowered = name.lower().removesuffix(".")
    labels = lowered.split(".")
    if len(lowered) > MAX_NAME_CHARACTERS or not all(_LABEL.fullmatch(label) for label in labels):
        raise HostNameError(f"'{name[:MAX_NAME_CHARACTERS]}' is neither a DNS name nor an address")
    if labels[-1].isdigit():
        raise HostNameError(f"'{name}' looks like an address and is none")
    return lowered
