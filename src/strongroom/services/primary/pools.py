"""The pools of a domain: media of kind *pool*, by their labels, and the media servers that serve them."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, select

from strongroom.api.errors import PoolNotFoundError
from strongroom.catalog.media import get_medium, list_media
from strongroom.catalog.model import Medium
from strongroom.core.ids import DomainId, HostId, MediumId
from strongroom.services import messages
from strongroom.services.primary.errors import NoMediaServerError, NotYoursError
from strongroom.services.primary.tables import media_beats

POOL = "pool"


def own_pools(connection: Connection, domain: DomainId) -> list[Medium]:
    """Give this domain's pools by name."""
    pools = [medium for medium in list_media(connection) if medium.kind == POOL and medium.domain == domain]
    return sorted(pools, key=lambda medium: medium.label)


def pool_named(connection: Connection, domain: DomainId, name: str) -> Medium:
    """Look a pool up.

    Raises:
        PoolNotFoundError: there is none of this name.
    """
    for medium in own_pools(connection, domain):
        if medium.label == name:
            return medium
    raise PoolNotFoundError(f"there is no pool '{name}'")


def host_of(medium: Medium) -> HostId:
    """Tell which media server serves a pool.

    Raises:
        NoMediaServerError: none does.
    """
    if medium.host is None:
        raise NoMediaServerError(f"no media server serves the pool '{medium.label}'")
    return HostId(medium.host)


def require_served(connection: Connection, medium: MediumId, host: HostId) -> Medium:
    """Make sure that a media server serves a pool.

    Raises:
        NotYoursError: another one does.
    """
    found = get_medium(connection, medium)
    if found.host != host:
        raise NotYoursError(f"the pool '{found.label}' is served by another media server")
    return found


def state_of(connection: Connection, medium: MediumId) -> messages.PoolState | None:
    """Give what the media server said last of a pool."""
    for row in connection.execute(select(media_beats.c.pools)):
        for pool in row.pools:
            if pool["medium"] == medium.hex():
                return messages.PoolState(
                    medium=medium,
                    path=pool["path"],
                    free_bytes=pool["free_bytes"],
                    stored_bytes=pool["stored_bytes"],
                    journal=pool["journal"],
                    requests=pool.get("requests", {}),
                    lock=messages.LockState(**pool.get("lock", {})),
                    checks=msgspec.convert(pool.get("checks"), messages.PoolChecks | None),
                )
    return None
