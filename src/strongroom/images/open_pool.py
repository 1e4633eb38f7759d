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
from strongroom.pool import names
from strongroom.pool.folder import Folder
from strongroom.pool.index import Index
from strongroom.pool.journal import Journal
from strongroom.pool.reader import PageReader


@dataclass(frozen=True)
class OpenPool:
    """One pool folder, open."""

    folder: Folder
    header: MediaHeader
    index: Index
    envelopes: Envelopes
    journal: Journal
    clock: Clock
    entropy: Entropy

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
        folder = Folder.open(path, entropy)
        header = signed.verify(MEDIA_HEADER, folder.read(names.MEDIUM)).payload
        folder.clean()
        index = Index(folder.index_path, entropy)
        index.refresh(folder)
        envelopes = Envelopes(folder, folder.index_path)
        envelopes.refresh()
        return cls(folder, header, index, envelopes, Journal(folder), clock, entropy)

    def pages(self, origin: DomainId) -> PageReader:
        """Read pages of one origin."""
        return PageReader(self.folder, self.index, origin=origin)

    def close(self) -> None:
        """Close the caches."""
        self.index.close()
        self.envelopes.close()
