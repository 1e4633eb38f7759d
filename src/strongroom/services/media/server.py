"""The media server's process: identity, beat, listeners, and an orderly end."""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import dataclass
from typing import Final

import msgspec
from aiohttp import web

from strongroom.core.clock import Clock
from strongroom.core.entropy import Entropy
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import DomainId
from strongroom.pki import messages as pki_messages
from strongroom.pki.ca import load_certificate
from strongroom.pki.channel import Address, open_channel
from strongroom.pki.errors import NotStrongroomError
from strongroom.pki.names import read_identity
from strongroom.pki.tls import ServerTLS, client_context
from strongroom.replication.pace import Pace
from strongroom.services.identity import Held, Identities
from strongroom.services.media.attending import Attending, Sessions
from strongroom.services.media.backup_routes import BackupRoutes
from strongroom.services.media.beat import Beat
from strongroom.services.media.callers import Callers
from strongroom.services.media.clients import Door, HelloRoute, of_this_host
from strongroom.services.media.collecting import CollectRoute
from strongroom.services.media.errors import NoIdentityError
from strongroom.services.media.jobs import MediaServer
from strongroom.services.media.mount_routes import MountRoutes
from strongroom.services.media.pools import Pools
from strongroom.services.media.primary import PatientPrimary, PrimaryClient
from strongroom.services.media.receiving import ReceiveRoute
from strongroom.services.media.restore_routes import RestoreRoutes
from strongroom.services.media.scrubbing import ScrubRoute
from strongroom.services.media.sending import SendRoute
from strongroom.services.media.work_routes import WorkRoutes
from strongroom.services.record_http import RecordClient, tell_errors
from strongroom.services.stopping import Stopping
from strongroom.settings.domain import split_address
from strongroom.settings.home import Home
from strongroom.settings.media_host import MediaHost

logger = logging.getLogger(__name__)

CERTIFICATES: Final = "certificates"
REVOCATION_LISTS: Final = "crls"
BUCKETS: Final = "buckets"
_FIRST_RETRY_SECONDS: Final = 0.5
_MOST_RETRY_SECONDS: Final = 10.0
_READ_BYTES: Final = 1 << 20
_STOP_SECONDS: Final = 10.0


def own_identity(identities: Identities) -> Held:
    """Find the certificate that this host's own domain issued to it.

    Raises:
        NoIdentityError: there is none.
        DamagedError: a certificate file was changed.
    """
    for domain in identities.domains():
        held = identities.get(domain)
        if read_identity(load_certificate(held.credential.chain[0])).home == domain:
            return held
    raise NoIdentityError("this host has no certificate of its own domain")


@dataclass
class _Parts:
    """What the process is made of."""

    own: Held
    identities: Identities
    callers: Callers
    server: MediaServer
    beat: Beat
    attending: Attending
    tls: ServerTLS
    receive: ReceiveRoute
    send: SendRoute

    @classmethod
    def make(cls, home: Home, settings: MediaHost, clock: Clock, entropy: Entropy) -> _Parts:
        identities = Identities(home.media / CERTIFICATES)
        own = own_identity(identities)
        domain = own.domain
        context = client_context(own.roots, own.credential)
        client, uploads = (RecordClient(_primary_address(settings), context, domain, primary=True) for _ in range(2))
        primary, patient = PrimaryClient(client, uploads), PatientPrimary(client, uploads, clock)
        pools, sessions = Pools(domain, home.media / BUCKETS, patient, clock, entropy), Sessions()
        callers = Callers(domain, own.roots, home.media / REVOCATION_LISTS, clock)
        server = MediaServer(primary, pools, clock, patient, sessions)
        return cls(
            own=own,
            identities=identities,
            callers=callers,
            server=server,
            beat=Beat(
                primary,
                pools,
                callers,
                settings.times.beat,
                address=settings.address,
                socket=str(home.media_socket),
            ),
            attending=Attending(primary, sessions),
            tls=ServerTLS(own.credential, own.roots),
            receive=ReceiveRoute(domain, server, callers),
            send=SendRoute(domain, server, identities, Pace(clock)),
        )

    def took_certificate(self, domain: DomainId) -> None:
        """Serve with a renewed certificate of the own domain."""
        if domain == self.own.domain:
            renewed = self.identities.get(domain)
            self.tls.replace(renewed.credential, renewed.roots)


