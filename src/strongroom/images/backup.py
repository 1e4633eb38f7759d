"""A backup on the media server: an image stream goes in, streams of segments come out, and two manifests.

The session is driven by one thread. Contents come before their record (``docs/reference/protocols/image-stream.md``),
so records wait until the segments of their contents are cut and named; a batch of some MiB at the most.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from strongroom.core.errors import IntegrityError
from strongroom.core.ids import DataKeyId, EnvelopeId, KeyTag, PageId
from strongroom.formats import entries, frame, image_stream, key_page
from strongroom.formats.entries import End, Entry, Extent, MoreAttributes
from strongroom.formats.image_stream import BlockReader, Cut, Entries, Hole, Problem, Same, StreamEnd
from strongroom.formats.segment import SegmentNamer
from strongroom.images.errors import BadStreamError, NotSameError
from strongroom.images.open_pool import OpenPool
from strongroom.images.stored_files import StoredFile
from strongroom.images.stored_image import Roots, StoredImage
from strongroom.pool.chunker import Chunker
from strongroom.pool.keys import DataKeySource, KeysUsable
from strongroom.pool.manifest import ManifestBuilder, StreamRoot
from strongroom.pool.references import Reference
from strongroom.pool.series import PageSink
from strongroom.pool.writer import SegmentWriter, WriteSession

_ENTRY_BATCH_BYTES: Final = 1 << 20
_MOST_PROBLEMS_KEPT: Final = 1_000


@dataclass(frozen=True)
class BackupResult:
    """What a backup stored; everything that it names is on stable storage.

    Attributes:
        roots: the two streams.
        key_pages: key pages, in order; none when the image is not encrypted.
        tags: key tags of the envelopes, ascending.
        files: number of records.
        content: bytes of contents, holes included.
        problems: how many files had one.
        read_bytes: contents that the client read and sent.
        same_bytes: contents that were taken from the previous image unread.
        added_bytes: stored bytes of the frames and pages that were new.
    """

    roots: Roots
    key_pages: list[PageId]
    tags: list[KeyTag]
    files: int
    content: int
    problems: int
    read_bytes: int
    same_bytes: int
    added_bytes: int


@dataclass
class _Pending:
    """A record whose contents end at a place of the payload that is not cut yet."""

    entry: Entry
    attributes: list[MoreAttributes] = field(default_factory=list)
    content: list[Extent] = field(default_factory=list)
    length: int = 0


class BackupSession:
    """Stores one image.

    Args:
        pool: where to.
        namer: names segments, under the naming key of group and pool.
        keys: gives data keys; ``None`` for an image that is not encrypted.
        usable: tells which data keys may be referred to.
        previous: the previous image of this client and these paths, if there is one whose keys are usable.
        on_problem: told of each problem that the client reports, up to a bound.
    """

    def __init__(
        self,
        pool: OpenPool,
        *,
        namer: SegmentNamer,
        keys: DataKeySource | None,
        usable: KeysUsable,
        previous: StoredImage | None = None,
        on_problem: Callable[[Problem], None] = lambda _: None,
    ) -> None:
        self._pool = pool
        self._encrypted = keys is not None
        self._on_problem = on_problem
        self._reader = BlockReader()
        self._session = WriteSession(
            pool.folder,
            pool.index,
            medium=pool.medium,
            origin=pool.domain,
            namer=namer,
            keys=keys,
            usable=usable,
            clock=pool.clock,
            entropy=pool.entropy,
        )
        self._pages = PageSink(
            pool.folder,
            pool.index,
            medium=pool.medium,
            origin=pool.domain,
            clock=pool.clock,
            entropy=pool.entropy,
        )
        self._payload = _Stream(self._session.writer(), ManifestBuilder(self._pages.put, merge_repeats=True))
        self._entries = _Stream(self._session.writer(), ManifestBuilder(self._pages.put, merge_repeats=False))
        self._previous = _Previous(previous) if previous is not None else None
        # contents that no record owns yet: extents of cut segments, and bytes still in the chunker
        self._cut: deque[Extent] = deque()
        self._cut_bytes = 0
        self._sent_bytes = 0
        self._owned_bytes = 0
        self._pending: deque[_Pending] = deque()
        self._entry_batch = bytearray()
        self._last_key: bytes | None = None
        self._last: _Pending | None = None
        self._files = self._content = self._problems = self._read = self._same = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next bytes of the image stream.

        Raises:
            BadStreamError, NotSameError, DamagedError: the client sent something else; abort.
            KeyUnavailableError, PoolFullError, PoolWriteError: abort.
        """
        for block in self._reader.feed(data):
            self._take(block)

    def finish(self) -> BackupResult:
        """End the image: everything is on stable storage when this returns, but for the fragment.

        Raises:
            DamagedError: the stream broke off.
            BadStreamError: it does not add up.
            KeyUnavailableError, PoolFullError, PoolWriteError: abort.
        """
        end = self._reader.finish()
        self._cut_here()
        if self._pending or self._cut:
            raise BadStreamError("the client sent contents that belong to no file")
        if (end.files, end.content) != (self._files, self._content):
            raise BadStreamError(
                f"the client says that it sent {end.files} files with {end.content} bytes,"
                f" and {self._files} with {self._content} came"
            )
        self._write_entry(entries.encode(End(self._files, self._content)))
        self._flush_entries()
        self._entries.end_run()
        roots = Roots(payload=self._payload.finish(), entries=self._entries.finish())
        self._session.finish()
        envelopes = self._envelopes()
        key_pages = [self._pages.put(page) for page in key_page.encode_all(envelopes)]
        self._pages.finish()
        return BackupResult(
            roots=roots,
            key_pages=key_pages,
            tags=self._pool.envelopes.tags(self._pool.domain, envelopes),
            files=self._files,
            content=self._content,
            problems=self._problems,
            read_bytes=self._read,
            same_bytes=self._same,
            added_bytes=self._session.stored_bytes + self._pages.stored_bytes,
        )

    def abort(self) -> None:
        """Drop what is not sealed; does nothing after :meth:`finish`."""
        self._session.abort()
        self._pages.abort()

    def _take(self, block: image_stream.Block) -> None:
        match block:
            case Entries(records=found):
                for record in found:
                    self._take_record(record)
                self._settle()
            case Same(records=same):
                for number, entry in same:
                    self._take_same(number, entry)
            case Cut():
                self._cut_here()
            case Problem():
                self._problems += 1
                if self._problems <= _MOST_PROBLEMS_KEPT:
                    self._on_problem(block)
            case StreamEnd():
                pass  # finish() looks at it
            case Hole(length=length):
                self._cut_here()
                self._cut.append((None, 0, length))
                self._cut_bytes += length
                self._sent_bytes += length
            case _:
                self._sent_bytes += len(block)
                self._read += len(block)
                self._add_cut(self._payload.feed(block))

    def _take_record(self, record: Entry | MoreAttributes) -> None:
        if isinstance(record, MoreAttributes):
            if self._last is None:
                raise BadStreamError("attributes came that belong to no file")
            self._last.attributes.append(record)
            return
        self._begin(record)
        if self._owned_bytes + record.size > self._sent_bytes:
            raise BadStreamError(f"the record of {entries.shown(record.path)} came before its contents")
        self._owned_bytes += record.size
        self._last = _Pending(record, length=record.size)
        self._pending.append(self._last)

    def _begin(self, entry: Entry) -> None:
        """Check what is true of every record from a client, and count it."""
        if entry.extents or entry.flags & entries.EXTENTS_FOLLOW:
            raise BadStreamError(f"the record of {entries.shown(entry.path)} has extents, which are not the client's")
        key = entries.walk_key(entry.path)
        if self._last_key is not None and key <= self._last_key:
            raise BadStreamError(f"{entries.shown(entry.path)} is out of the order of the walk")
        self._last_key = key
        self._files += 1
        self._content += entry.size

    def _take_same(self, number: int, entry: Entry) -> None:
        if self._previous is None:
            raise NotSameError("the client refers to a previous image, and there is none")
        self._cut_here()
        if self._pending or self._cut:
            raise BadStreamError("contents came that belong to no file")
        self._begin(entry)
        self._last = None
        stored = self._previous.find(number)
        before = stored.entry
        if (before.type, before.path, before.size) != (entry.type, entry.path, entry.size):
            raise NotSameError(f"{entries.shown(entry.path)} is not record {number} of the previous image")
        self._same += entry.size
        writer = _ExtentWriter(entry, self._write_entry)
        for reference, offset, length in stored.extents:
            if reference is not None:
                self._payload.refer(reference)
            writer.add((reference.name if reference is not None else None, offset, length))
        writer.finish()

    def _cut_here(self) -> None:
        """End the segment at hand, so that everything that came has a name."""
        self._last = None
        self._add_cut(self._payload.end_run())

    def _add_cut(self, segments: list[tuple[bytes, int]]) -> None:
        for name, length in segments:
            self._cut.append((name, 0, length))
            self._cut_bytes += length
        self._settle()

    def _settle(self) -> None:
        """Write the records whose contents are cut, in order."""
        while self._pending:
            first = self._pending[0]
            if first is self._last and first.entry.flags & entries.ATTRIBUTES_FOLLOW:
                return  # its attributes may come with the next block
            if not self._fill(first):
                return
            self._write_pending(self._pending.popleft())

    def _fill(self, pending: _Pending) -> bool:
        """Give a record the extents of its contents; tell whether it has all."""
        while pending.length:
            if not self._cut:
                return False
            name, offset, length = self._cut.popleft()
            taken = min(length, pending.length)
            pending.content.append((name, offset, taken))
            pending.length -= taken
            if taken < length:
                self._cut.appendleft((name, 0 if name is None else offset + taken, length - taken))
        return True

    def _write_pending(self, pending: _Pending) -> None:
        writer = _ExtentWriter(pending.entry, self._write_entry, pending.attributes)
        for extent in pending.content:
            writer.add(extent)
        writer.finish()

    def _write_entry(self, record: bytes) -> None:
        self._entry_batch += record
        if len(self._entry_batch) >= _ENTRY_BATCH_BYTES:
            self._flush_entries()

    def _flush_entries(self) -> None:
        self._entries.feed(bytes(self._entry_batch))
        self._entry_batch.clear()

    def _envelopes(self) -> list[EnvelopeId]:
        """Tell the envelopes of all data keys that both manifests name, ascending."""
        if not self._encrypted:
            return []
        keys = self._payload.keys | self._entries.keys
        holders = self._pool.envelopes.holding(keys, self._pool.domain)
        if len(holders) != len(keys):
            raise IntegrityError("a data key of the image lies in no envelope of the pool")
        return sorted(set(holders.values()))


