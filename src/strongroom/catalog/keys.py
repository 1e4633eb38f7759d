"""Which copies can be read with the keys there are, and what the others wait for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, exists, func, not_, select, update

from strongroom.catalog.model import CopyKey, CopyState, Readability
from strongroom.catalog.rows import load_copies
from strongroom.catalog.tables import copies, copy_tags
from strongroom.core.ids import KeyTag

_COUNTS = copies.c.state != CopyState.EXPIRED


@dataclass(frozen=True)
class WaitingForTag:
    """A key tag that the KMS lacks, and how many images and copies wait for it."""

    tag: KeyTag
    images: int
    copies: int


def waiting_by_tag(connection: Connection) -> list[WaitingForTag]:
    """Give the key tags that copies wait for, most wanted first."""
    number = func.count(copies.c.image.distinct())
    query = (
        select(copy_tags.c.tag, number.label("images"), func.count().label("copies"))
        .join(copies)
        .where(copies.c.readability == Readability.WAITING_FOR_KEY, not_(copy_tags.c.known), _COUNTS)
        .group_by(copy_tags.c.tag)
        .order_by(number.desc(), copy_tags.c.tag)
    )
    return [WaitingForTag(KeyTag(row.tag), row.images, row.copies) for row in connection.execute(query)]


def needing(connection: Connection, tag: KeyTag) -> int:
    """Count the images of which some copy names this tag: what would be lost with the key."""
    query = select(func.count(copies.c.image.distinct())).join(copy_tags).where(copy_tags.c.tag == tag, _COUNTS)
    return connection.execute(query).scalar_one()


def release(connection: Connection, tag: KeyTag) -> list[CopyKey]:
    """Note that the KMS has a key for a tag now.

    Returns:
        The copies that this made readable: their phase two can begin.
    """
    connection.execute(update(copy_tags).where(copy_tags.c.tag == tag).values(known=True))
    lacks = exists().where(copy_tags.c.copy_id == copies.c.id, not_(copy_tags.c.known))
    names = exists().where(copy_tags.c.copy_id == copies.c.id, copy_tags.c.tag == tag)
    ready = and_(copies.c.readability != Readability.READABLE, names, not_(lacks), _COUNTS)
    return _set(connection, ready, Readability.READABLE)


def withdraw(connection: Connection, tag: KeyTag) -> list[CopyKey]:
    """Note that the KMS cannot use the key of a tag any more, and give the copies that wait for it now."""
    connection.execute(update(copy_tags).where(copy_tags.c.tag == tag).values(known=False))
    names = exists().where(copy_tags.c.copy_id == copies.c.id, copy_tags.c.tag == tag)
    return _set(
        connection,
        and_(copies.c.readability != Readability.WAITING_FOR_KEY, names, _COUNTS),
        Readability.WAITING_FOR_KEY,
    )


def settle(connection: Connection, known: Iterable[KeyTag]) -> list[CopyKey]:
    """Note everything that the KMS can open, as after it was unlocked; each tag not named is unknown.

    Returns:
        The copies that this made readable.
    """
    keys = set(known)
    tags = connection.execute(select(copy_tags.c.tag, copy_tags.c.known).distinct()).all()
    released = [key for row in tags if row.tag in keys and not row.known for key in release(connection, row.tag)]
    for row in tags:
        if row.known and row.tag not in keys:
            withdraw(connection, row.tag)
    # What is left was never asked about, or waits for a tag that is still missing.
    connection.execute(
        update(copies)
        .where(copies.c.readability == Readability.NOT_VERIFIED, copies.c.encrypted, _COUNTS)
        .values(readability=Readability.WAITING_FOR_KEY)
    )
    return released


def _set(connection: Connection, where: ColumnElement[bool], readability: Readability) -> list[CopyKey]:
    changed = load_copies(connection, where)
    if changed:
        connection.execute(update(copies).where(where).values(readability=readability))
    return [copy.key for copy in changed]
