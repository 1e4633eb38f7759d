"""A primary, running: listeners, jobs, talk with peers, and what has to be looked at now and then."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

from aiohttp import web
from sqlalchemy import Connection

from strongroom.api.app import create_app
from strongroom.api.errors import CannotListenError
from strongroom.api.listener import people_server, people_tls
from strongroom.api.parts import Parts
from strongroom.catalog.copies import abandon_lapsed
from strongroom.catalog.file_list import sweep
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import DomainId
from strongroom.database import read, transact
from strongroom.jobs import Intervals, JobEngine
from strongroom.lifecycle import replications
from strongroom.lifecycle.policies import policies_naming
from strongroom.people.sessions import Door
from strongroom.pki import revocation
from strongroom.pki.fingerprint import fingerprint_of
from strongroom.pki.tls import ServerTLS
from strongroom.replication import credentials, targets
from strongroom.services.primary import client_ports, media_ports, ports, session_socket
from strongroom.services.primary.client_work import ClientWork
from strongroom.services.primary.collecting import Collecting
from strongroom.services.primary.enrol_routes import EnrolRoutes
from strongroom.services.primary.expiring import Expiring
from strongroom.services.primary.image_work import ImageWork
from strongroom.services.primary.key_desk import KeyDesk
from strongroom.services.primary.limits import RateLimit
from strongroom.services.primary.media_client import MediaClients
from strongroom.services.primary.media_desk import MediaDesk
from strongroom.services.primary.media_routes import MediaRoutes
from strongroom.services.primary.opening import Primary
from strongroom.services.primary.peer_routes import PeerRoutes
from strongroom.services.primary.peers import Talk, peer_handlers
from strongroom.services.primary.pool_work import PoolWork
from strongroom.services.primary.receiving import Receiving
from strongroom.services.primary.replanning import Replanning
from strongroom.services.primary.scrubbing import Scrubbing
from strongroom.services.primary.session_socket import SessionSocket
from strongroom.services.record_http import tell_errors
from strongroom.services.stopping import Stopping
from strongroom.settings.domain import split_address
from strongroom.trust import home as trust_home
from strongroom.trust import store as trust_store
from strongroom.trust.check import TrustChecker
from strongroom.trust.decisions import Dependant, TrustDesk
from strongroom.trust.exchange import Exchange
from strongroom.trust.making import TrustMaker

logger = logging.getLogger(__name__)

MAX_RECORD_BYTES: Final = 16 << 20
HOUSEKEEPING_SECONDS: Final = 5.0
STOP_SECONDS: Final = 5.0
"""For requests that are under way; the supervisor waits longer before it kills."""


class Running:
    """Joins the parts of a primary, and runs them until it is told to stop.

    Args:
        primary: open.
    """

    def __init__(self, primary: Primary) -> None:
        self._primary = primary
        self._media = MediaClients(primary)
        self._images = ImageWork(primary, self._media)
        self._pools = PoolWork(primary, self._media, self._images)
        self._exchange = Exchange(primary.ours, primary.clock, primary.entropy, peer_handlers(primary))
        self._talk = Talk(primary, self._exchange)
        self._clients = ClientWork(primary, self._images.acknowledged)
        self._receiving = Receiving(primary, self._images.acknowledged, self._talk.send_receipt)
        self._replanning = Replanning(primary, self._images)
        self._expiring = Expiring(primary, self._media)
        self._collecting = Collecting(primary, self._media)
        self._scrubbing = Scrubbing(primary, self._media, self._images)
        self._images.arrived = self._receiving
        self._images.say_soon = self._talk.soon
        self._engine = JobEngine(
            primary.engine,
            {
                **self._images.handlers(),
                **self._pools.handlers(),
                **self._expiring.handlers(),
                **self._collecting.handlers(),
                **self._scrubbing.handlers(),
            },
            [
                *self._images.queues(),
                *self._pools.queues(),
                *self._expiring.queues(),
                *self._collecting.queues(),
                *self._scrubbing.queues(),
            ],
            primary.clock,
            primary.entropy,
            Intervals(),
        )
        self._maker = TrustMaker(
            primary.engine, primary.ours, primary.registrar, primary.keys, primary.clock, primary.entropy
        )
        self._door = Door(primary.engine, primary.clock, primary.entropy)
        self._told_kms = False
        self._parts_of_rest: Parts | None = None
        self._done = threading.Event()

    async def run(self, stopping: Stopping) -> None:
        """Run until stopping is asked for; everything is closed when this returns.

        Raises:
            CannotListenError: an address is in use.
        """
        primary = self._primary
        transact(primary.engine, lambda c: trust_home.begin(c, primary.entropy))
        trust_store.sweep_keys(primary.engine, primary.keys)
        with read(primary.engine) as connection:
            sweep(connection, primary.file_lists)
        self._housekeep()
        async with AsyncExitStack() as opened:
            opened.callback(self._media.close)
            self._engine.start()
            opened.push_async_callback(asyncio.to_thread, self._engine.stop)
            self._talk.start()
            opened.push_async_callback(asyncio.to_thread, self._talk.stop)
            await self._open_listeners(opened)
            self._parts_of_rest = self._parts()
            people = people_server(
                create_app(self._parts_of_rest),
                *split_address(primary.settings.primary.listen_people),
                people_tls(self._primary.own_identity().credential),
            )
            serving = asyncio.create_task(people.serve())
            keeping = threading.Thread(target=self._keep_house, name="housekeeping", daemon=True)
            keeping.start()
            try:
                await people.listening(serving)
                stopping.ready()
                await stopping.wait(serving)
            finally:
                self._done.set()
                people.should_exit = True
                await asyncio.gather(serving, return_exceptions=True)
                await asyncio.to_thread(keeping.join, STOP_SECONDS)

    # ------------------------------------------------------------ listeners

    async def _open_listeners(self, opened: AsyncExitStack) -> None:
        primary = self._primary
        limit = RateLimit(primary.clock)
        peers = PeerRoutes(primary.engine, primary.ours, self._maker, self._exchange, primary.clock, limit)
        enrolment = EnrolRoutes(primary.registrar, limit)
        keys = KeyDesk(primary, self._clients, self._images)
        desk = MediaDesk(primary, self._clients, self._receiving)
        media = MediaRoutes(primary, self._clients, keys, desk, self._images, self._receiving)
        application = web.Application(middlewares=[tell_errors], client_max_size=MAX_RECORD_BYTES)
        application.add_routes([*peers.table(), *enrolment.table(), *media.table()])
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=STOP_SECONDS)
        opened.push_async_callback(runner.cleanup)
        await runner.setup()
        host, port = split_address(primary.settings.primary.listen_peer)
        try:
            await web.TCPSite(runner, host, port, ssl_context=self._peer_tls().context).start()
        except OSError as error:
            raise CannotListenError(f"'{host}:{port}' cannot be listened at: {error.strerror}") from error
        session_socket.prepare(primary.home.session_socket)
        opened.callback(primary.home.session_socket.unlink, missing_ok=True)
        sessions = web.AppRunner(
            SessionSocket(primary, self._door).application(), access_log=None, shutdown_timeout=STOP_SECONDS
        )
        opened.push_async_callback(sessions.cleanup)
        await sessions.setup()
        await web.UnixSite(sessions, str(primary.home.session_socket)).start()
        primary.home.session_socket.chmod(0o666)  # the folder is private; who may enter it, the kernel tells by uid

    def _peer_tls(self) -> ServerTLS:
        return ServerTLS(self._primary.own_identity().credential, [self._primary.root])

    def _parts(self) -> Parts:
        primary = self._primary
        queries = ports.PeerQueries(self._talk)
        parts = Parts(
            engine=primary.engine,
            ours=primary.ours,
            door=self._door,
            kms=None,
            maker=self._maker,
            desk=TrustDesk(primary.engine, primary.clock, self._dependants),
            checker=TrustChecker(primary.engine, self._exchange, primary.keys, primary.clock),
            jobs=primary.jobs,
            file_lists=primary.file_lists,
            media=media_ports.Media(primary, self._media, self._collecting, self._scrubbing),
            backups=client_ports.Backups(primary, self._clients, self._media),
            restores=client_ports.Restores(primary, self._clients, self._media),
            imports=ports.Imports(primary, self._images),
            images=ports.Images(primary, self._images, self._expiring),
            pools=ports.Pools(primary, self._pools),
            credentials=ports.Credentials(primary),
            targets=ports.Targets(primary, queries),
            peers=queries,
            sign_ins=RateLimit(primary.clock),
            clock=primary.clock,
            entropy=primary.entropy,
            started=primary.clock.now(),
        )
        try:
            parts.kms = primary.kms.management
        except StrongroomError as error:
            logger.warning("the keystore is locked", extra={"event": "keystore-locked", "code": error.code})
            parts.lock = error
        return parts

    def _dependants(self, connection: Connection, peer: DomainId) -> Sequence[Dependant]:
        """Name what stops working when a trust goes."""
        waiting = replications.unconfirmed(connection, target=peer, limit=100)
        return [
            *(Dependant("SLP", name) for name in policies_naming(connection, peer)),
            *(Dependant("storage target", t.name) for t in targets.list_all(connection) if t.domain == peer),
            *(
                Dependant("storage credential", one.name)
                for one in credentials.list_all(connection)
                if one.sender == peer and one.revoked is None
            ),
            *(Dependant("pending copy", row.image.hex()) for row in waiting),
        ]

    # ------------------------------------------------------------ now and then

    def _keep_house(self) -> None:
        while not self._done.wait(HOUSEKEEPING_SECONDS):
            self._housekeep()

    def _housekeep(self) -> None:
        """Do what is due by time; whatever fails is tried again at the next round."""
        for task in (
            self._issue_crls,
            self._end_lapsed,
            self._replanning.go_on,
            self._refresh_keys,
            self._expiring.go_on,
            self._collecting.go_on,
            self._scrubbing.go_on,
        ):
            try:
                task()
            except StrongroomError as error:
                facts = {"event": "housekeeping-failed", "task": task.__qualname__, "code": error.code}
                logger.warning("housekeeping failed", extra=facts)
            except Exception:  # noqa: BLE001, RUF100 - a defect in one task must not end all of them
                facts = {"event": "housekeeping-defect", "task": task.__qualname__}
                logger.exception("housekeeping has a defect", extra=facts)

    def _issue_crls(self) -> None:
        primary = self._primary
        by_fingerprint = {fingerprint_of(a.certificate): a for a in primary.authorities.values()}

        def deed(connection: Connection) -> None:
            for due in revocation.crls_due(connection, now=primary.clock.now()):
                if due in by_fingerprint:
                    revocation.issue_crl(connection, by_fingerprint[due], now=primary.clock.now())

        transact(primary.engine, deed)

    def _end_lapsed(self) -> None:
        self._clients.end_unattended()
        transact(self._primary.engine, lambda c: abandon_lapsed(c, now=self._primary.clock.now()))

    def _refresh_keys(self) -> None:
        """Hear of keys that another process brought into the keystore."""
        try:
            kms = self._primary.kms.management
        except StrongroomError as error:
            if self._parts_of_rest is not None:
                self._parts_of_rest.lock = error
            raise
        if not self._told_kms:
            kms.on_usable(self._images.key_became_usable)
            self._told_kms = True
            if self._parts_of_rest is not None:
                self._parts_of_rest.kms = kms  # the keystore was locked when the primary started
            self._images.settle_keys()
        kms.refresh()
