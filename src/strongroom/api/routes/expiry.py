"""Expiry: where it stands, and the word that lets it go on."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, func, select

from strongroom.api.fields import Answer, Body, Name
from strongroom.api.routes.pools import find_pool
from strongroom.api.routing import Routes
from strongroom.api.security import CallerDep, PartsDep
from strongroom.catalog import guard
from strongroom.catalog.expiry import count_due
from strongroom.catalog.journal import confirm_expiry
from strongroom.catalog.model import CopyState
from strongroom.catalog.tables import copies
from strongroom.database import read

routes = Routes("expiry")


class ExpiryShown(Answer):
    """Where expiry stands. ``time`` is what it goes by; ``blocked`` copies wait for a person's word."""

    stopped: str | None
    time: datetime
    due: int
    complete: int
    removing: int
    blocked: int


class ConfirmRequest(Body):
    """What is confirmed: with a pool, the expiries of the copies that its journal speaks of; else the clock."""

    pool: Name | None = None


class Confirmed(Answer):
    """Why expiry had stopped, and how many copies were blocked."""

    stopped: str | None
    unblocked: int


@routes.get("/expiry", "image.read")
def show_expiry(parts: PartsDep) -> ExpiryShown:
    """Show whether copies expire, and how many are to."""
    with read(parts.engine) as connection:
        found = guard.state(connection, now=parts.clock.now())
        due, complete = count_due(connection, own=parts.ours.domain, now=found.time)
        counted = select(func.count()).select_from(copies)
        removing = connection.execute(counted.where(copies.c.state == CopyState.EXPIRED)).scalar_one()
        blocked = connection.execute(
            counted.where(copies.c.state == CopyState.COMPLETE, copies.c.expiry_blocked.is_not(None))
        ).scalar_one()
    return ExpiryShown(
        stopped=found.stopped, time=found.time, due=due, complete=complete, removing=removing, blocked=blocked
    )


@routes.post("/expiry/confirm", "image.expire", on="expiry")
def confirm(body: ConfirmRequest, caller: CallerDep) -> Confirmed:
    """Let expiry go on that has stopped, or the copies of a pool expire that wait for somebody's word."""
    parts = caller.parts
    medium = None if body.pool is None else find_pool(parts, body.pool).medium

    def deed(connection: Connection) -> Confirmed:
        if medium is not None:
            return Confirmed(stopped=None, unblocked=confirm_expiry(connection, medium))
        return Confirmed(stopped=guard.confirm(connection, now=parts.clock.now()), unblocked=0)

    return caller.transact(deed, facts={"pool": body.pool})
