"""Which media servers serve a pool in object storage: one more, or one less.

A pool in a folder has one: no other machine has the folder.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, delete, insert, select, update

from strongroom.catalog.model import Medium
from strongroom.catalog.tables import media
from strongroom.core.ids import HostId, to_text
from strongroom.jobs import JobState
from strongroom.jobs.tables import jobs
from strongroom.pki import registry
from strongroom.pki.errors import HostNotFoundError
from strongroom.pki.roles import HostState, Role
from strongroom.pool.place import is_bucket
from strongroom.services.primary import pools
from strongroom.services.primary.collecting import COLLECT
from strongroom.services.primary.errors import PoolServersError
from strongroom.services.primary.pool_work import PoolBusyError
from strongroom.services.primary.tables import pool_servers

MOST_SERVERS: Final = 16


def attach(connection: Connection, pool: Medium, host: HostId) -> None:
    """Let one more media server serve a pool: with its next beat it opens the pool, and lists what is there.

    Raises:
        HostNotFoundError: it is no active media server of this domain.
        PoolServersError: the pool is in a folder, it serves the pool already, or too many do.
        PoolBusyError: the pool is being collected, by one that takes itself for the only one.
    """
    if not is_bucket(pool.location):
        raise PoolServersError(f"the pool '{pool.label}' is in a folder, which one media server serves")
    found = registry.find_host(connection, pool.domain, host)
    if found is None or found.role is not Role.MEDIA or found.state is not HostState.ACTIVE:
        raise HostNotFoundError(f"no active media server of this domain has the id '{to_text(host)}'")
    if host in pools.hosts_of(connection, pool):
        raise PoolServersError(f"'{found.label}' serves the pool '{pool.label}' already")
    if len(pools.hosts_of(connection, pool)) >= MOST_SERVERS:
        raise PoolServersError(f"{MOST_SERVERS} media servers serve the pool '{pool.label}' already")
    running = select(jobs.c.id, jobs.c.params).where(jobs.c.state == JobState.RUNNING, jobs.c.kind == COLLECT)
    for row in connection.execute(running):
        if row.params["medium"] == to_text(pool.medium):
            raise PoolBusyError(f"the job {row.id} collects the pool")
    connection.execute(insert(pool_servers).values(medium=pool.medium, host=host))


def detach(connection: Connection, pool: Medium, host: HostId) -> None:
    """Let one of several media servers serve a pool no longer: nothing that it does there counts from now on.

    Raises:
        PoolServersError: it does not serve the pool, or is the last one.
    """
    hosts = pools.hosts_of(connection, pool)
    if host not in hosts:
        raise PoolServersError(f"no media server '{to_text(host)}' serves the pool '{pool.label}'")
    if len(hosts) == 1:
        raise PoolServersError(f"the pool '{pool.label}' has no other media server")
    hosts.remove(host)
    connection.execute(update(media).where(media.c.medium == pool.medium).values(host=hosts[0]))
    connection.execute(
        delete(pool_servers).where(pool_servers.c.medium == pool.medium, pool_servers.c.host.in_([host, hosts[0]]))
    )
