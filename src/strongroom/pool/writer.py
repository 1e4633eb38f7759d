"""Writing streams of segments: find what is there, store the rest in frames.

One thread drives a session: it names segments, asks the index and gathers what is new. The session's own
threads compress, encrypt and append whole frames, the work that costs most and that runs without the
interpreter's lock.
"""

from __future__ import annotations

import hmac
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

import zstandard

from strongroom.core.clock import Clock
from strongroom.core.entropy import Entropy
from strongroom.core.ids import ContainerId, DomainId, MediumId, SegmentName
from strongroom.formats import frame
from strongroom.formats.segment import MAX_SEGMENT_BYTES, Buffer, SegmentNamer
from strongroom.pool.containers import Contents
from strongroom.pool.errors import SessionClosedError
from strongroom.pool.index import Index, SegmentHit
from strongroom.pool.keys import DataKeySource, KeysUsable
from strongroom.pool.references import Named, Reference
from strongroom.pool.sink import FrameSink, StoredFrame
from strongroom.pool.store import Store

_ASKED_SEGMENTS: Final = 512
_ASKED_BYTES: Final = 4 << 20
_NAMED_TOGETHER_BYTES: Final = 1 << 20
"""So many segments, or bytes of them, are looked up together: an index answers a batch as fast as one question."""
_MAX_WAITING: Final = 8_192
"""References that wait for one frame; beyond that the frame is closed early, so that memory stays bounded."""


@dataclass(frozen=True, slots=True)
class WriterLimits:
    """Sizes of a session.

    Attributes:
        threads: threads that compress and encrypt.
        frame_bytes: segments are gathered until a frame has at least so many bytes.
        container_bytes: stored bytes after which a container is sealed.
        in_flight_bytes: bytes of segments in frames that are not written yet; adding waits beyond that.
        compression_level: of Zstandard.
    """

    threads: int = 2
    frame_bytes: int = 1 << 20
    container_bytes: int = 64 << 20
    in_flight_bytes: int = 24 << 20
    compression_level: int = 3


