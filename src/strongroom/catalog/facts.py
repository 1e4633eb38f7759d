"""What journal records say about copies, kept by the copy's name: before its headers are read, and after it is gone."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, select, update

from strongroom.catalog.model import CopyKey, CopyState, ExpiryBlock
from strongroom.catalog.rows import find_copy
from strongroom.catalog.tables import copies, copy_facts, copy_leases
from strongroom.formats.journal import CopyState as Said
from strongroom.formats.journal import StateRecord


def is_tombstoned(connection: Connection, key: CopyKey) -> bool:
    """Tell whether a copy was expired, and must not come back."""
    return _said(connection, key).expired


def state_fact(connection: Connection, key: CopyKey, record: StateRecord) -> None:
    """Enter what a record says about a copy, and bring the copy's row to it, if there is one."""
    before = _said(connection, key)
    after = before.with_record(record)
    values = {
        "expiry_set": after.expiry_changed,
        "expires_ns": after.expires,
        "hold": after.held,
        "locked_until_ns": after.locked_until,
        "tombstone": after.expired,
        "unknown_kind": after.unknown[0] if after.unknown else None,
    }
    changed = connection.execute(update(copy_facts).where(_same(key)).values(**values))
    if not changed.rowcount:
        connection.execute(
            insert(copy_facts).values(image=key.image, domain=key.domain, number=key.number, **values)
        )
    apply_facts(connection, key)


def apply_facts(connection: Connection, key: CopyKey) -> None:
    """Bring a copy's row to what is said about it; does nothing while there is no such copy."""
    copy = find_copy(connection, key)
    if copy is None:
        return
    said = _said(connection, key)
    values: dict[str, object] = {"hold": said.held, "locked_until_ns": said.locked_until}
    if said.expiry_changed:
        values["expires_ns"] = said.expires
    if said.unknown:
        values["expiry_blocked"] = ExpiryBlock.UNKNOWN_RECORD
    if said.expired:
        values["state"] = CopyState.EXPIRED
        connection.execute(delete(copy_leases).where(copy_leases.c.copy_id == copy.id))
    connection.execute(update(copies).where(copies.c.id == copy.id).values(**values))


def _said(connection: Connection, key: CopyKey) -> Said:
    row = connection.execute(select(copy_facts).where(_same(key))).one_or_none()
    if row is None:
        return Said()
    return Said(
        expires=row.expires_ns,
        expiry_changed=row.expiry_set,
        held=row.hold,
        locked_until=row.locked_until_ns,
        expired=row.tombstone,
        unknown=() if row.unknown_kind is None else (row.unknown_kind,),
    )


def _same(key: CopyKey) -> ColumnElement[bool]:
    return and_(
        copy_facts.c.image == key.image, copy_facts.c.domain == key.domain, copy_facts.c.number == key.number
    )
