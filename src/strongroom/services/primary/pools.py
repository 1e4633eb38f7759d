"""The pools of a domain: media of kind *pool*, by their labels, and the media servers that serve them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Final

import msgspec
from sqlalchemy import Connection, select

from strongroom.api.errors import PoolNotFoundError
from strongroom.catalog.media import get_medium, list_media
from strongroom.catalog.model import Medium
from strongroom.core.ids import DomainId, HostId, MediumId
from strongroom.services import messages
from strongroom.services.primary.errors import NoMediaServerError, NotYoursError
from strongroom.services.primary.tables import client_work, media_beats, pool_servers

POOL = "pool"
SILENT_AFTER: Final = timedelta(seconds=60)
"""A media server that was not heard of for so long is taken for silent."""


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


def hosts_of(connection: Connection, medium: Medium) -> list[HostId]:
    """Tell which media servers serve a pool, the first one first; only a pool in object storage has several."""
    if medium.host is None:
        return []
    more = connection.execute(
        select(pool_servers.c.host).where(pool_servers.c.medium == medium.medium).order_by(pool_servers.c.host)
    )
    return [HostId(medium.host), *(HostId(host) for host in more.scalars())]


def host_of(
    connection: Connection,
    medium: Medium,
    *,
    since: datetime,
    busy: Mapping[HostId, int] | None = None,
    without: Collection[HostId] = (),
) -> HostId:
    """Choose the media server that is to do a piece of work in a pool: of those that live the one with least to do.

    Args:
        connection: to look in.
        medium: the pool.
        since: who was not heard of since then is chosen last.
        busy: pieces of work that run, beside those of clients.
        without: who does not answer; chosen last too.

    Raises:
        NoMediaServerError: none serves it.
    """
    hosts = hosts_of(connection, medium)
    if not hosts:
        raise NoMediaServerError(f"no media server serves the pool '{medium.label}'")
    if len(hosts) == 1:
        return hosts[0]
    beats = {row.host: row for row in connection.execute(select(media_beats))}
    clients = Counter(connection.execute(select(client_work.c.host)).scalars())

    def rank(host: HostId) -> tuple[bool, bool, int]:
        beat = beats.get(host)
        has_it_open = beat is not None and any(pool["medium"] == medium.medium.hex() for pool in beat.pools)
        is_silent = beat is None or beat.at < since or host in without
        return is_silent, not has_it_open, clients[host] + (busy or {}).get(host, 0)

    return min(hosts, key=rank)


def require_served(connection: Connection, medium: MediumId, host: HostId) -> Medium:
    """Make sure that a media server serves a pool.

    Raises:
        NotYoursError: only others do.
    """
    found = get_medium(connection, medium)
    if host not in hosts_of(connection, found):
        raise NotYoursError(f"the pool '{found.label}' is served by another media server")
    return found


def state_of(connection: Connection, medium: MediumId) -> messages.PoolState | None:
    """Give what its media server, of several the first one if it has said anything, said last of a pool."""
    first = get_medium(connection, medium).host
    beats = connection.execute(select(media_beats.c.host, media_beats.c.pools)).all()
    for row in sorted(beats, key=lambda row: row.host != first):
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
