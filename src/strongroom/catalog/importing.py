"""Phase one: copies come into the catalog from the headers on a medium, without a key.

A fragment may be given again, in any order, before or after the journal that speaks of it; the outcome is the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, insert, select, update

from strongroom.catalog.errors import HeaderMismatchError, TombstonedError, WrongStateError
from strongroom.catalog.facts import apply_facts, is_tombstoned
from strongroom.catalog.media import get_medium
from strongroom.catalog.model import CameBy, Copy, CopyKey, CopyState, ExpiryBlock, Readability
from strongroom.catalog.rows import (
    check_text,
    copy_key,
    describe,
    find_copy,
    get_copy,
    header_values,
    readability_of,
    write_fragment,
    write_image,
    write_keys,
)
from strongroom.catalog.tables import copies, fragments
from strongroom.core.ids import DomainId, KeyTag, MediumId, to_text
from strongroom.formats import signed
from strongroom.formats.copy_header import COPY_HEADER
from strongroom.formats.fragment import Fragment
from strongroom.formats.image_header import ImageHeader


@dataclass(frozen=True)
class MissingFragment:
    """A fragment that nobody has shown yet; its medium is known when a later fragment named it."""

    number: int
    medium: MediumId | None


def import_fragment(
    connection: Connection, fragment: Fragment, *, own: DomainId, known: frozenset[KeyTag] | None
) -> Copy:
    """Enter a fragment found on a medium; may be repeated.

    Args:
        connection: in the caller's transaction.
        fragment: its headers, checked, from the medium that they name.
        own: this domain. Copies that another domain wrote are imported as foreign: read, never expired here.
        known: key tags that the KMS can open today; ``None`` when it cannot be asked.

    Returns:
        The copy: *complete* when no fragment is missing, else *incomplete*. A copy of this domain does not expire
        until the journal of its medium has been settled.

    Raises:
        MediumNotFoundError: the medium was not made known before.
        HeaderMismatchError: the medium is another domain's than the copy.
        TombstonedError: the copy was expired.
        ConflictError: image or fragment are known with other content.
        WrongStateError: a session writes a copy of this name at this moment.
        TextError: a text of the header cannot be kept.
    """
    header = fragment.copy.payload
    key = copy_key(fragment)
    medium = get_medium(connection, MediumId(header.medium))
    if medium.domain != key.domain:
        raise HeaderMismatchError(
            f"the copy {describe(key)} lies on the medium '{medium.label}' of the domain '{to_text(medium.domain)}'"
        )
    copy = find_copy(connection, key)
    if is_tombstoned(connection, key):
        raise TombstonedError(f"the copy {describe(key)} was expired")
    if copy is not None and copy.state is CopyState.WRITING:
        raise WrongStateError(f"the copy {describe(key)} is being written, and yet its header is on a medium")
    check_text(header.slp)
    write_image(connection, fragment.image)
    copy_id = copy.id if copy else _add_copy(connection, fragment, own)
    if write_fragment(connection, copy_id, fragment):
        write_keys(connection, copy_id, fragment, known)
        _sum_up(connection, copy_id, fragment.image.payload, known)
        apply_facts(connection, key)
    return get_copy(connection, key)


def missing_fragments(connection: Connection, key: CopyKey) -> list[MissingFragment]:
    """Name the fragments that a copy lacks; after the last one known there may be more.

    Raises:
        CopyNotFoundError: there is no such copy.
    """
    copy = get_copy(connection, key)
    rows = connection.execute(
        select(fragments.c.number, fragments.c.last, fragments.c.header)
        .where(fragments.c.copy_id == copy.id)
        .order_by(fragments.c.number)
    ).all()
    if not rows:
        return []
    here = {row.number for row in rows}
    end = rows[-1]
    earlier = signed.verify(COPY_HEADER, bytes(end.header)).payload.earlier
    missing = [
        MissingFragment(number, MediumId(medium))
        for number, medium in enumerate(earlier, start=1)
        if number not in here
    ]
    return missing if end.last else [*missing, MissingFragment(end.number + 1, None)]


def _add_copy(connection: Connection, fragment: Fragment, own: DomainId) -> int:
    header = fragment.copy.payload
    ours = header.domain == own
    if not ours:
        came_by = CameBy.IMPORT
    else:
        came_by = CameBy.REPLICATION if fragment.hops else CameBy.BACKUP
        came_by = CameBy.DUPLICATION if header.from_copy else came_by
    copy_id: int = connection.execute(
        insert(copies)
        .values(
            image=header.image,
            domain=header.domain,
            number=header.copy,
            state=CopyState.INCOMPLETE,
            readability=Readability.NOT_VERIFIED,
            hold=False,
            locked_until_ns=0,
            lock_lifted=False,
            came_by=came_by,
            **header_values([header], fragment.image.payload),
            expiry_blocked=ExpiryBlock.UNCONFIRMED if ours else None,
        )
        .returning(copies.c.id)
    ).scalar_one()
    return copy_id


def _sum_up(connection: Connection, copy_id: int, image: ImageHeader, known: frozenset[KeyTag] | None) -> None:
    """Make the copy's row of all its fragments, so that their order of arrival does not show."""
    rows = connection.execute(
        select(fragments).where(fragments.c.copy_id == copy_id).order_by(fragments.c.number)
    ).all()
    headers = [signed.verify(COPY_HEADER, bytes(row.header)).payload for row in rows]
    whole = rows[-1].last and len(rows) == rows[-1].number
    connection.execute(
        update(copies)
        .where(copies.c.id == copy_id)
        .values(
            state=CopyState.COMPLETE if whole else CopyState.INCOMPLETE,
            readability=readability_of(headers, known),
            **header_values(headers, image),
        )
    )
