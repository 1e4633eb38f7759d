"""The first meeting with a primary: trust begins with a pin that came by another way.

    1  fetch_ca      the roots, over a connection that nobody vouches for; nothing is sent
    2  confirm       compare the pin with the root, here, in code
    3  connect       again, verified against that root alone, to a server that is the domain's primary
    4  send          only a Channel can carry a token, and only step 3 makes a Channel

Each way in which this can fail is an error of its own, with its cure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from strongroom.core.clock import EPOCH, Clock
from strongroom.core.ids import DomainId, HostId
from strongroom.core.secret import Secret
from strongroom.pki import messages, names
from strongroom.pki.ca import load_certificate
from strongroom.pki.channel import Address, Channel, open_channel
from strongroom.pki.crl import MAX_SKEW, CRLStore, require_signed_by
from strongroom.pki.errors import (
    CertificateDamagedError,
    ClockSkewError,
    ExpiredError,
    NotStrongroomError,
    NotYetValidError,
    UnknownIssuerError,
    WrongFingerprintError,
)
from strongroom.pki.fingerprint import Fingerprint, fingerprint_of
from strongroom.pki.keys import load_key, public_bytes
from strongroom.pki.tls import Credential, client_context, unverified_context


@dataclass(frozen=True)
class ClaimedCA:
    """What something at an address said its CA is. Show it to people as *unverified*.

    Args:
        document: as received.
        roots: the roots in it, readable and no more.
        skew: by how much its clock is ahead of ours.
    """

    document: messages.CADocument
    roots: tuple[x509.Certificate, ...]
    skew: timedelta


@dataclass(frozen=True)
class PinnedDomain:
    """A domain whose root a person has vouched for.

    Args:
        domain: id, from the root certificate.
        root: the pinned one.
        issuers: below that root; others were left out.
    """

    domain: DomainId
    root: x509.Certificate
    issuers: tuple[x509.Certificate, ...]


def fetch_ca(address: Address, clock: Clock) -> ClaimedCA:
    """Fetch what a primary says its CA is; nothing of it is verified.

    Raises:
        UnreachableError: nothing answers.
        NotStrongroomError: something else answers, or nonsense.
    """
    with open_channel(address, unverified_context()) as channel:
        try:
            document = messages.decode(channel.get(messages.CA_PATH), messages.CADocument)
            roots = tuple(load_certificate(root) for root in document.roots)
        except (msgspec.DecodeError, CertificateDamagedError) as error:
            raise NotStrongroomError(f"'{address}' answers, but not with a CA of strongroom") from error
    if document.product != messages.PRODUCT:
        raise NotStrongroomError(f"'{address}' is a '{document.product[:32]}', not a strongroom primary")
    return ClaimedCA(document, roots, _moment(document.time) - clock.now())


def confirm(claimed: ClaimedCA, pin: Fingerprint, *, domain: DomainId | None = None) -> PinnedDomain:
    """Compare the pin; what comes out may be believed.

    Args:
        claimed: from :func:`fetch_ca`, or from a file.
        pin: from :func:`~strongroom.pki.fingerprint.read_pin`.
        domain: the domain id, when it is known beforehand.

    Raises:
        WrongFingerprintError: no root has this fingerprint, or the pinned root is another domain's.
        ClockSkewError: the clocks differ by more than five minutes.
    """
    matching = [root for root in claimed.roots if fingerprint_of(root) == pin]
    if not matching:
        fingerprint_of(claimed.roots[0]).require(pin, of="the root that was presented")
        raise AssertionError("unreachable: the fingerprints differ")
    root = matching[0]
    found = names.read_domain(root)
    if domain is not None and found != domain:
        raise WrongFingerprintError(f"the pinned root is of the domain '{found.hex()}', not '{domain.hex()}'")
    if abs(claimed.skew) > MAX_SKEW:
        raise ClockSkewError(
            f"the clock of the primary is {abs(claimed.skew).total_seconds():.0f} seconds "
            f"{'ahead of' if claimed.skew > timedelta() else 'behind'} this host's"
        )
    issuers = []
    for data in claimed.document.issuers:
        try:
            issuer = load_certificate(data)
            require_signed_by(issuer, root)
        except (CertificateDamagedError, UnknownIssuerError):
            continue  # below the other root of a change of roots, or nonsense: not vouched for
        issuers.append(issuer)
    return PinnedDomain(found, root, tuple(issuers))


def connect(
    address: Address,
    pinned: PinnedDomain,
    clock: Clock,
    *,
    credential: Credential | None = None,
    crls: CRLStore | None = None,
) -> Channel:
    """Connect to the primary of a pinned domain, verified.

    Args:
        address: name in the primary's certificate, and port.
        pinned: from :func:`confirm`.
        clock: shown when it contradicts the certificate.
        credential: what that domain issued to this host; None to enrol.
        crls: lists of that domain; None only before the first could be fetched.

    Raises:
        UnreachableError, WrongNameError, NotThePrimaryError, ChainError: as named.
        ClockSkewError: the certificate's time contradicts this host's clock.
    """
    context = client_context([pinned.root], credential)
    try:
        return open_channel(address, context, primary_of=pinned.domain, crls=crls)
    except NotYetValidError as error:
        # The primary backdates what it issues, so one of the clocks must be wrong.
        raise ClockSkewError(f"{error.message}, by this host's clock: {clock.now():%Y-%m-%d %H:%M} UTC") from error
    except ExpiredError as error:
        error.hint = "check this host's clock; if it is right, the primary must renew its certificate"
        raise


def introduce(
    address: Address, pin: Fingerprint, clock: Clock, *, domain: DomainId | None = None
) -> tuple[PinnedDomain, Channel]:
    """Do all steps up to the verified connection, over which a token may be sent.

    Raises:
        StrongroomError: as the steps do.
    """
    pinned = confirm(fetch_ca(address, clock), pin, domain=domain)
    return pinned, connect(address, pinned, clock)


def check_issued(
    chain: Sequence[bytes], roots: Sequence[x509.Certificate], key: Secret, *, home: DomainId, host: HostId
) -> None:
    """Take a certificate only if it is for the key and the host that asked, and leads to a root of who issued it.

    Args:
        chain: DER, the host's own first, without the root.
        roots: of the domain that issued it; at least one.
        key: that was asked for.
        home: domain of the host.
        host: its id there.

    Raises:
        UnknownIssuerError: it is another's, or leads elsewhere.
        CertificateDamagedError: it cannot be read.
    """
    certificates = [load_certificate(item) for item in chain]
    for lower, upper in pairwise(certificates):
        require_signed_by(lower, upper)
    top = certificates[-1]
    require_signed_by(top, next((root for root in roots if root.subject == top.issuer), roots[0]))
    public = certificates[0].public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey) or public_bytes(public) != public_bytes(
        load_key(key).public_key()
    ):
        raise UnknownIssuerError("the certificate in the answer is for another key")
    identity = names.read_identity(certificates[0])
    if (identity.home, identity.host, identity.primary_of) != (home, host, None):
        raise UnknownIssuerError("the certificate in the answer is for another host")


def _moment(seconds: int) -> datetime:
    try:
        return EPOCH + timedelta(seconds=seconds)
    except OverflowError as error:
        raise NotStrongroomError("the time in the CA document is no time") from error
