"""A cache in an SQLite file: it is thrown away and made again from the pool's objects whenever it does not fit."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from strongroom.core.errors import StrongroomError
from strongroom.pool.errors import IndexBusyError, IndexDamagedError, PoolFullError, PoolWriteError

DEFAULT_MEMORY_BYTES: Final = 2 << 20
_BUSY_SECONDS: Final = 30.0


class CacheFile:
    """One file, open; may be shared by threads, and by processes.

    Every method raises :class:`PoolFullError`, :class:`PoolWriteError`, :class:`IndexBusyError` or
    :class:`IndexDamagedError` when the file cannot be used.

    Args:
        path: the file.
        schema: number of its tables; a file with another number is emptied.
        tables: gives the statements that make them.
        memory_bytes: bound of the page cache.
    """

    def __init__(
        self, path: Path, *, schema: int, tables: Callable[[], str], memory_bytes: int = DEFAULT_MEMORY_BYTES
    ) -> None:
        self._path = path
        self._schema = schema
        self._tables = tables
        self._memory_bytes = memory_bytes
        self._lock = threading.RLock()
        self._db = self._open()

    @contextmanager
    def using(self, *, durably: bool = False) -> Iterator[sqlite3.Connection]:
        """Give the connection to one thread, for one transaction, which an error undoes.

        Args:
            durably: have the transaction on stable storage when it ends.
        """
        with self._lock:
            try:
                if durably:
                    self._db.execute("PRAGMA synchronous = FULL")
                try:
                    with self._db as db:
                        yield db
                finally:
                    if durably:
                        self._db.execute("PRAGMA synchronous = NORMAL")
            except sqlite3.Error as error:
                raise _translated(error, self._path) from error

    def empty(self) -> None:
        """Throw everything away."""
        with self._lock:
            self._db.close()
            self._drop_files()
            self._db = self._open()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _open(self) -> sqlite3.Connection:
        """Open the file; one that holds no such cache, or a damaged one, is replaced by an empty one."""
        try:
            return self._connect()
        except sqlite3.Error as error:
            # only then: what is merely busy belongs to another process
            if not _is_damage(error):
                raise _translated(error, self._path) from error
        self._drop_files()
        try:
            return self._connect()
        except sqlite3.Error as error:
            raise _translated(error, self._path) from error

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, check_same_thread=False, timeout=_BUSY_SECONDS)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            # not OFF: after a power cut a file of old and new pages mixed could give wrong answers
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute(f"PRAGMA cache_size = -{self._memory_bytes >> 10:d}")
            (version,) = db.execute("PRAGMA user_version").fetchone()
            (tables,) = db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
            if version != self._schema:
                if tables:
                    raise _OtherSchemaError("it has another schema")
                db.executescript(f"BEGIN EXCLUSIVE; {self._tables()} PRAGMA user_version = {self._schema:d}; COMMIT;")
        except sqlite3.Error:
            db.close()
            raise
        return db

    def _drop_files(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)


class _OtherSchemaError(sqlite3.DatabaseError):
    """The file was made by another release."""


def _is_damage(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return isinstance(error, _OtherSchemaError) or code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _translated(error: sqlite3.Error, path: Path) -> StrongroomError:
    """Turn what SQLite says into the pool's words."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if _is_damage(error):
        return IndexDamagedError(f"the index '{path}' is damaged: {error}")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return IndexBusyError(f"the index '{path}' is in use: {error}")
    if code == sqlite3.SQLITE_FULL:
        return PoolFullError(f"no room for the index '{path}'")
    return PoolWriteError(f"the index '{path}' cannot be used: {error}")
