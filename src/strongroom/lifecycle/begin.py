"""The beginning of an image's lifecycle here, and its plan at any later time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import Connection, exists, insert, select

from strongroom.catalog.images import get_image
from strongroom.catalog.model import Copy, CopyState, Image
from strongroom.catalog.tables import copies as copy_rows
from strongroom.catalog.tables import fragments
from strongroom.core.ids import UUID_BYTES, DomainId, ImageId
from strongroom.formats import copy_header
from strongroom.lifecycle.planner import ImageFacts, Plan, plan, promises
from strongroom.lifecycle.policies import StoredPolicy, get_policy
from strongroom.lifecycle.replications import promise_all, replications_of
from strongroom.lifecycle.tables import image_lifecycles

FIRST_IMAGE = ImageId(bytes(UUID_BYTES))


def begin_lifecycle(
    connection: Connection, image: ImageId, *, own: DomainId, targets: Iterable[DomainId], now: datetime
) -> StoredPolicy | None:
    """Make what the policy promises of an image that is complete here; may be repeated, and then changes nothing.

    Belongs into the transaction in which the image is acknowledged. After a rebuild it is run for every image that
    :func:`without_lifecycle` names, before anything expires.

    Args:
        connection: in the caller's transaction.
        image: the image.
        own: this domain.
        targets: all targets that are defined now.
        now: the time.

    Returns:
        The version that it began with, as the copy's header names it; ``None`` when the copy follows no policy.

    Raises:
        ImageNotFoundError: the image is not known.
        PolicyNotFoundError: the copy's header names a version that is not here.
    """
    known = _lifecycle(connection, image)
    if known is not None:
        return get_policy(connection, *known)
    held = get_image(connection, image)
    source = _first(held, own)
    if source is None or not source.slp:
        return None
    stored = get_policy(connection, source.slp, source.slp_version)
    facts = _facts(connection, held, source)
    connection.execute(
        insert(image_lifecycles).values(
            image=image, name=source.slp, version=source.slp_version, wanted_seconds=facts.wanted_seconds, began=now
        )
    )
    promise_all(connection, source, promises(stored.policy, facts, targets), now=now)
    return stored


def without_lifecycle(
    connection: Connection, *, own: DomainId, after: ImageId = FIRST_IMAGE, limit: int = 1_000
) -> list[ImageId]:
    """Give images with a complete copy of this domain that follows a policy, and whose lifecycle has not begun.

    They come in the order of their identities, from behind ``after``.
    """
    begun = exists().where(image_lifecycles.c.image == copy_rows.c.image)
    query = select(copy_rows.c.image).where(
        copy_rows.c.domain == own,
        copy_rows.c.state == CopyState.COMPLETE,
        copy_rows.c.slp != "",
        ~begun,
        copy_rows.c.image > after,
    )
    found = connection.execute(query.distinct().order_by(copy_rows.c.image).limit(limit))
    return [ImageId(image) for image in found.scalars()]


def plan_image(connection: Connection, image: ImageId, *, own: DomainId, now: datetime) -> Plan:
    """Make the plan of an image from what is in the database.

    Raises:
        ImageNotFoundError: the image is not known.
        PolicyNotFoundError: its policy is not here.
    """
    known = _lifecycle(connection, image)
    active = known is None or get_policy(connection, *known).active
    sendings = [row.for_plan() for row in replications_of(connection, image)]
    return plan(get_image(connection, image).copies, sendings, own=own, active=active, now=now)


def _lifecycle(connection: Connection, image: ImageId) -> tuple[str, int] | None:
    row = connection.execute(
        select(image_lifecycles.c.name, image_lifecycles.c.version).where(image_lifecycles.c.image == image)
    ).one_or_none()
    return None if row is None else (row.name, row.version)


def _first(image: Image, own: DomainId) -> Copy | None:
    """Find the copy that came here first: the one that was not made from another."""
    ours: Sequence[Copy] = [
        copy
        for copy in image.copies
        if copy.key.domain == own and copy.state is CopyState.COMPLETE and not copy.source_copy
    ]
    return min(ours, key=lambda copy: copy.key.number, default=None)


def _facts(connection: Connection, image: Image, source: Copy) -> ImageFacts:
    header = connection.execute(
        select(fragments.c.header).where(fragments.c.copy_id == source.id, fragments.c.number == 1)
    ).scalar_one()
    hops = [hop.payload for hop in copy_header.verify(bytes(header)).hops]
    wanted = hops[-1].retention if hops else None
    return ImageFacts(image.image, wanted, frozenset(DomainId(hop.domain) for hop in hops))
