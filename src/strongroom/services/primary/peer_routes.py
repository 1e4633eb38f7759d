"""Routes of the peer listener that make and keep trust: thin translators between HTTP and :mod:`strongroom.trust`.

Database work runs in threads; nothing here blocks the loop. A certificate is looked up anew with each request, so a
revocation is in force with the next one, on connections that are open already too.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from cryptography import x509
from sqlalchemy import Connection, Engine

from strongroom.audit import Actor, ActorKind
from strongroom.core.clock import Clock, to_ns
from strongroom.core.errors import NotFoundError, StrongroomError
from strongroom.core.ids import DomainId
from strongroom.database import read, transact
from strongroom.formats import peer_messages as wire
from strongroom.formats.peer_messages import DomainRecord, ExchangeRecord
from strongroom.pki import messages, names, registry, revocation
from strongroom.pki.ca import IssuerKind, load_certificate, to_der
from strongroom.pki.errors import RetiredError, RevokedError
from strongroom.pki.fingerprint import Fingerprint
from strongroom.pki.roles import Role
from strongroom.pki.tls import peer_certificate
from strongroom.services.primary.limits import RateLimit
from strongroom.services.record_http import PROBLEM_TYPE, read_body
from strongroom.trust import home, store
from strongroom.trust.call import DOMAIN_PATH, EXCHANGE_PATH, TRUST_PATH
from strongroom.trust.errors import NotAPrimaryError, RemovedError
from strongroom.trust.exchange import Exchange
from strongroom.trust.home import OurDomain
from strongroom.trust.making import TrustMaker
from strongroom.trust.state import Decision

CRL_TYPE: Final = "application/pkix-crl"
_ISSUER: Final = re.compile(r"[0-9a-f]{64}")

Translate = Callable[[web.Request], Awaitable[web.Response]]


@dataclass(frozen=True)
class PeerRoutes:
    """What the routes translate to.

    Args:
        engine: the primary's database.
        ours: its domain.
        maker: accepts requests for trust.
        exchange: answers exchanges.
        clock: told to callers.
        limit: for the routes that need no certificate.
    """

    engine: Engine
    ours: OurDomain
    maker: TrustMaker
    exchange: Exchange
    clock: Clock
    limit: RateLimit

    def table(self) -> list[web.RouteDef]:
        """Give the routes, for an application whose ``client_max_size`` is at least 1 MiB."""
        return [
            web.get(messages.CA_PATH, _told_as_problem(self._limited(self._ca))),
            web.get(messages.CRL_PATH + "/{issuer}", _told_as_problem(self._limited(self._crl))),
            web.get(DOMAIN_PATH, self._told(self._limited(self._domain))),
            web.post(TRUST_PATH, self._told(self._limited(self._trust))),
            web.post(EXCHANGE_PATH, self._told(self._exchange)),
        ]

    def _limited(self, translate: Translate) -> Translate:
        async def limited(request: web.Request) -> web.Response:
            self.limit.count(request.remote or "")
            return await translate(request)

        return limited

    def _told(self, translate: Translate) -> Translate:
        """Tell refusals as records."""

        async def told(request: web.Request) -> web.Response:
            try:
                return await translate(request)
            except StrongroomError as error:
                return await asyncio.to_thread(self._refusal, error, None)

        return told

    def _refusal(self, error: StrongroomError, peer: DomainId | None) -> web.Response:
        with read(self.engine) as connection:
            record = self.exchange.error_record(connection, error, peer)
        return web.Response(status=error.http_status, body=wire.encode(record), content_type=wire.CONTENT_TYPE)

    async def _ca(self, _request: web.Request) -> web.Response:
        def load() -> list[x509.Certificate]:
            with read(self.engine) as connection:
                kinds = (IssuerKind.HOSTS, IssuerKind.FOREIGN)
                return [item for kind in kinds for item in registry.believed_authorities(connection, kind)]

        issuers = await asyncio.to_thread(load)
        document = messages.CADocument(
            product=messages.PRODUCT,
            domain=self.ours.domain.hex(),
            name=self.ours.name,
            roots=list(self.ours.roots),
            issuers=[to_der(issuer) for issuer in issuers],
            time=int(self.clock.now().timestamp()),
        )
        return web.Response(body=messages.encode(document), content_type="application/json")

    async def _domain(self, _request: web.Request) -> web.Response:
        statement = await asyncio.to_thread(
            transact, self.engine, lambda connection: home.publish(connection, self.ours, self.clock)
        )
        record = DomainRecord(roots=self.ours.roots, statement=statement, time=to_ns(self.clock.now()))
        return web.Response(body=wire.encode(record), content_type=wire.CONTENT_TYPE)

    async def _crl(self, request: web.Request) -> web.Response:
        issuer = request.match_info["issuer"]
        if not _ISSUER.fullmatch(issuer):
            raise NotFoundError("an issuer is named by the 64 hexadecimal digits of its fingerprint")

        def load() -> bytes:
            with read(self.engine) as connection:
                return revocation.current_crl(connection, Fingerprint(bytes.fromhex(issuer)))

        return web.Response(body=await asyncio.to_thread(load), content_type=CRL_TYPE)

    async def _trust(self, request: web.Request) -> web.Response:
        body = await read_body(request, wire.MAX_INTRODUCTION_BYTES)
        actor = Actor(ActorKind.ANONYMOUS, "", request.remote or "")
        answer = await asyncio.to_thread(self.maker.accept, body, actor)
        return web.Response(body=answer, content_type=wire.CONTENT_TYPE)

    async def _exchange(self, request: web.Request) -> web.Response:
        transport = request.transport
        shown = peer_certificate(transport.get_extra_info("ssl_object") if transport else None)
        body = await read_body(request, wire.MAX_RECORD_BYTES)
        return await asyncio.to_thread(self._exchange_in_thread, shown, body)

    def _exchange_in_thread(self, shown: bytes, body: bytes) -> web.Response:
        # Its chain was verified by the listener: our own CA has said whose it is.
        claimed = names.read_identity(load_certificate(shown)).home
        peer = claimed if claimed != self.ours.domain else None
        try:
            record = wire.decode(body, ExchangeRecord)
            answer = transact(self.engine, lambda connection: self._handle(connection, shown, record))
        except StrongroomError as error:
            return self._refusal(error, peer)
        if isinstance(answer, StrongroomError):
            return self._refusal(answer, peer)
        return web.Response(body=wire.encode(answer), content_type=wire.CONTENT_TYPE)

    def _handle(self, connection: Connection, shown: bytes, record: ExchangeRecord) -> ExchangeRecord | StrongroomError:
        try:
            caller = registry.identify(connection, shown, now=self.clock.now())
        except (RetiredError, RevokedError) as error:
            known = store.find_peer(connection, names.read_identity(load_certificate(shown)).home)
            if known is not None and known.trust.ours is Decision.REMOVED:
                raise RemovedError(f"the trust with '{known.name}' was removed here") from error
            raise
        if caller.host.role is not Role.FOREIGN_PRIMARY:
            raise NotAPrimaryError(f"'{caller.host.label}' is a '{caller.host.role}', not another domain's primary")
        return self.exchange.handle(connection, caller.host.home, record)


def _told_as_problem(translate: Translate) -> Translate:
    """Tell refusals as the protocol of enrolment does, which these routes belong to."""

    async def told(request: web.Request) -> web.Response:
        try:
            return await translate(request)
        except StrongroomError as error:
            problem = messages.Problem(code=error.code, detail=error.message, hint=error.hint)
            body = messages.encode(problem)
            return web.Response(status=error.http_status, body=body, content_type=PROBLEM_TYPE)

    return told
