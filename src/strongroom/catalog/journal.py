"""The journal: changes wait in an outbox, become signed batches, and are read back after a loss.

    change ──(same transaction)──► outbox ──sign──► batch ──write to the medium──► mark_batch_written

A batch is signed from the oldest records of one medium; its number and digest are taken in the same transaction, so
that the chain has no gap and no fork. Its bytes stay here until they are known to lie on the medium.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, select, update

from strongroom.catalog.errors import JournalBrokenError
from strongroom.catalog.facts import state_fact
from strongroom.catalog.media import get_medium
from strongroom.catalog.model import Copy, CopyKey, ExpiryBlock, Medium
from strongroom.catalog.receipts import keep_hop, keep_receipt
from strongroom.catalog.tables import copies, journal_batches, journal_outbox, media
from strongroom.core.clock import to_ns
from strongroom.core.errors import IntegrityError
from strongroom.core.ids import ImageId, MediumId
from strongroom.formats import signed
from strongroom.formats.algorithms import digest
from strongroom.formats.hop import HOP
from strongroom.formats.journal import (
    BATCH,
    HOP_SENT,
    MAX_RECORDS,
    RECEIPT,
    Batch,
    JournalState,
    StateRecord,
    follow,
)
from strongroom.formats.receipt import RECEIPT as RECEIPT_KIND

MAX_BATCH_BYTES = 3 << 20
"""Records stop being added to a batch here; what is above it in the format's bound is room for their frame."""
RECORD_BYTES = 512


def append_record(connection: Connection, copy: Copy, record: StateRecord) -> None:
    """Put a record into the outbox of the pool whose journal speaks of the copy, and bring the copy to what it says."""
    connection.execute(
        insert(journal_outbox).values(
            medium=copy.journal_medium,
            image=record.image,
            number=record.copy,
            kind=record.kind,
            at_ns=record.at,
            until_ns=record.until,
            hold=record.hold,
            object=record.object,
            reason=record.reason,
        )
    )
    state_fact(connection, copy.key, record)


def sign_batch(
    connection: Connection, medium: MediumId, *, incarnation: int, now: datetime, sign: Callable[[Batch], bytes]
) -> int | None:
    """Make the next batch of a medium's journal of what waits in its outbox.

    Args:
        connection: in the caller's transaction.
        medium: a medium of this domain.
        incarnation: of this domain, raised by each restore of its primary.
        now: the time that the batch states.
        sign: makes the signed object; it may be called again when the transaction is tried again.

    Returns:
        The batch's number; ``None`` when nothing waits. What is left over makes another batch.

    Raises:
        MediumNotFoundError: the medium is not known.
    """
    where = get_medium(connection, medium)
    records: list[StateRecord] = []
    size, last = 0, 0
    waiting = connection.execute(
        select(journal_outbox)
        .where(journal_outbox.c.medium == medium)
        .order_by(journal_outbox.c.id)
        .limit(MAX_RECORDS)
        .execution_options(yield_per=64)
    )
    with waiting:
        for row in waiting:
            payload = None if row.object is None else bytes(row.object)
            size += RECORD_BYTES + len(payload or b"")
            if size > MAX_BATCH_BYTES:
                break
            last = row.id
            records.append(
                StateRecord(
                    kind=row.kind,
                    image=row.image,
                    copy=row.number,
                    at=row.at_ns,
                    until=row.until_ns,
                    hold=row.hold,
                    object=payload,
                    reason=row.reason,
                )
            )
    if not records:
        return None
    sequence = where.journal_sequence + 1
    data = sign(
        Batch(
            domain=where.domain,
            medium=medium,
            incarnation=incarnation,
            sequence=sequence,
            previous=where.journal_digest,
            at=to_ns(now),
            records=tuple(records),
            features=(),
        )
    )
    connection.execute(insert(journal_batches).values(medium=medium, sequence=sequence, data=data))
    connection.execute(delete(journal_outbox).where(journal_outbox.c.medium == medium, journal_outbox.c.id <= last))
    _move_on(connection, medium, sequence, incarnation, data)
    return sequence


def unwritten_batches(connection: Connection, medium: MediumId, *, limit: int = 16) -> list[tuple[int, bytes]]:
    """Give the batches, by number, that may not lie on the medium yet. They must be written in this order."""
    query = select(journal_batches.c.sequence, journal_batches.c.data).where(journal_batches.c.medium == medium)
    rows = connection.execute(query.order_by(journal_batches.c.sequence).limit(limit))
    return [(row.sequence, bytes(row.data)) for row in rows]


