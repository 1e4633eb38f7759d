"""Primaries of small domains: real CA, database, archive key; on request a real listener with TLS on loopback."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from datetime import datetime, timedelta

from aiohttp import web
from sqlalchemy import Connection, Engine

from strongroom.audit import Actor, ActorKind
from strongroom.core.errors import KeyUnavailableError
from strongroom.core.secret import Secret
from strongroom.database import transact
from strongroom.formats.identity import ArchiveSigner, RootKeySigner
from strongroom.pki import keys, registry, revocation, tokens
from strongroom.pki.ca import IssuerKind, make_issuer, make_root, to_der
from strongroom.pki.channel import Address
from strongroom.pki.enrol import Registrar
from strongroom.pki.fingerprint import fingerprint_of
from strongroom.pki.tls import Credential, ServerTLS
from strongroom.pki.tokens import Purpose, TokenOrder
from strongroom.services.primary.enrol_routes import EnrolRoutes
from strongroom.services.primary.limits import RateLimit
from strongroom.services.primary.peer_routes import PeerRoutes
from strongroom.services.record_http import tell_errors
from strongroom.settings.system import SystemClock, SystemEntropy
from strongroom.trust import home
from strongroom.trust.builtin import trust_handlers
from strongroom.trust.exchange import Exchange, Handler
from strongroom.trust.home import OurDomain
from strongroom.trust.making import Invitation, TrustMaker

ENTROPY = SystemEntropy()
ADMIN = Actor(ActorKind.USER, "admin")


class ShiftedClock:
    """The machine's clock, because OpenSSL's is; moved by as much as a test says."""

    def __init__(self) -> None:
        self.shift = timedelta()
        self._machine = SystemClock()

    def now(self) -> datetime:
        return self._machine.now() + self.shift

    def monotonic(self) -> float:
        return self._machine.monotonic() + self.shift.total_seconds()


class KeysInMemory:
    """Keeps keys as long as the test runs."""

    def __init__(self) -> None:
        self.kept: dict[str, Secret] = {}

    def keep(self, name: str, key: Secret) -> None:
        self.kept[name] = key

    def get(self, name: str) -> Secret:
        if name not in self.kept:
            raise KeyUnavailableError(f"there is no key '{name}'")
        return self.kept[name]

    def drop(self, name: str) -> None:
        self.kept.pop(name, None)


class Primary:
    """One domain with its primary."""

    def __init__(self, name: str, engine: Engine, *, port: int = 1, more: Mapping[str, Handler] | None = None) -> None:
        self.engine = engine
        self.clock = ShiftedClock()
        self.keys = KeysInMemory()
        now = self.clock.now()
        root_key = RootKeySigner(Secret(ENTROPY.bytes(32)))
        archive = Secret(ENTROPY.bytes(32))
        public = RootKeySigner(archive).public_key
        self.signer = ArchiveSigner(archive, root_key.certify(public, number=1, issued=1))
        self.domain = root_key.domain
        self.root = make_root(self.domain, name, now=now, entropy=ENTROPY)
        self.hosts = make_issuer(self.root, IssuerKind.HOSTS, now=now, entropy=ENTROPY)
        self.foreign = make_issuer(self.root, IssuerKind.FOREIGN, now=now, entropy=ENTROPY)
        self.registrar = Registrar(
            engine,
            self.domain,
            {IssuerKind.HOSTS: self.hosts, IssuerKind.FOREIGN: self.foreign},
            self.clock,
            ENTROPY,
        )
        transact(engine, self._install)
        key = keys.make_host_key()
        issued = transact(
            engine,
            lambda c: self.registrar.admit_primary(c, keys.make_request(key), "primary", ("127.0.0.1",)),
        )
        transact(engine, self._issue_crls)
        self.credential = Credential(issued.chain, key)
        self.more = dict(more or {})
        self.ours = OurDomain(
            self.domain, name, issued.host.id, 1, (to_der(self.root.certificate),), (f"127.0.0.1:{port}",), self.signer
        )
        self.join()
        self.start()
        self.tokens = 0

    def join(self) -> None:
        """Put the parts together, after ``ours`` was changed."""
        self.exchange = Exchange(self.ours, self.clock, ENTROPY, dict(trust_handlers(self.clock)) | self.more)
        self.maker = TrustMaker(self.engine, self.ours, self.registrar, self.keys, self.clock, ENTROPY)
        self.routes = PeerRoutes(
            self.engine, self.ours, self.maker, self.exchange, self.clock, RateLimit(self.clock, 10_000)
        )

    def start(self) -> None:
        transact(self.engine, lambda c: home.begin(c, ENTROPY))

    def _install(self, connection: Connection) -> None:
        for authority in (self.root, self.hosts, self.foreign):
            registry.install_authority(connection, authority, now=self.clock.now())

    def _issue_crls(self, connection: Connection) -> None:
        for authority in (self.root, self.hosts, self.foreign):
            revocation.issue_crl(connection, authority, now=self.clock.now())

    def token(self, purpose: Purpose = Purpose.TRUST, **more: object) -> Secret:
        self.tokens += 1
        order = TokenOrder(name=f"t{self.tokens}", purpose=purpose, reason="a test", **more)  # type: ignore[arg-type]
        return transact(
            self.engine,
            lambda c: tokens.create(c, order, created_by="admin", now=self.clock.now(), entropy=ENTROPY),
        )

    def invitation(self, address: Address, token: Secret | None = None) -> Invitation:
        return Invitation(address, fingerprint_of(self.root.certificate), token or self.token())


class Listener:
    """The peer listener of a primary, in a thread of its own."""

    def __init__(self, primary: Primary) -> None:
        self.primary = primary
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._runner: web.AppRunner | None = None
        self.address = Address("127.0.0.1", 1)

    def __enter__(self) -> Listener:
        port = asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(10)
        self.address = Address("127.0.0.1", port)
        return self

    def __exit__(self, *_: object) -> None:
        if self._runner is not None:
            asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _open(self) -> int:
        app = web.Application(client_max_size=1 << 20, middlewares=[tell_errors])
        enrolment = EnrolRoutes(self.primary.registrar, self.primary.routes.limit)
        app.add_routes([*self.primary.routes.table(), *enrolment.table()])
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        tls = ServerTLS(self.primary.credential, [self.primary.root.certificate])
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=tls.context)
        await site.start()
        return int(self._runner.addresses[0][1])
