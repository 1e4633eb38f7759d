"""Which key envelopes lie in a pool, and which data keys they hold: a cache over the envelope files.

Every envelope is checked (signature, agreement of its generations) before it is entered. The cache lies beside the
pool's index and is made again from the files when it is missing or damaged.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

from strongroom.core.errors import IntegrityError
from strongroom.core.ids import DataKeyId, DomainId, EnvelopeId, KeyGroupId, KeyTag, MediumId
from strongroom.formats import key_envelope, signed
from strongroom.formats.errors import DamagedError, ForeignError
from strongroom.formats.key_envelope import KeyEnvelope, Purpose
from strongroom.pool import names
from strongroom.pool.cache_file import CacheFile
from strongroom.pool.errors import IndexDamagedError, ObjectMissingError, PoolReadError
from strongroom.pool.store import Store

FILE_NAME: Final = "envelopes.sqlite"
_SCHEMA: Final = 2
_BATCH: Final = 500
_TABLES: Final = """
CREATE TABLE generation (
    key TEXT PRIMARY KEY, envelope BLOB NOT NULL, origin BLOB NOT NULL, domain BLOB NOT NULL,
    number INTEGER NOT NULL, tag BLOB NOT NULL, grp BLOB NOT NULL, created INTEGER NOT NULL
);
CREATE INDEX generation_by_envelope ON generation (envelope, origin);
CREATE TABLE data_key (
    id BLOB NOT NULL, envelope BLOB NOT NULL, origin BLOB NOT NULL, purpose INTEGER NOT NULL, medium BLOB NOT NULL,
    commitment BLOB NOT NULL, PRIMARY KEY (id, envelope, origin)
) WITHOUT ROWID;
CREATE INDEX data_key_by_envelope ON data_key (envelope, origin);
CREATE TABLE condemned (envelope BLOB NOT NULL, origin BLOB NOT NULL, epoch INTEGER NOT NULL,
    PRIMARY KEY (envelope, origin)) WITHOUT ROWID;
