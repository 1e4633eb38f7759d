"""The Unix socket that gives a system account of the primary's host a short session for REST; it does nothing else.

The kernel tells the caller's uid; a registered account gets a session, a uid alone gives no role.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.core.errors import AuthenticationError
from strongroom.people.sessions import Door
from strongroom.services.primary.opening import Primary
from strongroom.services.record_http import tell_errors
from strongroom.settings.domain import split_address

_CREDENTIALS: Final = struct.Struct("3i")


@dataclass(frozen=True)
class SessionSocket:
    """What the socket gives.

    Args:
        primary: whose.
        door: lets people in.
    """

    primary: Primary
    door: Door

    def application(self) -> web.Application:
        """Make the application that answers on the socket."""
        application = web.Application(middlewares=[tell_errors])
        application.router.add_post("/session", self._session)
        return application

    async def _session(self, request: web.Request) -> web.Response:
        transport = request.transport
        connection = transport.get_extra_info("socket") if transport else None
        if connection is None:
            raise AuthenticationError("the caller cannot be told")
        uid = _uid_of(connection)
        token = await asyncio.to_thread(self.door.sign_in_locally, uid)
        settings = self.primary.settings
        _, port = split_address(settings.primary.listen_people)
        return web.json_response(
            {
                "url": f"https://{settings.host}:{port}",
                "token": token.reveal().decode("ascii"),
                "ca": self.primary.root.public_bytes(Encoding.PEM).decode("ascii"),
            }
        )


def _uid_of(connection: socket.socket) -> int:
    """Ask the kernel who is at the other end (SO_PEERCRED, unix(7))."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(raw)
    return int(uid)


def prepare(path: Path) -> None:
    """Remove a socket that a dead process left, and make sure that the folder is private."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    path.unlink(missing_ok=True)
