"""Looking at images: one, or many by what their headers say, in pages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, exists, func, or_, select, tuple_

from strongroom.catalog.errors import ImageNotFoundError
from strongroom.catalog.model import Copy, CopyState, Image, Readability
from strongroom.catalog.rows import image_of, load_copies
from strongroom.catalog.tables import copies, copy_tags, images
from strongroom.core.ids import DomainId, HostId, ImageId, KeyTag, MediumId, to_text

LARGEST_PAGE = 1_000
_HERE = (CopyState.COMMITTING, CopyState.INCOMPLETE, CopyState.COMPLETE)


@dataclass(frozen=True)
class ImageFilter:
    """What images are wanted; each field that is set narrows the choice.

    ``text`` is looked for in backup id, client and policy, whatever its case. ``since_ns`` and ``until_ns`` are times
    of the backup, both included. Medium, readability and tag are of any copy that has not expired.
    """

    text: str | None = None
    client: str | None = None
    client_host: HostId | None = None
    policy: str | None = None
    schedule: str | None = None
    slp: str | None = None
    origin: DomainId | None = None
    backup_id: str | None = None
    since_ns: int | None = None
    until_ns: int | None = None
    medium: MediumId | None = None
    readability: Readability | None = None
    tag: KeyTag | None = None
    with_problems: bool = False
    with_expired: bool = False


@dataclass(frozen=True)
class Cursor:
    """Where a page ended; the next one begins behind it."""

    started_ns: int
    image: ImageId


@dataclass(frozen=True)
class ImagePage:
    """Some images, newest first, and where the next page begins; ``None`` when this was the last one."""

    images: tuple[Image, ...]
    next: Cursor | None


def get_image(connection: Connection, image: ImageId) -> Image:
    """Look an image up, with all its copies.

    Raises:
        ImageNotFoundError: it is not known.
    """
    row = connection.execute(select(images).where(images.c.image == image)).one_or_none()
    if row is None:
        raise ImageNotFoundError(f"no image has the identity '{to_text(image)}'")
    return image_of(row, _copies_of(connection, [image])[image])


def find_images(
    connection: Connection, wanted: ImageFilter, *, after: Cursor | None = None, limit: int = 100
) -> ImagePage:
    """Give a page of images, newest first, with their copies.

    Args:
        connection: in the caller's transaction.
        wanted: which images.
        after: where the page before ended.
        limit: at most :data:`LARGEST_PAGE`.
    """
    limit = max(1, min(limit, LARGEST_PAGE))
    conditions = _conditions(wanted)
    if after is not None:
        conditions.append(tuple_(images.c.started_ns, images.c.image) < tuple_(after.started_ns, after.image))
    rows = connection.execute(
        select(images)
        .where(and_(True, *conditions))
        .order_by(images.c.started_ns.desc(), images.c.image.desc())
        .limit(limit + 1)
    ).all()
    shown = rows[:limit]
    held = _copies_of(connection, [row.image for row in shown])
    last = shown[-1] if len(rows) > limit else None
    return ImagePage(
        tuple(image_of(row, held[row.image]) for row in shown),
        None if last is None else Cursor(last.started_ns, ImageId(last.image)),
    )


def _conditions(wanted: ImageFilter) -> list[ColumnElement[bool]]:
    equal = {
        images.c.client: wanted.client,
        images.c.client_host: wanted.client_host,
        images.c.policy: wanted.policy,
        images.c.schedule: wanted.schedule,
        images.c.slp: wanted.slp,
        images.c.domain: wanted.origin,
        images.c.backup_id: wanted.backup_id,
    }
    conditions: list[ColumnElement[bool]] = [column == value for column, value in equal.items() if value is not None]
    if wanted.text is not None:
        # SQLite's LIKE folds case by itself, PostgreSQL's does not.
        text = wanted.text.lower()
        columns = (images.c.backup_id, images.c.client, images.c.policy)
        conditions.append(or_(*(func.lower(column).contains(text, autoescape=True) for column in columns)))
    if wanted.since_ns is not None:
        conditions.append(images.c.started_ns >= wanted.since_ns)
    if wanted.until_ns is not None:
        conditions.append(images.c.started_ns <= wanted.until_ns)
    if wanted.with_problems:
        conditions.append(images.c.problems > 0)
    of_copy: list[ColumnElement[bool]] = [copies.c.image == images.c.image]
    if not wanted.with_expired:
        of_copy.append(copies.c.state.in_(_HERE))
    if wanted.medium is not None:
        of_copy.append(copies.c.medium == wanted.medium)
    if wanted.readability is not None:
        of_copy.append(copies.c.readability == wanted.readability)
    if wanted.tag is not None:
        of_copy.append(exists().where(copy_tags.c.copy_id == copies.c.id, copy_tags.c.tag == wanted.tag))
    conditions.append(exists().where(*of_copy))
    return conditions


def _copies_of(connection: Connection, names: Sequence[bytes]) -> defaultdict[bytes, list[Copy]]:
    grouped: defaultdict[bytes, list[Copy]] = defaultdict(list)
    for start in range(0, len(names), 500):
        for copy in load_copies(connection, copies.c.image.in_(names[start : start + 500])):
            grouped[copy.key.image].append(copy)
    return grouped