class _Stream:
    """One stream of the image: chunker, segment writer and manifest."""

    def __init__(self, writer: SegmentWriter, manifest: ManifestBuilder) -> None:
        self._chunker = Chunker()
        self._writer = writer
        self._manifest = manifest
        self.keys: set[DataKeyId] = set()

    def feed(self, data: bytes | memoryview) -> list[tuple[bytes, int]]:
        """Take bytes; give name and length of the segments that were cut."""
        return self._add(self._chunker.feed(data))

    def end_run(self) -> list[tuple[bytes, int]]:
        """Cut here; give name and length of the segments that were left."""
        return self._add(self._chunker.end_run())

    def refer(self, reference: Reference) -> None:
        """Put a segment that is stored already at this place of the stream."""
        self._note(self._writer.refer(reference))

    def finish(self) -> StreamRoot:
        """End the stream and its manifest."""
        self._note(self._writer.finish())
        return self._manifest.finish()

    def _add(self, segments: list[memoryview]) -> list[tuple[bytes, int]]:
        if not segments:
            return []
        names, certain = self._writer.add(segments)
        self._note(certain)
        return [(name, len(segment)) for name, segment in zip(names, segments, strict=True)]

    def _note(self, certain: list[Reference]) -> None:
        self.keys.update(reference.data_key_id for reference in certain if reference.data_key_id != frame.NO_KEY)
        self._manifest.add(certain)


