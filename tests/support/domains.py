"""A domain with CA and registry, for tests; their clock is the machine's, because OpenSSL's is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import Engine

from strongroom.audit import Actor, ActorKind
from strongroom.core.clock import Clock
from strongroom.core.ids import DomainId, HostId
from strongroom.core.secret import Secret
from strongroom.database import transact
from strongroom.pki import keys, registry, tokens
from strongroom.pki.ca import Authority, IssuerKind, Subject, issue, make_issuer, make_root, to_der
from strongroom.pki.enrol import Application, Issued, Registrar
from strongroom.pki.names import HostNames
from strongroom.pki.roles import Role
from strongroom.pki.tls import Credential
from strongroom.pki.tokens import Purpose, TokenOrder
from strongroom.settings.system import SystemEntropy

ENTROPY = SystemEntropy()
ADMIN = Actor(ActorKind.USER, "admin")


@dataclass(frozen=True)
class CA:
    """Root and issuers of one domain."""

    domain: DomainId
    root: Authority
    hosts: Authority
    foreign: Authority

    @classmethod
    def make(cls, number: int, now: datetime) -> CA:
        domain = DomainId(bytes([number]) * 32)
        root = make_root(domain, f"domain-{number}", now=now, entropy=ENTROPY)
        hosts = make_issuer(root, IssuerKind.HOSTS, now=now, entropy=ENTROPY)
        foreign = make_issuer(root, IssuerKind.FOREIGN, now=now, entropy=ENTROPY)
        return cls(domain, root, hosts, foreign)

    def leaf(
        self,
        now: datetime,
        *,
        names: tuple[str, ...] = ("localhost", "127.0.0.1"),
        listens: bool = True,
        primary: bool = True,
        foreign_home: DomainId | None = None,
    ) -> tuple[x509.Certificate, Credential]:
        """Sign a certificate that no registry has."""
        key = keys.make_host_key()
        public = keys.load_key(key).public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        home = foreign_home or self.domain
        subject = Subject(
            home,
            HostId(ENTROPY.bytes(16)),
            HostNames.read(names if listens else ()),
            listens,
            self.domain if primary and listens else None,
        )
        issuer = self.foreign if foreign_home else self.hosts
        certificate = issue(issuer, subject, public, now=now, entropy=ENTROPY)
        return certificate, Credential((to_der(certificate), to_der(issuer.certificate)), key)


class Domain:
    """A CA over a database: what a primary has."""

    def __init__(self, number: int, engine: Engine, clock: Clock) -> None:
        self.ca = CA.make(number, clock.now())
        self.engine = engine
        self.clock = clock
        self.registrar = Registrar(
            engine,
            self.ca.domain,
            {IssuerKind.HOSTS: self.ca.hosts, IssuerKind.FOREIGN: self.ca.foreign},
            clock,
            ENTROPY,
        )
        for authority in (self.ca.root, self.ca.hosts, self.ca.foreign):
            transact(engine, partial(registry.install_authority, authority=authority, now=clock.now()))

    def token(self, name: str, purpose: Purpose = Purpose.ENROL_HOST, **more: object) -> Secret:
        if purpose is Purpose.ENROL_HOST:
            more.setdefault("role", Role.CLIENT)
        order = TokenOrder(name=name, purpose=purpose, reason="a test", **more)  # type: ignore[arg-type]
        return transact(
            self.engine,
            lambda connection: tokens.create(
                connection, order, created_by="admin", now=self.clock.now(), entropy=ENTROPY
            ),
        )

    def admit_primary(self) -> tuple[Issued, Credential]:
        key = keys.make_host_key()
        issued = transact(
            self.engine,
            lambda connection: self.registrar.admit_primary(
                connection, keys.make_request(key), "primary", ("localhost", "127.0.0.1")
            ),
        )
        return issued, Credential(issued.chain, key)

    def admit_client(self, label: str) -> tuple[Issued, Credential]:
        key = keys.make_host_key()
        application = Application(self.token(f"t-{label}"), keys.make_request(key), Role.CLIENT, label, (label,))
        issued = self.registrar.enrol(application, ADMIN)
        return issued, Credential(issued.chain, key)

    def admit_foreign(self, other: CA, host: HostId) -> tuple[Issued, Credential]:
        key = keys.make_host_key()
        token = self.token(f"trust-{ENTROPY.bytes(8).hex()}", Purpose.TRUST)
        application = Application(
            token,
            keys.make_request(key),
            Role.FOREIGN_PRIMARY,
            "peer",
            home=other.domain,
            host=host,
        )
        issued = transact(self.engine, lambda connection: self.registrar.enrol_in(connection, application))
        return issued, Credential(issued.chain, key)
