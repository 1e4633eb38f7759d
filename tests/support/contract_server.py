"""A small real server that plays a primary and a media server: HTTP over TLS and over Unix sockets.

Tests say what it answers; it remembers what it was asked.
"""

from __future__ import annotations

import ipaddress
import json
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from strongroom.core.errors import NotFoundError, StrongroomError, to_document

FIRST = datetime(2020, 1, 1, tzinfo=UTC)
LAST = datetime(2120, 1, 1, tzinfo=UTC)


DOMAIN = "ab" * 32


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    query: dict[str, list[str]]
    body: Any
    token: str | None


Answer = Callable[[Asked], Any]


@dataclass
class Contract:
    """What is answered, by method and path; a value, or a function of what was asked."""

    routes: dict[str, Any] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def answer(self, asked: Asked) -> Any:
        self.asked.append(asked)
        try:
            found = self.routes[f"{asked.method} {asked.path}"]
        except KeyError:
            raise NotFoundError(f"no route '{asked.method} {asked.path}'") from None
        return found(asked) if callable(found) else found

    def paths(self) -> list[str]:
        """List what was asked, in short."""
        return [f"{asked.method} {asked.path}" for asked in self.asked]

    def body(self, route: str) -> Any:
        """Give the body of the only request to a route."""
        (found,) = (asked for asked in self.asked if f"{asked.method} {asked.path}" == route)
        return found.body


class Handler(BaseHTTPRequestHandler):
    """Speaks the contract."""

    protocol_version = "HTTP/1.1"
    contract: Contract
    prefix = "/v1"

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = None
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self._chunks()
        elif length:
            body = json.loads(self.rfile.read(length))
        authorization = self.headers.get("Authorization")
        asked = Asked(
            self.command,
            parts.path.removeprefix(self.prefix),
            parse_qs(parts.query),
            body,
            authorization.removeprefix("Bearer ") if authorization else None,
        )
        try:
            found = self.contract.answer(asked)
        except StrongroomError as error:
            self.close_connection = True
            self._send(error.http_status, to_document(error), "application/problem+json")
            return
        if isinstance(found, Iterator):
            self._stream(found)
        else:
            self._send(200, found, "application/json")

    do_GET = do_POST = do_DELETE = do_PATCH = _serve  # noqa: N815 - names of http.server

    def _send(self, status: int, document: Any, kind: str) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, pieces: Iterable[bytes]) -> None:
        """Answer in chunks; a piece that is ``None`` breaks off."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            if piece is None:
                self.close_connection = True
                return
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def _chunks(self) -> Iterator[bytes]:
        while length := int(self.rfile.readline(), 16):
            yield self.rfile.read(length)
            self.rfile.read(2)
        self.rfile.readline()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _TLSServer(ThreadingHTTPServer):
    """A server for one connection at a time or many; a client that hangs up during the handshake is no news."""

    context: ssl.SSLContext

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        return self.context.wrap_socket(connection, server_side=True), address

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: the tests look at what the command says."""


class _UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def get_request(self) -> tuple[Any, Any]:
        connection, _ = super().get_request()
        return connection, ("unix", 0)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing."""


@dataclass(frozen=True)
class Authority:
    """A root, and a server's certificate from it."""

    root_pem: str
    fingerprint: str
    chain_file: Path

    @classmethod
    def make(cls, folder: Path, name: str = "root", leaf: str = f"strongroom:primary:{DOMAIN}") -> Authority:
        """Make keys and certificates; the chain and the key go to a file. ``leaf`` says who the server is."""
        root_key, leaf_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        root_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        root = (
            x509.CertificateBuilder()
            .subject_name(root_name)
            .issuer_name(root_name)
            .public_key(root_key.public_key())
            .serial_number(1)
            .not_valid_before(FIRST)
            .not_valid_after(LAST)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(root_key.public_key()), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"strongroom:domain:{DOMAIN}")]),
                critical=False,
            )
            .sign(root_key, hashes.SHA256())
        )
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")]))
            .issuer_name(root_name)
            .public_key(leaf_key.public_key())
            .serial_number(2)
            .not_valid_before(FIRST)
            .not_valid_after(LAST)
            .add_extension(
                x509.SubjectAlternativeName(
                    [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.UniformResourceIdentifier(leaf)]
                ),
                critical=False,
            )
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False)
            .sign(root_key, hashes.SHA256())
        )
        file = folder / f"{name}-server.pem"
        key = leaf_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        file.write_bytes(key + certificate.public_bytes(Encoding.PEM))
        return cls(root.public_bytes(Encoding.PEM).decode(), root.fingerprint(hashes.SHA256()).hex(), file)


@contextmanager
def serve_tls(contract: Contract, authority: Authority) -> Iterator[str]:
    """Serve the people's listener; give its URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(authority.chain_file)
    handler = type("ContractHandler", (Handler,), {"contract": contract})
    server = _TLSServer(("127.0.0.1", 0), handler)
    server.context = context
    with _running(server):
        yield f"https://127.0.0.1:{server.server_address[1]}"


@contextmanager
def serve_unix(contract: Contract, path: Path) -> Iterator[Path]:
    """Serve a Unix socket."""
    handler = type("ContractHandler", (Handler,), {"contract": contract})
    path.parent.mkdir(parents=True, exist_ok=True)
    with _running(_UnixServer(str(path), handler)):
        yield path


@contextmanager
def _running(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
