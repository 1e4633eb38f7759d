"""Everything that a pool's index knows, without its own numbers: the same for one that was kept and one made anew."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from strongroom.pool.index import FILE_NAME
from strongroom.pool.runs import Run

_ENTRY = struct.Struct("<16sQ")


def facts(folder: Path) -> list[tuple[object, ...]]:
    """Read the files of an index in their folder."""
    with closing(sqlite3.connect(folder / FILE_NAME)) as db:
        found = {
            number: row
            for number, *row in db.execute(
                "SELECT i.num, c.id, c.origin, c.content, c.size_bytes, c.created_ns, c.digest, c.mark, c.condemned,"
                " i.id, i.offset, i.length, i.plain_bytes, i.data_key FROM item i"
                " LEFT JOIN container c ON c.num = i.num >> 16"
            )
        }
        entries = [
            (*found[place >> 16], name, place & 0xFFFF) for name, place in _entries(folder, db) if place >> 16 in found
        ]
        counted = sum(row[0] for row in db.execute("SELECT entries FROM container"))
    assert len(entries) == counted
    return sorted(entries, key=repr)


def _entries(folder: Path, db: sqlite3.Connection) -> Iterator[tuple[bytes, int]]:
    for (packed,) in db.execute("SELECT entries FROM recent"):
        yield from _ENTRY.iter_unpack(packed)
    (generation,) = db.execute("SELECT generation FROM about").fetchone()
    for number, count in db.execute("SELECT number, entries FROM run"):
        with closing(Run(folder / f"{generation}-{number}.run")) as run:
            assert run.entries == count
            for chunk in run.chunks():
                yield from _ENTRY.iter_unpack(chunk.tobytes())
