"""Collection: containers that no image needs are condemned, and removed when nobody can refer to them any more.

Condemned is what the index no longer finds (:meth:`~strongroom.pool.index.Index.condemn`), so that whoever begins to
write after that does not refer to it. Whoever began before may, and its image may come to be committed: so a condemned
container is looked at again when all of those have ended, and removed if it is still of no use. Epochs tell when that
is; they are counted by whoever knows the sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from strongroom.core.errors import IntegrityError, NotFoundError
from strongroom.core.ids import ContainerId, FrameId, MediumId, PageId
from strongroom.formats import frame
from strongroom.formats.container import Content
from strongroom.pool import names
from strongroom.pool.containers import read_contents
from strongroom.pool.errors import LockedError, PoolReadError
from strongroom.pool.index import Index, Location
from strongroom.pool.reader import read_item
from strongroom.pool.store import Store
from strongroom.pool.survey import Survey, Surveyed
from strongroom.pool.verify import decode_page


@dataclass(frozen=True, slots=True)
class Epochs:
    """Who may still refer to what.

    Attributes:
        now: epoch in which a session begins now; what is condemned now is condemned in it.
        closed_before: no session is open that began before this epoch, nor will one commit.
        young_ns: what was begun at this time or later may be of a session that is open, and is not condemned yet; ns
            since 1970. ``None`` when no session is open.
    """

    now: int
    closed_before: int
    young_ns: int | None


@dataclass(slots=True)
class Count:
    """Containers, and their bytes."""

    containers: int = 0
    bytes: int = 0

    def add(self, size_bytes: int) -> None:
        """Count one more."""
        self.containers += 1
        self.bytes += size_bytes


@dataclass(frozen=True)
class Sorted:
    """What is to be done with each container that is not needed whole.

    Attributes:
        remove: condemned long enough, and still not needed.
        wait: condemned, and somebody may still refer to it.
        reprieve: condemned, and needed after all, or locked since.
        condemn: not needed, or to be had from elsewhere.
        locked: not needed, and stays because a retention lock keeps it.
        sparse: needed in part, and not locked; the smallest part first.
    """

    remove: list[Surveyed]
    wait: list[Surveyed]
    reprieve: list[Surveyed]
    condemn: list[Surveyed]
    locked: list[Surveyed]
    sparse: list[Surveyed]


def sort(survey: Survey, epochs: Epochs, locked: Collection[ContainerId] = ()) -> Sorted:
    """Tell what is to be done; changes nothing. What is locked is neither condemned, rewritten nor removed."""
    found = Sorted([], [], [], [], [], [])
    for one in survey.containers:
        if one.id in locked:
            if not one.needed:
                found.locked.append(one)
            if one.condemned is not None:
                found.reprieve.append(one)
        elif one.condemned is None:
            if epochs.young_ns is not None and one.created_ns >= epochs.young_ns:
                continue
            if not one.needed:
                found.condemn.append(one)
            elif one.needed < one.items:
                found.sparse.append(one)
        elif one.needed:
            found.reprieve.append(one)
        elif one.condemned < epochs.closed_before:
            found.remove.append(one)
        else:
            found.wait.append(one)
    found.sparse.sort(key=lambda one: (one.needed_bytes / one.item_bytes, one.id))
    return found


def remove(
    store: Store,
    index: Index,
    found: Survey,
    containers: Iterable[Surveyed],
    *,
    medium: MediumId,
    check: Callable[[], None],
    lift: bool = False,
) -> tuple[Count, list[ContainerId]]:
    """Remove condemned containers; their room is free when this returns.

    What is needed of such a container lies in another one too, and that is read before this one goes.

    Args:
        store: the pool's storage.
        index: the pool's index.
        found: what is needed.
        containers: from :func:`sort`, which must have been asked after the last session ended that may refer to them.
        medium: the pool.
        check: asked before each container; what it raises ends the work.
        lift: also what a governance lock keeps, if no image needs anything of it.

    Returns:
        What was removed; and those that were not, because what they hold is whole nowhere else, or was locked since.

    Raises:
        PoolWriteError: the storage refused.
    """
    removed, kept = Count(), []
    condemned = frozenset(index.condemned())  # of this moment: if the index was made anew, none may be removed
    for one in containers:
        if one.id not in condemned:
            continue
        check()
        if not is_whole_elsewhere(store, index, found, one, medium=medium):
            index.reprieve([one.id])
            kept.append(one.id)
            continue
        # the file first: a full disk has room then for what the index writes
        try:
            # a lock is lifted for what no image needs: elsewhere, what is needed of this one may not be locked
            store.remove(names.container_key(one.id), lift=lift and not one.doubled)
        except LockedError:
            index.reprieve([one.id])
            kept.append(one.id)
            continue
        index.remove(one.id)
        removed.add(one.size_bytes)
    if removed.containers:
        index.purge()
    return removed, kept


def is_whole_elsewhere(store: Store, index: Index, found: Survey, one: Surveyed, *, medium: MediumId) -> bool:
    """Read every item of a container that is needed and that another one has, from there."""
    if not one.doubled:
        return True
    try:
        items = [
            FrameId(item.id)
            for position, item in enumerate(read_contents(store, one.id, medium).items)
            if found.is_doubled(one, position)
        ]
    except (IntegrityError, NotFoundError, PoolReadError):
        return False
    condemned = frozenset(index.condemned())
    places = index.locate(items, one.origin)
    return len(items) == one.doubled and all(
        any(
            place.container not in condemned
            and place.container != one.id
            and _is_whole(store, place, item, one.content)
            for place in places.get(item, [])
        )
        for item in items
    )


def _is_whole(store: Store, place: Location, item: FrameId, content: Content) -> bool:
    try:
        check_item(read_item(store, place), item, content)
    except (IntegrityError, NotFoundError, PoolReadError):
        return False
    return True


def check_item(data: bytes, item: bytes, content: Content) -> None:
    """Check a frame or page as on arrival: its digest, and its own form. Needs no key.

    Raises:
        DamagedError, NewerFormatError: it does not hold.
    """
    if content is Content.FRAMES:
        frame.check(data, FrameId(item))
    else:
        decode_page(data, PageId(item))
