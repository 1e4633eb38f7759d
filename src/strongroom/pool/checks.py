"""When each object of a pool was last read and checked, and what was wrong with it then.

A cache beside the index: what is lost of it is only checked again.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from strongroom.pool import names
from strongroom.pool.cache_file import CacheFile
from strongroom.pool.errors import IndexDamagedError

FILE_NAME: Final = "checks.sqlite"
_SCHEMA: Final = 1
_MOST_TEXT: Final = 500
_TABLES: Final = """
CREATE TABLE checked (key TEXT PRIMARY KEY, at_ns INTEGER NOT NULL, problem TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX checked_damaged ON checked (key) WHERE problem != '';
CREATE INDEX checked_at ON checked (at_ns);
"""


class Damaged(NamedTuple):
    """An object that did not hold when it was last checked: its key, when that was (ns), and what was wrong."""

    key: str
    at_ns: int
    problem: str


class CheckState(NamedTuple):
    """What is known of a pool's checks.

    Attributes:
        containers: how many containers were checked.
        oldest_ns: when the check of any object that is longest ago was; ``None`` without one.
        damaged: how many objects were damaged at their last check.
    """

    containers: int
    oldest_ns: int | None
    damaged: int


class Checks:
    """The checks of one pool; may be shared by threads.

    Args:
        folder: where the file lies.
    """

    def __init__(self, folder: Path) -> None:
        self._file = CacheFile(folder / FILE_NAME, schema=_SCHEMA, tables=lambda: _TABLES)
        try:
            self.state()
        except IndexDamagedError:
            self._file.empty()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def at(self, key: str) -> int | None:
        """Tell when an object was last checked, in ns since 1970; ``None`` if it was not."""
        with self._file.using() as db:
            row = db.execute("SELECT at_ns FROM checked WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def note(self, key: str, at_ns: int, problem: str) -> None:
        """Keep the outcome of a check; ``problem`` is empty when the object is whole."""
        with self._file.using() as db:
            db.execute("INSERT OR REPLACE INTO checked VALUES (?, ?, ?)", (key, at_ns, problem[:_MOST_TEXT]))

    def forget(self, keys: Iterable[str]) -> None:
        """Drop what is known of objects that are gone, or are other ones now."""
        with self._file.using() as db:
            db.executemany("DELETE FROM checked WHERE key = ?", [(key,) for key in keys])

    def forget_before(self, at_ns: int) -> None:
        """Drop what was not checked since a time: after a pass over all objects, what is gone."""
        with self._file.using() as db:
            db.execute("DELETE FROM checked WHERE at_ns < ?", (at_ns,))

    def damaged(self) -> list[Damaged]:
        """Give the objects that were damaged at their last check."""
        with self._file.using() as db:
            rows = db.execute("SELECT key, at_ns, problem FROM checked WHERE problem != '' ORDER BY key").fetchall()
        return [Damaged(*row) for row in rows]

    def state(self) -> CheckState:
        """Tell how the checks stand."""
        with self._file.using() as db:
            (oldest,) = db.execute("SELECT MIN(at_ns) FROM checked").fetchone()
            (damaged,) = db.execute("SELECT COUNT(*) FROM checked WHERE problem != ''").fetchone()
            (containers,) = db.execute(
                "SELECT COUNT(*) FROM checked WHERE key >= ? AND key < ?",
                (names.CONTAINERS, names.CONTAINERS[:-1] + "0"),  # the character behind the slash
            ).fetchone()
        return CheckState(containers, oldest, damaged)
