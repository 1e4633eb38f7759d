"""Writing evidence, and doing a deed between its two rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, TypeVar

from sqlalchemy import Connection, Engine, insert, select, update

from strongroom.audit.chain import Head, current_head, link
from strongroom.audit.tables import audit_head, audit_log
from strongroom.core.clock import Clock
from strongroom.core.errors import StrongroomError
from strongroom.database import DatabaseBusyError, transact

MAX_TEXT: Final = 512
MAX_PAGE: Final = 1_000

Fact = str | int | bool | None
T = TypeVar("T")


class Outcome(StrEnum):
    """What became of the deed."""

    ATTEMPTED = "attempted"
    DONE = "done"
    REFUSED = "refused"


class ActorKind(StrEnum):
    """Who acts."""

    USER = "user"
    HOST = "host"
    SYSTEM = "system"
    ANONYMOUS = "anonymous"


@dataclass(frozen=True)
class Actor:
    """Who acts, and from where.

    Args:
        kind: what the identity is of.
        identity: user id, host id, or the name of a service.
        address: network address or socket; empty inside one process.
    """

    kind: ActorKind
    identity: str
    address: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.identity}" + (f"@{self.address}" if self.address else "")


@dataclass(frozen=True)
class Entry:
    """One row of evidence, as read."""

    number: int
    at: datetime
    actor: str
    action: str
    object: str
    outcome: Outcome
    facts: Mapping[str, Fact]


def record(
    connection: Connection,
    at: datetime,
    actor: Actor,
    action: str,
    object_: str,
    outcome: Outcome,
    facts: Mapping[str, Fact] | None = None,
) -> Head:
    """Add a row, in the caller's transaction.

    Args:
        connection: of a writing transaction; what it is for goes with it.
        at: now.
        actor: who.
        action: ``noun.verb``.
        object_: what it is done to, ``noun:identity``.
        outcome: attempted, done, refused.
        facts: details for people; never a secret.

    Returns:
        The new end of the chain.

    Raises:
        DatabaseBusyError: another added a row meanwhile; the transaction must be run again.
        DocumentError: the facts are too long.
    """
    written = dict(facts or {})
    before = current_head(connection)
    number = before.number + 1
    who, what = _bounded(str(actor)), _bounded(object_)
    after = Head(number, link(before.hash, number, at, who, action, what, outcome.value, written))
    moved = connection.execute(
        update(audit_head).where(audit_head.c.number == before.number).values(number=after.number, hash=after.hash)
    )
    if moved.rowcount != 1:
        raise DatabaseBusyError("another row of the audit was written at the same time")
    connection.execute(
        insert(audit_log).values(
            number=number,
            at=at,
            actor=who,
            action=action,
            object=what,
            outcome=outcome.value,
            facts=written,
            hash=after.hash,
        )
    )
    return after


def exercise(
    engine: Engine,
    clock: Clock,
    actor: Actor,
    action: str,
    object_: str,
    deed: Callable[[Connection], T],
    *,
    facts: Mapping[str, Fact] | None = None,
    describe: Callable[[T], Mapping[str, Fact]] | None = None,
) -> T:
    """Use authority: a row, the deed, a row, in one transaction; or one row that says it was refused.

    Args:
        engine: where deed and evidence live.
        clock: for the times of the rows.
        actor: who.
        action: ``noun.verb``.
        object_: what it is done to.
        deed: may run several times, see :func:`strongroom.database.transact`.
        facts: known before.
        describe: gives further facts from the deed's result.

    Returns:
        What the deed returned.

    Raises:
        StrongroomError: what the deed raised; nothing of it is left but the row.
    """
    known = dict(facts or {})

    def witnessed(connection: Connection) -> T:
        record(connection, clock.now(), actor, action, object_, Outcome.ATTEMPTED, known)
        result = deed(connection)
        more = known | dict(describe(result)) if describe else known
        record(connection, clock.now(), actor, action, object_, Outcome.DONE, more)
        return result

    try:
        return transact(engine, witnessed)
    except StrongroomError as error:
        refused = known | {"code": error.code, "reason": _bounded(error.message)}
        transact(
            engine,
            lambda connection: record(connection, clock.now(), actor, action, object_, Outcome.REFUSED, refused),
        )
        raise


def entries(connection: Connection, *, after: int = 0, limit: int = 100, object_: str | None = None) -> list[Entry]:
    """List rows in order.

    Args:
        connection: any.
        after: number of the last row already seen.
        limit: at most this many, and never more than a thousand.
        object_: only of this object.
    """
    query = select(audit_log).where(audit_log.c.number > after).order_by(audit_log.c.number)
    if object_ is not None:
        query = query.where(audit_log.c.object == object_)
    return [
        Entry(row.number, row.at, row.actor, row.action, row.object, Outcome(row.outcome), row.facts)
        for row in connection.execute(query.limit(min(limit, MAX_PAGE)))
    ]


def _bounded(text: str) -> str:
    return text[:MAX_TEXT]
