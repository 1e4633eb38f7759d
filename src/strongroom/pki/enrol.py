"""Admitting hosts, and giving them new certificates: the primary's side.

Everything happens in the transaction of the connection that is handed in: token, host, names and certificate
are all there afterwards, or none of them. :class:`Registrar` wraps each act in its evidence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import Connection, Engine

from strongroom import audit
from strongroom.core.clock import Clock
from strongroom.core.entropy import Entropy
from strongroom.core.ids import UUID_BYTES, DomainId, HostId, to_text
from strongroom.core.secret import Secret
from strongroom.pki import registry, revocation, tokens
from strongroom.pki.ca import Authority, IssuerKind, Subject, issue, to_der
from strongroom.pki.errors import EnrolmentError, HostKnownError, IssuerError, NotRegisteredError, RetiredError
from strongroom.pki.keys import read_request
from strongroom.pki.names import HostNames
from strongroom.pki.registry import Host
from strongroom.pki.roles import HostState, Role
from strongroom.pki.tokens import Purpose

MAX_LABEL: Final = 253

PURPOSES: Final[Mapping[Role, Purpose]] = {
    Role.MEDIA: Purpose.ENROL_HOST,
    Role.CLIENT: Purpose.ENROL_HOST,
    Role.FOREIGN_PRIMARY: Purpose.TRUST,
    Role.FOREIGN_MEDIA: Purpose.ENROL_FOREIGN_MEDIA,
}
"""What kind of token admits which role; the primary itself needs none, and nobody else becomes one."""


@dataclass(frozen=True)
class Application:
    """What a host asks for when it comes for the first time.

    Args:
        token: what admits it.
        request: PKCS #10, DER.
        role: what it wants to be.
        label: what people call it.
        names: names to call it by; empty for foreign hosts, which nobody here calls.
        home: its domain; None stands for the domain that it applies to.
        host: its id at home; only a foreign host has one.
    """

    token: Secret
    request: bytes
    role: Role
    label: str
    names: tuple[str, ...] = ()
    home: DomainId | None = None
    host: HostId | None = None


@dataclass(frozen=True)
class Issued:
    """What a host gets: who it is, and its chain without the root, DER."""

    host: Host
    certificate: x509.Certificate
    chain: tuple[bytes, ...]


class Registrar:
    """Admits hosts to one domain.

    Args:
        engine: the primary's database.
        domain: whose registry it is.
        authorities: the issuers that sign now, with their keys.
        clock: for validity.
        entropy: for ids and serial numbers.
    """

    def __init__(
        self,
        engine: Engine,
        domain: DomainId,
        authorities: Mapping[IssuerKind, Authority],
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._engine = engine
        self._domain = domain
        self._authorities = dict(authorities)
        self._clock = clock
        self._entropy = entropy

    def enrol(self, application: Application, actor: audit.Actor) -> Issued:
        """Admit a host against its token; the primary of another domain comes by a request for trust instead.

        Raises:
            TokenUnknownError and its fellows: the token does not admit it.
            CertificateRequestError, HostNameError, EnrolmentError: the application is wrong.
            HostKnownError, NameTakenError: another host stands in the way.
        """

        def deed(connection: Connection) -> Issued:
            if application.role is Role.FOREIGN_PRIMARY:
                # Nothing in an application shows that its home sent it: whoever found a token of the purpose
                # *trust* would speak for any domain. What shows it is checked where trust is made.
                raise EnrolmentError("the primary of another domain is admitted by making trust, not by enrolment")
            return self.enrol_in(connection, application)

        return audit.exercise(
            self._engine,
            self._clock,
            actor,
            "host.enrol",
            f"host:{_bounded(application.label)}",
            deed,
            facts={"role": application.role.value},
            describe=_facts,
        )

    def reissue(self, token: Secret, request: bytes, host: HostId, home: DomainId, actor: audit.Actor) -> Issued:
        """Give a known client a certificate against a token bound to it, and revoke all it had.

        Raises:
            TokenUnknownError and its fellows: the token is not for this.
            CertificateRequestError: the request is wrong.
            EnrolmentError: the host is no client.
            NotRegisteredError, RetiredError: there is no such host, or it may not come back.
        """

        def deed(connection: Connection) -> Issued:
            public = read_request(request)
            tokens.redeem(connection, token, Purpose.REISSUE, now=self._clock.now(), domain=home, host=host)
            return self._reissue(connection, public, home, host)

        return audit.exercise(
            self._engine,
            self._clock,
            actor,
            "certificate.reissue",
            f"host:{to_text(host)}",
            deed,
            describe=_facts,
        )

    def renew(self, certificate: bytes, request: bytes, actor: audit.Actor) -> Issued:
        """Give a host its next certificate; the present one stays good until it ends, so that no job fails.

        Args:
            certificate: the one that secures the connection, DER.
            request: PKCS #10, DER; a new key is better, the old one is allowed.
            actor: for the evidence.

        Raises:
            CertificateRequestError: the request is wrong.
            AuthenticationError: see :func:`~strongroom.pki.registry.identify`.
        """

        def deed(connection: Connection) -> Issued:
            public = read_request(request)
            # In this transaction: it may have been revoked since the connection was made.
            caller = registry.identify(connection, certificate, now=self._clock.now())
            return self._issue(connection, caller.host, public)

        return audit.exercise(
            self._engine,
            self._clock,
            actor,
            "certificate.renew",
            f"certificate:{hashlib.sha256(certificate).hexdigest()}",
            deed,
            describe=_facts,
        )

    def enrol_in(self, connection: Connection, application: Application) -> Issued:
        """Admit a host in a transaction of the caller's, who writes the evidence.

        Raises:
            StrongroomError: as :meth:`enrol` does; the caller's transaction must be undone.
        """
        role = application.role
        purpose = PURPOSES.get(role)
        if purpose is None:
            raise EnrolmentError(f"no token makes a host the '{role}'")
        home = self._checked_home(application)
        public = read_request(application.request)
        names = HostNames.read(application.names)
        if role.is_foreign and names.texts:
            raise EnrolmentError("a host of another domain has no names in this one")
        if role.listens and not names.texts:
            raise EnrolmentError("a host that others connect to needs a name or an address")
        if role is Role.CLIENT and not names.texts:
            raise EnrolmentError("a client needs a name, under which its images are listed")
        now = self._clock.now()
        tokens.redeem(
            connection,
            application.token,
            purpose,
            now=now,
            domain=home,
            host=application.host,
            role=role if purpose is Purpose.ENROL_HOST else None,
        )
        self._refuse_known(connection, role, home, application.host)
        identity = application.host or self._new_host_id()
        host = registry.enter_host(connection, home, identity, role, _label(application.label), names, now)
        return self._issue(connection, host, public)

    def admit_primary(self, connection: Connection, request: bytes, label: str, names: tuple[str, ...]) -> Issued:
        """Enter the primary itself, when the domain is made.

        Raises:
            HostKnownError: there is one.
            CertificateRequestError, HostNameError, EnrolmentError: what was given is wrong.
        """
        public = read_request(request)
        checked = HostNames.read(names)
        if not checked.texts:
            raise EnrolmentError("a host that others connect to needs a name or an address")
        if any(host.state is not HostState.RETIRED for host in registry.hosts(connection, role=Role.PRIMARY)):
            raise HostKnownError("the domain has a primary")
        host = registry.enter_host(
            connection,
            self._domain,
            self._new_host_id(),
            Role.PRIMARY,
            _label(label),
            checked,
            self._clock.now(),
        )
        return self._issue(connection, host, public)

    def _reissue(
        self, connection: Connection, public: ec.EllipticCurvePublicKey, home: DomainId, host: HostId
    ) -> Issued:
        known = self._active(connection, home, host)
        if known.role is not Role.CLIENT:
            # A stolen or mistaken token must not make anybody the primary, or a peer without making trust.
            raise EnrolmentError(f"'{known.label}' is a '{known.role}': only clients come back by a reissue token")
        revocation.revoke_host(connection, home, host, x509.ReasonFlags.superseded, now=self._clock.now())
        return self._issue(connection, known, public)

    def _active(self, connection: Connection, home: DomainId, host: HostId) -> Host:
        known = registry.find_host(connection, home, host)
        if known is None:
            raise NotRegisteredError(f"the registry has no host '{to_text(host)}'")
        if known.state is not HostState.ACTIVE:
            raise RetiredError(f"the host '{known.label}' is {known.state}")
        return known

    def _issue(self, connection: Connection, host: Host, public: ec.EllipticCurvePublicKey) -> Issued:
        kind = IssuerKind.FOREIGN if host.role.is_foreign else IssuerKind.HOSTS
        issuer = self._authorities.get(kind)
        if issuer is None:
            raise IssuerError(f"the domain has no '{kind}' authority", hint="see 'strongroom ca show'")
        now = self._clock.now()
        subject = Subject(
            home=host.home,
            host=host.id,
            names=host.names,
            listens=host.role.listens,
            primary_of=self._domain if host.role is Role.PRIMARY else None,
        )
        certificate = issue(issuer, subject, public, now=now, entropy=self._entropy)
        registry.record_certificate(connection, certificate, issuer, host, now=now)
        chain = (to_der(certificate), *(to_der(link) for link in issuer.chain))
        return Issued(host, certificate, chain)

    def _checked_home(self, application: Application) -> DomainId:
        home = application.home or self._domain
        if application.role.is_foreign:
            if home == self._domain:
                raise EnrolmentError("a host of this domain cannot enrol as one of another")
            if application.host is None:
                raise EnrolmentError("a host of another domain says which id it has there")
        elif home != self._domain or application.host is not None:
            raise EnrolmentError("a new host of this domain is given its id, and does not bring one")
        return home

    def _refuse_known(self, connection: Connection, role: Role, home: DomainId, host: HostId | None) -> None:
        known_as = None if host is None else registry.find_host(connection, home, host)
        # A retired foreign host may come back, because its id is not ours to change.
        if host is not None and known_as is not None and known_as.state is not HostState.RETIRED:
            raise HostKnownError(f"the host '{to_text(host)}' is in the registry already")
        if role is Role.FOREIGN_PRIMARY and any(
            known.state is not HostState.RETIRED for known in registry.hosts(connection, role=role, home=home)
        ):
            raise HostKnownError(
                f"the domain '{home.hex()}' has another primary in the registry",
                hint="if that domain moved its primary, make the trust again; otherwise find out who asks",
            )

    def _new_host_id(self) -> HostId:
        drawn = bytearray(self._entropy.bytes(UUID_BYTES))
        drawn[6] = (drawn[6] & 0x0F) | 0x40  # RFC 9562: version 4,
        drawn[8] = (drawn[8] & 0x3F) | 0x80  # and its variant
        return HostId(bytes(drawn))


def _label(text: str) -> str:
    if not text.strip() or len(text) > MAX_LABEL or not text.isprintable():
        raise EnrolmentError(f"a host is called something of 1 to {MAX_LABEL} printable characters")
    return text.strip()


def _bounded(text: str) -> str:
    return "".join(letter for letter in text[:MAX_LABEL] if letter.isprintable())


def _facts(issued: Issued) -> dict[str, audit.Fact]:
    return {
        "host": to_text(issued.host.id),
        "home": issued.host.home.hex(),
        "serial": f"{issued.certificate.serial_number:x}",
        "not_after": issued.certificate.not_valid_after_utc.isoformat(),
    }
