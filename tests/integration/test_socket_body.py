"""A body that a thread reads from a client's socket, here or over TLS, as the media server takes a backup (C3)."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from strongroom.cli.chunked_body import ChunkedBody, LocalBody
from strongroom.core.errors import StrongroomError
from strongroom.services.media.jobs import JobThread
from strongroom.services.media.socket_body import PIECE_BYTES, SocketBody, ask_handler, let_come
from tests.support.serving import Serving, no_descriptor

ASKING = dict(ChunkedBody.headers)


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


@pytest.fixture
def taker() -> Taker:
    return Taker()


@pytest.fixture
def serving(tmp_path: Path, taker: Taker) -> Iterator[Serving]:
    made = Serving(tmp_path / "s", [web.post("/take", taker.take, expect_handler=ask_handler)])
    yield made
    made.end()


@pytest.fixture(params=[True, False], ids=["local", "tls"])
def is_local(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def body_of(connection: http.client.HTTPConnection, *, is_local: bool) -> ChunkedBody:
    return (LocalBody if is_local else ChunkedBody)(connection)


def ask(connection: http.client.HTTPConnection) -> http.client.HTTPConnection:
    connection.putrequest("POST", "/take")
    for name, value in ASKING.items():
        connection.putheader(name, value)
    connection.endheaders()
    return connection


@pytest.fixture
def begun(serving: Serving, is_local: bool) -> http.client.HTTPConnection:
    """A connection on which a client asked whether it may send."""
    return ask(serving.connect(is_local=is_local))


def answered(connection: http.client.HTTPConnection) -> tuple[int, dict[str, object]]:
    response = connection.getresponse()
    is_json = "json" in response.headers["Content-Type"]
    found: dict[str, object] = json.loads(response.read()) if is_json else {}
    response.close()
    connection.close()
    return response.status, found


BLOCKS = [b"a", b"bc" * 10, os.urandom(3 * PIECE_BYTES + 17), os.urandom(PIECE_BYTES), b"end\r\n0\r\n\r\n"]


def test_what_is_sent_arrives(
    serving: Serving, taker: Taker, begun: http.client.HTTPConnection, is_local: bool
) -> None:
    body = body_of(begun, is_local=is_local)
    for block in BLOCKS:
        assert body.is_wanted()
        body.send(block)
    body.end()
    assert answered(begun) == (200, {"bytes": sum(map(len, BLOCKS))})
    assert b"".join(taker.pieces) == b"".join(BLOCKS)
    assert taker.was_read_by_thread == [True]


def test_a_client_that_does_not_ask_is_served_too(serving: Serving, taker: Taker, is_local: bool) -> None:
    connection = serving.connect(is_local=is_local)
    connection.request("POST", "/take", iter(BLOCKS), {"Transfer-Encoding": "chunked"}, encode_chunked=True)
    assert answered(connection) == (200, {"bytes": sum(map(len, BLOCKS))})
    assert taker.was_read_by_thread == [False]


def test_a_client_that_is_refused_has_sent_nothing(serving: Serving, taker: Taker, is_local: bool) -> None:
    taker.refuses = True
    connection = ask(serving.connect(is_local=is_local))
    assert not body_of(connection, is_local=is_local).is_wanted()
    assert answered(connection)[0] == 403


@pytest.mark.parametrize("sent", [b"", b"5", b"5\r", b"5\r\n", b"5\r\nab", b"5\r\nabcde", b"5\r\nabcde\r\n", b"0\r\n"])
def test_a_body_that_breaks_off_is_no_body(
    serving: Serving, taker: Taker, begun: http.client.HTTPConnection, is_local: bool, sent: bytes
) -> None:
    assert body_of(begun, is_local=is_local).is_wanted()
    begun.sock.sendall(sent)
    begun.sock.shutdown(socket.SHUT_WR)
    begun.sock.recv(1_000)  # the server closes, or says that it failed
    begun.close()
    assert [type(error) for error in taker.failures] == [ConnectionResetError]


@pytest.mark.parametrize(
    "sent", [b"x\r\n", b"+5\r\nabcde\r\n", b"0x5\r\n", b"5\nabcde", b"123456789\r\n", b"2\r\nabc\r\n", b"0\r\nx: y\r\n"]
)
def test_a_body_that_is_not_in_chunks_is_refused(
    serving: Serving, taker: Taker, begun: http.client.HTTPConnection, is_local: bool, sent: bytes
) -> None:
    assert body_of(begun, is_local=is_local).is_wanted()
    begun.sock.sendall(sent + b" " * 20)
    status, said = answered(begun)
    assert (status, said["code"]) == (400, "images.bad-stream")
    assert taker.failures


def test_a_client_hears_why_it_was_stopped_in_the_middle(
    serving: Serving, begun: http.client.HTTPConnection, is_local: bool
) -> None:
    """Over TCP, what nobody read would reset the connection, and with it the answer."""
    body = body_of(begun, is_local=is_local)
    assert body.is_wanted()
    begun.sock.sendall(b"not a length\r\n")
    with contextlib.suppress(BrokenPipeError):
        while body.is_wanted():
            body.send(bytes(100_000))
    assert answered(begun)[0] == 400


def test_what_is_not_as_the_client_sent_it_is_no_body(serving: Serving, taker: Taker) -> None:
    """One byte of a TLS record is another one."""
    connection = ask(serving.connect(is_local=False))
    body = ChunkedBody(connection)
    assert body.is_wanted()
    body.send(b"right")
    assert taker.reads.wait(10)
    os.write(connection.sock.fileno(), b"\x17\x03\x03\x00\x20" + bytes(32))
    with contextlib.suppress(OSError):
        connection.sock.recv(1_000)
    connection.close()
    assert [isinstance(error, ssl.SSLError) for error in taker.failures] == [True]


def test_a_server_that_stops_does_not_wait_for_a_client_that_sends_nothing(
    serving: Serving, taker: Taker, begun: http.client.HTTPConnection, is_local: bool
) -> None:
    body = body_of(begun, is_local=is_local)
    assert body.is_wanted()
    body.send(b"the first of many")
    assert taker.reads.wait(10)
    serving.stop()
    ended = select.select([begun.sock], [], [], 10)
    assert ended[0], "the connection stays open"
    with contextlib.suppress(ConnectionResetError):
        assert begun.sock.recv(100) == b""
    begun.close()


def test_a_client_is_told_that_no_descriptor_is_left(
    serving: Serving, taker: Taker, is_local: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket.socket, "dup", no_descriptor)
    begun = ask(serving.connect(is_local=is_local))
    assert not body_of(begun, is_local=is_local).is_wanted()
    status, told = answered(begun)
    assert (status, told["code"]) == (507, "media.no-descriptor")
    assert taker.pieces == []
