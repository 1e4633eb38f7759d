"""The chain over the rows of evidence, and its check."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, select

from strongroom.audit.tables import audit_head, audit_log
from strongroom.core.clock import to_ns
from strongroom.core.errors import IntegrityError
from strongroom.core.ids import DIGEST_BYTES
from strongroom.formats.algorithms import label

GENESIS: Final = bytes(DIGEST_BYTES)
_ROW_LABEL: Final = label("audit-row")
_PAGE_ROWS: Final = 1_000


class AuditDamagedError(IntegrityError):
    """The evidence was changed, cut, or lost a row."""

    code = "audit.damaged"
    default_hint = "keep a copy of the database as it is, and compare with the copies in DR packages"


@dataclass(frozen=True)
class Head:
    """The end of the chain: how many rows, and the hash of the last, which covers all of them."""

    number: int
    hash: bytes


def link(
    previous: bytes,
    number: int,
    at: datetime,
    actor: str,
    action: str,
    object_: str,
    outcome: str,
    facts: Mapping[str, Any],
) -> bytes:
    """Compute the hash of a row: SHA-256 over label, hash of the row before, and the fields as JSON."""
    fields = [number, to_ns(at), actor, action, object_, outcome, facts]
    text = json.dumps(fields, separators=(",", ":"), sort_keys=True, allow_nan=False)
    return hashlib.sha256(_ROW_LABEL + previous + text.encode("ascii")).digest()


def current_head(connection: Connection) -> Head:
    """Give the end of the chain, to be kept where the database's owner cannot reach.

    Raises:
        AuditDamagedError: it is missing.
    """
    row = connection.execute(select(audit_head.c.number, audit_head.c.hash)).one_or_none()
    if row is None:
        raise AuditDamagedError("the head of the audit chain is missing")
    return Head(row.number, row.hash)


def verify_chain(connection: Connection, anchor: Head | None = None) -> Head:
    """Check every row, in order, in bounded memory.

    Args:
        connection: a snapshot, from :func:`strongroom.database.read`.
        anchor: an earlier head that was kept elsewhere; it must still be part of the chain.

    Returns:
        The head that was reached.

    Raises:
        AuditDamagedError: names the first row that is not what it was.
    """
    head = current_head(connection)
    reached = Head(0, GENESIS)
    while True:
        page = connection.execute(
            select(audit_log).where(audit_log.c.number > reached.number).order_by(audit_log.c.number).limit(_PAGE_ROWS)
        ).all()
        for row in page:
            if row.number != reached.number + 1:
                raise AuditDamagedError(f"row {reached.number + 1} of the audit is missing")
            facts = row.facts
            computed = link(reached.hash, row.number, row.at, row.actor, row.action, row.object, row.outcome, facts)
            if computed != row.hash:
                raise AuditDamagedError(f"row {row.number} of the audit is not what was written")
            reached = Head(row.number, computed)
            if anchor is not None and anchor.number == reached.number and anchor.hash != reached.hash:
                raise AuditDamagedError(f"the audit up to row {row.number} is not the one of the checkpoint")
        if len(page) < _PAGE_ROWS:
            break
    if reached != head:
        raise AuditDamagedError(f"the audit ends at row {reached.number}, its head says {head.number}")
    if anchor is not None and anchor.number > reached.number:
        raise AuditDamagedError(f"the audit ends at row {reached.number}, the checkpoint is of {anchor.number}")
    return reached
