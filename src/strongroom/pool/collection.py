"""Collection: containers that no image needs are condemned, and removed when nobody can refer to them any more.

Condemned is what the index no longer finds (:meth:`~strongroom.pool.index.Index.condemn`), so that whoever begins to
write after that does not refer to it. Whoever began before may, and its image may come to be committed: so a condemned
container is looked at again when all of those have ended, and removed if it is still of no use. Epochs tell when that
is; they are counted by whoever knows the sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from strongroom.core.errors import IntegrityError, NotFoundError
from strongroom.core.ids import ContainerId, FrameId, MediumId, PageId
from strongroom.formats import frame
from strongroom.formats.container import Content
from strongroom.pool import names
from strongroom.pool.containers import read_contents
from strongroom.pool.errors import PoolReadError
from strongroom.pool.index import Index
from strongroom.pool.log import PoolLog
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
        reprieve: condemned, and needed after all.
        condemn: not needed.
    """

    remove: list[Surveyed]
    wait: list[Surveyed]
    reprieve: list[Surveyed]
    condemn: list[Surveyed]


def sort(survey: Survey, epochs: Epochs) -> Sorted:
    """Tell what is to be done; changes nothing."""
    found = Sorted([], [], [], [])
    for one in survey.containers:
        if one.condemned is None:
            if not one.needed and (epochs.young_ns is None or one.created_ns < epochs.young_ns):
                found.condemn.append(one)
        elif one.needed:
            found.reprieve.append(one)
        elif one.condemned < epochs.closed_before:
            found.remove.append(one)
        else:
            found.wait.append(one)
    return found


def remove(
    store: Store,
    index: Index,
    containers: Iterable[Surveyed],
    *,
    medium: MediumId,
    check: Callable[[], None],
    log: PoolLog,
) -> tuple[Count, list[ContainerId]]:
    """Remove condemned containers; their room is free when this returns.

    What is needed of such a container lies in another one too, and that is read before this one goes.

    Args:
        store: the pool's storage.
        index: the pool's index.
        containers: from :func:`sort`, which must have been asked after the last session ended that may refer to them.
        medium: the pool.
        check: asked before each container; what it raises ends the work.
        log: asked before a container goes, or is taken back.

    Returns:
        What was removed; and those that were not, because what they hold is whole nowhere else.

    Raises:
        PoolWriteError: the storage refused.
    """
    removed, kept = Count(), []
    condemned = frozenset(index.condemned())  # of this moment: if the index was made anew, none may be removed
    for one in containers:
        if one.id not in condemned:
            continue
        check()
        if one.doubled and not _is_whole_elsewhere(store, index, one, condemned, medium):
            log.reprieve([one.id])
            index.reprieve([one.id])
            kept.append(one.id)
            continue
        if not log.may_remove(one.id):
            continue  # a session that is open may refer to it, or it was taken back
        # the file first: a full disk has room then for what the index writes
        store.remove(names.container_key(one.id))
        index.remove(one.id)
        removed.add(one.size_bytes)
    if removed.containers:
        index.purge()
    return removed, kept


def _is_whole_elsewhere(
    store: Store, index: Index, one: Surveyed, condemned: frozenset[ContainerId], medium: MediumId
) -> bool:
    """Read every item that another container has as well, from there."""
    try:
        items = list(read_contents(store, one.id, medium).items)
    except (IntegrityError, NotFoundError, PoolReadError):
        return False
    ids = [FrameId(item.id) for item in items]
    places = index.locate(ids, one.origin)
    whole = 0
    for item in ids:
        for place in places.get(item, []):
            if place.container in condemned:
                continue
            try:
                data = read_item(store, place)
                if one.content is Content.FRAMES:
                    frame.check(data, item)
                else:
                    decode_page(data, PageId(item))
            except (IntegrityError, NotFoundError, PoolReadError):
                continue
            whole += 1
            break
    return whole >= one.doubled
