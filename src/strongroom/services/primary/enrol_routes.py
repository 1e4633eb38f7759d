"""Routes of the peer listener by which hosts come to their certificates.

``/v1/enrol`` and ``/v1/reissue`` with a token, ``/v1/renew`` with the present certificate.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from aiohttp import web

from strongroom.audit import Actor, ActorKind
from strongroom.core.errors import InputError
from strongroom.core.ids import DomainId, HostId, from_text, to_text
from strongroom.core.secret import Secret
from strongroom.pki import messages
from strongroom.pki.enrol import Application, Issued, Registrar
from strongroom.pki.errors import EnrolmentError
from strongroom.pki.roles import Role
from strongroom.pki.tls import peer_certificate
from strongroom.services.primary.limits import RateLimit
from strongroom.services.record_http import read_body

T = TypeVar("T")


class BadEnrolmentError(InputError):
    """A request to enrol cannot be read."""

    code = "peer.bad-enrolment"


@dataclass(frozen=True)
class EnrolRoutes:
    """What the routes translate to.

    Args:
        registrar: admits hosts.
        limit: for the routes that need no certificate.
    """

    registrar: Registrar
    limit: RateLimit

    def table(self) -> list[web.RouteDef]:
        """Give the routes."""
        return [
            web.post(messages.ENROL_PATH, self._enrol),
            web.post(messages.REISSUE_PATH, self._reissue),
            web.post(messages.RENEW_PATH, self._renew),
        ]

    async def _enrol(self, request: web.Request) -> web.Response:
        self.limit.count(request.remote or "")
        said = _decode(await read_body(request, messages.MAX_MESSAGE_BYTES), messages.EnrolRequest)
        try:
            role = Role(said.role)
        except ValueError as error:
            raise EnrolmentError(f"'{said.role}' is not a role") from error
        application = Application(
            token=Secret(said.token.encode("utf-8")),
            request=said.request,
            role=role,
            label=said.label,
            names=tuple(said.names),
            home=DomainId(bytes.fromhex(said.home)) if said.home else None,
            host=HostId(from_text(said.host)) if said.host else None,
        )
        actor = Actor(ActorKind.ANONYMOUS, "", request.remote or "")
        return _issued(await asyncio.to_thread(self.registrar.enrol, application, actor))

    async def _reissue(self, request: web.Request) -> web.Response:
        self.limit.count(request.remote or "")
        said = _decode(await read_body(request, messages.MAX_MESSAGE_BYTES), messages.ReissueRequest)
        token = Secret(said.token.encode("utf-8"))
        host, home = HostId(from_text(said.host)), DomainId(bytes.fromhex(said.home))
        actor = Actor(ActorKind.ANONYMOUS, "", request.remote or "")
        return _issued(await asyncio.to_thread(self.registrar.reissue, token, said.request, host, home, actor))

    async def _renew(self, request: web.Request) -> web.Response:
        transport = request.transport
        shown = peer_certificate(transport.get_extra_info("ssl_object") if transport else None)
        said = _decode(await read_body(request, messages.MAX_MESSAGE_BYTES), messages.RenewRequest)
        actor = Actor(ActorKind.HOST, "certificate holder", request.remote or "")
        return _issued(await asyncio.to_thread(self.registrar.renew, shown, said.request, actor))


def _issued(issued: Issued) -> web.Response:
    document = messages.IssuedDocument(
        home=issued.host.home.hex(), host=to_text(issued.host.id), chain=list(issued.chain)
    )
    return web.Response(body=messages.encode(document), content_type="application/json")


def _decode(data: bytes, kind: type[T]) -> T:
    try:
        return messages.decode(data, kind)
    except msgspec.DecodeError as error:
        raise BadEnrolmentError(f"the request cannot be read: {error}") from error
