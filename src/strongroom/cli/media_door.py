"""The two ways from a client to a media server: its socket on this host, and TLS from another one.

What goes through is the same; see :mod:`strongroom.cli.media_channel`. The second way is in
:mod:`strongroom.cli.tls_door`, which needs libraries that start slowly.
"""

from __future__ import annotations

import http.client
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from strongroom.cli.api_client import UnixConnection, UnreachableServerError


class MediaDoor(Protocol):
    """How a media server is reached.

    Attributes:
        is_local: whether it is on this host, so that what is sent goes through the kernel alone.
    """

    @property
    def is_local(self) -> bool:
        """See above."""

    def open(self, timeout: float) -> http.client.HTTPConnection:
        """Open a connection.

        Args:
            timeout: how long it waits for each answer, seconds.

        Raises:
            UnreachableServerError: nobody answers.
            StrongroomError: what is there is not the media server, or does not take this client.
        """


@dataclass(frozen=True)
class SocketDoor:
    """The socket of the media server of this host; who may open it, the file system says."""

    path: Path
    is_local: bool = True

    def open(self, timeout: float) -> http.client.HTTPConnection:
        """Open a connection over the socket."""
        connection = UnixConnection(self.path, timeout)
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            raise UnreachableServerError(
                f"no media server answers at '{self.path}': {error}",
                hint="run this on the host of the media server, as an account that may use its socket;"
                " or make this host a client: 'strongroom host enrol'",
            ) from error
        return connection
