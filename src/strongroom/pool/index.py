"""Where everything lies: a cache over the containers' footers, asked and filled in batches.

The containers are the truth. The index is thrown away and made again from their footers whenever it does not
fit, and nothing is lost if the machine stops while it is written. Containers, their items and events lie in an SQLite
file; where names lie is told by :mod:`~strongroom.pool.places`. Memory is bounded by :class:`IndexLimits`, whatever the
size of the pool. Everything is answered for one origin domain: what another origin stored is never a hit.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from strongroom.core.entropy import Entropy
from strongroom.core.errors import IntegrityError
from strongroom.core.ids import ContainerId, DataKeyId, DomainId, FrameId, MediumId, PageId, SegmentName
from strongroom.formats.container import NO_MARK, Content
from strongroom.pool.cache_file import CacheFile
from strongroom.pool.containers import Contents, list_containers, read_contents, scan_contents
from strongroom.pool.distrusted import Distrusted
from strongroom.pool.errors import IndexDamagedError, ObjectMissingError, PoolFullError, PoolReadError
from strongroom.pool.names import container_key
from strongroom.pool.places import NAME_BYTES, TABLES, IndexLimits, Places, entries_in, pack
from strongroom.pool.store import Store

SCHEMA: Final = 3
FILE_NAME: Final = "index.sqlite"
_BATCH: Final = 500
_ROWS: Final = 1_000

_TABLES: Final = f"""
CREATE TABLE about (generation TEXT NOT NULL, runs INTEGER NOT NULL);
CREATE TABLE container (
    num INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, origin BLOB NOT NULL, content INTEGER NOT
    NULL, size_bytes INTEGER NOT NULL, created_ns INTEGER NOT NULL, digest BLOB NOT NULL, mark BLOB NOT NULL,
    entries INTEGER NOT NULL, condemned INTEGER
);
CREATE TABLE item (
    num INTEGER PRIMARY KEY, id BLOB NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL,
    plain_bytes INTEGER NOT NULL, data_key BLOB NOT NULL
);
CREATE TABLE event (
    number INTEGER PRIMARY KEY AUTOINCREMENT, container BLOB NOT NULL, is_sealed INTEGER NOT NULL
);
{TABLES}
"""
# Numbers of containers are never used again, so what names lie in one that is gone is dead and stays so.
# The number of an item is that of its container, and its place there; a place is the number of an item, and the
# position of a segment in it.
_ITEM_BITS: Final = 16
_POSITION_BITS: Final = 16
_WHOLE: Final = (1 << _POSITION_BITS) - 1
"""The position that says that the name is the one of the item itself."""


class Location(NamedTuple):
    """Where a frame or a page lies."""

    container: ContainerId
    offset: int
    length: int
    data_key: DataKeyId


class SegmentHit(NamedTuple):
    """A stored segment: its place in a frame, and what a manifest must say of that frame."""

    name: SegmentName
    frame: FrameId
    position: int
    data_key: DataKeyId
    frame_length: int
    frame_bytes: int
    container: ContainerId


class Event(NamedTuple):
    """A container came or went. Numbers rise within one generation of the index."""

    number: int
    container: ContainerId
    is_sealed: bool


@dataclass(slots=True)
class RefreshReport:
    """What :meth:`Index.refresh` found.

    Attributes:
        added: containers that the index had not seen.
        removed: containers that are gone.
        problems: containers that could not be read as they should, and why.
    """

    added: list[ContainerId] = field(default_factory=list)
    removed: list[ContainerId] = field(default_factory=list)
    problems: list[tuple[ContainerId, str]] = field(default_factory=list)


class Index:
    """The index of one pool; may be shared by threads.

    All methods raise :class:`PoolFullError`, :class:`PoolWriteError`, :class:`PoolReadError`, :class:`IndexBusyError`
    or :class:`IndexDamagedError` when its files cannot be used.

    Args:
        folder: where its files lie; ``index`` of a pool folder, or any other for a pool elsewhere.
        entropy: gives the name of a new generation.
        medium: the pool; containers of another medium are reported, and not taken in.
        limits: of memory.

    Attributes:
        distrusted: containers in which damage was read.
        catch_up: takes in what other media servers of the pool did; called before a reader that found a container gone
            asks once more.
    """

    def __init__(self, folder: Path, entropy: Entropy, *, medium: MediumId, limits: IndexLimits | None = None) -> None:
        limits = limits or IndexLimits()
        self.distrusted = Distrusted(folder)
        self._medium = medium
        self.catch_up: Callable[[], None] = lambda: None
        self._file = CacheFile(
            folder / FILE_NAME,
            schema=SCHEMA,
            tables=lambda: f"{_TABLES} INSERT INTO about VALUES ('{entropy.bytes(16).hex()}', 0);",  # noqa: S608 - hexadecimal
            memory_bytes=limits.page_cache_bytes,
        )
        self._places = Places(self._file, folder, limits)
        with ExitStack() as on_error:
            on_error.callback(self.close)
            try:
                self._places.open()
            except IndexDamagedError:
                self._empty()
            on_error.pop_all()

    @property
    def generation(self) -> str:
        """Changes when the index is made anew; events of two generations are not comparable."""
        with self._file.using() as db:
            return str(db.execute("SELECT generation FROM about").fetchone()[0])

    def close(self) -> None:
        """Close the files."""
        self._places.close()
        self._file.close()

    def rebuild(self, store: Store) -> RefreshReport:
        """Throw everything away and read all footers."""
        self._empty()
        return self.refresh(store)

    def refresh(self, store: Store) -> RefreshReport:
        """Take in the containers that are new in the store, and forget those that are gone.

        A container with a damaged footer is reported, and taken in as far as its items can be read.

        Raises:
            PoolReadError: the store cannot be listed.
        """
        report = RefreshReport()
        with self._file.using() as db:
            known = {ContainerId(row[0]) for row in db.execute("SELECT id FROM container")}
        for container in list_containers(store):
            if container in known:
                known.discard(container)
                continue
            contents = _read_tolerantly(store, container, self._medium, report)
            if contents is None:
                continue
            try:
                self.add(contents)
            except PoolFullError as error:
                # a full pool must open, or nothing in it could be expired
                report.problems.append((container, error.message))
            else:
                report.added.append(container)
        for container in sorted(known):
            if _is_gone(store, container):  # a listing may be late
                self.remove(container)
                report.removed.append(container)
        if report.removed:
            self.purge()
        return report

    def add(self, contents: Contents) -> None:
        """Take in a sealed container. Doing it again changes nothing."""
        header = contents.header
        with self._file.using() as db:
            row = (
                header.container,
                header.origin,
                header.content,
                contents.size_bytes,
                header.created_ns,
                contents.digest,
                contents.mark,
            )
            cursor = db.execute(
                "INSERT OR IGNORE INTO container (id, origin, content, size_bytes, created_ns, digest, mark, entries)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, 0)",
                row,
            )
            if cursor.rowcount == 0:
                return
            number = int(cursor.lastrowid or 0)
            entries = _add_items(db, number, contents)
            db.execute("UPDATE container SET entries = ? WHERE num = ?", (entries_in(entries), number))
            db.execute("INSERT INTO event (container, is_sealed) VALUES (?, 1)", (header.container,))
            self._places.enter(db, number, entries)
        self._places.merge()

    def remove(self, container: ContainerId) -> None:
        """Forget a container that is gone."""
        with self._file.using() as db:
            gone = db.execute("DELETE FROM container WHERE id = ? RETURNING num", (container,)).fetchall()
            for (number,) in gone:
                first = number << _ITEM_BITS
                db.execute("DELETE FROM item WHERE num BETWEEN ? AND ?", (first, first + (1 << _ITEM_BITS) - 1))
                db.execute("DELETE FROM recent WHERE container = ?", (number,))
                db.execute("INSERT INTO event (container, is_sealed) VALUES (?, 0)", (container,))

    def purge(self) -> None:
        """Free the room of what containers held that are gone, when it is much; after a collection."""
        self._places.purge()

    def condemn(self, containers: Collection[ContainerId], epoch: int) -> None:
        """Let nothing refer to these containers any more; what is in them can still be read.

        If the index is made anew, none is condemned: then none of them may be removed either.

        Args:
            containers: to be removed when no session is left that may have found something in them.
            epoch: the pool's epoch now; one that was condemned before keeps its own.
        """
        with self._file.using() as db:
            db.executemany(
                "UPDATE container SET condemned = ? WHERE id = ? AND condemned IS NULL",
                [(epoch, container) for container in containers],
            )

    def reprieve(self, containers: Collection[ContainerId]) -> None:
        """Let containers be found again that were condemned."""
        with self._file.using() as db:
            db.executemany(
                "UPDATE container SET condemned = NULL WHERE id = ?", [(container,) for container in containers]
            )

    def condemned(self) -> dict[ContainerId, int]:
        """Give the containers that are condemned, each with its epoch."""
        with self._file.using() as db:
            rows = db.execute("SELECT id, condemned FROM container WHERE condemned IS NOT NULL").fetchall()
        return {ContainerId(container): epoch for container, epoch in rows}

    def find_segments(self, names: Collection[SegmentName], origin: DomainId) -> dict[SegmentName, list[SegmentHit]]:
        """Find segments that the origin stored, and that may be referred to.

        Returns:
            For each name that was found, every place where it lies, newest first; but for condemned containers.
        """
        asked = {name[:NAME_BYTES]: name for name in names}
        hits: dict[SegmentName, list[tuple[_Item, int]]] = {}
        for prefix, position, item in self._find(asked, origin):
            if position != _WHOLE and not item.is_condemned:
                hits.setdefault(asked[prefix], []).append((item, position))
        return {
            name: [
                SegmentHit(
                    name, FrameId(item.id), position, item.data_key, item.length, item.plain_bytes, item.container
                )
                for item, position in sorted(places, key=_age, reverse=True)
            ]
            for name, places in hits.items()
        }

    def knows(self, container: ContainerId) -> bool:
        """Tell whether a container was taken in."""
        with self._file.using() as db:
            return db.execute("SELECT 1 FROM container WHERE id = ?", (container,)).fetchone() is not None

    def mark(self, container: ContainerId) -> tuple[bytes, bytes]:
        """Give the digest and the mark of a container, zeros for one that is gone."""
        with self._file.using() as db:
            row = db.execute("SELECT digest, mark FROM container WHERE id = ?", (container,)).fetchone()
        return (row[0], row[1]) if row else (NO_MARK, NO_MARK)

    def locate(self, ids: Collection[FrameId] | Collection[PageId], origin: DomainId) -> dict[bytes, list[Location]]:
        """Find frames or pages that belong to an origin.

        Returns:
            For each id that was found, every place where it lies, newest first.
        """
        found: dict[bytes, list[tuple[_Item, int]]] = {}
        for item in self._items(ids, origin):
            found.setdefault(item.id, []).append((item, _WHOLE))
        return {
            name: [
                Location(item.container, item.offset, item.length, item.data_key)
                for item, _ in sorted(places, key=_age, reverse=True)
            ]
            for name, places in found.items()
        }

    def lacking(self, ids: Sequence[bytes], origin: DomainId) -> list[bytes]:
        """Tell which frames or pages may not be referred to, in the order asked: not stored here, or condemned."""
        present = {item.id for item in self._items(ids, origin) if not item.is_condemned}
        return [item for item in ids if item not in present]

    def containers(self) -> Iterator[tuple[ContainerId, DomainId, Content, int]]:
        """Give id, origin, content and length of every container."""
        with self._file.using() as db:
            rows = db.execute("SELECT id, origin, content, size_bytes FROM container ORDER BY id").fetchall()
        for container, origin, content, size_bytes in rows:
            yield ContainerId(container), DomainId(origin), Content(content), size_bytes

    def events(self, after: int = 0, limit: int = 1_000) -> list[Event]:
        """Give the events behind a number, oldest first."""
        with self._file.using() as db:
            rows = db.execute(
                "SELECT number, container, is_sealed FROM event WHERE number > ? ORDER BY number LIMIT ?",
                (after, limit),
            ).fetchall()
        return [Event(number, ContainerId(container), bool(is_sealed)) for number, container, is_sealed in rows]

    def _items(self, ids: Collection[bytes], origin: DomainId) -> Iterator[_Item]:
        """Find frames or pages by their ids."""
        asked = frozenset(ids)
        for _, position, item in self._find({name[:NAME_BYTES] for name in asked}, origin):
            if position == _WHOLE and item.id in asked:
                yield item

    def _find(self, prefixes: Iterable[bytes], origin: DomainId) -> Iterator[tuple[bytes, int, _Item]]:
        """Find what begins with these names and belongs to an origin: the name, the position, the item."""
        with closing(self._places.find(sorted(prefixes))) as batches:
            for batch in batches:
                items = self._read_items({place >> _POSITION_BITS for _, place in batch}, origin)
                for prefix, place in batch:
                    item = items.get(place >> _POSITION_BITS)
                    if item is not None:
                        yield prefix, place & _WHOLE, item

    def _read_items(self, numbers: Collection[int], origin: DomainId) -> dict[int, _Item]:
        sql = (
            "SELECT i.num, i.id, i.offset, i.length, i.plain_bytes, i.data_key, c.id, c.created_ns,"
            " c.condemned IS NOT NULL FROM item i JOIN container c ON c.num = i.num >> 16"
            " WHERE c.origin = ? AND i.num IN ({})"
        )
        items = {}
        ordered = sorted(numbers)
        for start in range(0, len(ordered), _BATCH):
            batch = ordered[start : start + _BATCH]
            with self._file.using() as db:
                for number, *row in db.execute(sql.format(",".join("?" * len(batch))), (origin, *batch)):
                    items[number] = _Item._make(row)
        return items

    def _empty(self) -> None:
        self._file.empty()
        self._places.clear()


class _Item(NamedTuple):
    """A frame or page, and the container that it lies in."""

    id: bytes
    offset: int
    length: int
    plain_bytes: int
    data_key: DataKeyId
    container: ContainerId
    created_ns: int
    is_condemned: int


def _age(place: tuple[_Item, int]) -> tuple[int, bytes, int]:
    item, _ = place
    return item.created_ns, item.container, item.offset


def _add_items(db: sqlite3.Connection, container: int, contents: Contents) -> bytes:
    """Enter the items of a container, and give the entries for their names and those of their segments."""
    first = container << _ITEM_BITS
    packed = []
    rest = enumerate(contents.items, first)
    while items := list(islice(rest, _ROWS)):
        db.executemany(
            "INSERT INTO item VALUES (?, ?, ?, ?, ?, ?)",
            [(number, item.id, item.offset, item.length, item.plain_bytes, item.data_key) for number, item in items],
        )
        for number, item in items:
            place = number << _POSITION_BITS
            names = {item.id: place | _WHOLE}
            for position, (name, _) in enumerate(item.segments):
                names.setdefault(name, place | position)
            packed.append(pack(names))
    return b"".join(packed)


def open_index(
    folder: Path, store: Store, entropy: Entropy, *, medium: MediumId, limits: IndexLimits | None = None
) -> tuple[Index, RefreshReport]:
    """Open a pool's index and bring it up to date with its containers."""
    index = Index(folder, entropy, medium=medium, limits=limits)
    try:
        return index, index.refresh(store)
    except IndexDamagedError:
        return index, index.rebuild(store)


def _is_gone(store: Store, container: ContainerId) -> bool:
    try:
        store.size(container_key(container))
    except ObjectMissingError:
        return True
    return False


def _read_tolerantly(store: Store, container: ContainerId, medium: MediumId, report: RefreshReport) -> Contents | None:
    try:
        return read_contents(store, container, medium)
    except ObjectMissingError:
        return None  # removed since it was listed
    except PoolReadError as error:
        report.problems.append((container, error.message))
        return None
    except IntegrityError as error:
        report.problems.append((container, error.message))
    try:
        return scan_contents(store, container, medium)
    except (IntegrityError, ObjectMissingError, PoolReadError):
        return None  # the report says why already