"""


class HeldEnvelope(NamedTuple):
    """An envelope in the pool: when its newest generation was made (ns), and the epoch in which it was condemned."""

    envelope: EnvelopeId
    origin: DomainId
    created_ns: int
    condemned: int | None


class Envelopes:
    """The key envelopes of one pool; may be shared by threads.

    Args:
        store: the pool's storage.
        folder: where the cache lies.
        domain: the domain that owns the pool. Envelopes count that it or their origin signed.
    """

    def __init__(self, store: Store, folder: Path, domain: DomainId) -> None:
        self._store = store
        self._domain = domain
        self._file = CacheFile(folder / FILE_NAME, schema=_SCHEMA, tables=lambda: _TABLES)

    def close(self) -> None:
        """Close the cache."""
        self._file.close()

    def refresh(self) -> list[str]:
        """Enter envelopes that came from elsewhere.

        Returns:
            What was refused, in sentences: files that are not the envelopes that their names say.
        """
        try:
            return self._refresh()
        except IndexDamagedError:
            self._file.empty()
            return self._refresh()

    def _refresh(self) -> list[str]:
        refused = []
        with self._file.using() as db:
            # in this order: another process may put an envelope in between
            known = {row[0] for row in db.execute("SELECT key FROM generation")}
            found = {item.key for item in self._store.list(names.ENVELOPES)}
            # what others signed first: of generations that disagree, the lowest one of the origin holds
            own = f"-{self._domain.hex()}-"
            for key in sorted(found - known, key=lambda key: (own in key, key)):
                try:
                    payload = self._check(db, self._read(key))
                    said = _key_of(payload)
                    if said != key:
                        raise DamagedError(f"the envelope says that its name is '{said}'")
                except ObjectMissingError:
                    continue  # removed since it was listed
                except (IntegrityError, PoolReadError) as error:
                    refused.append(f"'{key}': {error.message}")
                    continue
                _enter(db, payload)
            for key in known - found:
                if self._is_gone(key):  # a listing may be late
                    db.execute("DELETE FROM generation WHERE key = ?", (key,))
            db.execute("DELETE FROM data_key WHERE (envelope, origin) NOT IN (SELECT envelope, origin FROM generation)")
        return refused

    def put(self, data: bytes) -> KeyEnvelope:
        """Check an envelope, make it durable and enter it; one that is here already changes nothing.

        Raises:
            DamagedError, SignatureError, NewerFormatError: it is not an envelope, or disagrees with one that is here.
            ForeignError: neither its origin nor the pool's domain signed it.
            PoolFullError, PoolWriteError: the storage refused.
        """
        with self._file.using() as db:
            payload = self._check(db, data)
            self._store.put(_key_of(payload), data)
            _enter(db, payload)
            self._reprieve(db, EnvelopeId(payload.envelope), DomainId(payload.origin))
            return payload

    def lacking(self, origin: DomainId, envelopes: Collection[EnvelopeId]) -> list[EnvelopeId]:
        """Tell which of these must come before an image counts on them, in the order given.

        Those have no generation here that the origin itself signed, or are condemned.
        """
        return self._without(origin, envelopes, "(envelope, origin) NOT IN (SELECT envelope, origin FROM condemned)")

    def absent(self, origin: DomainId, envelopes: Collection[EnvelopeId]) -> list[EnvelopeId]:
        """Tell which of these have no generation here that the origin itself signed, in the order given."""
        return self._without(origin, envelopes, "TRUE")

    def holding(self, keys: Collection[DataKeyId], origin: DomainId) -> dict[DataKeyId, EnvelopeId]:
        """Tell which envelope of an origin holds each of these data keys; those that none holds are left out."""
        return {
            DataKeyId(row[0]): EnvelopeId(row[1])
            for batch in _batched(keys)
            for row in self._select("id, envelope", "data_key", "id", batch, "origin = ?", origin)
        }

    def group_of(self, key: DataKeyId, origin: DomainId) -> KeyGroupId | None:
        """Tell the key group of an origin's data key; ``None`` when no envelope here holds it."""
        with self._file.using() as db:
            row = db.execute(
                "SELECT grp FROM data_key JOIN generation USING (envelope, origin) WHERE id = ? AND origin = ? LIMIT 1",
                (key, origin),
            ).fetchone()
        return KeyGroupId(row[0]) if row else None

    def keys_of(self, envelope: EnvelopeId, origin: DomainId) -> list[str]:
        """Give the keys of the objects with the generations of an envelope that the origin signed."""
        with self._file.using() as db:
            rows = db.execute(
                "SELECT key FROM generation WHERE envelope = ? AND origin = ? AND domain = origin", (envelope, origin)
            ).fetchall()
        return [row[0] for row in rows]

    def all_keys_of(self, envelopes: Iterable[EnvelopeId], origin: DomainId) -> list[str]:
        """Give the keys of the objects with all generations of these envelopes."""
        return [
            str(row[0])
            for batch in _batched(envelopes)
            for row in self._select("key", "generation", "envelope", batch, "origin = ?", origin)
        ]

    def read(self, envelope: EnvelopeId, origin: DomainId) -> list[bytes]:
        """Give all generations of an envelope, the newest first."""
        with self._file.using() as db:
            rows = db.execute(
                "SELECT key FROM generation WHERE envelope = ? AND origin = ? ORDER BY created DESC, number DESC",
                (envelope, origin),
            ).fetchall()
        return [self._read(row[0]) for row in rows]

    def read_newest(self, envelope: EnvelopeId, origin: DomainId) -> bytes | None:
        """Give the newest generation that the origin signed, if there is one."""
        with self._file.using() as db:
            row = db.execute(
                "SELECT key FROM generation WHERE envelope = ? AND origin = ? AND domain = origin"
                " ORDER BY number DESC LIMIT 1",
                (envelope, origin),
            ).fetchone()
        return self._read(row[0]) if row else None

    def data_keys(self, origin: DomainId, group: KeyGroupId, envelopes: Iterable[EnvelopeId]) -> set[DataKeyId]:
        """Tell the data keys for frames in those of these envelopes that are of the group."""
        found: set[DataKeyId] = set()
        for batch in _batched(envelopes):
            marks = ",".join("?" * len(batch))
            with self._file.using() as db:
                rows = db.execute(
                    "SELECT DISTINCT data_key.id FROM data_key JOIN generation USING (envelope, origin)"  # noqa: S608 - marks only
                    f" WHERE envelope IN ({marks}) AND origin = ? AND grp = ? AND purpose = {Purpose.FRAMES:d}",
                    (*batch, origin, group),
                ).fetchall()
            found.update(DataKeyId(row[0]) for row in rows)
        return found

    def tags(self, origin: DomainId, envelopes: Iterable[EnvelopeId]) -> list[KeyTag]:
        """Tell the key tags of the newest generations that the origin signed, ascending."""
        newest: dict[bytes, tuple[int, bytes]] = {}
        for batch in _batched(envelopes):
            rows = self._select(
                "envelope, number, tag", "generation", "envelope", batch, "origin = ? AND domain = origin", origin
            )
            for envelope, number, tag in rows:
                newest[envelope] = max(newest.get(envelope, (0, b"")), (number, tag))
        return sorted({KeyTag(tag) for _, tag in newest.values()})

    def usable(
        self, keys: Collection[DataKeyId], *, origin: DomainId, group: KeyGroupId, tags: Collection[KeyTag]
    ) -> set[DataKeyId]:
        """Tell which data keys are of this group and have a wrap of the origin's under one of these key tags."""
        allowed = set(tags)
        found: set[DataKeyId] = set()
        for batch in _batched(keys):
            marks = ",".join("?" * len(batch))
            with self._file.using() as db:
                rows = db.execute(
                    "SELECT data_key.id, generation.tag FROM data_key JOIN generation USING (envelope, origin)"  # noqa: S608 - marks only
                    f" WHERE data_key.id IN ({marks}) AND origin = ? AND domain = origin AND grp = ?",
                    (*batch, origin, group),
                ).fetchall()
            found.update(DataKeyId(row[0]) for row in rows if row[1] in allowed)
        return found

    def naming(self, *, origin: DomainId, group: KeyGroupId, medium: MediumId) -> list[EnvelopeId]:
        """Tell the envelopes with a naming key of a group for this pool, the newest first."""
        with self._file.using() as db:
            rows = db.execute(
                "SELECT DISTINCT generation.envelope, MIN(generation.created) FROM generation JOIN data_key"
                " USING (envelope, origin) WHERE origin = ? AND grp = ? AND medium = ? AND purpose = ?"
                " GROUP BY generation.envelope ORDER BY 2 DESC",
                (origin, group, medium, Purpose.NAMES),
            ).fetchall()
        return [EnvelopeId(row[0]) for row in rows]

    def for_frames(self) -> list[HeldEnvelope]:
        """Give the envelopes with data keys for frames: those that go when no frame needs them."""
        with self._file.using() as db:
            rows = db.execute(
                "SELECT envelope, origin, MAX(created), (SELECT epoch FROM condemned"  # noqa: S608 - a number of ours
                " WHERE condemned.envelope = generation.envelope AND condemned.origin = generation.origin)"
                " FROM generation GROUP BY envelope, origin HAVING NOT EXISTS (SELECT 1 FROM data_key"
                " WHERE data_key.envelope = generation.envelope AND data_key.origin = generation.origin"
                f" AND purpose != {Purpose.FRAMES:d}) ORDER BY envelope, origin"
            ).fetchall()
        return [HeldEnvelope(EnvelopeId(row[0]), DomainId(row[1]), row[2], row[3]) for row in rows]

    def data_keys_in(self, held: HeldEnvelope) -> set[DataKeyId]:
        """Tell the data keys in an envelope."""
        with self._file.using() as db:
            rows = db.execute(
                "SELECT id FROM data_key WHERE envelope = ? AND origin = ?", (held.envelope, held.origin)
            ).fetchall()
        return {DataKeyId(row[0]) for row in rows}

    def condemn(self, held: HeldEnvelope, epoch: int) -> None:
        """Let no image that comes count on an envelope; as :meth:`strongroom.pool.index.Index.condemn`."""
        with self._file.using() as db:
            db.execute("INSERT OR IGNORE INTO condemned VALUES (?, ?, ?)", (held.envelope, held.origin, epoch))

    def reprieve(self, held: HeldEnvelope) -> None:
        """Let an envelope count again that was condemned."""
        with self._file.using() as db:
            self._reprieve(db, held.envelope, held.origin)

    def remove(self, held: HeldEnvelope, *, lift: bool = False) -> int:
        """Remove all generations of an envelope that is still condemned, the newest first.

        Args:
            held: the envelope.
            lift: also when a governance lock keeps it.

        Returns:
            Bytes that are free now; 0 when it is not condemned any more.

        Raises:
            LockedError: a retention lock keeps it.
            PoolWriteError: the storage refused.
        """
        which = (held.envelope, held.origin)
        freed = 0
        with self._file.using() as db:  # one at a time with put(), which reprieves
            if db.execute("SELECT 1 FROM condemned WHERE envelope = ? AND origin = ?", which).fetchone() is None:
                return 0
            rows = db.execute(
                "SELECT key FROM generation WHERE envelope = ? AND origin = ? ORDER BY number DESC, domain", which
            ).fetchall()
            for (key,) in rows:
                try:
                    freed += self._store.size(key)
                except ObjectMissingError:
                    continue  # removed, and the machine stopped before that was noted here
                self._store.remove(key, lift=lift)
            for table in ("generation", "data_key", "condemned"):
                db.execute(f"DELETE FROM {table} WHERE envelope = ? AND origin = ?", which)  # noqa: S608 - names of ours
        return freed

    def _without(self, origin: DomainId, envelopes: Collection[EnvelopeId], where: str) -> list[EnvelopeId]:
        where = f"origin = ? AND domain = origin AND {where}"
        here = {
            row[0]
            for batch in _batched(envelopes)
            for row in self._select("envelope", "generation", "envelope", batch, where, origin)
        }
        return [envelope for envelope in envelopes if envelope not in here]

    def _reprieve(self, db: sqlite3.Connection, envelope: EnvelopeId, origin: DomainId) -> None:
        db.execute("DELETE FROM condemned WHERE envelope = ? AND origin = ?", (envelope, origin))

    def _read(self, key: str) -> bytes:
        return self._store.read(key, 0, key_envelope.KEY_ENVELOPE.max_bytes + 1)

    def _is_gone(self, key: str) -> bool:
        try:
            self._store.size(key)
        except ObjectMissingError:
            return True
        return False

    def _check(self, db: sqlite3.Connection, data: bytes) -> KeyEnvelope:
        payload = signed.verify(key_envelope.KEY_ENVELOPE, data).payload
        if payload.domain not in (payload.origin, self._domain):
            raise ForeignError(
                f"the key envelope '{payload.envelope.hex()}' was signed by '{payload.domain.hex()}', which is neither"
                " its origin nor the domain of the pool"
            )
        self._check_agreement(db, payload)
        return payload

    def _check_agreement(self, db: sqlite3.Connection, payload: KeyEnvelope) -> None:
        """All generations of an envelope hold the same keys, and a data key lies in one envelope of an origin."""
        rows = db.execute(
            "SELECT id, purpose, medium, commitment FROM data_key WHERE envelope = ? AND origin = ? ORDER BY id",
            (payload.envelope, payload.origin),
        ).fetchall()
        mine = [(item.key, item.purpose, item.medium, item.commitment) for item in payload.keys]
        groups = db.execute(
            "SELECT DISTINCT grp FROM generation WHERE envelope = ? AND origin = ?", (payload.envelope, payload.origin)
        ).fetchall()
        if (rows and rows != mine) or (groups and groups != [(payload.group,)]):
            raise DamagedError(
                f"a generation of the envelope '{payload.envelope.hex()}' holds other data keys, or is of another group"
            )
        holders = self.holding([DataKeyId(item.key) for item in payload.keys], DomainId(payload.origin))
        if any(holder != payload.envelope for holder in holders.values()):
            raise DamagedError(f"the envelope '{payload.envelope.hex()}' claims a data key of another envelope")

    def _select(
        self, columns: str, table: str, column: str, batch: list[bytes], where: str, origin: DomainId
    ) -> list[tuple[Any, ...]]:
        marks = ",".join("?" * len(batch))
        statement = f"SELECT {columns} FROM {table} WHERE {column} IN ({marks}) AND {where}"  # noqa: S608 - names of ours
        with self._file.using() as db:
            return db.execute(statement, (*batch, origin)).fetchall()


def _enter(db: sqlite3.Connection, payload: KeyEnvelope) -> None:
    db.execute(
        "INSERT OR IGNORE INTO generation VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            _key_of(payload),
            payload.envelope,
            payload.origin,
            payload.domain,
            payload.generation,
            payload.tag,
            payload.group,
            payload.created,
        ),
    )
    db.executemany(
        "INSERT OR IGNORE INTO data_key VALUES (?, ?, ?, ?, ?, ?)",
        [
            (item.key, payload.envelope, payload.origin, item.purpose, item.medium, item.commitment)
            for item in payload.keys
        ],
    )


def _key_of(payload: KeyEnvelope) -> str:
    return names.envelope_key(EnvelopeId(payload.envelope), DomainId(payload.domain), payload.generation)


def _batched(items: Iterable[bytes]) -> Iterator[list[bytes]]:
    rest = iter(items)
    while batch := list(islice(rest, _BATCH)):
        yield batch
