"""Media: which there are, whose they are, and how far their journals are known."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, Row, func, insert, select, update

from strongroom.catalog.errors import MediumConflictError, MediumNotFoundError
from strongroom.catalog.model import Medium
from strongroom.catalog.rows import check_text
from strongroom.catalog.tables import copies, copy_leases, media
from strongroom.core.ids import DIGEST_BYTES, DomainId, MediumId, to_text
from strongroom.formats.lock_record import MODES, LockMode

FIRST_EPOCH = 1


def add_medium(
    connection: Connection,
    medium: MediumId,
    *,
    kind: str,
    label: str,
    domain: DomainId,
    location: str,
    host: bytes | None,
) -> Medium:
    """Make a medium known; for one that is known, take over its label, host and place.

    Args:
        connection: in the caller's transaction.
        medium: as in its media header.
        kind: as in its media header: ``pool`` or ``tape``.
        label: as in its media header.
        domain: the domain that owns it; a foreign one's media are read and never changed.
        location: where its media server finds it, in that server's own words.
        host: the media server that serves it, if one does.

    Raises:
        MediumConflictError: the identity is known with another owner or kind.
        TextError: the label or the place cannot be kept.
    """
    check_text(label, location)
    found = find_medium(connection, medium)
    if found is None:
        connection.execute(
            insert(media).values(
                medium=medium,
                kind=kind,
                label=label,
                domain=domain,
                host=host,
                location=location,
                journal_sequence=0,
                journal_digest=bytes(DIGEST_BYTES),
                journal_incarnation=1,
                journal_written=0,
                journal_complete=True,
                epoch=FIRST_EPOCH,
                closed_epoch=0,
                lock_mode=LockMode.NONE.word,
                lock_clock_ns=0,
            )
        )
    elif (found.domain, found.kind) != (domain, kind):
        raise MediumConflictError(
            f"the medium '{to_text(medium)}' is a {found.kind} of '{to_text(found.domain)}', "
            f"not a {kind} of '{to_text(domain)}'"
        )
    else:
        connection.execute(
            update(media).where(media.c.medium == medium).values(label=label, host=host, location=location)
        )
    return get_medium(connection, medium)


def find_medium(connection: Connection, medium: MediumId) -> Medium | None:
    """Look a medium up; ``None`` when it is not known."""
    row = connection.execute(select(media).where(media.c.medium == medium)).one_or_none()
    return None if row is None else _medium(row)


def get_medium(connection: Connection, medium: MediumId) -> Medium:
    """Look a medium up.

    Raises:
        MediumNotFoundError: it is not known.
    """
    found = find_medium(connection, medium)
    if found is None:
        raise MediumNotFoundError(f"no medium has the identity '{to_text(medium)}'")
    return found


def list_media(connection: Connection) -> list[Medium]:
    """Give all media, by label."""
    return [_medium(row) for row in connection.execute(select(media).order_by(media.c.label, media.c.medium))]


def advance_epoch(connection: Connection, medium: MediumId) -> int:
    """Begin a new epoch of a pool's collection, and give the one that ended.

    A collector condemns in one epoch and deletes only when no session of it is left: see :func:`open_epochs`.

    Raises:
        MediumNotFoundError: the medium is not known.
    """
    ended = get_medium(connection, medium).epoch
    connection.execute(update(media).where(media.c.medium == medium).values(epoch=ended + 1))
    return ended


def open_epochs(connection: Connection, medium: MediumId) -> frozenset[int]:
    """Tell in which epochs the sessions began that may still commit to a medium."""
    found = connection.execute(select(copy_leases.c.epoch).join(copies).where(copies.c.medium == medium).distinct())
    return frozenset(found.scalars())


def oldest_session(connection: Connection, medium: MediumId) -> datetime | None:
    """Tell when the oldest of the sessions began that may still commit to a medium; ``None`` if there is none."""
    query = select(func.min(copy_leases.c.began)).join(copies).where(copies.c.medium == medium)
    found: datetime | None = connection.execute(query).scalar_one()
    return found


def close_epoch(connection: Connection, medium: MediumId, epoch: int) -> None:
    """End every session that began in this epoch or before: none of them can commit from now on.

    Raises:
        MediumNotFoundError: the medium is not known.
    """
    closed = max(get_medium(connection, medium).closed_epoch, epoch)
    connection.execute(update(media).where(media.c.medium == medium).values(closed_epoch=closed))


def note_locks(connection: Connection, medium: MediumId, *, mode: str, clock_ns: int) -> None:
    """Take what a media server tells of a pool's locks; a weaker mode, or an earlier time, changes nothing.

    Raises:
        MediumNotFoundError: the medium is not known.
    """
    known = get_medium(connection, medium)
    told = max(MODES.get(known.lock_mode, LockMode.COMPLIANCE), MODES.get(mode, LockMode.COMPLIANCE))
    values = {"lock_mode": told.word, "lock_clock_ns": max(known.lock_clock_ns, clock_ns)}
    connection.execute(update(media).where(media.c.medium == medium).values(**values))


def _medium(row: Row[tuple[object, ...]]) -> Medium:
    return Medium(**row._mapping)  # the columns are the fields
