"""Image streams to and from a media server.

Source: ``docs/reference/protocols/image-stream.md``. The grant of the job stands in for an account.
"""

from __future__ import annotations

import http.client
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Final, Self

from strongroom.cli.api_client import UnreachableServerError, read_json
from strongroom.cli.chunked_body import ChunkedBody, LocalBody
from strongroom.cli.media_door import MediaDoor
from strongroom.client.problems import StreamLostError
from strongroom.core.secret import Secret
from strongroom.services import chunks

PIECE_BYTES: Final = 1 << 20
# A backup's answer comes when everything is on stable storage and committed.
ANSWER_SECONDS: Final = 900.0
_AGAIN: Final = "run the backup again; contents that were stored already are not stored twice"


class MediaChannel:
    """One connection to a media server, for one stream.

    Args:
        door: the way to it, as the primary said.
        token: the job's grant.
    """

    def __init__(self, door: MediaDoor, token: Secret) -> None:
        self._door = door
        self._token = token
        self._open: http.client.HTTPConnection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open is not None:
            self._open.close()

    def download(self, path: str) -> Iterator[memoryview]:
        """Ask for an image stream; the request is sent at once, the bytes come as they are taken.

        The pieces all lie in the same memory: use each before the next. None waits for the one behind it.

        Args:
            path: of the stream.

        Raises:
            UnreachableServerError: nobody answers.
            StreamLostError: the stream broke off.
            StrongroomError: what the media server refused.
        """
        response = self._answer(self._begin("GET", path, {}))
        if response.status >= 400:
            read_json(response)
        return _pieces(response)

    def upload(self, path: str, blocks: Iterable[bytes | memoryview]) -> dict[str, Any]:
        """Send an image stream, and wait for the word that it is kept.

        Raises:
            UnreachableServerError: nobody answers, or the answer is no JSON object.
            StreamLostError: the connection broke, and no answer says why.
            StrongroomError: what the media server refused, also in the middle.
        """
        kind = LocalBody if self._door.is_local else ChunkedBody
        connection = self._begin("POST", path, {"Content-Type": "application/octet-stream", **kind.headers})
        lost = _send(kind(connection), blocks)
        # A server that stops reading has said why before: the answer waits in the socket.
        try:
            connection.sock.settimeout(ANSWER_SECONDS)  # where the body let the kernel wait, it does so no more
            document = read_json(connection.getresponse())
        except (OSError, http.client.HTTPException) as error:
            raise StreamLostError(f"the media server broke off: {lost or error}", hint=_AGAIN) from error
        if not isinstance(document, dict):
            raise UnreachableServerError("the media server answered something else than an object")
        if lost is not None:
            raise StreamLostError(f"the media server broke off: {lost}", hint=_AGAIN)
        return document

    def _begin(self, method: str, path: str, headers: Mapping[str, str]) -> http.client.HTTPConnection:
        connection = self._open = self._door.open(ANSWER_SECONDS)
        try:
            connection.putrequest(method, f"/v1{path}", skip_accept_encoding=True)
            connection.putheader("Authorization", f"Bearer {self._token.reveal().decode('ascii')}")
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders()
        except OSError as error:
            raise StreamLostError(f"the media server broke off: {error}") from error
        return connection

    def _answer(self, connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
        try:
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise StreamLostError(f"the media server does not answer: {error}") from error


def _pieces(response: http.client.HTTPResponse) -> Iterator[memoryview]:
    """Give the body as it comes; the library would copy it twice."""
    try:
        yield from chunks.read(response.fp, bytearray(PIECE_BYTES))
    except (OSError, chunks.NotInChunksError) as error:
        raise StreamLostError(f"the media server broke off: {error}") from error


def _send(body: ChunkedBody, blocks: Iterable[bytes | memoryview]) -> OSError | None:
    """Send a body; give what stopped that. What goes wrong while the blocks are made is raised."""
    for block in blocks:
        try:
            if not body.is_wanted():
                return ConnectionError("it answered before it had everything")
            if block:
                body.send(block)
        except OSError as error:
            return error
    try:
        body.end()
    except OSError as error:
        return error
    return None
