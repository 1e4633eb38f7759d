"""Promised sendings: one row for each image and target, from the promise to the receipt.

    waiting, failed-will-retry ──start──► sending ──mark_sent──► sent ──confirm──► confirmed
                                           │  ▲
                                           │  └──start, when an administrator resumes its job── refused
                                           └──fail──► failed-will-retry, or refused

A receipt confirms a row in any state in which something was sent: it may overtake the news that it was. Each attempt
has a fence that is higher than the one before; whoever comes with a lower one is told to stop.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, insert, select, update

from strongroom.catalog.journal import append_record
from strongroom.catalog.model import Copy, CopyKey
from strongroom.catalog.receipts import confirmed_targets, keep_hop, keep_receipt, promise
from strongroom.catalog.rows import get_copy
from strongroom.core.clock import to_ns
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import DomainId, ImageId, to_text
from strongroom.formats.hop import Hop
from strongroom.formats.journal import HOP_SENT, RECEIPT, StateRecord
from strongroom.formats.receipt import Receipt
from strongroom.formats.signed import Verified
from strongroom.lifecycle.errors import FencedError, ReplicationNotFoundError, ReplicationStateError
from strongroom.lifecycle.planner import Promise, Sending, retry_at
from strongroom.lifecycle.tables import ReplicationState, replications

ALARM_AFTER = timedelta(hours=24)
LONGEST_ERROR = 1_024
_TO_START = frozenset(ReplicationState) - {ReplicationState.SENT, ReplicationState.CONFIRMED}


@dataclass(frozen=True)
class Replicated:
    """A row of ``replications``."""

    image: ImageId
    target: DomainId
    operation: int
    source: CopyKey
    slp: str
    retention_seconds: int | None
    state: ReplicationState
    sending: bytes | None
    hop: bytes | None
    fence: int | None
    attempts: int
    error_code: str | None
    error: str | None
    sent_bytes: int
    promised: datetime
    started: datetime | None
    sent: datetime | None
    confirmed: datetime | None
    retry_at: datetime | None

    def for_plan(self) -> Sending:
        """Give what the plan looks at."""
        return Sending(self.target, self.source, self.state, self.attempts, self.retry_at, self.error or "")


def promise_all(connection: Connection, source: Copy, made: Iterable[Promise], *, now: datetime) -> None:
    """Make promises of a copy; those that were made before are left as they are.

    A promise whose receipt is here already, as after a rebuild, is kept at once.
    """
    kept = confirmed_targets(connection, source.key.image)
    for one in made:
        promise(connection, source.id, one.target, now=now)
        if find_replication(connection, source.key.image, one.target) is not None:
            continue
        done = one.target in kept
        connection.execute(
            insert(replications).values(
                image=source.key.image,
                target=one.target,
                operation=one.operation,
                source_domain=source.key.domain,
                source_copy=source.key.number,
                slp=one.slp,
                retention_seconds=one.retention_seconds,
                state=ReplicationState.CONFIRMED if done else ReplicationState.WAITING,
                attempts=0,
                sent_bytes=0,
                promised=now,
                confirmed=now if done else None,
            )
        )


def find_replication(connection: Connection, image: ImageId, target: DomainId) -> Replicated | None:
    """Look a row up; ``None`` when nothing of the image was promised to the target."""
    row = connection.execute(select(replications).where(_same(image, target))).one_or_none()
    return None if row is None else _replicated(row)


def get_replication(connection: Connection, image: ImageId, target: DomainId) -> Replicated:
    """Look a row up.

    Raises:
        ReplicationNotFoundError: nothing of the image was promised to the target.
    """
    found = find_replication(connection, image, target)
    if found is None:
        raise ReplicationNotFoundError(f"nothing of the image '{to_text(image)}' was promised to '{to_text(target)}'")
    return found


def replications_of(connection: Connection, image: ImageId) -> list[Replicated]:
    """Give what was promised of an image, by target."""
    rows = connection.execute(select(replications).where(replications.c.image == image).order_by(replications.c.target))
    return [_replicated(row) for row in rows]


def unconfirmed(
    connection: Connection,
    *,
    target: DomainId | None = None,
    states: Sequence[ReplicationState] = (),
    limit: int = 1_000,
) -> list[Replicated]:
    """Give promises that are not kept yet, oldest first; of one target, or in some states, if so asked."""
    conditions: list[ColumnElement[bool]] = [replications.c.state != ReplicationState.CONFIRMED]
    if target is not None:
        conditions.append(replications.c.target == target)
    if states:
        conditions.append(replications.c.state.in_(list(states)))
    return _list(connection, and_(*conditions), limit)


def images_to_send(connection: Connection, *, after: ImageId, limit: int) -> list[ImageId]:
    """Give images of which the plan may send something, now or later, in their order from behind ``after``."""
    wanted = replications.c.state.in_([ReplicationState.WAITING, ReplicationState.FAILED])
    query = select(replications.c.image).where(wanted, replications.c.image > after)
    found = connection.execute(query.distinct().order_by(replications.c.image).limit(limit))
    return [ImageId(image) for image in found.scalars()]


def pending_over(
    connection: Connection, *, now: datetime, age: timedelta = ALARM_AFTER, limit: int = 1_000
) -> list[Replicated]:
    """Give promises that are older than they should be, oldest first: what raises the alarm (R8)."""
    late = and_(replications.c.state != ReplicationState.CONFIRMED, replications.c.promised < now - age)
    return _list(connection, late, limit)


def start(
    connection: Connection, image: ImageId, target: DomainId, *, fence: int, hop: Verified[Hop], now: datetime
) -> Replicated:
    """Begin an attempt, or take over from one that is dead.

    Args:
        connection: in the caller's transaction.
        image: the image.
        target: where to.
        fence: rises with each attempt, over all jobs.
        hop: made for this sending, signed. An attempt that follows another one keeps the first one's, so that a late
            receipt still answers: the row that is returned has the one that counts.
        now: the time.

    Raises:
        ReplicationNotFoundError: nothing was promised.
        ReplicationStateError: it is sent or confirmed; or the hop is not of this promise.
        FencedError: a newer attempt is at it.
    """
    row = get_replication(connection, image, target)
    if row.state not in _TO_START:
        raise ReplicationStateError(f"the replication to '{to_text(target)}' is {row.state}, and is not started")
    if row.fence is not None and fence <= row.fence:
        raise FencedError(f"attempt {fence} comes after attempt {row.fence}")
    values: dict[str, object] = {}
    if row.hop is None:
        said = hop.payload
        if (said.image, said.to, said.slp, said.retention) != (image, target, row.slp, row.retention_seconds):
            raise ReplicationStateError("the hop does not say what was promised")
        values = {"sending": said.sending, "hop": hop.data}
        source = get_copy(connection, row.source)
        if keep_hop(connection, hop):
            append_record(connection, source, _record(source, HOP_SENT, hop.data, now))
    connection.execute(
        update(replications)
        .where(_same(image, target))
        .values(
            state=ReplicationState.SENDING,
            fence=fence,
            attempts=row.attempts + 1,
            started=now,
            retry_at=None,
            sent_bytes=0,
            **values,
        )
    )
    return get_replication(connection, image, target)


def mark_sent(
    connection: Connection, image: ImageId, target: DomainId, *, fence: int, sent_bytes: int, now: datetime
) -> None:
    """Note that the target has everything on stable storage.

    Raises:
        ReplicationNotFoundError: nothing was promised.
        FencedError: this attempt is not the one at it.
    """
    _attempt(connection, image, target, fence, state=ReplicationState.SENT, sent_bytes=sent_bytes, sent=now)


def fail(
    connection: Connection, image: ImageId, target: DomainId, *, fence: int, error: StrongroomError, now: datetime
) -> datetime | None:
    """End an attempt with an error: it will be tried again, unless the error says that this is of no use.

    Returns:
        When it will be tried again; ``None`` when it waits for an administrator.

    Raises:
        ReplicationNotFoundError: nothing was promised.
        FencedError: this attempt is not the one at it.
    """
    row = get_replication(connection, image, target)
    again = None if error.retry == "never" else retry_at(row.attempts, now)
    _attempt(
        connection,
        image,
        target,
        fence,
        state=ReplicationState.REFUSED if again is None else ReplicationState.FAILED,
        retry_at=again,
        error_code=error.code[:128],
        error=error.message[:LONGEST_ERROR],
    )
    return again


def confirm(connection: Connection, receipt: Verified[Receipt], *, now: datetime) -> bool:
    """Take a target's receipt: keep it, journal it, and with it the promise.

    Returns:
        Whether it is the first one; a second one changes nothing.

    Raises:
        SendingNotFoundError: nothing was sent under the identity that it names.
        ReceiptMismatchError: it does not answer that sending.
    """
    if not keep_receipt(connection, receipt):
        return False
    said = receipt.payload
    row = get_replication(connection, ImageId(said.image), DomainId(said.domain))
    source = get_copy(connection, row.source)
    append_record(connection, source, _record(source, RECEIPT, receipt.data, now))
    connection.execute(
        update(replications)
        .where(_same(row.image, row.target))
        .values(
            state=ReplicationState.CONFIRMED,
            confirmed=now,
            sent=row.sent or now,
            retry_at=None,
            error_code=None,
            error=None,
        )
    )
    return True


def _attempt(connection: Connection, image: ImageId, target: DomainId, fence: int, **values: object) -> None:
    changed = connection.execute(
        update(replications)
        .where(_same(image, target), replications.c.fence == fence, replications.c.state == ReplicationState.SENDING)
        .values(**values)
    )
    if not changed.rowcount:
        row = get_replication(connection, image, target)
        if row.fence == fence and row.state is ReplicationState.CONFIRMED:
            return  # the receipt was faster
        raise FencedError(f"attempt {fence} is not at the replication to '{to_text(target)}' any more")


def _record(copy: Copy, kind: str, whole: bytes, now: datetime) -> StateRecord:
    return StateRecord(
        kind=kind,
        image=copy.key.image,
        copy=copy.key.number,
        at=to_ns(now),
        until=None,
        hold=None,
        object=whole,
        reason="",
    )


def _list(connection: Connection, where: ColumnElement[bool], limit: int) -> list[Replicated]:
    query = select(replications).where(where)
    rows = connection.execute(
        query.order_by(replications.c.promised, replications.c.image, replications.c.target).limit(limit)
    )
    return [_replicated(row) for row in rows]


def _same(image: ImageId, target: DomainId) -> ColumnElement[bool]:
    return and_(replications.c.image == image, replications.c.target == target)


def _replicated(row: Row[Any]) -> Replicated:
    values = dict(row._mapping)
    image = ImageId(values["image"])
    source = CopyKey(image, DomainId(values.pop("source_domain")), values.pop("source_copy"))
    values["state"] = ReplicationState(values["state"])
    values["hop"] = None if values["hop"] is None else bytes(values["hop"])
    return Replicated(source=source, **values)
