"""The time that expiry goes by: it never goes back, and stops where the clock, or what is due, cannot be right.

A clock that was set wrong, or an attacker who sets it, would let every image expire at once. So expiry stops when the
clock has gone forward by more than a limit since it was last looked at, and when an unusual share of all copies is due
in one pass; and goes on when a person has confirmed it. What is stopped stays stopped over restarts.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, insert, select, update

from strongroom.catalog.tables import expiry_guard
from strongroom.core.clock import from_ns, to_ns

_ONE_ROW: Final = 1
_KEPT_EVERY: Final = timedelta(minutes=1)
LEAST_UNUSUAL: Final = 10
"""So few copies may always expire together, or a domain with three images could lose none."""


@dataclass(frozen=True)
class Guard:
    """Where expiry stands.

    Attributes:
        time: what it goes by; of the last look, if it has stopped.
        stopped: why it has stopped; ``None`` if it has not.
        is_confirmed: the next pass may expire any share of the copies.
    """

    time: datetime
    stopped: str | None
    is_confirmed: bool


def look(connection: Connection, *, now: datetime, limit: timedelta) -> Guard:
    """Move the time on, unless it has stopped; or stop it.

    Args:
        connection: in the caller's transaction.
        now: what the clock says.
        limit: by how much it may have gone forward since the last look.
    """
    guard = _read(connection)
    if guard is None:
        connection.execute(insert(expiry_guard).values(id=_ONE_ROW, seen_ns=to_ns(now), stopped=None, confirmed=False))
        return Guard(now, None, is_confirmed=False)
    if guard.stopped is not None:
        return guard
    if now - guard.time > limit:
        return stop(connection, f"the clock went forward from {_shown(guard.time)} to {_shown(now)}", now=now)
    if now - guard.time >= _KEPT_EVERY:
        connection.execute(update(expiry_guard).values(seen_ns=to_ns(now)))
    return Guard(max(now, guard.time), None, guard.is_confirmed)


def state(connection: Connection, *, now: datetime) -> Guard:
    """Tell where expiry stands, and change nothing."""
    guard = _read(connection)
    if guard is None:
        return Guard(now, None, is_confirmed=False)
    return guard if guard.stopped is not None else Guard(max(now, guard.time), None, guard.is_confirmed)


def stop(connection: Connection, reason: str, *, now: datetime) -> Guard:
    """Stop expiry until somebody confirms it; a reason that is there already stays."""
    guard = _read(connection) or Guard(now, None, is_confirmed=False)
    if guard.stopped is None:
        connection.execute(update(expiry_guard).values(stopped=reason, confirmed=False))
        guard = Guard(guard.time, reason, is_confirmed=False)
    return guard


def confirm(connection: Connection, *, now: datetime) -> str | None:
    """Let expiry go on from the time that the clock says now, and whatever share is due then.

    Returns:
        Why it had stopped; ``None`` if it had not, and then nothing changes.
    """
    guard = _read(connection)
    if guard is None or guard.stopped is None:
        return None
    connection.execute(update(expiry_guard).values(seen_ns=to_ns(now), stopped=None, confirmed=True))
    return guard.stopped


def use_confirmation(connection: Connection) -> None:
    """Note that a pass has made use of the confirmation: the next one is judged again."""
    connection.execute(update(expiry_guard).values(confirmed=False))


def is_unusual(due: int, complete: int, *, percent: int) -> bool:
    """Tell whether so many copies of all that are complete should not expire in one pass."""
    return due > LEAST_UNUSUAL and due * 100 > complete * percent


def _read(connection: Connection) -> Guard | None:
    row = connection.execute(select(expiry_guard)).one_or_none()
    return None if row is None else Guard(from_ns(row.seen_ns), row.stopped, row.confirmed)


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}Z"