def mark_batch_written(connection: Connection, medium: MediumId, sequence: int) -> None:
    """Note that a batch, and those before it, are on stable storage; may be repeated."""
    connection.execute(
        delete(journal_batches).where(journal_batches.c.medium == medium, journal_batches.c.sequence <= sequence)
    )
    connection.execute(
        update(media)
        .where(media.c.medium == medium, media.c.journal_written < sequence)
        .values(journal_written=sequence)
    )


def read_batch(connection: Connection, medium: MediumId, data: bytes) -> bool:
    """Apply a batch that was found on a medium.

    Args:
        connection: in the caller's transaction.
        medium: where it was found.
        data: the whole object, of bounded length.

    Returns:
        Whether it is new; a batch at or before the last one known changes nothing.

    Raises:
        MediumNotFoundError: the medium is not known.
        IntegrityError: the batch is not a valid object of the medium's domain.
        JournalBrokenError: it does not continue the journal; nothing from here on counts.
    """
    where = get_medium(connection, medium)
    batch = signed.verify(BATCH, data, pinned=where.domain).payload
    if batch.medium == medium and batch.sequence <= where.journal_sequence:
        if batch.sequence == where.journal_sequence and digest(data) != where.journal_digest:
            raise JournalBrokenError(f"the journal of '{where.label}' has two batches {batch.sequence}")
        return False
    state = follow(
        [data],
        domain=where.domain,
        medium=medium,
        after=JournalState(where.journal_sequence, where.journal_digest, where.journal_incarnation),
    )
    if state.problem is not None:
        raise JournalBrokenError(
            f"the journal of '{where.label}' ends at batch {where.journal_sequence}: {state.problem.message}"
        ) from state.problem
    for record in batch.records:
        _read_record(connection, where, record)
    _move_on(connection, medium, batch.sequence, batch.incarnation, data)
    mark_batch_written(connection, medium, batch.sequence)
    return True


def settle_journal(connection: Connection, medium: MediumId, *, last: int | None) -> bool:
    """End the reading of a medium's journal: when it is complete, the expiries of its copies count from now on.

    Args:
        connection: in the caller's transaction.
        medium: of this domain.
        last: number of the last batch by a word that did not come from the medium, since the newest batches may have
            been taken away from there; ``None`` when there is no such word.

    Returns:
        Whether the journal counts as complete: all up to ``last`` were read, and no copy header names a later one.

    Raises:
        MediumNotFoundError: the medium is not known.
    """
    where = get_medium(connection, medium)
    named = connection.execute(
        select(func.max(copies.c.journal_named)).where(copies.c.journal_medium == medium)
    ).scalar_one()
    complete = last is not None and where.journal_sequence >= max(last, named or 0)
    connection.execute(update(media).where(media.c.medium == medium).values(journal_complete=complete))
    if complete:
        _unblock(connection, medium)
    return complete


def confirm_expiry(connection: Connection, medium: MediumId) -> int:
    """Note an administrator's word that the copies that this journal speaks of may expire as they stand.

    Returns:
        How many copies were blocked. Those with unknown records stay so: nobody here can say what was meant.
    """
    return _unblock(connection, medium)


def _unblock(connection: Connection, medium: MediumId) -> int:
    changed = connection.execute(
        update(copies)
        .where(copies.c.journal_medium == medium, copies.c.expiry_blocked == ExpiryBlock.UNCONFIRMED)
        .values(expiry_blocked=None)
    )
    return changed.rowcount


def _read_record(connection: Connection, medium: Medium, record: StateRecord) -> None:
    key = CopyKey(ImageId(record.image), medium.domain, record.copy)
    try:
        if record.kind == HOP_SENT and record.object is not None:
            keep_hop(connection, signed.verify(HOP, record.object, pinned=medium.domain))
        elif record.kind == RECEIPT and record.object is not None:
            keep_receipt(connection, signed.verify(RECEIPT_KIND, record.object))
    except IntegrityError as error:
        raise JournalBrokenError(
            f"the journal of '{medium.label}' carries a '{record.kind}' that does not hold: {error.message}"
        ) from error
    state_fact(connection, key, record)


def _move_on(connection: Connection, medium: MediumId, sequence: int, incarnation: int, data: bytes) -> None:
    connection.execute(
        update(media)
        .where(media.c.medium == medium)
        .values(journal_sequence=sequence, journal_digest=digest(data), journal_incarnation=incarnation)
    )
