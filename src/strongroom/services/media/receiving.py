"""Images that media servers of other domains send: ``GET /v1/replication``, a WebSocket."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from aiohttp import WSCloseCode, web

from strongroom.core.errors import StrongroomError, UnavailableError
from strongroom.core.ids import DomainId, HostId, KeyTag, MediumId, to_text
from strongroom.replication.pools import ReceivingPool
from strongroom.replication.ports import Offered, Receiving
from strongroom.replication.receiver import ReceiverSession
from strongroom.services import sending_messages
from strongroom.services.media.beat import write_fragment
from strongroom.services.media.callers import Callers
from strongroom.services.media.channel import PATH, Channel, accepted_socket, run_receiver
from strongroom.services.media.jobs import JobThread, MediaServer
from strongroom.services.media.pools import Pools

logger = logging.getLogger(__name__)

MAX_SESSIONS: Final = 16


class BusyError(UnavailableError):
    """As many sessions run as may."""

    code = "media.busy"
    default_hint = "the job tries again by itself"


class PrimaryAuthority:
    """The own primary, as a receiving session sees it.

    Args:
        server: what it works with.
        host: the sender's media server, by its certificate.
    """

    def __init__(self, server: MediaServer, host: HostId) -> None:
        self._server = server
        self._host = host
        self._receipt: bytes | None = None
        self._followed = 0

    def begin(self, offered: Offered) -> Receiving:
        """Ask whether the image may come."""
        answer = self._server.primary.receive(
            sending_messages.Receive(
                sender=offered.sender,
                host=self._host,
                credential=offered.credential,
                secret=offered.secret,
                sending=offered.sending,
                hop=offered.hop,
                copy_header=offered.copy.copy.data,
            )
        )
        medium = MediumId(answer.medium)
        self._server.pools.current(medium)
        self._followed = self._server.pools.followed(medium)
        return Receiving(answer.session, medium)

    def commit(self, receiving: Receiving, tags: Sequence[KeyTag], frames: int, frame_bytes: int) -> None:
        """Have the own copy header signed, write it, and say so."""
        told = self._server.primary.commit_received(
            sending_messages.CommitReceived(
                session=receiving.session,
                tags=list(tags),
                frames=frames,
                frame_bytes=frame_bytes,
                followed=self._followed,
            )
        )
        self._receipt = write_fragment(self._server.pools, self._server.primary, told).receipt

    def receipt(self, receiving: Receiving) -> bytes | None:  # noqa: ARG002 - of the one session
        """Give the receipt, if the primary gave it at once."""
        return self._receipt


@dataclass
class ReceiveRoute:
    """Takes images that other domains' media servers send.

    Args:
        domain: the own domain.
        server: what it works with.
        callers: tells who calls.
    """

    domain: DomainId
    server: MediaServer
    callers: Callers
    _channels: set[Channel] = field(default_factory=set)

    def table(self) -> list[web.RouteDef]:
        """Give the route."""
        return [web.get(PATH, self._receive, allow_head=False)]

    async def close(self) -> None:
        """Break all sessions off; what came is kept, and they are begun again."""
        for channel in list(self._channels):
            await channel.close()

    async def _receive(self, request: web.Request) -> web.WebSocketResponse:
        caller, check = self.callers.foreign(request), self.callers.check_of(request)
        if len(self._channels) >= MAX_SESSIONS:
            raise BusyError(f"{MAX_SESSIONS} replication sessions run already")
        socket = accepted_socket()
        await socket.prepare(request)
        channel = Channel(socket)
        self._channels.add(channel)
        facts = {"sender": caller.home.hex(), "host": to_text(caller.host)}
        logger.info("an image is offered", extra={"event": "receiving-began", **facts})
        pool = LatePool(self.server.pools)
        session = ReceiverSession(self.domain, caller.home, pool.open, PrimaryAuthority(self.server, caller.host))
        try:
            async with JobThread("receive") as thread:
                await thread.start(lambda: run_receiver(session, pool, channel, check))
            logger.info("an image was received", extra={"event": "received", **_counted(session), **facts})
            await socket.close(code=WSCloseCode.OK)
        except StrongroomError as error:
            # told to the sender in the session's own words already, if there is still a connection
            logger.warning(
                "an image was not received: %s",
                error.message,
                extra={"event": "not-received", "code": error.code, **_counted(session), **facts},
            )
        finally:
            self._channels.discard(channel)
            await channel.close()
        return socket


def _counted(session: ReceiverSession) -> dict[str, int]:
    received = session.received
    return {"frames": received.frames, "frames_here": received.frames_here, "bytes": received.frame_bytes}


class LatePool:
    """The pool of a receiving session, which is known when the primary has named it."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self._pool: ReceivingPool | None = None

    def open(self, medium: MediumId) -> ReceivingPool:
        """Take the pool that the primary names."""
        self._pool = ReceivingPool(self._pools.current(medium))
        return self._pool

    def flush(self) -> None:
        """Keep what came."""
        if self._pool is not None:
            self._pool.flush()

    def abort(self) -> None:
        """Drop what is not durable."""
        if self._pool is not None:
            self._pool.abort()
