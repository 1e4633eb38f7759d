"""Real TLS on loopback: who gets in, and who finds out what (T1, T4, T5)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from sqlalchemy import Connection

from strongroom.core.errors import RefusedError, StrongroomError
from strongroom.core.ids import HostId, from_text, to_text
from strongroom.core.secret import Secret
from strongroom.database import open_engine, read, transact
from strongroom.pki import bootstrap, keys, messages, registry, revocation, tls
from strongroom.pki.ca import Authority, to_der
from strongroom.pki.channel import Address, open_channel
from strongroom.pki.crl import CRLStore
from strongroom.pki.enrol import Application
from strongroom.pki.errors import (
    ClockSkewError,
    NotStrongroomError,
    NotThePrimaryError,
    RemoteError,
    RevokedError,
    TokenUsedUpError,
    UnreachableError,
    WrongFingerprintError,
    WrongNameError,
)
from strongroom.pki.fingerprint import Fingerprint, read_pin
from strongroom.pki.roles import Role
from strongroom.settings.system import SystemClock
from tests.support.databases import copy_tables
from tests.support.domains import ADMIN, CA, Domain

CLOCK = SystemClock()
PEER_HOST = HostId(b"p" * 16)


@dataclass
class Listener:
    """A peer listener of a primary, as a service builds it: one port, some routes without certificate."""

    domain: Domain
    tls: tls.ServerTLS
    clock_ahead: timedelta = timedelta(0)
    bodies: list[bytes] = field(default_factory=list)
    port: int = 0
    refusal: StrongroomError | None = None

    @property
    def address(self) -> Address:
        return Address("localhost", self.port)

    async def ca(self, _request: web.Request) -> web.Response:
        ca = self.domain.ca
        document = messages.CADocument(
            product=messages.PRODUCT,
            domain=ca.domain.hex(),
            name="one",
            roots=[to_der(ca.root.certificate)],
            issuers=[to_der(ca.hosts.certificate), to_der(ca.foreign.certificate)],
            time=int((CLOCK.now() + self.clock_ahead).timestamp()),
        )
        return web.Response(body=messages.encode(document), content_type="application/json")

    async def enrol(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.bodies.append(body)
        if self.refusal is not None:
            raise self.refusal
        asked = messages.decode(body, messages.EnrolRequest)
        application = Application(
            Secret(asked.token.encode()), asked.request, Role(asked.role), asked.label, tuple(asked.names)
        )
        issued = await asyncio.to_thread(self.domain.registrar.enrol, application, ADMIN)
        answer = messages.IssuedDocument(
            home=issued.host.home.hex(), host=to_text(issued.host.id), chain=list(issued.chain)
        )
        return web.Response(body=messages.encode(answer), content_type="application/json")

    async def who(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        shown = tls.peer_certificate(request.transport.get_extra_info("ssl_object"))

        def identify() -> registry.RegisteredHost:
            with read(self.domain.engine) as connection:
                return registry.identify(connection, shown, now=CLOCK.now())

        known = await asyncio.to_thread(identify)
        return web.Response(text=f"{known.host.role} {to_text(known.host.id)}")


@web.middleware
async def problems(request: web.Request, handler: object) -> web.StreamResponse:
    try:
        return await handler(request)  # type: ignore[operator,no-any-return]
    except StrongroomError as error:
        problem = messages.Problem(code=error.code, detail=error.message, hint=error.hint)
        return web.Response(body=messages.encode(problem), status=error.http_status)


@contextlib.contextmanager
def serving(listener: Listener) -> Iterator[Listener]:
    """Run the listener in a thread of its own, so that synchronous callers can be tested."""
    loop = asyncio.new_event_loop()
    started = threading.Event()

    async def start() -> web.AppRunner:
        app = web.Application(middlewares=[problems])
        app.router.add_get(messages.CA_PATH, listener.ca)
        app.router.add_post(messages.ENROL_PATH, listener.enrol)
        app.router.add_get("/v1/who", listener.who)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=listener.tls.context)
        await site.start()
        listener.port = runner.addresses[0][1]
        started.set()
        return runner

    runner: list[web.AppRunner] = []

    def run() -> None:
        asyncio.set_event_loop(loop)
        runner.append(loop.run_until_complete(start()))
        loop.run_forever()
        loop.run_until_complete(runner[0].cleanup())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    started.wait(10)
    try:
        yield listener
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


@pytest.fixture
def domain(tmp_path: Path) -> Iterator[Domain]:
    copy_tables(tmp_path / "db")
    engine = open_engine(f"sqlite:///{tmp_path / 'db'}")
    yield Domain(1, engine, CLOCK)
    engine.dispose()


@pytest.fixture
def listener(domain: Domain) -> Iterator[Listener]:
    _, credential = domain.admit_primary()
    with serving(Listener(domain, tls.ServerTLS(credential, [domain.ca.root.certificate]))) as listener:
        yield listener


async def ask(
    listener: Listener,
    credential: tls.Credential | None,
    *,
    root: Authority | None = None,
    name: str = "localhost",
) -> tuple[int, str]:
    context = tls.client_context([(root or listener.domain.ca.root).certificate], credential)
    url = f"https://{name}:{listener.port}/v1/who"
    async with aiohttp.ClientSession() as session, session.get(url, ssl=context) as response:
        return response.status, await response.text()


def refused(listener: Listener, refusal: StrongroomError) -> StrongroomError:
    """Ask the listener for a certificate, which it refuses; give what the caller is told."""
    listener.refusal = refusal
    context = tls.client_context([listener.domain.ca.root.certificate])
    asked = messages.EnrolRequest(token="t", request=b"r", role=Role.CLIENT.value, label="laptop")
    with open_channel(listener.address, context) as channel, pytest.raises(StrongroomError) as caught:
        channel.post(messages.ENROL_PATH, asked)
    return caught.value


class FromTomorrowError(RefusedError):
    """What a later release refuses with."""

    code = "pki.from-tomorrow"


def test_a_refusal_of_a_newer_program_comes_with_its_own_hint(listener: Listener) -> None:
    told = refused(listener, FromTomorrowError("the request has no moon phase", hint="wait for the full moon"))
    assert (told.code, told.hint) == ("pki.refused-there", "wait for the full moon")
    assert "'pki.from-tomorrow': the request has no moon phase" in told.message
    without = refused(listener, FromTomorrowError("the request has no moon phase"))
    assert without.hint == RemoteError.default_hint


def test_a_refusal_that_is_known_is_the_same_error_here(listener: Listener) -> None:
    told = refused(listener, TokenUsedUpError("the token 't' was used", hint="ask the other side for another"))
    assert isinstance(told, TokenUsedUpError)
    assert (told.message, told.hint) == ("the token 't' was used", "ask the other side for another")


def test_the_words_of_a_refusal_are_made_fit_to_show(listener: Listener) -> None:
    told = refused(listener, FromTomorrowError("m\x1b[2J", hint="one\ntwo\x07" + "x" * 1000))
    assert "\x1b" not in told.message
    assert told.hint == "one two " + "x" * 292


async def test_both_sides_are_authenticated(listener: Listener) -> None:
    client, credential = listener.domain.admit_client("laptop")
    assert await ask(listener, credential) == (200, f"client {to_text(client.host.id)}")


async def test_foreign_primary_gets_in_with_what_the_called_domain_issued(listener: Listener) -> None:
    """T5"""
    two = CA.make(2, CLOCK.now())
    _, credential = listener.domain.admit_foreign(two, PEER_HOST)
    assert await ask(listener, credential) == (200, f"foreign-primary {to_text(PEER_HOST)}")


async def test_caller_without_certificate_is_refused_by_the_route(listener: Listener) -> None:
    status, text = await ask(listener, None)
    assert status == 401
    assert "pki.no-certificate" in text


async def test_certificate_of_the_callers_own_domain_ends_the_handshake(listener: Listener) -> None:
    """T5: even one with the right shape."""
    two = CA.make(2, CLOCK.now())
    _, credential = two.leaf(CLOCK.now(), listens=False)
    with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
        await ask(listener, credential)


async def test_revoked_host_is_refused_at_its_next_request_on_an_open_connection(listener: Listener) -> None:
    """T9: identity is looked up for each request."""
    issued, credential = listener.domain.admit_client("laptop")
    context = tls.client_context([listener.domain.ca.root.certificate], credential)
    url = f"https://localhost:{listener.port}/v1/who"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1, ssl=context)) as session:
        async with session.get(url) as response:
            assert response.status == 200
        transact(
            listener.domain.engine,
            lambda connection: revocation.revoke_host(
                connection,
                issued.host.home,
                issued.host.id,
                x509.ReasonFlags.key_compromise,
                now=CLOCK.now(),
            ),
        )
        async with session.get(url) as response:
            assert response.status == 401
            assert "pki.certificate-revoked" in await response.text()


async def test_expired_certificate_ends_the_handshake(listener: Listener) -> None:
    _, credential = listener.domain.ca.leaf(CLOCK.now() - timedelta(days=366), listens=False)
    with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
        await ask(listener, credential)


async def test_server_of_another_domain_is_refused_by_the_caller(listener: Listener) -> None:
    two = CA.make(2, CLOCK.now())
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        await ask(listener, None, root=two.root)


async def test_older_tls_is_refused(listener: Listener) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection("127.0.0.1", listener.port, ssl=context)


def test_no_ticket_is_given(listener: Listener) -> None:
    context = tls.client_context([listener.domain.ca.root.certificate])
    with (
        socket.create_connection(("127.0.0.1", listener.port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        secured.sendall(b"GET /v1/ca HTTP/1.1\r\nHost: localhost\r\n\r\n")
        secured.recv(100)
        assert secured.version() == "TLSv1.3"
        assert secured.session is None or not secured.session.has_ticket


async def test_replaced_roots_and_certificates_hold_for_the_next_connection(listener: Listener) -> None:
    """T9: a root that was withdrawn no longer lets anybody in, without a restart."""
    _, credential = listener.domain.admit_client("laptop")
    assert (await ask(listener, credential))[0] == 200
    two = CA.make(2, CLOCK.now())
    _, new = two.leaf(CLOCK.now())
    listener.tls.replace(new, [two.root.certificate])
    _, theirs = two.leaf(CLOCK.now(), listens=False)
    assert (await ask(listener, theirs, root=two.root))[0] == 401  # through the handshake, not in the registry
    with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
        await ask(listener, credential, root=two.root)


# ---------------------------------------------------------------- bootstrap


def pin_of(domain: Domain) -> Fingerprint:
    return domain.ca.root.fingerprint


def enrol(listener: Listener, pin: Fingerprint, token: Secret) -> messages.IssuedDocument:
    _, channel = bootstrap.introduce(listener.address, pin, CLOCK)
    with channel:
        request = messages.EnrolRequest(
            token=token.reveal().decode(),
            request=keys.make_request(keys.make_host_key()),
            role="client",
            label="c",
            names=["c"],
        )
        return messages.decode(channel.post(messages.ENROL_PATH, request), messages.IssuedDocument)


def test_host_enrols_over_a_verified_connection(listener: Listener) -> None:
    token = listener.domain.token("t")
    issued = enrol(listener, read_pin(pin_of(listener.domain).words), token)
    with read(listener.domain.engine) as connection:
        known = registry.identify(connection, issued.chain[0], now=CLOCK.now())
    assert known.host.id == from_text(issued.host)
    with pytest.raises(TokenUsedUpError) as raised:
        enrol(listener, pin_of(listener.domain), token)
    assert raised.value.hint


def test_wrong_fingerprint_sends_no_token(listener: Listener) -> None:
    """T4; judged at the server: nothing was posted."""
    token = listener.domain.token("t")
    with pytest.raises(WrongFingerprintError):
        enrol(listener, Fingerprint(bytes(32)), token)
    assert listener.bodies == []


def test_impostor_who_relays_the_real_root_gets_no_token(listener: Listener) -> None:
    """The root is public, so an impostor can serve it; its own certificate does not lead there."""
    two = CA.make(2, CLOCK.now())
    _, credential = two.leaf(CLOCK.now())
    impostor = Listener(listener.domain, tls.ServerTLS(credential, [two.root.certificate]))
    with serving(impostor), pytest.raises(StrongroomError) as raised:
        enrol(impostor, pin_of(listener.domain), listener.domain.token("t"))
    assert raised.value.code == "pki.chain-refused"
    assert impostor.bodies == []


def test_media_server_of_the_pinned_domain_gets_no_token(listener: Listener) -> None:
    _, credential = listener.domain.ca.leaf(CLOCK.now(), primary=False)
    media = Listener(listener.domain, tls.ServerTLS(credential, [listener.domain.ca.root.certificate]))
    with serving(media), pytest.raises(NotThePrimaryError):
        enrol(media, pin_of(listener.domain), listener.domain.token("t"))
    assert media.bodies == []


def test_wrong_name_is_its_own_error(listener: Listener) -> None:
    _, credential = listener.domain.ca.leaf(CLOCK.now(), names=("other.example",))
    other = Listener(listener.domain, tls.ServerTLS(credential, [listener.domain.ca.root.certificate]))
    with serving(other), pytest.raises(WrongNameError):
        enrol(other, pin_of(listener.domain), listener.domain.token("t"))
    assert other.bodies == []


def test_wrong_clock_is_its_own_error(listener: Listener) -> None:
    listener.clock_ahead = timedelta(minutes=6)
    with pytest.raises(ClockSkewError, match="ahead"):
        enrol(listener, pin_of(listener.domain), listener.domain.token("t"))
    listener.clock_ahead = timedelta(minutes=-6)
    with pytest.raises(ClockSkewError, match="behind"):
        enrol(listener, pin_of(listener.domain), listener.domain.token("u"))
    assert listener.bodies == []


def test_nobody_there_and_somebody_else_there_are_two_errors() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"SSH-2.0-something\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(NotStrongroomError):
            bootstrap.fetch_ca(Address("127.0.0.1", port), CLOCK)
        thread.join()
    with pytest.raises(UnreachableError):
        bootstrap.fetch_ca(Address("127.0.0.1", port), CLOCK)


def test_server_that_was_revoked_is_refused_by_a_caller_with_the_list(listener: Listener) -> None:
    domain = listener.domain
    store = CRLStore(CLOCK)
    store.trust(domain.ca.hosts.certificate, domain.ca.root.certificate)
    with read(domain.engine) as connection:
        primary = registry.hosts(connection, role=Role.PRIMARY)[0]
        shown = registry.certificates(connection, primary.home, primary.id)[0]

    def revoke_and_list(connection: Connection) -> bytes:
        now = CLOCK.now()
        revocation.revoke_certificate(connection, shown.fingerprint, x509.ReasonFlags.superseded, now=now)
        return revocation.issue_crl(connection, domain.ca.hosts, now=now)

    store.accept(transact(domain.engine, revoke_and_list))
    pinned = bootstrap.confirm(bootstrap.fetch_ca(listener.address, CLOCK), pin_of(domain))
    bootstrap.connect(listener.address, pinned, CLOCK).close()
    with pytest.raises(RevokedError):
        bootstrap.connect(listener.address, pinned, CLOCK, crls=store)
