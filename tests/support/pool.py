"""A pool to test with: real folder, real index, keys made from a counter."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from strongroom.core.clock import ManualClock
from strongroom.core.ids import DataKeyId, DomainId, MediumId
from strongroom.core.secret import Secret
from strongroom.formats.segment import SegmentNamer
from strongroom.pool.folder import Folder
from strongroom.pool.index import Index, RefreshReport, open_index
from strongroom.pool.keys import FrameKey
from strongroom.pool.manifest import ManifestBuilder, StreamRoot, read_manifest
from strongroom.pool.reader import FrameReader, PageReader
from strongroom.pool.references import Named, Reference
from strongroom.pool.salvage import salvage
from strongroom.pool.series import PageSink
from strongroom.pool.store import Store
from strongroom.pool.writer import WriterLimits, WriteSession

MEDIUM = MediumId(b"medium".ljust(16, b"."))
DOMAIN = DomainId(b"domain".ljust(32, b"."))
OTHER_DOMAIN = DomainId(b"other domain".ljust(32, b"."))


class CountedEntropy:
    """Repeatable bytes; ``seed`` tells two processes apart."""

    def __init__(self, seed: str = "") -> None:
        self._seed = seed
        self._count = 0

    def bytes(self, count: int) -> bytes:
        self._count += 1
        return hashlib.shake_256(f"{self._seed}/{self._count}".encode()).digest(count)


@dataclass
class Keys:
    """A source of data keys that remembers what it gave."""

    entropy: CountedEntropy
    given: dict[DataKeyId, Secret] = field(default_factory=dict)
    unusable: set[DataKeyId] = field(default_factory=set)

    def next_key(self) -> FrameKey:
        data_key = DataKeyId(self.entropy.bytes(16))
        self.given[data_key] = Secret(self.entropy.bytes(32))
        return FrameKey(data_key, self.given[data_key])

    def usable(self, keys: Collection[DataKeyId]) -> set[DataKeyId]:
        return {key for key in keys if key in self.given and key not in self.unusable}

    def covered(self, keys: Collection[DataKeyId]) -> set[DataKeyId]:
        return {key for key in keys if key in self.given}


@dataclass
class Pool:
    """Everything a test needs of one pool."""

    folder: Folder
    index: Index
    report: RefreshReport
    entropy: CountedEntropy
    keys: Keys
    clock: ManualClock = field(default_factory=ManualClock)
    store: Store = field(init=False)

    def __post_init__(self) -> None:
        self.store = self.folder

    @classmethod
    def create(cls, path: Path, seed: str = "") -> Pool:
        entropy = CountedEntropy(seed)
        folder = Folder.create(path, b"medium header", entropy)
        return cls._with(folder, entropy, Keys(entropy))

    @classmethod
    def open(cls, path: Path, seed: str = "again", keys: Keys | None = None) -> Pool:
        entropy = CountedEntropy(seed)
        folder = Folder.open(path, entropy)
        salvage(folder, medium=MEDIUM, own=DOMAIN)
        return cls._with(folder, entropy, keys or Keys(entropy))

    @classmethod
    def _with(cls, folder: Folder, entropy: CountedEntropy, keys: Keys) -> Pool:
        index, report = open_index(folder.index_path, folder, entropy, medium=MEDIUM)
        return cls(folder, index, report, entropy, keys)

    def session(self, *, is_encrypted: bool = True, limits: WriterLimits | None = None) -> WriteSession:
        return WriteSession(
            self.store,
            self.index,
            medium=MEDIUM,
            origin=DOMAIN,
            namer=SegmentNamer(Secret(b"n" * 32)),
            keys=self.keys if is_encrypted else None,
            usable=self.keys.usable,
            clock=self.clock,
            entropy=self.entropy,
            limits=limits,
        )

    def page_sink(self) -> PageSink:
        return PageSink(self.store, self.index, medium=MEDIUM, origin=DOMAIN, clock=self.clock, entropy=self.entropy)

    def write(self, segments: Iterable[bytes], limits: WriterLimits | None = None) -> list[Reference]:
        """Write one stream durably."""
        with self.session(limits=limits) as session:
            writer = session.writer()
            references = [reference for segment in segments for reference in writer.add(named(session, [segment]))]
            references += writer.finish()
            session.finish()
        return references

    def write_manifest(self, references: Iterable[Reference]) -> StreamRoot:
        sink = self.page_sink()
        builder = ManifestBuilder(sink.put, merge_repeats=False)
        builder.add(references)
        root = builder.finish()
        sink.finish()
        return root

    @contextmanager
    def reader(self) -> Iterator[FrameReader]:
        with FrameReader(self.store, self.index, origin=DOMAIN, key_for=self.keys.given.get) as reader:
            yield reader

    def references(self, root: StreamRoot) -> Iterator[Reference]:
        return read_manifest(root, self.pages().page, is_encrypted=True)

    def pages(self) -> PageReader:
        return PageReader(self.store, self.index, origin=DOMAIN)


def named(session: WriteSession, segments: Sequence[bytes]) -> list[Named]:
    """Name segments as a stream's chunker does."""
    return list(map(Named, session.name(segments), segments))
