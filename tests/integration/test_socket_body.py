"""A body that a thread reads from the socket of a local client, as the media server takes a backup (C3)."""

from __future__ import annotations

import asyncio
import json
import os
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp import web

from strongroom.cli.api_client import UnixConnection
from strongroom.cli.chunked_body import ChunkedBody, LocalBody
from strongroom.core.errors import StrongroomError
from strongroom.services.media.jobs import JobThread
from strongroom.services.media.socket_body import PIECE_BYTES, SocketBody, ask_handler, let_come
from strongroom.services.record_http import tell_errors

ASKING = dict(LocalBody.headers)


class Taker:
    """A server that takes bodies, and what it saw of them."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.was_read_by_thread: list[bool] = []
        self.failures: list[BaseException] = []
        self.refuses = False
        self.reads = threading.Event()

    async def take(self, request: web.Request) -> web.Response:
        if self.refuses:
            raise web.HTTPForbidden
        self.was_read_by_thread.append(SocketBody.is_possible(request))
        if not SocketBody.is_possible(request):
            await let_come(request)
            self.pieces.append(await request.read())
            return web.json_response({"bytes": len(self.pieces[-1])})
        async with JobThread("taker") as thread:
            with SocketBody(request) as body:
                try:
                    await thread.start(lambda: self._read(body))
                except (StrongroomError, OSError) as error:
                    self.failures.append(error)
                    raise
                except asyncio.CancelledError:
                    body.interrupt()
                    raise
        return web.json_response({"bytes": sum(map(len, self.pieces))})

    def _read(self, body: SocketBody) -> None:
        for piece in body.pieces():
            assert len(piece) <= PIECE_BYTES
            self.pieces.append(bytes(piece))
            self.reads.set()


@contextmanager
def serving(path: Path) -> Iterator[Taker]:
    taker = Taker()
    loop = asyncio.new_event_loop()
    application = web.Application(middlewares=[tell_errors], client_max_size=1 << 30)
    application.add_routes([web.post("/take", taker.take, expect_handler=ask_handler)])
    runner = web.AppRunner(application, shutdown_timeout=0.1)

    async def begin() -> None:
        await runner.setup()
        await web.UnixSite(runner, str(path)).start()

    loop.run_until_complete(begin())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    taker.stop = lambda: asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)  # type: ignore[attr-defined]
    try:
        yield taker
    finally:
        taker.stop()  # type: ignore[attr-defined]
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def taker(tmp_path: Path) -> Iterator[Taker]:
    with serving(tmp_path / "s") as made:
        yield made


def begun(tmp_path: Path, headers: dict[str, str]) -> UnixConnection:
    connection = UnixConnection(tmp_path / "s", 10)
    connection.connect()
    connection.putrequest("POST", "/take")
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    return connection


def answered(connection: UnixConnection) -> tuple[int, dict[str, object]]:
    response = connection.getresponse()
    is_json = "json" in response.headers["Content-Type"]
    found: dict[str, object] = json.loads(response.read()) if is_json else {}
    connection.close()
    return response.status, found


BLOCKS = [b"a", b"bc" * 10, os.urandom(3 * PIECE_BYTES + 17), os.urandom(PIECE_BYTES), b"end\r\n0\r\n\r\n"]


@pytest.mark.parametrize("kind", [LocalBody, ChunkedBody])
def test_what_is_sent_arrives_whichever_way_it_is_read(taker: Taker, tmp_path: Path, kind: type[ChunkedBody]) -> None:
    body = kind(connection := begun(tmp_path, dict(kind.headers)))
    for block in BLOCKS:
        assert body.is_wanted()
        body.send(block)
    body.end()
    assert answered(connection) == (200, {"bytes": sum(map(len, BLOCKS))})
    assert b"".join(taker.pieces) == b"".join(BLOCKS)
    assert taker.was_read_by_thread == [kind is LocalBody]


def test_a_client_that_is_refused_has_sent_nothing(taker: Taker, tmp_path: Path) -> None:
    taker.refuses = True
    body = LocalBody(connection := begun(tmp_path, ASKING))
    assert not body.is_wanted()
    assert answered(connection)[0] == 403


@pytest.mark.parametrize("sent", [b"", b"5", b"5\r", b"5\r\n", b"5\r\nab", b"5\r\nabcde", b"5\r\nabcde\r\n", b"0\r\n"])
def test_a_body_that_breaks_off_is_no_body(taker: Taker, tmp_path: Path, sent: bytes) -> None:
    connection = begun(tmp_path, ASKING)
    assert LocalBody(connection).is_wanted()
    connection.sock.sendall(sent)
    connection.sock.shutdown(socket.SHUT_WR)
    connection.sock.recv(1_000)  # the server closes, or says that it failed
    connection.close()
    assert [type(error) for error in taker.failures] == [ConnectionResetError]


@pytest.mark.parametrize(
    "sent", [b"x\r\n", b"+5\r\nabcde\r\n", b"0x5\r\n", b"5\nabcde", b"123456789\r\n", b"2\r\nabc\r\n", b"0\r\nx: y\r\n"]
)
def test_a_body_that_is_not_in_chunks_is_refused(taker: Taker, tmp_path: Path, sent: bytes) -> None:
    connection = begun(tmp_path, ASKING)
    assert LocalBody(connection).is_wanted()
    connection.sock.sendall(sent + b" " * 20)
    status, said = answered(connection)
    assert (status, said["code"]) == (400, "images.bad-stream")
    assert taker.failures


def test_a_server_that_stops_does_not_wait_for_a_client_that_sends_nothing(taker: Taker, tmp_path: Path) -> None:
    body = LocalBody(connection := begun(tmp_path, ASKING))
    assert body.is_wanted()
    body.send(b"the first of many")
    assert taker.reads.wait(10)
    taker.stop()  # type: ignore[attr-defined]
    ended = select.select([connection.sock], [], [], 10)
    assert ended[0], "the connection stays open"
    assert connection.sock.recv(100) == b""
    connection.close()
