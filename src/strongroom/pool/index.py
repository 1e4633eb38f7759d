"""Where everything lies: a cache over the containers' footers, asked and filled in batches.

The containers are the truth. The index is thrown away and made again from their footers whenever it does not
fit, and nothing is lost if the machine stops while it is written. Memory is bounded by SQLite's page cache,
whatever the size of the pool. Everything is answered for one origin domain: what another origin stored is
never a hit.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
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
from strongroom.pool.store import Store

SCHEMA: Final = 2
DEFAULT_MEMORY_BYTES: Final = 48 << 20
FILE_NAME: Final = "index.sqlite"
_BATCH: Final = 500
_ROWS: Final = 1_000

_TABLES: Final = """
CREATE TABLE about (generation TEXT NOT NULL);
CREATE TABLE container (
    num INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, origin BLOB NOT NULL, content INTEGER NOT
    NULL, size_bytes INTEGER NOT NULL, created_ns INTEGER NOT NULL, digest BLOB NOT NULL, mark BLOB NOT NULL,
    condemned INTEGER
);
CREATE TABLE item (
    num INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL, container INTEGER NOT NULL, offset INTEGER NOT
    NULL, length INTEGER NOT NULL, plain_bytes INTEGER NOT NULL, data_key BLOB NOT NULL
);
CREATE INDEX item_by_id ON item (id);
CREATE INDEX item_by_container ON item (container);
CREATE TABLE segment (
    name BLOB NOT NULL, item INTEGER NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (name, item)
) WITHOUT ROWID;
CREATE TABLE event (
    number INTEGER PRIMARY KEY AUTOINCREMENT, container BLOB NOT NULL, is_sealed INTEGER NOT NULL
);
"""
# numbers of items are never used again, so a segment row whose item is gone is dead and stays so


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

    All methods raise :class:`PoolFullError`, :class:`PoolWriteError`, :class:`IndexBusyError` or
    :class:`IndexDamagedError` when the file cannot be used.

    Args:
        folder: where its file lies; ``index`` of a pool folder, or any other for a pool elsewhere.
        entropy: gives the name of a new generation.
        medium: the pool; containers of another medium are reported, and not taken in.
        memory_bytes: bound of the page cache.

    Attributes:
        distrusted: containers in which damage was read.
    """

    def __init__(
        self, folder: Path, entropy: Entropy, *, medium: MediumId, memory_bytes: int = DEFAULT_MEMORY_BYTES
    ) -> None:
        self.distrusted = Distrusted(folder)
        self._medium = medium
        self._file = CacheFile(
            folder / FILE_NAME,
            schema=SCHEMA,
            tables=lambda: f"{_TABLES} INSERT INTO about VALUES ('{entropy.bytes(16).hex()}');",  # noqa: S608 - hexadecimal
            memory_bytes=memory_bytes,
        )

    @property
    def generation(self) -> str:
        """Changes when the index is made anew; events of two generations are not comparable."""
        with self._file.using() as db:
            return str(db.execute("SELECT generation FROM about").fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def rebuild(self, store: Store) -> RefreshReport:
        """Throw everything away and read all footers."""
        self._file.empty()
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
                "INSERT OR IGNORE INTO container (id, origin, content, size_bytes, created_ns, digest, mark)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                row,
            )
            if cursor.rowcount == 0:
                return
            self._add_items(db, int(cursor.lastrowid or 0), contents)
            db.execute("INSERT INTO event (container, is_sealed) VALUES (?, 1)", (header.container,))

    def remove(self, container: ContainerId) -> None:
        """Forget a container that is gone."""
        with self._file.using() as db:
            row = db.execute("SELECT num FROM container WHERE id = ?", (container,)).fetchone()
            if row is None:
                return
            db.execute("DELETE FROM item WHERE container = ?", row)
            db.execute("DELETE FROM container WHERE num = ?", row)
            db.execute("INSERT INTO event (container, is_sealed) VALUES (?, 0)", (container,))

    def purge(self) -> None:
        """Free the room of segments whose containers are gone: one pass over all, after a collection."""
        with self._file.using() as db:
            db.execute("DELETE FROM segment WHERE item NOT IN (SELECT num FROM item)")

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
        found: dict[SegmentName, list[SegmentHit]] = {}
        sql = (
            "SELECT s.name, i.id, s.position, i.data_key, i.length, i.plain_bytes, c.id FROM segment s"
            " JOIN item i ON i.num = s.item JOIN container c ON c.num = i.container"
            " WHERE c.origin = ? AND c.condemned IS NULL AND s.name IN ({})"
            " ORDER BY c.created_ns DESC, c.id DESC, i.offset DESC"
        )
        for row in self._select(sql, origin, names):
            hit = SegmentHit._make(row)
            found.setdefault(hit.name, []).append(hit)
        return found

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
        found: dict[bytes, list[Location]] = {}
        sql = (
            "SELECT i.id, c.id, i.offset, i.length, i.data_key FROM item i"
            " JOIN container c ON c.num = i.container WHERE c.origin = ? AND i.id IN ({})"
            " ORDER BY c.created_ns DESC, c.id DESC, i.offset DESC"
        )
        for item, *place in self._select(sql, origin, ids):
            found.setdefault(item, []).append(Location._make(place))
        return found

    def lacking(self, ids: Sequence[bytes], origin: DomainId) -> list[bytes]:
        """Tell which frames or pages may not be referred to, in the order asked: not stored here, or condemned."""
        sql = (
            "SELECT i.id FROM item i JOIN container c ON c.num = i.container"
            " WHERE c.origin = ? AND c.condemned IS NULL AND i.id IN ({})"
        )
        present = {row[0] for row in self._select(sql, origin, ids)}
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

    def _select(self, sql: str, origin: DomainId, ids: Collection[bytes]) -> Iterator[tuple[bytes, ...]]:
        """Ask in batches, in the order of the ids so that neighbours lie on one page of the file."""
        ordered = sorted(ids)
        for start in range(0, len(ordered), _BATCH):
            batch = ordered[start : start + _BATCH]
            with self._file.using() as db:
                rows = db.execute(sql.format(",".join("?" * len(batch))), (origin, *batch)).fetchall()
            yield from rows

    def _add_items(self, db: sqlite3.Connection, container: int, contents: Contents) -> None:
        rest = iter(contents.items)
        while items := list(islice(rest, _ROWS)):
            (last,) = db.execute("SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = 'item'").fetchone()
            db.executemany(
                "INSERT INTO item (num, id, container, offset, length, plain_bytes, data_key)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    (number, item.id, container, item.offset, item.length, item.plain_bytes, item.data_key)
                    for number, item in enumerate(items, last + 1)
                ),
            )
            rows = sorted(
                (name, number, position)
                for number, item in enumerate(items, last + 1)
                for position, (name, _) in enumerate(item.segments)
            )
            db.executemany("INSERT OR IGNORE INTO segment (name, item, position) VALUES (?, ?, ?)", rows)


def open_index(
    folder: Path, store: Store, entropy: Entropy, *, medium: MediumId, memory_bytes: int = DEFAULT_MEMORY_BYTES
) -> tuple[Index, RefreshReport]:
    """Open a pool's index and bring it up to date with its containers."""
    index = Index(folder, entropy, medium=medium, memory_bytes=memory_bytes)
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
