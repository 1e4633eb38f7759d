"""A proxy in front of an object storage that fails as networks and storages do, when a test says so."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Fault(Enum):
    """What happens to a request."""

    UNAVAILABLE = auto()
    """It is answered with 503, and does not arrive."""
    CUT = auto()
    """The connection ends in the middle of its body."""
    LOST = auto()
    """It is done, and the connection ends before the answer."""
    HALF = auto()
    """The connection ends in the middle of the answer's body."""
    SLOW = auto()
    """The answer takes a second."""


@dataclass
class Rule:
    """A fault for the next requests that begin with a word and name a text."""

    fault: Fault
    method: str
    text: str
    left: int


@dataclass
class FaultyProxy:
    """Serves until :meth:`stop`; requests pass unless a rule says otherwise.

    Args:
        upstream: port of the storage on this host.
    """

    upstream: int
    rules: list[Rule] = field(default_factory=list)
    met: list[str] = field(default_factory=list)
    hidden: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        proxy = self

        class Handler(_Handler):
            def serve(self) -> None:
                proxy.pass_on(self)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def fail(self, fault: Fault, method: str, text: str = "", times: int = 1_000_000) -> None:
        """Let requests fail; ``times`` is how many."""
        with self._lock:
            self.rules.append(Rule(fault, method, text, times))

    def heal(self) -> None:
        """Let everything pass from now on."""
        with self._lock:
            self.rules.clear()

    def pass_on(self, handler: _Handler) -> None:
        """Serve one request."""
        fault = self._fault_of(handler)
        length = int(handler.headers.get("Content-Length", 0))
        if fault is Fault.CUT:
            handler.rfile.read(length // 2)
            handler.hang_up()
            return
        body = handler.rfile.read(length)
        if fault is Fault.UNAVAILABLE:
            handler.answer(503, [], b"<Error><Code>SlowDown</Code></Error>", 0)
            return
        if fault is Fault.SLOW:
            time.sleep(1)
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.upstream)) as connection:
            headers = {k: v for k, v in handler.headers.items() if k.lower() not in ("expect", "connection")}
            connection.request(handler.command, handler.path, body, headers)
            response = connection.getresponse()
            answered, told = response.read(), response.getheaders()
        if fault is Fault.LOST:
            handler.hang_up()
            return
        announced = int(response.headers.get("Content-Length", 0)) if handler.command == "HEAD" else len(answered)
        handler.answer(response.status, told, self._without_hidden(answered), announced, cut=fault is Fault.HALF)

    def _fault_of(self, handler: _Handler) -> Fault | None:
        with self._lock:
            for rule in self.rules:
                if rule.left and handler.command == rule.method and rule.text in handler.path:
                    rule.left -= 1
                    self.met.append(rule.fault.name)
                    return rule.fault
        return None

    def _without_hidden(self, answer: bytes) -> bytes:
        """Leave keys out of a listing, as one does that is late; their place is kept, so that the length stays."""
        for key in self.hidden:
            start = answer.find(f"<Key>{key}</Key>".encode())
            if start >= 0:
                begin, end = answer.rfind(b"<Contents>", 0, start), answer.index(b"</Contents>", start) + 11
                answer = answer[:begin] + b" " * (end - begin) + answer[end:]
        return answer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def serve(self) -> None:
        raise NotImplementedError

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = lambda self: self.serve()  # noqa: N815

    def hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def answer(
        self, status: int, headers: list[tuple[str, str]], body: bytes, announced: int, *, cut: bool = False
    ) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(announced or len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.hang_up()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def faulty(upstream: int) -> Iterator[FaultyProxy]:
    """A proxy for one test."""
    proxy = FaultyProxy(upstream)
    try:
        yield proxy
    finally:
        proxy.stop()
