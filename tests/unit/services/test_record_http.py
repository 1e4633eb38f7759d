"""Questions between roles: how often one is asked, and how much of an answer is read."""

from __future__ import annotations

import asyncio
import http.client
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from aiohttp import web

from strongroom.core.ids import DomainId
from strongroom.pki.channel import Address
from strongroom.pki.errors import UnreachableError
from strongroom.services import messages
from strongroom.services.record_http import RecordClient, tell_errors


class Server(ThreadingHTTPServer):
    """Answers every question, some late or at length, and closes a kept connection if it is told to."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        self.sent = 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        self.rfile.read(int(self.headers["Content-Length"]))
        server.asked.append(self.path)
        if self.path == "/late":
            time.sleep(1.0)
        answer = messages.encode(messages.Nothing())
        length = 256 << 20 if self.path == "/long" else len(answer)
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        try:
            self.wfile.write(answer)
            server.sent = len(answer)
            while server.sent < length:
                self.wfile.write(bytes(1 << 20))
                server.sent += 1 << 20
        except OSError:
            self.close_connection = True
        if self.path == "/last":
            self.close_connection = True

    def log_message(self, *_words: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def client(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordClient]:
    host, port = str(server.server_address[0]), server.server_address[1]

    def connect(_client: RecordClient, timeout: float) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(host, port, timeout=timeout)  # who it is, is not the subject here

    monkeypatch.setattr(RecordClient, "_connect", connect)
    client = RecordClient(Address(host, port), ssl.create_default_context(), DomainId(bytes(32)), primary=False)
    yield client
    client.close()


def ask(client: RecordClient, path: str, timeout: float = 10.0) -> None:
    client.ask(path, messages.Nothing(), messages.Nothing, timeout=timeout)


def test_question_that_may_have_been_heard_is_not_asked_again(client: RecordClient, server: Server) -> None:
    ask(client, "/first")
    with pytest.raises(UnreachableError):
        ask(client, "/late", timeout=0.3)
    assert server.asked == ["/first", "/late"]


def test_kept_connection_that_the_other_side_let_go_is_replaced(client: RecordClient, server: Server) -> None:
    ask(client, "/last")
    ask(client, "/again")
    assert server.asked == ["/last", "/again"]


def test_rest_of_an_answer_is_not_read(client: RecordClient, server: Server) -> None:
    with client.stream("/long", messages.encode(messages.Nothing())) as response:
        response.read(10)
    time.sleep(0.2)
    assert server.sent < 128 << 20
    ask(client, "/again")
    assert server.asked == ["/long", "/again"]


async def test_a_caller_that_is_gone_is_no_defect(caplog: pytest.LogCaptureFixture) -> None:
    """A primary was killed while its media server told it how far it is: a line in the log, and no traceback."""
    ended = asyncio.Event()

    async def tell(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"so far")
                await asyncio.sleep(0.01)
        finally:
            ended.set()

    app = web.Application(middlewares=[tell_errors])
    app.router.add_post("/work", tell)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    caplog.set_level("INFO")
    _, port = runner.addresses[0]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /work HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
    await reader.readexactly(8)
    writer.transport.abort()
    await asyncio.wait_for(ended.wait(), 20)
    await runner.cleanup()
    ours = [record for record in caplog.records if record.name.startswith("strongroom")]
    assert [getattr(record, "event", None) for record in ours] == ["caller-gone"]
    assert not any(record.exc_info for record in caplog.records)
