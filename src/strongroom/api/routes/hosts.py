"""The registry of hosts."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from strongroom.api.fields import Answer
from strongroom.api.paging import DEFAULT_LIMIT, After, Limit, Page, cut
from strongroom.api.routing import Routes
from strongroom.api.security import PartsDep
from strongroom.core.ids import to_text
from strongroom.database import read
from strongroom.pki import registry
from strongroom.pki.registry import Host, IssuedCertificate

routes = Routes("hosts")


class HostCertificate(Answer):
    """A certificate that was issued to a host; serial numbers and fingerprints are hexadecimal."""

    serial: str
    fingerprint: str
    issuer: str
    not_before: datetime
    not_after: datetime
    revoked_at: datetime | None
    reason: str | None


class HostShown(Answer):
    """A host, as the registry has it."""

    host: str
    label: str
    names: list[str]
    role: str
    home_domain: str
    state: str
    enrolled: datetime
    certificates: list[HostCertificate]


@routes.get("/hosts", "host.read")
def list_hosts(parts: PartsDep, after: After = None, limit: Limit = DEFAULT_LIMIT) -> Page[HostShown]:
    """List the hosts of this domain, and those of other domains that have a certificate here."""
    with read(parts.engine) as connection:
        items, following = cut(registry.hosts(connection), host_key, after, limit)
        return Page(items=[_shown(connection, host) for host in items], next=following)


def host_key(host: Host) -> str:
    """Give a text that names a host, for pages."""
    return f"{host.home.hex()}.{host.id.hex()}"


def certificate_shown(certificate: IssuedCertificate) -> HostCertificate:
    """Show a certificate."""
    return HostCertificate(
        serial=f"{certificate.serial:x}",
        fingerprint=certificate.fingerprint.value.hex(),
        issuer=certificate.authority.value.hex(),
        not_before=certificate.not_before,
        not_after=certificate.not_after,
        revoked_at=certificate.revoked,
        reason=None if certificate.reason is None else certificate.reason.value,
    )


def _shown(connection: Connection, host: Host) -> HostShown:
    return HostShown(
        host=to_text(host.id),
        label=host.label,
        names=list(host.names.texts),
        role=host.role.value,
        home_domain=to_text(host.home),
        state=host.state.value,
        enrolled=host.enrolled,
        certificates=[certificate_shown(one) for one in registry.certificates(connection, host.home, host.id)],
    )
