"""An answer of any length, which a client's thread gets as the job's thread makes it (C3)."""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from strongroom.images.errors import BadStreamError
from strongroom.services import chunks
from strongroom.services.media.errors import ClientGoneError, NoDescriptorError
from strongroom.services.media.jobs import JobThread
from strongroom.services.media.socket_answer import SocketAnswer
from strongroom.services.media.streaming import stream_out
from tests.support.serving import Serving, no_descriptor
from tests.support.trusting import until

PIECES = [os.urandom(1), b"", os.urandom(3 << 20), os.urandom(300_000), b"0\r\n\r\n"]
ENDLESS = bytes(1 << 20)


class Giver:
    """A server that answers, and what became of the answers."""

    def __init__(self) -> None:
        self.by_thread: list[bool] = []
        self.ended: list[BaseException | None] = []
        self.has_ended = threading.Event()
        self.is_asked = threading.Event()

    async def give(self, request: web.Request) -> web.StreamResponse:
        self.by_thread.append(SocketAnswer.is_possible(request))
        async with JobThread("giver") as thread:
            try:
                return await stream_out(request, getattr(self, request.match_info["what"])(), thread)
            finally:
                self.ended.append(sys.exception())
                thread.later(self.has_ended.set)

    def all(self) -> Iterator[bytes]:
        yield from PIECES

    def nothing(self) -> Iterator[bytes]:
        yield from ()

    def refused(self) -> Iterator[bytes]:
        if self.ended is not None:
            raise BadStreamError("nothing can be given")
        yield b""

    def broken(self) -> Iterator[bytes]:
        yield PIECES[2]
        raise BadStreamError("the rest cannot be given")

    def endless(self) -> Iterator[bytes]:
        while True:
            self.is_asked.set()
            yield ENDLESS


@pytest.fixture
def giver() -> Giver:
    return Giver()


@pytest.fixture
def serving(tmp_path: Path, giver: Giver) -> Iterator[Serving]:
    made = Serving(tmp_path / "s", [web.get("/give/{what}", giver.give)])
    yield made
    made.end()


@pytest.fixture(params=[True, False], ids=["local", "tls"])
def connection(request: pytest.FixtureRequest, serving: Serving) -> Iterator[http.client.HTTPConnection]:
    made = serving.connect(is_local=bool(request.param))
    yield made
    made.close()


def body_of(response: http.client.HTTPResponse) -> bytes:
    found = b"".join(bytes(piece) for piece in chunks.read(response.fp, bytearray(1 << 20)))
    response.close()
    return found


def asked(connection: http.client.HTTPConnection, what: str) -> http.client.HTTPResponse:
    connection.request("GET", f"/give/{what}")
    return connection.getresponse()


def test_what_is_made_arrives_and_the_connection_serves_again(
    giver: Giver, connection: http.client.HTTPConnection
) -> None:
    for _ in range(2):
        assert body_of(asked(connection, "all")) == b"".join(PIECES)
        assert body_of(asked(connection, "nothing")) == b""
    until(lambda: len(giver.ended) == 4, "the work goes on behind the end")
    assert giver.ended == [None] * 4
    assert giver.by_thread == [True] * 4


def test_an_old_client_is_answered_too(serving: Serving) -> None:
    connection = serving.connect(is_local=True)
    connection.sock.sendall(b"GET /give/all HTTP/1.0\r\n\r\n")
    with connection.sock.makefile("rb") as file:
        head, _, body = file.read().partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert body == b"".join(PIECES)
    connection.close()


def test_what_fails_before_the_first_piece_is_told(connection: http.client.HTTPConnection) -> None:
    response = asked(connection, "refused")
    assert response.status == 400
    assert b"images.bad-stream" in response.read()


def test_what_fails_later_breaks_the_answer_off(giver: Giver, connection: http.client.HTTPConnection) -> None:
    response = asked(connection, "broken")
    with pytest.raises((ConnectionResetError, OSError)):
        body_of(response)
    assert giver.has_ended.wait(10)
    assert [type(error) for error in giver.ended] == [BadStreamError]


def test_a_client_that_goes_away_ends_the_work(giver: Giver, connection: http.client.HTTPConnection) -> None:
    response = asked(connection, "endless")
    response.fp.read(10_000)
    response.close()
    connection.close()
    assert giver.has_ended.wait(10)
    assert [type(error) for error in giver.ended] == [ClientGoneError]


def test_a_server_that_stops_does_not_wait_for_a_client_that_reads_nothing(
    giver: Giver, serving: Serving, connection: http.client.HTTPConnection
) -> None:
    connection.request("GET", "/give/endless")
    assert giver.is_asked.wait(10)
    time.sleep(0.1)  # until the socket takes no more
    serving.stop()
    assert giver.has_ended.wait(10), "the job's thread is still at it"
    assert [type(error) for error in giver.ended] == [asyncio.CancelledError]


def test_an_answer_breaks_off_when_no_descriptor_is_left(
    giver: Giver, connection: http.client.HTTPConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket.socket, "dup", no_descriptor)
    response = asked(connection, "all")
    with pytest.raises((ConnectionResetError, OSError)):
        body_of(response)
    assert giver.has_ended.wait(10)
    assert [type(error) for error in giver.ended] == [NoDescriptorError]
