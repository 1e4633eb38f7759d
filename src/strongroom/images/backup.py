"""A backup on the media server: an image stream goes in, streams of segments come out, and two manifests.

The session is driven by one thread. Contents come before their record (``docs/reference/protocols/image-stream.md``),
so records wait until the segments of their contents are cut and named; a batch of some MiB at the most.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from strongroom.core.errors import IntegrityError
from strongroom.core.ids import EnvelopeId, KeyTag, PageId
from strongroom.formats import entries, image_stream
from strongroom.formats.algorithms import digest
from strongroom.formats.entries import End, Entry, MoreAttributes
from strongroom.formats.entry_stream import Sequence
from strongroom.formats.image_stream import (
    BlockReader,
    Cut,
    Entries,
    Hole,
    Holes,
    KnownFiles,
    Lost,
    Problem,
    Same,
    StreamEnd,
)
from strongroom.formats.segment import ENTRIES_CHUNKS, PAYLOAD_CHUNKS, SegmentNamer
from strongroom.images.errors import BadStreamError, NotSameError
from strongroom.images.extents import ExtentQueue, ExtentWriter
from strongroom.images.open_pool import OpenPool
from strongroom.images.previous import PreviousFiles
from strongroom.images.segment_stream import SegmentStream
from strongroom.images.stored_image import Roots, StoredImage
from strongroom.pool.expected import Expected
from strongroom.pool.key_pages import write_key_pages
from strongroom.pool.keys import DataKeySource, KeysUsable
from strongroom.pool.manifest import ManifestBuilder
from strongroom.pool.series import PageSink
from strongroom.pool.writer import WriterLimits, WriteSession

_ENTRY_BATCH_BYTES: Final = 1 << 20
_MOST_CONTENT: Final = (1 << 63) - 1
_MANY_PENDING: Final = 4_096
_MOST_PENDING: Final = 16_384


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


class BackupSession:
    """Stores one image. Leave it as a context manager: what is not finished is dropped.

    Args:
        pool: where to.
        namer: names segments, under the naming key of group and pool.
        keys: gives data keys; ``None`` for an image that is not encrypted.
        usable: tells which data keys may be referred to.
        previous: the previous image of this client and these paths, open for reading, if there is one.
        on_problem: told of each problem that the client reports.
        limits: sizes.
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
        limits: WriterLimits | None = None,
    ) -> None:
        self._pool = pool
        self._is_encrypted = keys is not None
        self._on_problem = on_problem
        self._reader = BlockReader()
        self._sequence = Sequence(with_extents=False)
        self._session = WriteSession(
            pool.store,
            pool.index,
            medium=pool.medium,
            origin=pool.domain,
            namer=namer,
            keys=keys,
            usable=usable,
            clock=pool.clock,
            entropy=pool.entropy,
            limits=limits,
        )
        self._pages = PageSink(
            pool.store,
            pool.index,
            medium=pool.medium,
            origin=pool.domain,
            clock=pool.clock,
            entropy=pool.entropy,
        )
        self._previous = self._expected = None
        if previous is not None:
            self._previous = PreviousFiles(previous, pool, usable if self._is_encrypted else None)
            self._expected = Expected(previous.payload_from, PAYLOAD_CHUNKS.minimum)
        self._payload = SegmentStream(
            PAYLOAD_CHUNKS, self._session, ManifestBuilder(self._pages.put, merge_repeats=True), self._expected
        )
        self._entries = SegmentStream(
            ENTRIES_CHUNKS, self._session, ManifestBuilder(self._pages.put, merge_repeats=False)
        )
        # contents that no record owns yet, as far as they are cut
        self._cut = ExtentQueue(pool.store.index_path)
        self._sent_bytes = 0
        self._owned_bytes = 0
        # records whose contents end at a place of the payload that is not cut yet
        self._pending: deque[ExtentWriter] = deque()
        self._last: ExtentWriter | None = None
        self._entry_batch = bytearray()
        self._problems = self._read = self._same = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    @property
    def progress(self) -> tuple[int, int]:
        """Files and bytes of contents so far."""
        return self._sequence.files, self._sequence.content

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next bytes of the image stream.

        Raises:
            BadStreamError, NotSameError, DamagedError, NewerFormatError: the client sent something else; abort.
            KeyUnavailableError, PoolFullError, PoolWriteError: abort.
        """
        for block in self._reader.feed(data):
            self._take(block)

    def finish(self) -> BackupResult:
        """End the image: everything is on stable storage when this returns, but for the fragment.

        Raises:
            DamagedError: the stream broke off, or its totals are not what came.
            BadStreamError: it does not add up.
            NotSameError: what an unchanged file refers to is no longer in the pool.
            KeyUnavailableError, PoolFullError, PoolWriteError: abort.
        """
        end = self._reader.finish()
        self._cut_here()
        if self._pending or self._cut:
            raise BadStreamError("the client sent contents that belong to no file")
        self._sequence.settle()
        self._sequence.check_totals(end.files, end.content)
        if end.problems != self._problems:
            raise BadStreamError(f"the client tells of {end.problems} problems, and {self._problems} came")
        self._write_entry(entries.encode(End(end.files, end.content)))
        self._flush_entries()
        self._entries.end_run()
        roots = Roots(payload=self._payload.finish(), entries=self._entries.finish())
        self._session.finish()
        if self._previous is not None:
            self._previous.check()
        envelopes = self._envelopes()
        key_pages = write_key_pages(envelopes, self._pages.put)
        self._pages.finish()
        return BackupResult(
            roots=roots,
            key_pages=key_pages,
            tags=self._pool.envelopes.tags(self._pool.domain, envelopes),
            files=end.files,
            content=end.content,
            problems=self._problems,
            read_bytes=self._read,
            same_bytes=self._same,
            added_bytes=self._session.stored_bytes + self._pages.stored_bytes,
        )

    def abort(self) -> None:
        """Drop what is not sealed; does nothing to what :meth:`finish` made durable."""
        with ExitStack() as each:  # one that the storage refuses does not keep the others open
            for drop in (self._cut.close, self._pages.abort, self._session.abort):
                each.callback(drop)

    def _take(self, block: image_stream.Block) -> None:
        match block:
            case Entries(records=found):
                for record in found:
                    self._take_record(record)
                self._settle()
            case Same(runs=runs):
                self._begin_same()
                for first, count in runs:
                    self._take_same(first, count)
            case Cut():
                self._cut_here()
            case Problem():
                self._problems += 1
                self._on_problem(block)
            case Lost() | Holes():
                raise BadStreamError("a backup's image stream has a block that only a restore's has")
            case StreamEnd():
                pass  # finish() looks at it
            case KnownFiles():
                raise BadStreamError("the client sent a list of previous files, which only it is sent")
            case Hole(length=length):
                self._cut_here()
                self._count_sent(length)
                self._cut.push((None, 0, length))
            case _:
                self._count_sent(len(block))
                self._read += len(block)
                self._add_cut(self._payload.feed(block))

    def _count_sent(self, length: int) -> None:
        self._sent_bytes += length
        if self._sent_bytes > _MOST_CONTENT:
            raise BadStreamError("the client sent more contents than an image can have")

    def _take_record(self, record: Entry | MoreAttributes) -> None:
        self._sequence.take(record)
        if isinstance(record, MoreAttributes):
            if self._last is None:
                raise BadStreamError("attributes came behind contents that follow their file")
            self._last.attributes.append(record)
            return
        if self._is_time_to_cut(record.path):
            self._cut_here()
        self._owned_bytes += record.size
        if self._owned_bytes > self._sent_bytes:
            raise BadStreamError(f"the record of {entries.shown(record.path)} came before its contents")
        self._last = ExtentWriter(record, self._write_entry)
        self._pending.append(self._last)

    def _is_time_to_cut(self, path: bytes) -> bool:
        """Tell whether so many records wait for one segment that it must end before this file.

        The file's name decides, as far as it can, so that an insertion moves few boundaries here too.
        """
        count = len(self._pending)
        return count >= _MOST_PENDING or (count >= _MANY_PENDING and digest(path)[0] == 0)

    def _begin_same(self) -> None:
        self._cut_here()
        if self._pending or self._cut:
            raise BadStreamError("contents came before an unchanged file that belong behind it")

    def _take_same(self, first: int, count: int) -> None:
        if self._previous is None:
            raise NotSameError("the client refers to a previous image, and there is none")
        for part in self._previous.run(first, count):
            if part.files:
                self._sequence.take_run(part.first, part.last, part.files, part.content)
            self._same += part.content
            self._previous.note(part.references)
            self._payload.refer(part.references)
            self._write_entry(part.records)
        if self._expected is not None:
            self._expected.move(self._previous.passed)

    def _cut_here(self) -> None:
        """End the segment at hand, so that everything that came has a name."""
        self._last = None
        self._add_cut(self._payload.end_run())

    def _add_cut(self, segments: list[tuple[bytes, int]]) -> None:
        for name, length in segments:
            self._cut.push((name, 0, length))
        self._settle()

    def _settle(self) -> None:
        """Write the records whose contents are cut, in order."""
        while self._pending:
            first = self._pending[0]
            if first is self._last and first.entry.flags & entries.ATTRIBUTES_FOLLOW:
                return  # its attributes may come with the next block
            while first.missing_bytes:
                extent = self._cut.take(first.missing_bytes)
                if extent is None:
                    return
                first.add(extent)
            first.finish()
            self._pending.popleft()

    def _write_entry(self, record: bytes) -> None:
        self._entry_batch += record
        if len(self._entry_batch) >= _ENTRY_BATCH_BYTES:
            self._flush_entries()

    def _flush_entries(self) -> None:
        self._entries.feed(bytes(self._entry_batch))
        self._entry_batch.clear()

    def _envelopes(self) -> list[EnvelopeId]:
        """Tell the envelopes of all data keys that both manifests name, ascending."""
        keys = self._payload.keys | self._entries.keys
        holders = self._pool.envelopes.holding(keys, self._pool.domain)
        if len(holders) != len(keys):
            raise IntegrityError("a data key of the image lies in no envelope of the pool")
        return sorted(set(holders.values()))
