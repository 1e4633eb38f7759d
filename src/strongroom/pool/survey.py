"""What of a pool's containers is needed: the items of all footers, compared with the marks bucket by bucket.

Memory is two bits for each item, some numbers for each container, and the marks of one bucket.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from strongroom.core.errors import IntegrityError
from strongroom.core.ids import ContainerId, DataKeyId, DomainId, MediumId
from strongroom.formats.container import Content
from strongroom.pool.containers import Contents, read_contents
from strongroom.pool.errors import ObjectMissingError, PoolReadError
from strongroom.pool.index import Index
from strongroom.pool.marking import ITEM_BUCKETS, ITEM_BYTES, ORIGIN_BYTES, Marks
from strongroom.pool.spool import Spool
from strongroom.pool.store import Store

_PLACE: Final = struct.Struct(">III")
"""Number of the container, position of the item in it, length of the item."""


@dataclass(slots=True)
class Surveyed:
    """One container.

    Attributes:
        id: the container.
        origin: the domain of what is in it.
        content: frames or pages.
        size_bytes: its length.
        created_ns: when it was begun.
        condemned: epoch in which it was condemned; ``None`` if it is not.
        first: number of its first item among those of all containers.
        items: how many it has.
        item_bytes: their stored bytes.
        needed: how many items are needed, and are to be had from no other container.
        needed_bytes: their stored bytes.
        doubled: items that are needed, and that another container has that stays.
        data_keys: origin number and id of every data key that its frames need.
    """

    id: ContainerId
    origin: DomainId
    content: Content
    size_bytes: int
    created_ns: int
    condemned: int | None
    first: int
    items: int = 0
    item_bytes: int = 0
    needed: int = 0
    needed_bytes: int = 0
    doubled: int = 0
    data_keys: tuple[bytes, ...] = ()


@dataclass
class Survey:
    """All containers that can be read.

    Attributes:
        containers: those that can be read.
        unread: those that cannot, and why; nothing is said of what is in them, so they stay.

    Of an item that lies in several containers, one counts as its holder: the newest that is not condemned, where
    readers look first. In the others it is doubled; so what was copied goes from where it was, whatever was killed.
    """

    containers: list[Surveyed] = field(default_factory=list)
    unread: list[tuple[ContainerId, str]] = field(default_factory=list)
    _needed: bytearray = field(default_factory=bytearray)
    _doubled: bytearray = field(default_factory=bytearray)

    def is_needed(self, container: Surveyed, position: int) -> bool:
        """Tell whether an item is needed from this container, by its position in it."""
        return _is_set(self._needed, container.first + position)

    def is_doubled(self, container: Surveyed, position: int) -> bool:
        """Tell whether an item is needed, and to be had from another container, by its position in this one."""
        return _is_set(self._doubled, container.first + position)

    def begin(self, items: int) -> None:
        """Make room for what is to be said of so many items."""
        self._needed, self._doubled = bytearray((items + 7) // 8), bytearray((items + 7) // 8)

    def need(self, container: Surveyed, position: int, length: int) -> None:
        """Enter that an item is needed from this container."""
        _set(self._needed, container.first + position)
        container.needed += 1
        container.needed_bytes += length

    def double(self, container: Surveyed, position: int) -> None:
        """Enter that an item is needed, and to be had from another container."""
        _set(self._doubled, container.first + position)
        container.doubled += 1


def survey(
    store: Store, index: Index, marks: Marks, folder: Path, *, medium: MediumId, check: Callable[[int], None]
) -> Survey:
    """Tell what is needed of each container.

    Args:
        store: the pool's storage.
        index: tells which containers there are, and which are condemned.
        marks: what images need.
        folder: where what does not fit into memory lies for a while.
        medium: the pool.
        check: told how many containers were read; what it raises ends the survey.

    Raises:
        PoolFullError, PoolWriteError: no room for what does not fit into memory.
    """
    found = Survey()
    condemned = index.condemned()
    record_bytes = ITEM_BYTES + _PLACE.size
    with Spool(folder, record_bytes=record_bytes, chosen_by=ORIGIN_BYTES, buckets=ITEM_BUCKETS) as items:
        first = 0
        for container, *_ in index.containers():
            check(len(found.containers))
            try:
                contents = read_contents(store, container, medium)
            except ObjectMissingError:
                continue  # it is gone, and the index has not heard of it yet
            except (IntegrityError, PoolReadError) as error:
                found.unread.append((container, error.message))
                continue
            surveyed = _enter(found, contents, condemned.get(container), first, items, marks)
            first += surveyed.items
        found.begin(first)
        for number in range(ITEM_BUCKETS):
            _compare(found, frozenset(marks.items.bucket(number)), partial(items.bucket, number))
    return found


def _enter(
    found: Survey, contents: Contents, condemned: int | None, first: int, items: Spool, marks: Marks
) -> Surveyed:
    header = contents.header
    surveyed = Surveyed(
        header.container,
        header.origin,
        header.content,
        contents.size_bytes,
        header.created_ns,
        condemned,
        first,
    )
    number = len(found.containers)
    keys: set[DataKeyId] = set()
    for item in contents.items:
        place = _PLACE.pack(number, surveyed.items, item.length)
        items.add(marks.origins.record(header.origin, item.id) + place)
        keys.add(item.data_key)
        surveyed.items += 1
        surveyed.item_bytes += item.length
    surveyed.data_keys = tuple(marks.origins.record(header.origin, key) for key in keys)
    found.containers.append(surveyed)
    return surveyed


def _compare(found: Survey, marked: frozenset[bytes], items: Callable[[], Iterator[bytes]]) -> None:
    """Enter what is needed of one bucket's items, and from which container."""
    holders: dict[bytes, Surveyed] = {}
    for record in items():
        identity = record[:ITEM_BYTES]
        container = _container(found, record)
        if identity not in marked or container.condemned is not None:
            continue
        known = holders.get(identity)
        if known is None or (known.created_ns, known.id) < (container.created_ns, container.id):
            holders[identity] = container
    for record in items():
        identity = record[:ITEM_BYTES]
        if identity not in marked:
            continue
        container = _container(found, record)
        _, position, length = _PLACE.unpack_from(record, ITEM_BYTES)
        if holders.get(identity, container) is container:
            found.need(container, position, length)
        else:
            found.double(container, position)


def _container(found: Survey, record: bytes) -> Surveyed:
    number: int = _PLACE.unpack_from(record, ITEM_BYTES)[0]
    return found.containers[number]


def _set(bits: bytearray, number: int) -> None:
    bits[number >> 3] |= 1 << (number & 7)


def _is_set(bits: bytearray, number: int) -> bool:
    return bool(bits[number >> 3] >> (number & 7) & 1)
