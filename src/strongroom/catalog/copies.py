"""Writing a copy: begin, commit, mark as written; or abandon.

    begin ──► writing ──commit──► committing ──mark_written──► complete
                 └──────abandon──► (gone)

The commit is the one conditional step: it needs the session's lease, and an epoch that no collector has closed.
What it stores are the signed bytes themselves, so that after a crash the same bytes are written again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, and_, delete, func, insert, select, update

from strongroom.catalog.errors import HeaderMismatchError, LeaseLostError, WrongStateError
from strongroom.catalog.media import get_medium
from strongroom.catalog.model import CameBy, Copy, CopyKey, CopyState, Readability
from strongroom.catalog.rows import (
    check_neighbours,
    check_text,
    copy_key,
    describe,
    get_copy,
    header_values,
    load_copies,
    readability_of,
    same_copy,
    write_fragment,
    write_image,
    write_keys,
)
from strongroom.catalog.tables import copies, copy_facts, copy_leases, fragments, media
from strongroom.core.ids import DomainId, ImageId, KeyTag, MediumId, to_text
from strongroom.formats.algorithms import Cipher
from strongroom.formats.fragment import Fragment

LAST_NUMBER = 0xFFFF


def begin_copy(
    connection: Connection,
    image: ImageId,
    *,
    session: bytes,
    domain: DomainId,
    medium: MediumId,
    came_by: CameBy,
    now: datetime,
    deadline: datetime,
    job: int | None = None,
    source_copy: int = 0,
) -> CopyKey:
    """Begin to write a copy: give it the next number, and its session a lease.

    Args:
        connection: in the caller's transaction.
        image: the image; for a backup, an identity just made.
        session: 16 random bytes; whoever knows them may commit.
        domain: the domain that writes, and that will sign the copy's headers.
        medium: where the data goes.
        came_by: how the copy comes about.
        now: the time of the lease.
        deadline: when the lease ends, unless it is renewed.
        job: the job that writes, for people.
        source_copy: number of the copy that it is made from, in this domain; 0 for none.

    Raises:
        MediumNotFoundError: the medium is not known.
        WrongStateError: the medium belongs to another domain, or no number is left.
    """
    where = get_medium(connection, medium)
    if where.domain != domain:
        raise WrongStateError(
            f"the medium '{where.label}' belongs to '{to_text(where.domain)}' and is not written here",
            hint="Choose storage of this domain.",
        )
    number = 1 + max(_last(connection, copies, image, domain), _last(connection, copy_facts, image, domain))
    if number > LAST_NUMBER:
        raise WrongStateError(
            f"the image '{to_text(image)}' has used up its {LAST_NUMBER} copy numbers",
            hint="Make a new backup.",
        )
    copy_id = connection.execute(
        insert(copies)
        .values(
            image=image,
            domain=domain,
            number=number,
            medium=medium,
            state=CopyState.WRITING,
            readability=Readability.NOT_VERIFIED,
            hold=False,
            locked_until_ns=0,
            lock_lifted=False,
            encrypted=False,
            cipher=int(Cipher.NONE),
            slp="",
            slp_version=0,
            source_copy=source_copy,
            journal_medium=medium,
            journal_named=0,
            came_by=came_by,
        )
        .returning(copies.c.id)
    ).scalar_one()
    connection.execute(
        insert(copy_leases).values(
            session=session, copy_id=copy_id, job=job, epoch=where.epoch, began=now, deadline=deadline
        )
    )
    return CopyKey(image, domain, number)


def renew_lease(connection: Connection, session: bytes, *, now: datetime, deadline: datetime) -> None:
    """Move the end of a session's lease.

    Raises:
        LeaseLostError: the lease is gone, or ended before ``now``.
    """
    renewed = connection.execute(
        update(copy_leases)
        .where(copy_leases.c.session == session, copy_leases.c.deadline >= now)
        .values(deadline=deadline)
    )
    if renewed.rowcount != 1:
        raise LeaseLostError(f"the session '{to_text(session)}' has no lease any more")


def commit_copy(
    connection: Connection,
    session: bytes,
    written: Sequence[Fragment],
    *,
    now: datetime,
    known: frozenset[KeyTag] | None,
) -> Copy:
    """Make a copy of what a session stored. Checks of the caller's own belong into the same transaction.

    Args:
        connection: in the caller's transaction.
        session: as given to :func:`begin_copy`.
        written: every fragment, in order, signed and checked.
        now: for the lease.
        known: key tags that the KMS can open today; ``None`` when it cannot be asked.

    Returns:
        The copy, *committing*. Its bytes go to the medium now, then :func:`mark_written`.

    Raises:
        LeaseLostError: the lease or its epoch is gone; nothing was changed.
        HeaderMismatchError: the headers are not of this session's copy, or not all of its fragments.
        ConflictError: the image is known with another header.
        TextError: a text of the header cannot be kept.
    """
    lease = connection.execute(
        select(copy_leases.c.copy_id)
        .select_from(copy_leases)
        .join(copies, copies.c.id == copy_leases.c.copy_id)
        .join(media, media.c.medium == copies.c.medium)
        .where(
            copy_leases.c.session == session,
            copy_leases.c.deadline >= now,
            copy_leases.c.epoch > media.c.closed_epoch,
            copies.c.state == CopyState.WRITING,
        )
    ).one_or_none()
    if lease is None:
        raise LeaseLostError(f"the session '{to_text(session)}' has no lease any more")
    (copy,) = load_copies(connection, copies.c.id == lease.copy_id)
    _check_written(copy, written)
    first = written[0]
    write_image(connection, first.image)
    for fragment in written:
        write_fragment(connection, copy.id, fragment)
        write_keys(connection, copy.id, fragment, known)
    headers = [fragment.copy.payload for fragment in written]
    check_text(headers[0].slp)
    connection.execute(
        update(copies)
        .where(copies.c.id == copy.id)
        .values(
            state=CopyState.COMMITTING,
            readability=readability_of(headers, known),
            **header_values(headers, first.image.payload),
        )
    )
    connection.execute(delete(copy_leases).where(copy_leases.c.session == session))
    return get_copy(connection, copy.key)


def mark_written(connection: Connection, key: CopyKey) -> None:
    """Note that a copy's headers are on stable storage; may be repeated.

    Raises:
        CopyNotFoundError: there is no such copy.
        WrongStateError: it was not committed.
    """
    copy = get_copy(connection, key)
    if copy.state is CopyState.COMPLETE:
        return
    if copy.state is not CopyState.COMMITTING:
        raise WrongStateError(f"the copy {describe(key)} is {copy.state}, not committing")
    connection.execute(update(copies).where(copies.c.id == copy.id).values(state=CopyState.COMPLETE))


def committing(connection: Connection, medium: MediumId) -> list[tuple[CopyKey, int, bytes]]:
    """Give what must lie on a medium, and may not yet.

    Returns:
        For each fragment its copy, its number, and the bytes of copy header and trailer, one after the other.
    """
    query = (
        select(copies.c.image, copies.c.domain, copies.c.number.label("copy"), fragments)
        .select_from(copies)
        .join(fragments, fragments.c.copy_id == copies.c.id)
        .where(and_(fragments.c.medium == medium, copies.c.state == CopyState.COMMITTING))
        .order_by(copies.c.id, fragments.c.number)
    )
    return [
        (
            CopyKey(ImageId(row.image), DomainId(row.domain), row.copy),
            row.number,
            bytes(row.header) + bytes(row.trailer),
        )
        for row in connection.execute(query)
    ]


def committed_fragment(connection: Connection, key: CopyKey, state: CopyState = CopyState.COMMITTING) -> bytes | None:
    """Give the copy header and trailer of a pool copy that is committing, or in another state; ``None`` if not."""
    row = connection.execute(
        select(fragments.c.header, fragments.c.trailer)
        .select_from(copies)
        .join(fragments, fragments.c.copy_id == copies.c.id)
        .where(same_copy(key), copies.c.state == state, fragments.c.number == 1)
    ).one_or_none()
    return None if row is None else bytes(row.header) + bytes(row.trailer)


def abandon_copy(connection: Connection, session: bytes) -> None:
    """End a session that will not commit; its copy is gone, as it never was one. May be repeated."""
    copy_id = select(copy_leases.c.copy_id).where(copy_leases.c.session == session).scalar_subquery()
    connection.execute(delete(copies).where(copies.c.id == copy_id, copies.c.state == CopyState.WRITING))


def abandon_lapsed(connection: Connection, *, now: datetime) -> list[bytes]:
    """End every session whose lease has ended, and give them."""
    lapsed = list(connection.execute(select(copy_leases.c.session).where(copy_leases.c.deadline < now)).scalars())
    for session in lapsed:
        abandon_copy(connection, session)
    return lapsed


def _last(connection: Connection, table: object, image: ImageId, domain: DomainId) -> int:
    columns = table.c  # type: ignore[attr-defined]  # either of two tables with the same key
    query = select(func.max(columns.number)).where(columns.image == image, columns.domain == domain)
    return connection.execute(query).scalar_one() or 0


def _check_written(copy: Copy, written: Sequence[Fragment]) -> None:
    numbers = [fragment.copy.payload.fragment for fragment in written]
    lasts = [fragment.trailer.payload.last for fragment in written]
    if numbers != list(range(1, len(written) + 1)) or lasts != [False] * (len(written) - 1) + [True]:
        raise HeaderMismatchError(f"the fragments {numbers} are not the whole copy {describe(copy.key)}")
    for fragment in written:
        check_neighbours(written[0], fragment)
    if copy_key(written[0]) != copy.key:
        raise HeaderMismatchError(
            f"the headers are of the copy {describe(copy_key(written[0]))}, the session writes {describe(copy.key)}"
        )
    first = written[0].copy.payload
    if (first.medium, first.from_copy) != (copy.medium, copy.source_copy):
        raise HeaderMismatchError(f"the headers of the copy {describe(copy.key)} name another medium or source")
