"""The evidence of each use of authority."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import Query
from pydantic import Field

from strongroom import audit
from strongroom.api.fields import Answer, Line
from strongroom.api.paging import DEFAULT_LIMIT, LARGEST_LIMIT, After, Limit, Page, number
from strongroom.api.routing import Routes
from strongroom.api.security import PartsDep
from strongroom.audit import Outcome
from strongroom.database import read

routes = Routes("audit")


class EntryShown(Answer):
    """One row of the evidence."""

    number: int
    at: datetime
    actor: str
    action: str
    object: str
    outcome: Outcome
    facts: dict[str, str | int | bool | None]


class Verified(Answer):
    """Every row is what was written. Keep number and hash elsewhere: a later check can be compared with them."""

    ok: Literal[True] = True
    entries: int
    hash: str = Field(description="of the last row, which covers all of them")


@routes.get("/audit", "audit.read")
def list_audit(
    parts: PartsDep,
    object_: Annotated[Line | None, Query(alias="object", description="only of this one")] = None,
    after: After = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Page[EntryShown]:
    """List the evidence, oldest first; ``after`` is the number of the last row that was seen."""
    wanted = min(limit + 1, LARGEST_LIMIT)
    with read(parts.engine) as connection:
        found = audit.entries(connection, after=number(after, 0), limit=wanted, object_=object_)
    # Of a thousand rows, the most that come at once, nobody knows whether there are more: ask again.
    more = len(found) > limit or len(found) == LARGEST_LIMIT
    shown = found[:limit]
    return Page(
        items=[
            EntryShown(
                number=entry.number,
                at=entry.at,
                actor=entry.actor,
                action=entry.action,
                object=entry.object,
                outcome=entry.outcome,
                facts=dict(entry.facts),
            )
            for entry in shown
        ],
        next=str(shown[-1].number) if more else None,
    )


@routes.get("/audit/verify", "audit.verify")
def verify_audit(parts: PartsDep) -> Verified:
    """Check every row of the evidence; one that was changed or taken out is an error that names it."""
    with read(parts.engine) as connection:
        head = audit.verify_chain(connection)
    return Verified(entries=head.number, hash=head.hash.hex())
