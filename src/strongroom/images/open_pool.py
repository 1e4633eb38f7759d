"""A pool as a media server has it open: storage, index, envelopes, journal, and whose it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from strongroom.core.clock import Clock
from strongroom.core.entropy import Entropy
from strongroom.core.ids import DomainId, MediumId
from strongroom.formats import signed
from strongroom.formats.media_header import MEDIA_HEADER, MediaHeader
from strongroom.images.envelopes import Envelopes
from strongroom.images.fragments import Fragments
from strongroom.pool import names
from strongroom.pool.checks import Checks
from strongroom.pool.folder import Folder
from strongroom.pool.index import Index, RefreshReport, open_index
from strongroom.pool.journal import Journal
from strongroom.pool.locks import Locks
from strongroom.pool.reader import PageReader
from strongroom.pool.salvage import Salvaged, salvage
from strongroom.pool.store import PoolStore


@dataclass(frozen=True)
class OpenPool:
    """One pool, open.

    Attributes:
        store: its storage.
        header: its media header.
        index: where frames and pages lie.
        envelopes: its key envelopes.
        fragments: the copies that are complete in it.
        journal: its journal.
        locks: its retention locks.
        checks: when its objects were last checked.
        clock: for what is written.
        entropy: for what is written.
        refreshed: what the index found new, gone or damaged when it was opened.
        salvaged: containers that were sealed for a receiver that died.
        refused: envelope files that were refused when they were entered, in sentences.
    """

    store: PoolStore
    header: MediaHeader
    index: Index
    envelopes: Envelopes
    fragments: Fragments
    journal: Journal
    locks: Locks
    checks: Checks
    clock: Clock
    entropy: Entropy
    refreshed: RefreshReport
    salvaged: list[Salvaged]
    refused: list[str]

    @property
    def medium(self) -> MediumId:
        """Identity of the pool."""
        return MediumId(self.header.medium)

    @property
    def domain(self) -> DomainId:
        """The domain that owns the pool."""
        return DomainId(self.header.domain)

    @classmethod
    def create(cls, path: Path, header: bytes, clock: Clock, entropy: Entropy) -> Self:
        """Make a pool folder with a signed media header, and open it.

        Raises:
            PoolExistsError: there is something else at the path.
            PoolFullError, PoolWriteError: the file system refused.
        """
        Folder.create(path, header, entropy)
        return cls.open(path, clock, entropy)

    @classmethod
    def open(cls, path: Path, clock: Clock, entropy: Entropy) -> Self:
        """Open a pool folder, and bring its caches up to date.

        Raises:
            NotAPoolError: there is no pool.
            DamagedError, SignatureError: the media header is not valid.
        """
        return cls.over(Folder.open(path, entropy), clock, entropy)

    @classmethod
    def over(cls, store: PoolStore, clock: Clock, entropy: Entropy) -> Self:
        """Take a pool's storage, and bring its caches up to date.

        Raises:
            DamagedError, SignatureError: the media header is not valid.
            PoolReadError, PoolWriteError: the storage refused.
        """
        raw = store.read(names.MEDIUM, 0, MEDIA_HEADER.max_bytes + 1)
        header = signed.verify(MEDIA_HEADER, raw).payload
        domain, medium = DomainId(header.domain), MediumId(header.medium)
        locks = Locks(store, store.index_path, medium, clock, entropy)
        salvaged = salvage(store, medium=medium, own=domain)
        index, refreshed = open_index(store.index_path, store, entropy, medium=medium)
        envelopes = Envelopes(store, store.index_path, domain)
        refused = envelopes.refresh()
        fragments = Fragments(store, domain, medium, locks)
        journal, checks = Journal(store), Checks(store.index_path)
        return cls(
            store=store,
            header=header,
            index=index,
            envelopes=envelopes,
            fragments=fragments,
            journal=journal,
            locks=locks,
            checks=checks,
            clock=clock,
            entropy=entropy,
            refreshed=refreshed,
            salvaged=salvaged,
            refused=refused,
        )

    def pages(self, origin: DomainId) -> PageReader:
        """Read pages of one origin."""
        return PageReader(self.store, self.index, origin=origin)

    def close(self) -> None:
        """Close the caches, and let go of the storage."""
        self.index.close()
        self.envelopes.close()
        self.locks.close()
        self.checks.close()
        self.store.close()