class WriteSession:
    """Writes the streams of one image.

    What a session has sealed stays when it fails later: whole, indexed, and referred to by no image. The next
    attempt finds those segments again; collection removes them if there is none.

    Args:
        store: the pool's storage.
        index: the pool's index.
        medium: the pool.
        origin: this domain.
        namer: names segments, under the naming key of the image's key group.
        keys: gives data keys; ``None`` for an image that is not encrypted.
        usable: tells which data keys may be referred to.
        clock: for the containers' headers.
        entropy: for the containers' ids.
        limits: sizes.
    """

    def __init__(
        self,
        store: Store,
        index: Index,
        *,
        medium: MediumId,
        origin: DomainId,
        namer: SegmentNamer,
        keys: DataKeySource | None,
        usable: KeysUsable,
        clock: Clock,
        entropy: Entropy,
        limits: WriterLimits | None = None,
    ) -> None:
        self.limits = limits or WriterLimits()
        self._index = index
        self._origin = origin
        self._namer = namer
        self._is_encrypted = keys is not None
        self._usable = usable
        self._writers: list[SegmentWriter] = []
        self._own: dict[ContainerId, bool] = {}
        self._sink = FrameSink(
            store,
            index,
            medium=medium,
            origin=origin,
            keys=keys,
            clock=clock,
            entropy=entropy,
            container_bytes=self.limits.container_bytes,
            mark=namer.mark,
            on_sealed=self._forget,
        )
        self._workers = ThreadPoolExecutor(self.limits.threads, thread_name_prefix="frame")
        self._second = ThreadPoolExecutor(1, thread_name_prefix="name")
        self._room = _Room(self.limits.in_flight_bytes)
        self._compressors = threading.local()
        self._is_open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    @property
    def stored_bytes(self) -> int:
        """Stored bytes of the frames that were new, so far."""
        return self._sink.stored_bytes

    def writer(self) -> SegmentWriter:
        """Begin a stream. Streams of one session share its containers, not its frames."""
        writer = SegmentWriter(self)
        self._writers.append(writer)
        return writer

    def finish(self) -> None:
        """Seal all containers. When this returns, all that the references name is on stable storage.

        Raises:
            SessionClosedError: it was finished or aborted before.
            PoolFullError, PoolWriteError: the storage refused.
            ValueError: a stream was not finished, a mistake of the caller.
        """
        self.require_open()
        if any(writer.is_waiting for writer in self._writers):
            raise ValueError("a stream of the session is not finished")
        self._workers.shutdown()
        self._second.shutdown()
        self._sink.finish()
        self._is_open = False

    def abort(self) -> None:
        """Stop, and drop the containers that are not sealed; does nothing after :meth:`finish`."""
        if self._is_open:
            self._is_open = False
            self._workers.shutdown(cancel_futures=True)
            self._second.shutdown()
            self._sink.abort()

    def name(self, segments: Sequence[Buffer]) -> list[SegmentName]:
        """Name segments; a second thread takes half of them if they are many bytes."""
        if sum(map(len, segments)) < _NAMED_TOGETHER_BYTES:
            return list(map(self._namer.name, segments))
        half = len(segments) // 2
        others = self._second.submit(lambda: list(map(self._namer.name, segments[half:])))
        return [*map(self._namer.name, segments[:half]), *others.result()]

    def find(self, names: Sequence[SegmentName]) -> dict[SegmentName, SegmentHit]:
        """Find segments that may be referred to.

        They are of this origin, in a container that bears this naming key's mark and in which no damage was read,
        under a usable data key.
        """
        found = self._index.find_segments(names, self._origin)
        if not found:
            return {}
        keys = {hit.data_key for hits in found.values() for hit in hits}
        usable = set(self._usable(keys - {frame.NO_KEY})) if self._is_encrypted else {frame.NO_KEY}
        hits = {}
        for name, candidates in found.items():
            hit = next((hit for hit in candidates if hit.data_key in usable and self._is_good(hit.container)), None)
            if hit is not None:
                hits[name] = hit
        return hits

    def _is_good(self, container: ContainerId) -> bool:
        return self._is_own(container) and not self._index.distrusted.holds(container)

    def _is_own(self, container: ContainerId) -> bool:
        """Tell whether a container bears the mark of this naming key: who lacks the key cannot plant names."""
        is_own = self._own.get(container)
        if is_own is None:
            digest, mark = self._index.mark(container)
            is_own = hmac.compare_digest(self._namer.mark(digest), mark)
            self._own[container] = is_own
        return is_own

    def submit(self, gathered: Gathered) -> None:
        """Give a frame to the workers; waits while too much is in flight.

        Raises:
            SessionClosedError: the session was finished or aborted.
        """
        self.require_open()
        self._room.take(gathered.plain_bytes)
        gathered.stored = self._workers.submit(self._write, gathered)

    def _write(self, gathered: Gathered) -> StoredFrame:
        try:
            compressor = getattr(self._compressors, "own", None)
            if compressor is None:
                compressor = zstandard.ZstdCompressor(level=self.limits.compression_level)
                self._compressors.own = compressor
            compression, packed = frame.compress(gathered.segments, compressor)
            gathered.segments.clear()
            return self._sink.write(gathered.rows, compression, packed)
        finally:
            self._room.give_back(gathered.plain_bytes)

    def _forget(self, contents: Contents) -> None:
        """Drop names from the streams' memory once the index knows them."""
        for item in contents.items:
            for name, _ in item.segments:
                for writer in self._writers:
                    writer.forget(SegmentName(name))

    def require_open(self) -> None:
        """Refuse when the session was finished or aborted.

        Raises:
            SessionClosedError: it was.
        """
        if not self._is_open:
            raise SessionClosedError("the writing session is closed")


@dataclass(slots=True)
class Gathered:
    """New segments that become one frame."""

    rows: list[tuple[bytes, int]] = field(default_factory=list)
    segments: list[Buffer] = field(default_factory=list)
    plain_bytes: int = 0
    stored: Future[StoredFrame] | None = None


