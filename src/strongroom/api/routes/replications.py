"""What was promised to other domains, and how far it is."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import Query
from pydantic import Field
from sqlalchemy import Row, select, tuple_

from strongroom.api.errors import BadRequestError
from strongroom.api.fields import UUID, Answer, Line
from strongroom.api.paging import DEFAULT_LIMIT, After, Limit, Page
from strongroom.api.routes.images import domain_names
from strongroom.api.routes.trusts import find_peer
from strongroom.api.routing import Routes
from strongroom.api.security import PartsDep
from strongroom.core.ids import from_text, to_text
from strongroom.database import read
from strongroom.lifecycle.tables import ReplicationState, replications

routes = Routes("replications")


class ReplicationShown(Answer):
    """One image on its way to one domain."""

    image: str
    target: str
    target_name: str | None
    slp: str
    state: ReplicationState
    sending: str | None
    attempts: int
    bytes_sent: int
    requested: datetime
    started: datetime | None
    sent: datetime | None
    confirmed: datetime | None
    retry_at: datetime | None
    error_code: str | None
    error: str | None
    age_seconds: int = Field(description="since it was promised, until it was confirmed")


@routes.get("/replications", "replication.read")
def list_replications(
    parts: PartsDep,
    state: Annotated[list[ReplicationState] | None, Query()] = None,
    target: Annotated[Line | None, Query(description="a domain: id, name or server")] = None,
    image: Annotated[UUID | None, Query()] = None,
    after: After = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Page[ReplicationShown]:
    """List what was promised to other domains, by image; confirmed ones stay listed."""
    table = replications.c
    query = select(replications).order_by(table.image, table.target).limit(limit + 1)
    if state:
        query = query.where(table.state.in_(state))
    if image is not None:
        query = query.where(table.image == image)
    if after is not None:
        query = query.where(tuple_(table.image, table.target) > tuple_(*_cursor(after)))
    now = parts.clock.now()
    with read(parts.engine) as connection:
        if target is not None:
            query = query.where(table.target == find_peer(connection, target).domain)
        rows = connection.execute(query).all()
        names = domain_names(connection, parts)
    shown = rows[:limit]
    return Page(
        items=[_shown(row, names, now) for row in shown],
        next=f"{to_text(shown[-1].image)}.{shown[-1].target.hex()}" if len(rows) > limit else None,
    )


def _cursor(after: str) -> tuple[bytes, bytes]:
    image, _, target = after.partition(".")
    try:
        return from_text(image), from_text(target)
    except ValueError as error:
        raise BadRequestError("'query.after' is not a cursor of this listing") from error


def _shown(row: Row[Any], names: dict[bytes, str], now: datetime) -> ReplicationShown:
    return ReplicationShown(
        image=to_text(row.image),
        target=to_text(row.target),
        target_name=names.get(row.target),
        slp=row.slp,
        state=ReplicationState(row.state),
        sending=None if row.sending is None else to_text(row.sending),
        attempts=row.attempts,
        bytes_sent=row.sent_bytes,
        requested=row.promised,
        started=row.started,
        sent=row.sent,
        confirmed=row.confirmed,
        retry_at=row.retry_at,
        error_code=row.error_code,
        error=row.error,
        age_seconds=max(0, int(((row.confirmed or now) - row.promised).total_seconds())),
    )