class _ExtentWriter:
    """Writes one record with its extents, in records of type 64 when they are many."""

    def __init__(
        self, entry: Entry, write: Callable[[bytes], None], attributes: list[MoreAttributes] | None = None
    ) -> None:
        self._entry = entry
        self._write = write
        self._attributes = attributes or []
        self._extents: list[Extent] = []
        self._announced = False

    def add(self, extent: Extent) -> None:
        """Take the next extent; neighbours in one segment become one."""
        if self._extents:
            name, offset, length = self._extents[-1]
            joined = offset + length if name is not None else 0
            if name == extent[0] and joined == extent[1]:
                self._extents[-1] = (name, offset, length + extent[2])
                return
        if len(self._extents) == entries.MAX_EXTENTS:
            self._flush(more=True)
        self._extents.append(extent)

    def finish(self) -> None:
        """Write what is left."""
        self._flush(more=False)

    def _flush(self, *, more: bool) -> None:
        if self._announced:
            self._write(entries.encode(entries.MoreExtents(self._extents)))
        else:
            self._entry.extents = self._extents
            if more:
                self._entry.flags |= entries.EXTENTS_FOLLOW
            self._write(entries.encode(self._entry))
            for record in self._attributes:
                self._write(entries.encode(record))
            self._announced = True
        self._extents = []


class _Previous:
    """The files of the previous image, found by rising number."""

    def __init__(self, image: StoredImage) -> None:
        self._files: Iterator[StoredFile] = image.files()

    def find(self, number: int) -> StoredFile:
        """Give a file of the previous image.

        Raises:
            NotSameError: there is none of this number, or one behind it was asked for before.
        """
        for file in self._files:
            if file.number == number:
                return file
            if file.number > number:
                break
        raise NotSameError(f"the previous image has no record {number} behind the one that was named last")
