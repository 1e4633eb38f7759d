"""How long a copy stays: retention, hold, lock, and what else keeps it.

One rule states them all: a copy expires at its ``expires_ns``, and not while anything in :class:`KeptBy` keeps it.
Retention counts from the time at which the backup started, for a copy that came from elsewhere from its arrival.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import ColumnElement, Connection, ScalarSelect, Select, and_, delete, exists, func, or_, select, update

from strongroom.catalog.errors import ExpiryRefusedError, WrongStateError
from strongroom.catalog.journal import append_record
from strongroom.catalog.media import get_medium
from strongroom.catalog.model import Copy, CopyKey, CopyState, Medium
from strongroom.catalog.receipts import open_promises
from strongroom.catalog.rows import describe, get_copy, load_copies
from strongroom.catalog.tables import copies, file_lists, images, journal_outbox, media, promises
from strongroom.core.clock import from_ns, to_ns
from strongroom.core.ids import DomainId, MediumId, to_text
from strongroom.formats.journal import EXPIRY, HOLD, LOCK, RELEASE, TOMBSTONE, StateRecord
from strongroom.formats.lock_record import LockMode

NS = 1_000_000_000
LAST_NS = (1 << 63) - 1


class KeptBy(StrEnum):
    """What keeps a copy past its expiry."""

    OWNER = "owner"
    """The medium belongs to another domain."""
    HOLD = "hold"
    LOCK = "lock"
    RECEIPT = "receipt"
    """Another domain was promised this copy, and has not confirmed it."""
    CONFIRMATION = "confirmation"
    """An administrator must confirm first; see ``ExpiryBlock``."""


_CURES = {
    KeptBy.OWNER: "Expire it in the domain that wrote it.",
    KeptBy.HOLD: "Release every hold with 'strongroom image release'.",
    KeptBy.LOCK: "Wait for the end of the retention lock.",
    KeptBy.RECEIPT: "See 'strongroom replication status' for what the target still has to confirm.",
    KeptBy.CONFIRMATION: "Look at what is known of it, then 'strongroom expiry confirm --pool POOL'.",
}


@dataclass(frozen=True)
class Forgotten:
    """What went with a copy: the whole image when it was the last one, and then the salt of its file list."""

    image_gone: bool
    file_list: bytes | None


def expiry_ns(start_ns: int, retention_seconds: int | None) -> int | None:
    """Count a retention from a start; ``None`` is for ever, and what goes beyond the calendar as well."""
    if retention_seconds is None:
        return None
    end = start_ns + retention_seconds * NS
    return end if end <= LAST_NS else None


def kept_by(copy: Copy, *, owner: DomainId, own: DomainId, promised: bool, lock_clock_ns: int) -> tuple[KeptBy, ...]:
    """Tell everything that keeps a copy, whatever its expiry; locks end by the lock clock of its medium."""
    reasons = {
        KeptBy.OWNER: owner != own,
        KeptBy.HOLD: copy.hold,
        KeptBy.LOCK: lock_clock_ns < copy.locked_until_ns,
        KeptBy.RECEIPT: promised,
        KeptBy.CONFIRMATION: copy.expiry_blocked is not None,
    }
    return tuple(reason for reason, applies in reasons.items() if applies)


def due_for_expiry(
    connection: Connection, *, own: DomainId, now: datetime, after: int = 0, limit: int = 1_000
) -> list[Copy]:
    """Give the copies that expire now, by row, from behind the row ``after``."""
    return load_copies(connection, and_(_is_due(own, to_ns(now)), copies.c.id > after), limit=limit)


def count_due(connection: Connection, *, own: DomainId, now: datetime) -> tuple[int, int]:
    """Count the copies that expire now, and the complete ones on media of this domain."""
    is_due = _is_due(own, to_ns(now))
    counted = select(func.count()).select_from(copies)
    complete = counted.where(copies.c.state == CopyState.COMPLETE, copies.c.medium.in_(_media_of(own)))
    return connection.execute(counted.where(is_due)).scalar_one(), connection.execute(complete).scalar_one()


def expire_copy(
    connection: Connection,
    key: CopyKey,
    *,
    own: DomainId,
    now: datetime,
    reason: str,
    early: bool = False,
    lift: bool = False,
) -> None:
    """Expire a copy: it is no copy of the image any more, and its bytes may be removed. May be repeated.

    Args:
        connection: in the caller's transaction.
        key: the copy.
        own: this domain.
        now: the guarded time.
        reason: for people; it stands in the journal.
        early: do it before its time, on somebody's word. What keeps a copy keeps it then too.
        lift: all the same when it is locked, on a medium whose locks are for governance only.

    Raises:
        CopyNotFoundError: there is no such copy.
        WrongStateError: it is still being written.
        ExpiryRefusedError: its time has not come, or something keeps it; the hint says what to do.
    """
    copy = get_copy(connection, key)
    if copy.state is CopyState.EXPIRED:
        return
    if copy.state not in (CopyState.COMPLETE, CopyState.INCOMPLETE):
        raise WrongStateError(f"the copy {describe(key)} is {copy.state}, and cannot expire yet")
    where = get_medium(connection, copy.medium)
    promised = open_promises(connection, copy.id)
    reasons = kept_by(copy, owner=where.domain, own=own, promised=bool(promised), lock_clock_ns=where.lock_clock_ns)
    lifts = lift and KeptBy.LOCK in reasons and where.lock_mode == LockMode.GOVERNANCE.word
    if lifts:
        reasons = tuple(one for one in reasons if one is not KeptBy.LOCK)
    if reasons:
        raise ExpiryRefusedError(
            f"the copy {describe(key)} is kept by: {', '.join(reasons)}{_lock_end(copy, reasons)}",
            hint=_lock_cure(where) if reasons[0] is KeptBy.LOCK else _CURES[reasons[0]],
            context={"targets": ",".join(to_text(target) for target in promised)} if promised else {},
        )
    if not early and (copy.expires_ns is None or copy.expires_ns > to_ns(now)):
        raise ExpiryRefusedError(f"the time of the copy {describe(key)} has not come")
    append_record(connection, copy, _record(key, TOMBSTONE, now, reason))
    if lifts:
        connection.execute(update(copies).where(copies.c.id == copy.id).values(lock_lifted=True))


def set_expiry(
    connection: Connection, key: CopyKey, until_ns: int | None, *, own: DomainId, now: datetime, reason: str
) -> None:
    """Change when a copy expires; ``None`` is never.

    Raises:
        CopyNotFoundError: there is no such copy.
        WrongStateError: it is not complete, or another domain's.
        ExpiryRefusedError: it is locked, and would go before the end of the lock.
    """
    copy = _own_copy(connection, key, own)
    if until_ns is not None and until_ns < copy.locked_until_ns:
        raise ExpiryRefusedError(
            f"the copy {describe(key)} is locked beyond the wanted expiry", hint=_CURES[KeptBy.LOCK]
        )
    append_record(connection, copy, _record(key, EXPIRY, now, reason, until=until_ns))


def lock_copy(
    connection: Connection, key: CopyKey, until_ns: int, *, own: DomainId, now: datetime, reason: str
) -> None:
    """Note that a copy is locked until a time of its medium's lock clock; an earlier time than before changes nothing.

    Raises:
        CopyNotFoundError: there is no such copy.
        WrongStateError: it is still being written, is expired, or another domain's.
    """
    copy = get_copy(connection, key)
    if copy.state is not CopyState.COMMITTING:
        copy = _own_copy(connection, key, own)
    if until_ns > copy.locked_until_ns:
        append_record(connection, copy, _record(key, LOCK, now, reason, until=until_ns))


def mark_locked(connection: Connection, key: CopyKey, until_ns: int) -> None:
    """Note that a medium keeps an expired copy, because it is locked until then: it is removed after that.

    Raises:
        CopyNotFoundError: there is no such copy.
    """
    copy = get_copy(connection, key)
    values = {"lock_lifted": False, "locked_until_ns": max(until_ns, copy.locked_until_ns)}
    connection.execute(update(copies).where(copies.c.id == copy.id).values(**values))


def hold_copy(connection: Connection, key: CopyKey, hold: bytes, *, own: DomainId, now: datetime, reason: str) -> None:
    """Put a hold on a copy; there may be several, each with 16 random bytes of its own.

    Raises:
        CopyNotFoundError: there is no such copy.
        WrongStateError: it is not complete, or another domain's.
    """
    copy = _own_copy(connection, key, own)
    append_record(connection, copy, _record(key, HOLD, now, reason, hold=hold))


def release_hold(
    connection: Connection, key: CopyKey, hold: bytes, *, own: DomainId, now: datetime, reason: str
) -> None:
    """End one hold of a copy.

    Raises:
        CopyNotFoundError: there is no such copy.
        WrongStateError: it is not complete, or another domain's.
    """
    copy = _own_copy(connection, key, own)
    append_record(connection, copy, _record(key, RELEASE, now, reason, hold=hold))


def expired_on(connection: Connection, medium: MediumId, *, limit: int = 1_000) -> list[Copy]:
    """Give the copies of a medium whose bytes are to be removed."""
    return load_copies(connection, and_(copies.c.medium == medium, copies.c.state == CopyState.EXPIRED), limit=limit)


def removable_on(connection: Connection, medium: MediumId, *, limit: int = 1_000) -> list[Copy]:
    """Give those expired copies of a medium whose tombstones lie on the medium that keeps them: they may go now.

    A copy that is locked may not, unless its lock was lifted.
    """
    waiting = exists().where(
        journal_outbox.c.medium == copies.c.journal_medium,
        journal_outbox.c.image == copies.c.image,
        journal_outbox.c.number == copies.c.number,
    )
    written = select(media.c.medium).where(media.c.journal_written >= media.c.journal_sequence)
    return load_copies(
        connection,
        and_(
            copies.c.medium == medium,
            copies.c.state == CopyState.EXPIRED,
            copies.c.journal_medium.in_(written),
            or_(copies.c.lock_lifted, copies.c.locked_until_ns <= _lock_clock()),
            ~waiting,
        ),
        limit=limit,
    )


def forget_copy(connection: Connection, key: CopyKey) -> Forgotten:
    """Remove a copy whose headers are gone from its medium; its tombstone stays.

    Returns:
        What else went: with the last copy the image, and then the caller removes the file list.

    Raises:
        CopyNotFoundError: there is no such copy.
        WrongStateError: it is not expired.
    """
    copy = get_copy(connection, key)
    if copy.state is not CopyState.EXPIRED:
        raise WrongStateError(f"the copy {describe(key)} is {copy.state}, not expired")
    connection.execute(delete(copies).where(copies.c.id == copy.id))
    left = connection.execute(select(func.count()).where(copies.c.image == key.image)).scalar_one()
    if left:
        return Forgotten(image_gone=False, file_list=None)
    salt = connection.execute(
        delete(file_lists).where(file_lists.c.image == key.image).returning(file_lists.c.salt)
    ).scalar_one_or_none()
    connection.execute(delete(images).where(images.c.image == key.image))
    return Forgotten(image_gone=True, file_list=salt)


def _is_due(own: DomainId, at_ns: int) -> ColumnElement[bool]:
    promised = exists().where(promises.c.copy_id == copies.c.id, promises.c.kept.is_(False))
    return and_(
        copies.c.state == CopyState.COMPLETE,
        copies.c.expires_ns <= at_ns,
        copies.c.hold.is_(False),
        copies.c.locked_until_ns <= _lock_clock(),
        copies.c.expiry_blocked.is_(None),
        copies.c.medium.in_(_media_of(own)),
        ~promised,
    )


def _lock_clock() -> ScalarSelect[int]:
    """Give the lock clock of a copy's medium."""
    return select(media.c.lock_clock_ns).where(media.c.medium == copies.c.medium).correlate(copies).scalar_subquery()


