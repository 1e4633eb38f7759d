"""A mounted image's talk with its media server.

Source: ``docs/reference/protocols/mount.md``. Each thread that asks has a connection of its own; the session is one
more, and with its end the mount ends.
"""

from __future__ import annotations

import http.client
import struct
import threading
from collections.abc import Generator
from types import TracebackType
from typing import Final, Self, cast

import msgspec

from strongroom.cli.api_client import read_json
from strongroom.cli.media_channel import ANSWER_SECONDS, MediaChannel
from strongroom.cli.media_door import MediaDoor
from strongroom.client.problems import StreamLostError
from strongroom.core.secret import Secret
from strongroom.formats import mount
from strongroom.formats.errors import DamagedError

_U32: Final = struct.Struct(">I")


class MountChannel:
    """Has an image open at the media server.

    Args:
        door: the way to it.
        job: id of the job.
        token: the job's grant.

    Attributes:
        opened: what the image has.

    Raises:
        UnreachableServerError, StreamLostError: the media server does not answer.
        StrongroomError: it refused.
    """

    def __init__(self, door: MediaDoor, job: str, token: Secret) -> None:
        self._door = door
        self._token = token
        self._path = f"/v1/mount/{job}"
        self._own = threading.local()
        self._lock = threading.Lock()
        self._connections: list[http.client.HTTPConnection] = []
        self._channel = MediaChannel(door, token)
        # A generator, held as long as the mount lasts: what it reads is the open session.
        self._session = cast("Generator[memoryview]", self._channel.download(f"/mount/{job}"))
        self.opened = self._first()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.__exit__(kind, error, trace)
        for connection in self._connections:
            connection.close()

    def ask(self, question: str, said: msgspec.Struct) -> bytes:
        """Put a question, from any thread.

        Raises:
            StreamLostError: the media server does not answer.
            StrongroomError: it refused.
        """
        return self._post(question, mount.encode(said))

    def end(self) -> None:
        """Say that the mount has ended, and wait for the word that the job has too.

        Raises:
            StreamLostError: the media server does not answer.
            StrongroomError: it refused.
        """
        self._post("end", b"")
        for _ in self._session:
            raise DamagedError("the media server says more of a mount than it may")

    def _first(self) -> mount.Opened:
        got = b""
        while len(got) < _U32.size or len(got) < _U32.size + _U32.unpack_from(got)[0]:
            piece = bytes(next(self._session, b""))
            got += piece
            if not piece or len(got) > mount.OPENED_BYTES:
                raise DamagedError("the media server does not say what it has opened")
        return mount.decode(got[_U32.size :], mount.Opened)

    def _post(self, question: str, body: bytes) -> bytes:
        connection = self._connection()
        headers = {"Authorization": f"Bearer {self._token.reveal().decode('ascii')}"}
        try:
            connection.request("POST", f"{self._path}/{question}", body, headers)
            response = connection.getresponse()
            if response.status >= 400:
                read_json(response)
            found = response.read(mount.MAX_READ_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise StreamLostError(f"the media server does not answer: {error}") from error
        if len(found) > mount.MAX_READ_BYTES:
            connection.close()
            raise DamagedError("the media server's answer is longer than it may be")
        return found

    def _connection(self) -> http.client.HTTPConnection:
        found: http.client.HTTPConnection | None = getattr(self._own, "connection", None)
        if found is None:
            found = self._own.connection = self._door.open(ANSWER_SECONDS)
            with self._lock:
                self._connections.append(found)
        return found