class SegmentWriter:
    """One stream of a session; made by :meth:`WriteSession.writer`, driven by the session's one thread."""

    def __init__(self, session: WriteSession) -> None:
        self._session = session
        self._gathered = Gathered()
        self._recent: dict[SegmentName, tuple[Gathered, int]] = {}
        self._unasked: list[Named | Reference] = []
        self._unasked_bytes = 0
        self._waiting: deque[Reference | tuple[SegmentName, Gathered, int, int]] = deque()

    @property
    def is_waiting(self) -> bool:
        """Whether references have not been given out yet."""
        return bool(self._waiting or self._unasked)

    def add(self, segments: Sequence[Named]) -> list[Reference]:
        """Store the next segments of the stream, those that are new.

        Segments are held, and must not change, until their references come out.

        Args:
            segments: named by :meth:`WriteSession.name`, in the order of the stream.

        Returns:
            The next references in the order of the stream, as many as are certain by now: their frames have ids, and
            are durable after :meth:`WriteSession.finish`.

        Raises:
            KeyUnavailableError, PoolFullError, PoolWriteError: the session can only be aborted.
            SessionClosedError: the session was finished or aborted.
            ValueError: a segment has another length; a mistake of the caller.
        """
        self._session.require_open()
        lengths = [len(segment.data) for segment in segments]
        if lengths and not 1 <= min(lengths) <= max(lengths) <= MAX_SEGMENT_BYTES:
            raise ValueError(f"segments of {min(lengths)} to {max(lengths)} bytes cannot be")
        self._unasked += segments
        self._unasked_bytes += sum(lengths)
        return self._ask_some()

    def refer(self, references: list[Reference]) -> list[Reference]:
        """Put segments that are stored already at the next places of the stream.

        Args:
            references: from the manifest of an image of this origin; whether their frames are there and their data
                keys usable is for the caller to know.

        Returns:
            References that are certain by now, as :meth:`add` gives them.

        Raises:
            KeyUnavailableError, PoolFullError, PoolWriteError: the session can only be aborted.
        """
        if not self.is_waiting:
            return references
        self._unasked += references
        return self._ask_some()

    def finish(self) -> list[Reference]:
        """End the stream: write what was gathered, wait for it, and give the references that are left.

        Raises:
            KeyUnavailableError, PoolFullError, PoolWriteError: the session can only be aborted.
        """
        self._ask()
        self._close_frame()
        return self._certain(most_waiting=0)

    def forget(self, name: SegmentName) -> None:
        """Drop a name that the index knows by now."""
        self._recent.pop(name, None)

    def _ask_some(self) -> list[Reference]:
        """Look up what came when it is much; give the references that are certain."""
        if len(self._unasked) < _ASKED_SEGMENTS and self._unasked_bytes < _ASKED_BYTES:
            return []
        self._ask()
        return self._certain(most_waiting=_MAX_WAITING)

    def _ask(self) -> None:
        """Look up the segments that came; those that are nowhere go into frames."""
        if not self._unasked:
            return
        asked, self._unasked, self._unasked_bytes = self._unasked, [], 0
        # in this order: a name leaves ``_recent`` only after the index has it
        recent = {item[0]: self._recent.get(item[0]) for item in asked if not isinstance(item, Reference)}
        hits = self._session.find([name for name, place in recent.items() if place is None])
        for item in asked:
            if isinstance(item, Reference):
                self._waiting.append(item)
                continue
            name, segment = item
            length = len(segment)
            hit = hits.get(name)
            if hit is not None:
                self._waiting.append(
                    Reference(name, hit.frame, hit.data_key, hit.frame_length, hit.frame_bytes, hit.position, length)
                )
                continue
            place = recent[name]
            if place is None:
                place = recent[name] = self._gather(name, segment)
            self._waiting.append((name, place[0], place[1], length))
        if len(self._waiting) > _MAX_WAITING:
            self._close_frame()

    def _gather(self, name: SegmentName, segment: Buffer) -> tuple[Gathered, int]:
        length = len(segment)
        limit = self._session.limits.frame_bytes
        if self._gathered.plain_bytes + length > limit + limit // 2:
            self._close_frame()
        place = (self._gathered, len(self._gathered.rows))
        self._gathered.rows.append((name, length))
        self._gathered.segments.append(segment)
        self._gathered.plain_bytes += length
        self._recent[name] = place
        if self._gathered.plain_bytes >= limit or len(self._gathered.rows) == frame.MAX_SEGMENTS:
            self._close_frame()
        return place

    def _close_frame(self) -> None:
        if self._gathered.rows:
            gathered, self._gathered = self._gathered, Gathered()
            self._session.submit(gathered)

    def _certain(self, most_waiting: int) -> list[Reference]:
        """Give references from the front; wait for frames while more than ``most_waiting`` are left."""
        references = []
        while self._waiting:
            first = self._waiting[0]
            if isinstance(first, Reference):
                references.append(first)
            else:
                name, gathered, position, length = first
                future = gathered.stored
                if future is None or not (future.done() or len(self._waiting) > most_waiting):
                    break
                stored = future.result()
                references.append(
                    Reference(
                        name,
                        stored.id,
                        stored.data_key,
                        stored.length,
                        gathered.plain_bytes,
                        position,
                        length,
                    )
                )
            self._waiting.popleft()
        return references


class _Room:
    """Bytes that may be in flight. One thread takes, many give back."""

    def __init__(self, limit_bytes: int) -> None:
        self._changed = threading.Condition()
        self._limit_bytes = limit_bytes
        self._taken_bytes = 0

    def take(self, count: int) -> None:
        """Wait until there is room; a single piece over the limit goes alone."""
        with self._changed:
            self._changed.wait_for(lambda: self._taken_bytes == 0 or self._taken_bytes + count <= self._limit_bytes)
            self._taken_bytes += count

    def give_back(self, count: int) -> None:
        with self._changed:
            self._taken_bytes -= count
            self._changed.notify()
