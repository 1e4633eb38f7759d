"""A client of the REST interface: JSON over HTTP/1.1, TLS 1.3, one connection.

Only the standard library: it starts in milliseconds, and a command is one or two requests. A session comes from the
Unix socket of the primary's host, or from ``strongroom login``.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlencode, urlsplit

from strongroom.core.errors import InputError, StrongroomError, UnavailableError, from_document
from strongroom.core.secret import Secret

MAX_ANSWER_BYTES: Final = 64 << 20
TIMEOUT_SECONDS: Final = 60.0
IDLE_SECONDS: Final = 2.0
# as in strongroom.pki.names, which needs a library that starts slowly
_DOMAIN: Final = "strongroom:domain:"
_PRIMARY: Final = "strongroom:primary:"


class UnreachableServerError(UnavailableError):
    """The server did not answer."""

    code = "cli.unreachable"
    default_hint = "check that 'strongroom serve' runs there, and the address and port"


class UntrustedServerError(UnavailableError):
    """The server's certificate does not belong to the domain that was asked for."""

    code = "cli.untrusted-server"
    retry = "never"
    default_hint = "compare the fingerprint of the domain ('strongroom ca show') and log in again with it"


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket of this host."""

    def __init__(self, path: Path, timeout: float = TIMEOUT_SECONDS) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of to a port."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class PrimaryConnection(http.client.HTTPSConnection):
    """HTTPS to the primary of the domain whose root the context trusts, and to no other host of that domain.

    A media server may have been given the primary's host name; the name that says 'primary' it never gets.
    """

    def __init__(self, host: str, port: int, context: ssl.SSLContext) -> None:
        super().__init__(host, port, timeout=TIMEOUT_SECONDS, context=context)
        roots = (name for root in context.get_ca_certs() for name in _uris(root))
        self._expected = {name.replace(_DOMAIN, _PRIMARY, 1) for name in roots if name.startswith(_DOMAIN)}

    def connect(self) -> None:
        """Connect, and look at the names in the certificate before anything is sent.

        Raises:
            UntrustedServerError: it is not the primary's.
        """
        super().connect()
        if self._expected.isdisjoint(_uris(self.sock.getpeercert())):
            self.close()
            raise UntrustedServerError(f"'{self.host}:{self.port}' is not the primary of its domain")


def _uris(certificate: Mapping[str, Any] | None) -> list[str]:
    return [name for kind, name in (certificate or {}).get("subjectAltName", ()) if kind == "URI"]


def tls_context(ca_pem: str) -> ssl.SSLContext:
    """Trust one domain's root and nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=ca_pem)
    return context


def read_json(response: http.client.HTTPResponse) -> Any:
    """Read a bounded JSON body; an error document becomes the error that it describes."""
    body = response.read(MAX_ANSWER_BYTES + 1)
    if len(body) > MAX_ANSWER_BYTES:
        raise UnreachableServerError("the server's answer is longer than this program reads")
    try:
        document = json.loads(body) if body else None
    except ValueError as error:
        raise UnreachableServerError(f"the server's answer is not JSON (HTTP status {response.status})") from error
    if response.status >= 400:
        raise from_document(document if isinstance(document, dict) else {"status": response.status})
    return document


def fetch_unverified(url: str, path: str) -> Any:
    """Ask a primary whose certificate nobody can check yet; what it answers is believed by nobody until it is.

    Raises:
        UnreachableServerError: nobody answered, or not in HTTP.
        StrongroomError: what the server refused.
    """
    host, port = host_and_port(url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent, and the caller compares what comes with a pin
    connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_SECONDS, context=context)
    try:
        connection.request("GET", f"/v1{path}", headers={"Accept": "application/json"})
        return read_json(connection.getresponse())
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableServerError(f"'{url}' does not answer: {error}") from error
    finally:
        connection.close()


def host_and_port(url: str) -> tuple[str, int]:
    """Split the address of a primary.

    Raises:
        InputError: it is not ``https://HOST:PORT``.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme != "https":
        raise InputError(f"'{url}' is not an address of a primary", hint="write https://HOST:PORT")
    return host, port or 443


class ApiClient:
    """One session with one primary.

    Args:
        url: ``https://host:port`` of the people's listener.
        token: the session or API token.
        ca_pem: root of the domain, PEM.
    """

    def __init__(self, url: str, token: Secret | None, ca_pem: str) -> None:
        host, port = host_and_port(url)
        self.url = url
        self.root = ca_pem
        self._token = token
        self._answered = time.monotonic()
        self._connection = PrimaryConnection(host, port, tls_context(ca_pem))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self._connection.close()

    def get(self, path: str, query: Mapping[str, object] | None = None) -> Any:
        """Fetch a resource."""
        return self.call("GET", _with_query(path, query))

    def post(self, path: str, body: Mapping[str, object] | None = None) -> Any:
        """Make a resource, or act on one."""
        return self.call("POST", path, body or {})

    def patch(self, path: str, body: Mapping[str, object]) -> Any:
        """Change a resource."""
        return self.call("PATCH", path, body)

    def delete(self, path: str, query: Mapping[str, object] | None = None) -> Any:
        """Remove a resource."""
        return self.call("DELETE", _with_query(path, query))

    def pages(self, path: str, query: Mapping[str, object] | None = None) -> Iterator[Any]:
        """Fetch all items of a paged listing, page by page."""
        after: object = None
        while True:
            page = self.get(path, {**(query or {}), "after": after})
            yield from page["items"]
            after = page.get("next")
            if after is None:
                return

    def call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        """Send one request and read its answer.

        Raises:
            UnreachableServerError: nobody answered, or not in HTTP.
            UntrustedServerError: the certificate is not of this domain.
            StrongroomError: what the server refused, as the server said it.
        """
        headers = {"Accept": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token.reveal().decode('ascii')}"
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        if time.monotonic() - self._answered > IDLE_SECONDS:
            # A server closes a connection that rests; to find out by sending would leave open what became of it.
            self._connection.close()
        try:
            self._connection.request(method, f"/v1{path}", body=data, headers=headers)
            answer = read_json(self._connection.getresponse())
        except ssl.SSLCertVerificationError as error:
            raise UntrustedServerError(
                f"the certificate of '{self.url}' is not of the domain that was asked for: {error.verify_message}"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise UnreachableServerError(f"'{self.url}' does not answer: {error}") from error
        self._answered = time.monotonic()
        return answer


def _with_query(path: str, query: Mapping[str, object] | None) -> str:
    words = {key: value for key, value in (query or {}).items() if value is not None}
    return f"{path}?{urlencode(words, doseq=True)}" if words else path


def local_session(socket_path: Path) -> ApiClient:
    """Get a session for the caller's system account from the primary of this host.

    Raises:
        UnreachableServerError: no primary serves this home.
        StrongroomError: the account is not registered.
    """
    connection = UnixConnection(socket_path)
    try:
        connection.request("POST", "/session")
        document = read_json(connection.getresponse())
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableServerError(
            f"no primary serves this home: {error}", hint="start it with 'strongroom serve HOME'"
        ) from error
    finally:
        connection.close()
    try:
        return ApiClient(document["url"], Secret(document["token"].encode("ascii")), document["ca"])
    except (KeyError, TypeError) as error:
        raise StrongroomError("the primary of this host answered something else than a session") from error
