"""What journal records say about copies, kept by the copy's name: before its headers are read, and after it is gone."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement as Condition
from sqlalchemy import Connection, Row, Table, and_, delete, exists, insert, select, update

from strongroom.catalog.model import CopyKey, CopyState, ExpiryBlock
from strongroom.catalog.rows import find_copy
from strongroom.catalog.tables import copies, copy_facts, copy_holds, copy_leases
from strongroom.formats.journal import HOLD, StateRecord


def is_tombstoned(connection: Connection, key: CopyKey) -> bool:
    """Tell whether a copy was expired, and must not come back."""
    fact = _fact(connection, key)
    return fact is not None and fact.tombstone


def state_fact(connection: Connection, key: CopyKey, record: StateRecord) -> None:
    """Enter what a record says about a copy, and bring the copy's row to it, if there is one."""
    fact = _fact(connection, key)
    if fact is None:
        connection.execute(
            insert(copy_facts).values(
                image=key.image,
                domain=key.domain,
                number=key.number,
                expiry_set=False,
                locked_until_ns=0,
                tombstone=False,
            )
        )
    values: dict[str, object] = {}
    match record.kind:
        case "expiry":
            values = {"expiry_set": True, "expires_ns": record.until}
        case "hold" | "release":
            _hold(connection, key, record)
        case "lock":
            # A lock is never shortened, not even by its owner.
            values = {"locked_until_ns": max(record.until or 0, fact.locked_until_ns if fact else 0)}
        case "tombstone":
            values = {"tombstone": True}
        case "receipt" | "hop":
            pass  # these are kept as wholes, not as facts about the copy
        case unknown:
            values = {"unknown_kind": unknown}
    if values:
        connection.execute(update(copy_facts).where(_same(copy_facts, key)).values(**values))
    apply_facts(connection, key)


def apply_facts(connection: Connection, key: CopyKey) -> None:
    """Bring a copy's row to what is said about it; does nothing while there is no such copy, or nothing is said."""
    copy, fact = find_copy(connection, key), _fact(connection, key)
    if copy is None or fact is None:
        return
    held = connection.execute(select(exists().where(_same(copy_holds, key)))).scalar_one()
    values: dict[str, object] = {"hold": held, "locked_until_ns": fact.locked_until_ns}
    if fact.expiry_set:
        values["expires_ns"] = fact.expires_ns
    if fact.unknown_kind is not None:
        values["expiry_blocked"] = ExpiryBlock.UNKNOWN_RECORD
    if fact.tombstone:
        values["state"] = CopyState.EXPIRED
        connection.execute(delete(copy_leases).where(copy_leases.c.copy_id == copy.id))
    connection.execute(update(copies).where(copies.c.id == copy.id).values(**values))


def _hold(connection: Connection, key: CopyKey, record: StateRecord) -> None:
    one = and_(_same(copy_holds, key), copy_holds.c.hold == record.hold)
    connection.execute(delete(copy_holds).where(one))  # a hold that is repeated is the same hold
    if record.kind == HOLD:
        connection.execute(
            insert(copy_holds).values(
                image=key.image,
                domain=key.domain,
                number=key.number,
                hold=record.hold,
                at_ns=record.at,
                reason=record.reason,
            )
        )


def _fact(connection: Connection, key: CopyKey) -> Row[Any] | None:
    return connection.execute(select(copy_facts).where(_same(copy_facts, key))).one_or_none()


def _same(table: Table, key: CopyKey) -> Condition[bool]:
    return and_(table.c.image == key.image, table.c.domain == key.domain, table.c.number == key.number)
