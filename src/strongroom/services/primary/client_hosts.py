"""The clients of a domain: hosts that are registered as such, and the media servers' own hosts.

A job is for one client. A registered one brings the grant over TLS, with the certificate that the domain issued to it:
so a grant is of no use on another host, and neither is a session without that host's key. A client on the media
server's host brings it over a socket there, and shows nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from strongroom.core.ids import DomainId, HostId, to_text
from strongroom.pki import registry
from strongroom.pki.registry import Host
from strongroom.pki.roles import HostState, Role
from strongroom.services.primary.errors import NotAClientError, WrongClientError


@dataclass(frozen=True)
class Client:
    """Whom a backup is of.

    Args:
        name: in the catalog.
        host: its id, if it is registered; ``None`` for the media server's own host.
    """

    name: str
    host: HostId | None = None


def registered(connection: Connection, domain: DomainId, host: HostId) -> Client:
    """Give a registered client by the name that the registry has for it.

    Raises:
        NotAClientError: there is no such host, it has another role, or it may not act.
    """
    found = registry.find_host(connection, domain, host)
    if found is None:
        raise NotAClientError(f"the registry has no host '{to_text(host)}'")
    _require_client(found, domain)
    if found.state is not HostState.ACTIVE:
        raise NotAClientError(f"the client '{found.label}' is {found.state}", hint="see 'strongroom host show'")
    return Client(found.names.texts[0], host)


def require_shown(
    connection: Connection, domain: DomainId, expected: HostId | None, shown: bytes | None, *, now: datetime
) -> None:
    """Make sure that a grant was brought by the client that its job is for.

    Args:
        connection: any.
        domain: this one.
        expected: the client of the job; ``None`` for one on the media server's own host.
        shown: the certificate that secures its connection, DER; ``None`` on the media server's own socket.
        now: judges the certificate.

    Raises:
        AuthenticationError: the certificate is nobody's, or may not be used; see :func:`registry.identify`.
        NotAClientError: it is of a host of another role.
        WrongClientError: the job is for another host.
    """
    found: HostId | None = None
    if shown is not None:
        caller = registry.identify(connection, shown, now=now)
        _require_client(caller.host, domain)
        found = caller.host.id
    if found != expected:
        raise WrongClientError("the job was begun for another host than the one that brings its grant")


def _require_client(host: Host, domain: DomainId) -> None:
    if host.role is not Role.CLIENT or host.home != domain:
        raise NotAClientError(f"the host '{host.label}' is registered as '{host.role}', not as a client of this domain")
