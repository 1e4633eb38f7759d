"""Storage pools."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path
from pydantic import StringConstraints
from sqlalchemy import Connection, func, select

from strongroom.api.errors import PoolNotFoundError
from strongroom.api.fields import Answer, Body, Line, Name
from strongroom.api.paging import DEFAULT_LIMIT, After, Limit, Page, cut
from strongroom.api.parts import Parts
from strongroom.api.ports import PoolFacts
from strongroom.api.routing import Routes
from strongroom.api.security import CallerDep, PartsDep
from strongroom.catalog.model import CopyState
from strongroom.catalog.tables import copies
from strongroom.core.ids import MediumId, to_text
from strongroom.database import read

routes = Routes("pools")


class PoolRequest(Body):
    """A new pool."""

    # It becomes the name of a folder, of a scope and of a part of a path.
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
    path: Line | None = None


class CollectRequest(Body):
    """With ``dry_run`` nothing is changed: the job's result tells what would be freed."""

    dry_run: bool = False


class StartedJob(Answer):
    """A job that does the work."""

    job: int


class Links(Answer):
    """Domains that send to the pool, and those that it sends to."""

    source: list[str]
    targets: list[str]


class PoolShown(Answer):
    """A pool, as its media server last told of it."""

    name: str
    medium: str
    label: str
    path: str
    media_host: str
    state: str
    online: bool
    images: int
    stored_bytes: int | None
    free_bytes: int | None
    chunker: str
    replication: Links


@routes.post("/pools", "pool.create", on="pool:{name}", status=201)
def create_pool(body: PoolRequest, caller: CallerDep) -> PoolShown:
    """Make a storage pool; without a path, where the media server keeps its pools."""
    made = caller.act(
        lambda: caller.parts.media.make_pool(body.name, body.path, caller.actor),
        facts={"path": body.path},
        describe=lambda pool: {"medium": to_text(pool.medium)},
    )
    return _shown(made, 0)


@routes.get("/pools", "pool.read")
def list_pools(parts: PartsDep, after: After = None, limit: Limit = DEFAULT_LIMIT) -> Page[PoolShown]:
    """List the pools by name."""
    items, following = cut(parts.media.pools(), lambda pool: pool.name, after, limit)
    with read(parts.engine) as connection:
        return Page(items=[_shown(pool, _count(connection, pool.medium)) for pool in items], next=following)


@routes.get("/pools/{name}", "pool.read", on="pool:{name}")
def show_pool(name: Annotated[Name, Path()], parts: PartsDep) -> PoolShown:
    """Show a pool."""
    pool = find_pool(parts, name)
    with read(parts.engine) as connection:
        return _shown(pool, _count(connection, pool.medium))


@routes.post("/pools/{name}/collect", "pool.collect", on="pool:{name}", status=202)
def collect_pool(name: Annotated[Name, Path()], body: CollectRequest, caller: CallerDep) -> StartedJob:
    """Start a job that frees what no image of the pool needs, or counts it."""
    return StartedJob(
        job=caller.transact(
            lambda connection: caller.parts.media.collect(connection, name, dry_run=body.dry_run),
            facts={"dry_run": body.dry_run},
        )
    )


def find_pool(parts: Parts, name: str) -> PoolFacts:
    """Look a pool up.

    Raises:
        PoolNotFoundError: none has this name.
    """
    pool = parts.media.pool(name)
    if pool is None:
        raise PoolNotFoundError(f"there is no pool '{name}'")
    return pool


def _count(connection: Connection, medium: MediumId) -> int:
    query = select(func.count(copies.c.image.distinct())).where(
        copies.c.medium == medium, copies.c.state == CopyState.COMPLETE
    )
    return connection.execute(query).scalar_one()


def _shown(pool: PoolFacts, images: int) -> PoolShown:
    return PoolShown(
        name=pool.name,
        medium=to_text(pool.medium),
        label=pool.label,
        path=pool.path,
        media_host=pool.media_host,
        state=pool.state,
        online=pool.online,
        images=images,
        stored_bytes=pool.stored_bytes,
        free_bytes=pool.free_bytes,
        chunker=pool.chunker,
        replication=Links(source=list(pool.sources), targets=list(pool.targets)),
    )
