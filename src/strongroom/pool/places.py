"""Where names lie: a table in memory, and sorted runs behind it.

What a container adds is appended to the index's file, and kept in a table in memory. When the table is full it becomes
a run, in the transaction that filled it; and whoever added last merges runs of like size into one, while others go on.
A run counts from the moment that the index's file lists it, when it is on stable storage; a file that is not listed is
what a dead process left. So a crash at any point leaves either the old state or the new one.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import struct
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from strongroom.pool.cache_file import CacheFile
from strongroom.pool.errors import IndexDamagedError
from strongroom.pool.incoming import writing

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from strongroom.pool.runs import Run

NAME_BYTES: Final = 16
"""So much of a name is kept. Names are keyed hashes and digests: with 2^40 of them, two begin alike with 2^-49."""
TABLES: Final = """
CREATE TABLE recent (container INTEGER PRIMARY KEY, entries BLOB NOT NULL);
CREATE TABLE run (number INTEGER PRIMARY KEY, entries INTEGER NOT NULL);
"""
SUFFIX: Final = ".run"
_ENTRY: Final = struct.Struct(f"<{NAME_BYTES}sQ")
BYTES_PER_ENTRY: Final = 27
"""What an entry takes on the disk, rounded up."""
_RATIO: Final = 2
"""Runs are merged while the next larger one has fewer than so many times the entries of those before."""
_DEAD_SHARE: Final = 4
"""Runs are written anew when one of so many entries is of a container that is gone."""
_ASKED: Final = 4_096
_GIVEN: Final = 4_096
_TRIES: Final = 100


@dataclass(frozen=True, slots=True)
class IndexLimits:
    """What an index may take of the memory, whatever the size of the pool.

    Attributes:
        page_cache_bytes: pages of its file.
        table_entries: names in the table in memory, some 200 bytes each.
        filter_bytes: filters of runs. The largest ones do without when it is not enough: then one block is read for a
            name that is not there.
    """

    page_cache_bytes: int = 32 << 20
    table_entries: int = 1 << 16
    filter_bytes: int = 32 << 20


def pack(entries: dict[bytes, int]) -> bytes:
    """Pack names, which are cut to 16 bytes, and places."""
    return b"".join([_ENTRY.pack(name, place) for name, place in entries.items()])


def entries_in(packed: bytes) -> int:
    """Tell how many entries were packed."""
    return len(packed) // _ENTRY.size


class Places:
    """Names and places of one index; may be shared by threads, and by processes.

    Args:
        file: the index's file, which has the tables :data:`TABLES`, and one ``about`` with ``generation`` and ``runs``.
        folder: where the runs lie.
        limits: of memory.
    """

    def __init__(self, file: CacheFile, folder: Path, limits: IndexLimits) -> None:
        self._file = file
        self._folder = folder
        self._limits = limits
        self._lock = threading.Lock()
        self._generation = ""
        self._table: dict[bytes, int | list[int]] = {}
        self._seen = 0
        self._runs: dict[int, Run] = {}

    def open(self) -> None:
        """Read the table and open the runs; remove the runs that nobody knows.

        Raises:
            IndexDamagedError: a run is missing or damaged.
        """
        with self._lock:
            self._sync()
        if len(list(self._folder.glob(f"*{SUFFIX}"))) > len(self._runs):
            with self._merging() as may:
                if may:
                    self._remove_unknown()

    def close(self) -> None:
        """Close the runs."""
        with self._lock:
            self._forget()

    def enter(self, db: sqlite3.Connection, container: int, entries: bytes) -> None:
        """Enter the names of a new container, in the caller's transaction.

        Args:
            db: in which the container was entered, so that nobody else writes.
            container: its number, higher than all before.
            entries: from :func:`pack`.

        Raises:
            PoolFullError, PoolWriteError: the table was full, and the file system refused the new run.
        """
        (waiting,) = db.execute("SELECT COALESCE(SUM(LENGTH(entries)), 0) FROM recent").fetchone()
        if waiting + len(entries) < self._limits.table_entries * _ENTRY.size:
            db.execute("INSERT INTO recent VALUES (?, ?)", (container, entries))
            return
        from strongroom.pool import runs

        blobs = [entries, *(row[0] for row in db.execute("SELECT entries FROM recent"))]
        most = sum(map(len, blobs)) // _ENTRY.size
        generation, number = _next(db)
        path = self._path(generation, number)
        with writing(path):
            count = runs.write(path, [runs.in_order(blobs)], most)
        db.execute("INSERT INTO run VALUES (?, ?)", (number, count))
        db.execute("DELETE FROM recent")

    def find(self, names: Sequence[bytes]) -> Generator[list[tuple[bytes, int]]]:
        """Find names, in batches of name and place; those of containers that are gone among them.

        Args:
            names: each cut to 16 bytes, in order.

        Raises:
            IndexDamagedError: a run is damaged; it was removed, so that the index is made anew when it is opened.
            PoolReadError: the disk refused.
        """
        with self._lock:
            self._sync()
            found = self._find(names)
            while batch := list(islice(found, _GIVEN)):
                yield batch

    def merge(self, *, everything: bool = False) -> None:
        """Merge runs of like size; if another thread or process does that already, leave it to that one.

        Nothing is merged while there is no room for it.

        Args:
            everything: merge all runs into one.

        Raises:
            PoolFullError, PoolWriteError: the file system refused; everything is as it was.
        """
        if not self._due(everything=everything):
            return
        with self._merging() as may:
            while may and (merged := self._due(everything=everything)):
                self._merge(merged)
                everything = False

    def purge(self) -> None:
        """Free the room of names whose containers are gone, if it is worth writing all others anew."""
        with self._file.using() as db:
            (there,) = db.execute("SELECT COALESCE(SUM(entries), 0) FROM run").fetchone()
            (waiting,) = db.execute("SELECT COALESCE(SUM(LENGTH(entries)), 0) FROM recent").fetchone()
            (alive,) = db.execute("SELECT COALESCE(SUM(entries), 0) FROM container").fetchone()
        there += waiting // _ENTRY.size
        if (there - alive) * _DEAD_SHARE > there:
            self.merge(everything=True)

    def clear(self) -> None:
        """Remove all runs, after the index's file was emptied."""
        with self._lock:
            self._forget()
        self._remove_unknown()

    # ------------------------------------------------------------ asking

    def _find(self, names: Sequence[bytes]) -> Iterator[tuple[bytes, int]]:
        for name in names:
            place = self._table.get(name)
            if isinstance(place, int):
                yield name, place
            elif place is not None:
                for each in place:
                    yield name, each
        if not self._runs:
            return
        from strongroom.pool import runs

        for start in range(0, len(names), _ASKED):
            keys = runs.Keys(names[start : start + _ASKED])
            for run in self._runs.values():
                yield from run.find(keys)

    def _sync(self) -> None:
        """Bring table and runs up to date with the file, to which other processes may have written."""
        for _ in range(_TRIES):
            with self._file.using() as db:
                db.execute("BEGIN")
                generation = _generation(db)
                listed = db.execute("SELECT number, entries FROM run ORDER BY entries, number").fetchall()
                if generation != self._generation or [number for number, _ in listed] != list(self._runs):
                    self._table.clear()
                    self._seen = 0
                rows = db.execute(
                    "SELECT container, entries FROM recent WHERE container > ? ORDER BY container", (self._seen,)
                )
                for container, entries in rows:
                    self._take_in(entries)
                    self._seen = container
            try:
                self._open_runs(generation, [number for number, _ in listed])
            except FileNotFoundError:
                continue  # merged by another process since the list was read
            return
        raise self._missing()

    def _take_in(self, entries: bytes) -> None:
        table = self._table
        for name, place in _ENTRY.iter_unpack(entries):
            before = table.setdefault(name, place)
            if before != place:
                if isinstance(before, list):
                    before.append(place)
                else:
                    table[name] = [before, place]

    def _open_runs(self, generation: str, numbers: list[int]) -> None:
        """Open what is new and close what is gone; the smallest first, with filters as far as there is room."""
        if generation != self._generation:
            self._close_runs()
            self._generation = generation
        if numbers == list(self._runs):
            return
        from strongroom.pool import runs

        for number in self._runs.keys() - set(numbers):
            self._runs.pop(number).close()
        for number in numbers:
            if number not in self._runs:
                self._runs[number] = runs.Run(self._path(generation, number))
        self._runs = {number: self._runs[number] for number in numbers}
        room = self._limits.filter_bytes
        for run in self._runs.values():
            room -= run.filter_bytes
            run.use_filters(room >= 0)

    def _forget(self) -> None:
        self._close_runs()
        self._table.clear()
        self._seen = 0
        self._generation = ""

    def _close_runs(self) -> None:
        for run in self._runs.values():
            run.close()
        self._runs.clear()

    # ------------------------------------------------------------ merging

    def _due(self, *, everything: bool) -> list[tuple[int, int]]:
        """Give number and entries of the runs that are to be merged."""
        with self._file.using() as db:
            listed = db.execute("SELECT number, entries FROM run ORDER BY entries, number").fetchall()
        due: list[tuple[int, int]] = []
        total = 0
        for number, entries in listed:
            if due and not everything and entries >= _RATIO * total:
                break
            due.append((number, entries))
            total += entries
        if len(due) < 2 and not everything:
            return []
        with writing(self._folder):
            free = shutil.disk_usage(self._folder).free
        return due if total * BYTES_PER_ENTRY <= free else []

    def _merge(self, merged: list[tuple[int, int]]) -> None:
        from strongroom.pool import runs

        with self._file.using() as db:
            generation, number = _next(db)
            alive = _numbers(db)
        with ExitStack() as reading:
            sources = []
            for each, _ in merged:
                sources.append(self._source(generation, each))
                reading.callback(sources[-1].close)
            path = self._path(generation, number)
            with writing(path):
                count = runs.write(path, runs.merge(sources, alive), sum(entries for _, entries in merged))
        # the old runs go at once, so the power must not take the word of the new one back
        with self._file.using(durably=True) as db:
            db.execute("BEGIN IMMEDIATE")
            if _generation(db) == generation:  # else the index was made anew meanwhile
                db.executemany("DELETE FROM run WHERE number = ?", [(each,) for each, _ in merged])
                if count:
                    db.execute("INSERT INTO run VALUES (?, ?)", (number, count))
        self._remove_unknown()

    def _source(self, generation: str, number: int) -> Run:
        from strongroom.pool import runs

        try:
            return runs.Run(self._path(generation, number))
        except FileNotFoundError as error:
            raise self._missing() from error

    def _remove_unknown(self) -> None:
        """Remove the files that are not listed; nobody else may be merging."""
        with self._file.using() as db:
            db.execute("BEGIN IMMEDIATE")  # nor writing a run from the table
            generation = _generation(db)
            listed = {self._path(generation, number) for (number,) in db.execute("SELECT number FROM run")}
            with writing(self._folder):
                for path in self._folder.glob(f"*{SUFFIX}"):
                    if path not in listed:
                        path.unlink(missing_ok=True)

    @contextmanager
    def _merging(self) -> Iterator[bool]:
        """Hold the right to merge; gives ``False`` if another thread or process has it."""
        with writing(self._folder):
            handle = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(handle)

    def _path(self, generation: str, number: int) -> Path:
        return self._folder / f"{generation}-{number}{SUFFIX}"

    def _missing(self) -> IndexDamagedError:
        return IndexDamagedError(f"a run of the index in '{self._folder}' is missing")


def _generation(db: sqlite3.Connection) -> str:
    return str(db.execute("SELECT generation FROM about").fetchone()[0])


def _next(db: sqlite3.Connection) -> tuple[str, int]:
    """Draw the number of a new run; nobody else writes to the file until the transaction ends."""
    ((generation, number),) = db.execute("UPDATE about SET runs = runs + 1 RETURNING generation, runs").fetchall()
    return generation, number


def _numbers(db: sqlite3.Connection) -> npt.NDArray[np.bool_]:
    """Tell for each number whether a container has it; none has 0."""
    import numpy as np

    highest, count = db.execute("SELECT COALESCE(MAX(num), 0), COUNT(*) FROM container").fetchone()
    alive = np.ones(highest + 1, np.bool_)
    if count < highest:
        alive[:] = False
        for (number,) in db.execute("SELECT num FROM container"):
            alive[number] = True
    alive[0] = False
    return alive
