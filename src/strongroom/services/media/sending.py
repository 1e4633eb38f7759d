"""Images on their way to other domains: ``POST /v1/work/send-image``."""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
from dataclasses import dataclass
from typing import Final

import aiohttp
from aiohttp import web

from strongroom.core.errors import StrongroomError, to_document
from strongroom.core.ids import DomainId, ImageId, MediumId, to_text
from strongroom.formats.replication_messages import MAX_MESSAGE_BYTES
from strongroom.pki.ca import load_certificate
from strongroom.pki.channel import Address
from strongroom.pki.tls import check_server, client_context, peer_certificate
from strongroom.replication.errors import AlreadyHeldError
from strongroom.replication.pace import Pace
from strongroom.replication.pools import SendingPool
from strongroom.replication.sender import SenderSession
from strongroom.services import sending_messages
from strongroom.services.identity import Identities
from strongroom.services.media.channel import HEARTBEAT_SECONDS, PATH, Channel, run_sender
from strongroom.services.media.errors import TargetUnreachableError, WrongTargetError
from strongroom.services.media.jobs import JobThread, MediaServer
from strongroom.services.record_http import CONTENT_TYPE, piece

logger = logging.getLogger(__name__)

UPDATE_SECONDS: Final = 1.0
CONNECT_SECONDS: Final = 20.0


@dataclass
class _Sending:
    """One image on its way out: what the answer tells of it while it goes."""

    said: sending_messages.SendImage
    stop: threading.Event
    session: SenderSession | None = None

    def update(self) -> sending_messages.SendUpdate:
        """Tell how far it is."""
        if self.session is None:
            return sending_messages.SendUpdate()
        return sending_messages.SendUpdate(bytes=self.session.sent.frame_bytes, frames=self.session.sent.frames)


@dataclass(frozen=True)
class SendRoute:
    """Sends images.

    Args:
        domain: the own domain.
        server: what it works with.
        identities: certificates that other domains issued to this host.
        pace: limit of all sessions together.
    """

    domain: DomainId
    server: MediaServer
    identities: Identities
    pace: Pace

    async def send(self, request: web.Request, said: sending_messages.SendImage) -> web.StreamResponse:
        """Send an image, and answer in pieces how far it is; the last one has the outcome.

        Whoever asked stops the session by closing the connection.
        """
        response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE})
        await response.prepare(request)
        sending = _Sending(said, threading.Event())
        task = asyncio.create_task(self._run(sending))
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=UPDATE_SECONDS)
                if not task.done():
                    await response.write(piece(sending.update()))
            await response.write(piece(await self._outcome(sending, task)))
            await response.write_eof()
        finally:
            sending.stop.set()
            task.cancel()
            await asyncio.wait({task})
        return response

    async def _outcome(
        self, sending: _Sending, task: asyncio.Task[sending_messages.Sent]
    ) -> sending_messages.SendUpdate:
        said = sending.said
        facts = {"job": said.job, "image": to_text(said.image), "target": said.to.hex()}
        try:
            sent = await task
        except StrongroomError as error:
            so_far = sending.update()
            logger.warning(
                "an image was not sent: %s",
                error.message,
                extra={
                    "event": "not-sent",
                    "code": error.code,
                    "frames": so_far.frames,
                    "bytes": so_far.bytes,
                    **facts,
                },
            )
            return sending_messages.SendUpdate(document=to_document(error))
        logger.info(
            "an image was sent",
            extra={"event": "sent", "frames": sent.frames, "bytes": sent.frame_bytes, **facts},
        )
        return sending_messages.SendUpdate(bytes=sent.frame_bytes, frames=sent.frames, sent=sent)

    async def _run(self, sending: _Sending) -> sending_messages.Sent:
        said = sending.said
        context = client_context(
            [load_certificate(root) for root in said.roots], self.identities.get(DomainId(said.to)).credential
        )
        async with aiohttp.ClientSession() as http, JobThread(f"send-{said.job}") as thread:
            socket = await _dial(http, context, said)
            channel = Channel(socket)
            try:
                return await thread.start(lambda: self.run_session(sending, channel))
            finally:
                sending.stop.set()
                await channel.close()

    def run_session(self, sending: _Sending, channel: Channel) -> sending_messages.Sent:
        """Run a sending session in this thread, whoever dialled."""
        said = sending.said
        pool = self.server.pools.current(MediumId(said.medium))
        fragment = pool.fragments.read(ImageId(said.image), said.copy)
        source = SendingPool(pool, fragment.image.signer)
        session = SenderSession(
            self.domain,
            DomainId(said.to),
            fragment,
            said.hop,
            said.sending,
            (said.credential, said.secret),
            source,
        )
        sending.session = session
        try:
            run_sender(session, channel, self.pace, sending.stop)
        except AlreadyHeldError as held:
            session.receipt = held.receipt or None
        finally:
            source.close()
        sent = session.sent
        return sending_messages.Sent(
            frames=sent.frames, frame_bytes=sent.frame_bytes, pages=sent.pages, receipt=session.receipt
        )


async def _dial(
    http: aiohttp.ClientSession, context: ssl.SSLContext, said: sending_messages.SendImage
) -> aiohttp.ClientWebSocketResponse:
    """Connect to the first address of the target that answers as one of its hosts.

    Raises:
        TargetUnreachableError, WrongTargetError: of the last address.
    """
    failure: StrongroomError = TargetUnreachableError("the target has no address")
    for text in said.addresses:
        address = Address.read(text)
        try:
            socket = await asyncio.wait_for(
                http.ws_connect(
                    f"wss://{address}{PATH}",
                    ssl=context,
                    compress=0,
                    max_msg_size=MAX_MESSAGE_BYTES,
                    heartbeat=HEARTBEAT_SECONDS,
                ),
                CONNECT_SECONDS,
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            failure = TargetUnreachableError(f"'{address}' cannot be reached: {error}")
            continue
        identity = check_server(peer_certificate(socket.get_extra_info("ssl_object")))
        if identity.home == said.to:
            return socket
        await socket.close()
        failure = WrongTargetError(f"'{address}' belongs to the domain '{identity.home.hex()}'")
    raise failure
