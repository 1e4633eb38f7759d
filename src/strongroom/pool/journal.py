"""The pool's journal: numbered batches of state records, each in an object of its own.

Source: ``docs/reference/formats/journal.md``. Batches come signed, and are handed out as they lie there:
whether their signatures and their chain hold is judged by whoever reads them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from strongroom.formats.algorithms import digest
from strongroom.formats.errors import DamagedError
from strongroom.formats.journal import BATCH, NO_BATCH
from strongroom.pool import names
from strongroom.pool.store import Store


class JournalHead(NamedTuple):
    """Where the journal ends: number and digest of the last batch; 0 and zeros when it is empty."""

    sequence: int
    digest: bytes


class Journal:
    """Appends and reads batches.

    Args:
        store: the pool's storage.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._last: int | None = None

    def last(self) -> int:
        """Tell the number of the last batch, 0 without one: what was here at first, and what was appended since.

        Asked with every beat, so it lists once.
        """
        if self._last is None:
            self._last = max(self.sequences(), default=0)
        return self._last

    def head(self) -> JournalHead:
        """Tell what the next batch follows.

        Raises:
            DamagedError: the last batch is longer than a batch can be.
        """
        sequence = max(self.sequences(), default=0)
        if sequence == 0:
            return JournalHead(0, NO_BATCH)
        return JournalHead(sequence, digest(self.read(sequence)))

    def sequences(self, after: int = 0) -> Iterator[int]:
        """Give the numbers of the batches behind one, rising; a gap shows that one is lost."""
        for stored in self._store.list(names.JOURNAL, names.journal_key(after)):
            sequence = names.journal_sequence_of(stored.key)
            if sequence is not None:
                yield sequence

    def append(self, sequence: int, batch: bytes) -> None:
        """Store a signed batch; durable when this returns. The same batch again changes nothing.

        Args:
            sequence: its number, that of :meth:`head` and one more.
            batch: the whole signed object.

        Raises:
            ObjectExistsError: another batch has this number: another writer was faster. Read :meth:`head`,
                sign anew.
            PoolFullError, PoolWriteError: the storage refused.
        """
        if sequence < 1 or len(batch) > BATCH.max_bytes:
            raise ValueError("a batch is numbered from 1 and bounded")
        self._store.put(names.journal_key(sequence), batch)
        if self._last is not None:
            self._last = max(self._last, sequence)

    def read(self, sequence: int) -> bytes:
        """Read a batch.

        Raises:
            ObjectMissingError: it is not here.
            DamagedError: it is longer than a batch can be.
        """
        batch = self._store.read(names.journal_key(sequence), 0, BATCH.max_bytes + 1)
        if len(batch) > BATCH.max_bytes:
            raise DamagedError(f"journal batch {sequence} is longer than a batch can be")
        return batch
