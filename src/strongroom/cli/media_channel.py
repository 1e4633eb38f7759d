"""Image streams to and from the media server of this host, over its Unix socket.

Source: ``docs/reference/protocols/image-stream.md``. The grant of the job stands in for an account.
"""

from __future__ import annotations

import http.client
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from strongroom.cli.api_client import UnixConnection, UnreachableServerError, read_json
from strongroom.client.problems import StreamLostError
from strongroom.core.secret import Secret

READ_BYTES: Final = 1 << 20
# A backup's answer comes when everything is on stable storage and committed.
ANSWER_SECONDS: Final = 900.0
_AGAIN: Final = "run the backup again; contents that were stored already are not stored twice"


class MediaChannel:
    """One connection to a media server, for one stream.

    Args:
        socket: path of its socket, as the primary said.
        token: the job's grant.
    """

    def __init__(self, socket: Path, token: Secret) -> None:
        self._socket = socket
        self._token = token
        self._connection = UnixConnection(socket, ANSWER_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def download(self, path: str) -> Iterator[bytes]:
        """Ask for an image stream; the request is sent at once, the bytes come as they are taken.

        Raises:
            UnreachableServerError: nobody answers.
            StreamLostError: the stream broke off.
            StrongroomError: what the media server refused.
        """
        self._begin("GET", path)
        response = self._answer()
        if response.status >= 400:
            read_json(response)
        return self._pieces(response)

    def upload(self, path: str, blocks: Iterable[bytes]) -> dict[str, Any]:
        """Send an image stream, and wait for the word that it is kept.

        Raises:
            UnreachableServerError: nobody answers, or the answer is no JSON object.
            StreamLostError: the connection broke, and no answer says why.
            StrongroomError: what the media server refused, also in the middle.
        """
        self._begin("POST", path, ("Transfer-Encoding", "chunked"), ("Content-Type", "application/octet-stream"))
        lost: OSError | None = None
        for block in blocks:
            lost = self._send(b"%x\r\n%b\r\n" % (len(block), block)) if block else None
            if lost is not None:
                break
        if lost is None:
            lost = self._send(b"0\r\n\r\n")
        # A server that stops reading has said why before: the answer waits in the socket.
        try:
            document = read_json(self._connection.getresponse())
        except (OSError, http.client.HTTPException) as error:
            raise StreamLostError(f"the media server broke off: {lost or error}", hint=_AGAIN) from error
        if not isinstance(document, dict):
            raise UnreachableServerError("the media server answered something else than an object")
        if lost is not None:
            raise StreamLostError(f"the media server broke off: {lost}", hint=_AGAIN)
        return document

    def _begin(self, method: str, path: str, *headers: tuple[str, str]) -> None:
        try:
            self._connection.putrequest(method, f"/v1{path}", skip_accept_encoding=True)
            self._connection.putheader("Authorization", f"Bearer {self._token.reveal().decode('ascii')}")
            for name, value in headers:
                self._connection.putheader(name, value)
            self._connection.endheaders()
        except OSError as error:
            raise UnreachableServerError(
                f"no media server answers at '{self._socket}': {error}",
                hint="run this on a host of the domain whose media server runs, as an account that may use its socket",
            ) from error

    def _send(self, data: bytes) -> OSError | None:
        try:
            self._connection.send(data)
        except OSError as error:
            return error
        return None

    def _answer(self) -> http.client.HTTPResponse:
        try:
            return self._connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise StreamLostError(f"the media server does not answer: {error}") from error

    def _pieces(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        while True:
            try:
                piece = response.read1(READ_BYTES)
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise StreamLostError(f"the media server broke off: {error}") from error
            if not piece:
                return
            yield piece
