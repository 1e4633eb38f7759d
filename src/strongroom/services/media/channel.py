"""An ordered duplex channel of messages over a WebSocket, for sessions that run in threads.

Either end may have dialled: a channel is made of an accepted WebSocket or of an opened one, and is the same.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Final, Protocol

import aiohttp
from aiohttp import web

from strongroom.formats.replication_messages import MAX_MESSAGE_BYTES
from strongroom.replication.errors import InterruptedSessionError
from strongroom.replication.pace import Pace
from strongroom.replication.receiver import ReceiverSession
from strongroom.replication.sender import SenderSession

PATH: Final = "/v1/replication"
HEARTBEAT_SECONDS: Final = 20.0
RECEIPT_SECONDS: Final = 2.0
_QUEUED: Final = 64

Check = Callable[[], object]
"""Raises when the other side may no longer be listened to."""
WebSocket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


class Keeps(Protocol):
    """What a receiving session took and is not durable yet."""

    def flush(self) -> None:
        """Make it durable."""

    def abort(self) -> None:
        """Drop it; does nothing after :meth:`flush`."""


def accepted_socket() -> web.WebSocketResponse:
    """Make the WebSocket of a listener."""
    return web.WebSocketResponse(max_msg_size=MAX_MESSAGE_BYTES, compress=False, heartbeat=HEARTBEAT_SECONDS)


class Channel:
    """Messages to and from a peer.

    The event loop reads ahead, a bounded number of messages, so that the two ends never wait for each other to read.

    Args:
        socket: open.
    """

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._loop = asyncio.get_running_loop()
        self._arrived: asyncio.Queue[bytes | None] = asyncio.Queue(_QUEUED)
        self._reading = asyncio.create_task(self._read())
        self._closed = threading.Event()

    async def close(self) -> None:
        """Close it; a thread that sends or receives is told that it is over."""
        self._closed.set()
        await self._socket.close()
        self._reading.cancel()

    def send(self, message: bytes) -> None:
        """Send a message; waits while the line is full. For the session's thread.

        Raises:
            InterruptedSessionError: the connection is gone.
        """
        try:
            asyncio.run_coroutine_threadsafe(self._socket.send_bytes(message), self._loop).result()
        except (OSError, aiohttp.ClientError, RuntimeError, CancelledError) as error:
            raise InterruptedSessionError("the connection broke while a message was sent") from error

    def receive(self, timeout: float | None = None) -> bytes | None:
        """Wait for a message. For the session's thread.

        Returns:
            The message; ``None`` when the other side closed, or nothing came in time.
        """
        if self._closed.is_set():
            return None
        waiting = asyncio.run_coroutine_threadsafe(self._arrived.get(), self._loop)
        try:
            return waiting.result(timeout)
        except FutureTimeoutError:
            waiting.cancel()
            return None
        except CancelledError:
            return None

    async def _read(self) -> None:
        try:
            async for message in self._socket:
                if message.type is not aiohttp.WSMsgType.BINARY:
                    break  # only binary messages are of this protocol
                await self._arrived.put(message.data)
        finally:
            while self._arrived.full() and self._closed.is_set():
                self._arrived.get_nowait()
            await self._arrived.put(None)


def run_sender(session: SenderSession, channel: Channel, pace: Pace, stop: threading.Event) -> None:
    """Run the sending end until the other side has all, or something fails.

    Raises:
        InterruptedSessionError: the connection broke, or ``stop`` was set.
        StrongroomError: what ended the session.
    """
    for message in session.start():
        channel.send(message)
    while not session.ended:
        data = channel.receive()
        if data is None:
            raise InterruptedSessionError("the connection broke before the image was stored")
        for message in session.receive(data):
            pace.take(len(message), stop)
            if stop.is_set():
                raise InterruptedSessionError("the job was stopped")
            channel.send(message)
    if session.failure is not None:
        raise session.failure
    while session.receipt is None and (data := channel.receive(RECEIPT_SECONDS)) is not None:
        for message in session.receive(data):
            channel.send(message)


class _Line:
    """Sends while there is somebody to send to. What came before the connection broke is still to be taken."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._is_broken = False

    def send(self, messages: Sequence[bytes]) -> None:
        """Send messages, or drop them: whoever reads learns that the connection is gone after the last that came."""
        try:
            for message in messages if not self._is_broken else ():
                self._channel.send(message)
        except InterruptedSessionError:
            self._is_broken = True


def run_receiver(session: ReceiverSession, pool: Keeps, channel: Channel, check: Check) -> None:
    """Run the receiving end until the image is stored, or something fails.

    What came whole before a connection broke is kept, and is not asked for again; after a lie nothing is kept that is
    not durable.

    Args:
        session: not started.
        pool: where it stores.
        channel: to the sender.
        check: raises when the sender may no longer be listened to; called for each message.

    Raises:
        InterruptedSessionError: the connection broke.
        StrongroomError: what ended the session.
    """
    line = _Line(channel)
    try:
        line.send(session.start())
        while not session.ended:
            data = channel.receive()
            if data is None:
                raise InterruptedSessionError("the connection broke before the image was stored")
            check()
            line.send(session.receive(data))
    except InterruptedSessionError:
        pool.flush()
        raise
    finally:
        pool.abort()
    if session.failure is not None:
        raise session.failure
