"""The log of a pool in object storage: what its media servers must hear of each other.

One row for each object that somebody has not heard of yet, and for each container that is condemned; its number tells
when the row changed last, and rises over all rows of a pool. A media server takes in what is behind the number that
it knows, before each piece of work. Source: ``docs/reference/protocols/media-server.md`` and ADR 0014.

    (none) ──stored──► stored ◄──reprieve── condemned ──remove──► removed
                          └──────condemn───────►┘

What is *removed* stays so: its container goes, whoever deletes it. Rows that every media server has taken in are
forgotten, but for those that are condemned.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import Final

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from strongroom.catalog.media import get_medium, open_epochs
from strongroom.core.ids import MediumId
from strongroom.services import upkeep_messages
from strongroom.services.primary import pools
from strongroom.services.primary.errors import StaleIndexError
from strongroom.services.primary.tables import media_beats, pool_logs, pool_objects

_PAGE: Final = 2_000


class ObjectState(StrEnum):
    """What the log says of an object."""

    STORED = "stored"
    CONDEMNED = "condemned"
    REMOVED = "removed"


def stored(connection: Connection, medium: MediumId, names: Sequence[str]) -> None:
    """Note objects that one media server has stored, or found, for the others; what is known stays as it is."""
    if len(pools.hosts_of(connection, get_medium(connection, medium))) < 2:
        return  # whoever comes later lists the bucket
    known = _states(connection, medium, names)
    new = [name for name in dict.fromkeys(names) if name not in known]
    for name, number in zip(new, _numbers(connection, medium, len(new)), strict=True):
        connection.execute(
            insert(pool_objects).values(medium=medium, name=name, number=number, state=ObjectState.STORED)
        )


def condemn(connection: Connection, medium: MediumId, names: Sequence[str]) -> None:
    """Condemn containers in the epoch of now; nothing that begins after this may refer to them.

    One that is condemned keeps its epoch, and one that is removed stays so.
    """
    epoch = get_medium(connection, medium).epoch
    known = _states(connection, medium, names)
    new = [name for name in dict.fromkeys(names) if known.get(name) in (None, ObjectState.STORED)]
    for name, number in zip(new, _numbers(connection, medium, len(new)), strict=True):
        values = {"number": number, "state": ObjectState.CONDEMNED, "epoch": epoch, "condemned": number}
        if name in known:
            connection.execute(update(pool_objects).where(_is(medium, name)).values(**values))
        else:
            connection.execute(insert(pool_objects).values(medium=medium, name=name, **values))


def reprieve(connection: Connection, medium: MediumId, names: Sequence[str]) -> None:
    """Let condemned containers be referred to again."""
    known = _states(connection, medium, names)
    condemned = [name for name in known if known[name] is ObjectState.CONDEMNED]
    for name, number in zip(condemned, _numbers(connection, medium, len(condemned)), strict=True):
        values = {"number": number, "state": ObjectState.STORED, "epoch": None, "condemned": None}
        connection.execute(update(pool_objects).where(_is(medium, name)).values(**values))


def remove(connection: Connection, medium: MediumId, names: Sequence[str]) -> list[str]:
    """Let condemned containers go, those to which no session that is open may refer.

    Returns:
        The names that may be deleted, those too of which that was said before; the others may not.
    """
    closed_before = min(open_epochs(connection, medium) | {get_medium(connection, medium).epoch})
    query = select(pool_objects.c.name, pool_objects.c.state).where(
        pool_objects.c.medium == medium, pool_objects.c.name.in_(names), pool_objects.c.epoch < closed_before
    )
    found = {row.name: ObjectState(row.state) for row in connection.execute(query)}
    going = [name for name in found if found[name] is ObjectState.CONDEMNED]
    for name, number in zip(going, _numbers(connection, medium, len(going)), strict=True):
        connection.execute(
            update(pool_objects).where(_is(medium, name)).values(number=number, state=ObjectState.REMOVED)
        )
    return sorted(found)


def follow(connection: Connection, medium: MediumId, after: int) -> upkeep_messages.Followed:
    """Give what changed behind a number, in order; behind 0, all that a media server must know beside the objects."""
    rows = connection.execute(
        select(pool_objects)
        .where(pool_objects.c.medium == medium, pool_objects.c.number > after)
        .order_by(pool_objects.c.number)
        .limit(_PAGE + 1)
    ).all()
    return upkeep_messages.Followed(
        rows=[
            upkeep_messages.LogRow(name=row.name, number=row.number, state=row.state, epoch=row.epoch or 0)
            for row in rows[:_PAGE]
        ],
        more=len(rows) > _PAGE,
        last=connection.execute(select(pool_logs.c.last).where(pool_logs.c.medium == medium)).scalar_one_or_none() or 0,
    )


def forget(connection: Connection, medium: MediumId) -> None:
    """Forget what every media server of the pool said that it took in; what is condemned stays."""
    told = {row.host: row.pools for row in connection.execute(select(media_beats.c.host, media_beats.c.pools))}
    hosts = pools.hosts_of(connection, get_medium(connection, medium))
    heard = min((_followed(told.get(host, []), medium) for host in hosts), default=0)
    connection.execute(
        delete(pool_objects).where(
            pool_objects.c.medium == medium,
            pool_objects.c.number <= heard,
            pool_objects.c.state != ObjectState.CONDEMNED,
        )
    )


def require_followed(connection: Connection, medium: MediumId, epoch: int, followed: int) -> None:
    """Make sure, at a commit, that a session could find nothing that was condemned before it began.

    Args:
        connection: of the commit.
        medium: the pool.
        epoch: in which the session's lease began.
        followed: number that its media server had taken in when the session began to store.

    Raises:
        StaleIndexError: it had not heard of a container that was condemned in an earlier epoch.
    """
    unheard = select(func.count()).where(
        pool_objects.c.medium == medium, pool_objects.c.epoch < epoch, pool_objects.c.condemned > followed
    )
    if count := connection.execute(unheard).scalar_one():
        raise StaleIndexError(f"the media server had not heard of {count} condemned containers when the session began")


def _states(connection: Connection, medium: MediumId, names: Collection[str]) -> dict[str, ObjectState]:
    query = select(pool_objects.c.name, pool_objects.c.state).where(
        pool_objects.c.medium == medium, pool_objects.c.name.in_(names)
    )
    return {row.name: ObjectState(row.state) for row in connection.execute(query)}


def _numbers(connection: Connection, medium: MediumId, count: int) -> range:
    """Draw the next numbers of a pool.

    The row is locked until the transaction ends, so numbers become visible in their order: whoever has seen one has
    seen, or will never see, those below it.
    """
    if count == 0:
        return range(0)
    drawn = update(pool_logs).where(pool_logs.c.medium == medium).values(last=pool_logs.c.last + count)
    last: int | None = connection.execute(drawn.returning(pool_logs.c.last)).scalar_one_or_none()
    if last is None:
        last = count
        connection.execute(insert(pool_logs).values(medium=medium, last=last))
    return range(last - count + 1, last + 1)


def _is(medium: MediumId, name: str) -> ColumnElement[bool]:
    return (pool_objects.c.medium == medium) & (pool_objects.c.name == name)


def _followed(told: Sequence[dict[str, object]], medium: MediumId) -> int:
    """Tell up to which number a media server said with its last beat that it took the log in."""
    for pool in told:
        if pool["medium"] == medium.hex():
            return int(str(pool.get("followed", 0)))
    return 0