def _lock_end(copy: Copy, reasons: tuple[KeptBy, ...]) -> str:
    if KeptBy.LOCK not in reasons:
        return ""
    return f" (until {from_ns(copy.locked_until_ns):%Y-%m-%d %H:%M:%S}Z of the pool's lock clock)"


def _lock_cure(where: Medium) -> str:
    if where.lock_mode == LockMode.GOVERNANCE.word:
        return "Wait for the end of the retention lock; an administrator can lift it with '--lift-lock'."
    return _CURES[KeptBy.LOCK]


def _media_of(own: DomainId) -> Select[tuple[bytes]]:
    return select(media.c.medium).where(media.c.domain == own)


def _own_copy(connection: Connection, key: CopyKey, own: DomainId) -> Copy:
    copy = get_copy(connection, key)
    if copy.state is not CopyState.COMPLETE or get_medium(connection, copy.medium).domain != own:
        raise WrongStateError(f"the copy {describe(key)} is {copy.state}, or belongs to another domain")
    return copy


def _record(
    key: CopyKey, kind: str, now: datetime, reason: str, *, until: int | None = None, hold: bytes | None = None
) -> StateRecord:
    return StateRecord(
        kind=kind,
        image=key.image,
        copy=key.number,
        at=to_ns(now),
        until=until,
        hold=hold,
        object=None,
        reason=reason,
    )