async def serve(home: Home, settings: MediaHost, clock: Clock, entropy: Entropy, stopping: Stopping) -> None:
    """Serve until told to stop.

    Nobody is answered before the primary has been heard once: until then nothing says who may ask.

    Args:
        home: the domain's home on this host.
        settings: of this media server.
        clock: for everything that is written.
        entropy: for everything that is written.
        stopping: tells when, and is told when the listeners are open.

    Raises:
        NoIdentityError: the host is not enrolled.
        OSError: an address cannot be listened at.
    """
    stopping.install()
    parts = _Parts.make(home, settings, clock, entropy)
    learning = asyncio.create_task(_until_known(parts, settings))
    await stopping.wait(learning)
    if not learning.done():
        learning.cancel()
        return
    learning.result()
    runners = [_peer_runner(parts), _client_runner(parts)]
    for runner in runners:
        await runner.setup()
    talking = [
        threading.Thread(target=parts.beat.run, name="beat", daemon=True),
        threading.Thread(target=parts.attending.run, name="attend", daemon=True),
    ]
    try:
        await _listen(runners[0], runners[1], home, settings, parts.tls)
        for thread in talking:
            thread.start()
        logger.info("the media server is ready", extra={"event": "ready", "domain": parts.own.domain.hex()})
        stopping.ready()
        await stopping.wait()
    finally:
        logger.info("the media server stops", extra={"event": "stopping"})
        parts.beat.stop()
        parts.attending.stop()
        parts.server.patient.stop()
        await parts.receive.close()
        for runner in runners:
            await runner.cleanup()
        home.media_socket.unlink(missing_ok=True)
        for thread in talking:
            if thread.is_alive():
                await asyncio.to_thread(thread.join, _STOP_SECONDS)
        parts.server.pools.close()
        parts.server.primary.close()


async def _until_known(parts: _Parts, settings: MediaHost) -> None:
    """Ask the primary for its issuers, and beat, until both worked once."""
    wait = _FIRST_RETRY_SECONDS
    while True:
        try:
            await asyncio.to_thread(_learn_issuers, parts, settings)
            await asyncio.to_thread(parts.beat.once)
            await asyncio.to_thread(parts.attending.begin)
        except StrongroomError as error:
            logger.warning(
                "the primary does not answer yet: %s",
                error.message,
                extra={"event": "waiting-for-primary", "code": error.code},
            )
            await asyncio.sleep(wait)
            wait = min(2 * wait, _MOST_RETRY_SECONDS)
        else:
            return


def _learn_issuers(parts: _Parts, settings: MediaHost) -> None:
    own = parts.own
    context = client_context(own.roots, own.credential)
    with open_channel(_primary_address(settings), context, primary_of=own.domain) as channel:
        try:
            document = pki_messages.decode(channel.get(pki_messages.CA_PATH), pki_messages.CADocument)
        except msgspec.DecodeError as error:
            raise NotStrongroomError("the primary answers with something that is no CA document") from error
    parts.callers.trust(list(document.issuers))


async def _listen(peer: web.AppRunner, clients: web.AppRunner, home: Home, settings: MediaHost, tls: ServerTLS) -> None:
    home.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    home.run.chmod(0o700)
    home.media_socket.unlink(missing_ok=True)
    address, port = split_address(settings.listen)
    await web.TCPSite(peer, address, port, ssl_context=tls.context).start()
    await web.UnixSite(clients, str(home.media_socket)).start()


def _peer_runner(parts: _Parts) -> web.AppRunner:
    """Make the listener for the own primary, other domains' media servers, and clients on other hosts."""
    application = web.Application(middlewares=[tell_errors])
    work = WorkRoutes(
        parts.server,
        parts.callers,
        parts.identities,
        parts.send,
        CollectRoute(parts.server),
        ScrubRoute(parts.server),
        parts.took_certificate,
    )
    application.add_routes([*work.table(), *parts.receive.table(), *_client_routes(parts.server, parts.callers.client)])
    return web.AppRunner(application, access_log=None, shutdown_timeout=_STOP_SECONDS, read_bufsize=_READ_BYTES)


def _client_runner(parts: _Parts) -> web.AppRunner:
    """Make the listener for clients of this host."""
    application = web.Application(middlewares=[tell_errors])
    application.add_routes(_client_routes(parts.server, of_this_host))
    return web.AppRunner(application, access_log=None, shutdown_timeout=_STOP_SECONDS, read_bufsize=_READ_BYTES)


def _client_routes(server: MediaServer, door: Door) -> list[web.RouteDef]:
    routes = (HelloRoute(door), BackupRoutes(server, door), RestoreRoutes(server, door), MountRoutes(server, door))
    return [route for some in routes for route in some.table()]


def _primary_address(settings: MediaHost) -> Address:
    return Address(*split_address(settings.primary))
