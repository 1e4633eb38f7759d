"""Where finished frames go: encrypted under the key of the container they are appended to."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import NamedTuple

from strongroom.core.clock import Clock
from strongroom.core.entropy import Entropy
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import DataKeyId, DomainId, FrameId, MediumId
from strongroom.formats import frame
from strongroom.formats.algorithms import Compression
from strongroom.formats.container import Content, Mark
from strongroom.pool.containers import ContainerWriter, Contents
from strongroom.pool.errors import SessionClosedError
from strongroom.pool.index import Index
from strongroom.pool.keys import DataKeySource, FrameKey, NonceCounter
from strongroom.pool.store import Store

_MAX_SEALING = 2


class StoredFrame(NamedTuple):
    """A frame that was appended; durable once its container is sealed."""

    id: FrameId
    data_key: DataKeyId
    length: int


@dataclass(slots=True)
class _OpenContainer:
    """A container that takes frames, with the key and the counter that belong to it alone."""

    container: ContainerWriter
    key: FrameKey | None
    nonces: NonceCounter = field(default_factory=NonceCounter)
    appending: threading.Lock = field(default_factory=threading.Lock)
    reserved_bytes: int = 0
    reserved_segments: int = 0
    under_way: int = 0
    is_closing: bool = False


class FrameSink:
    """Appends frames to containers, sealing one after the other; shared by the threads of one session.

    Args:
        store: the pool's storage.
        index: learns of each container when it is sealed.
        medium: the pool.
        origin: the domain that makes the frames.
        keys: gives a data key for each container; ``None`` for images that are not encrypted.
        clock: for the containers' headers.
        entropy: for the containers' ids.
        container_bytes: length at which a container is sealed.
        mark: computes a container's mark with the naming key.
        on_sealed: called, in another thread, after the index knows a container.
    """

    def __init__(
        self,
        store: Store,
        index: Index,
        *,
        medium: MediumId,
        origin: DomainId,
        keys: DataKeySource | None,
        clock: Clock,
        entropy: Entropy,
        container_bytes: int,
        mark: Mark,
        on_sealed: Callable[[Contents], None],
    ) -> None:
        self._store = store
        self._index = index
        self._medium = medium
        self._origin = origin
        self._keys = keys
        self._clock = clock
        self._entropy = entropy
        self._container_bytes = container_bytes
        self._mark = mark
        self._on_sealed = on_sealed
        self._lock = threading.Lock()
        self._current: _OpenContainer | None = None
        self._open: list[_OpenContainer] = []
        self._sealer = ThreadPoolExecutor(1, thread_name_prefix="seal")
        self._sealing: deque[Future[None]] = deque()
        self._failure: StrongroomError | None = None
        self._is_failed = False
        self._is_closed = False
        self._stored_bytes = 0

    @property
    def stored_bytes(self) -> int:
        """Stored bytes of all frames that were appended."""
        return self._stored_bytes

    def write(self, rows: Sequence[tuple[bytes, int]], compression: Compression, packed: bytes) -> StoredFrame:
        """Encrypt and append one frame.

        Raises:
            KeyUnavailableError: a container is due, and there is no data key for it.
            PoolFullError, PoolWriteError: the storage refused; the session can only be aborted.
        """
        length = frame.stored_bytes(len(rows), len(packed), encrypted=self._keys is not None)
        with self._lock:
            place = self._reserve(length, len(rows))
            key = place.key
            # drawn before encryption and never given back, whatever happens next
            counter = place.nonces.draw() if key else 0
        is_written = False
        try:
            if key:
                data = frame.seal(rows, compression, packed, data_key=key.data_key, frame_key=key.key, counter=counter)
            else:
                data = frame.seal(rows, compression, packed)
            frame_id = frame.frame_id(data)
            with place.appending:
                self._append(place, frame_id, data)
            is_written = True
        finally:
            with self._lock:
                self._stored_bytes += len(data) if is_written else 0
                place.under_way -= 1
                self._is_failed |= not is_written
                self._seal_if_complete(place)
        return StoredFrame(frame_id, key.data_key if key else frame.NO_KEY, len(data))

    def finish(self) -> None:
        """Seal what is open. When this returns, every frame that was written is durable, and indexed.

        No other thread may be in :meth:`write`.

        Raises:
            PoolFullError, PoolWriteError: a container could not be sealed; it has no name.
        """
        with self._lock:
            if self._is_failed:
                raise self._failure or SessionClosedError("the writing session failed")
            self._is_closed = True
            if self._current is not None:
                self._close_current()
            sealing = list(self._sealing)
        for future in sealing:
            future.result()
        self._sealer.shutdown()

    def abort(self) -> None:
        """Drop the containers that are not sealed. No other thread may be in :meth:`write`."""
        with self._lock:
            self._is_closed = True
            self._current = None
        self._sealer.shutdown(cancel_futures=True)
        with ExitStack() as each:  # one that the storage refuses does not keep the others open
            for place in self._open:
                each.callback(place.container.abort)
        self._open.clear()

    def _append(self, place: _OpenContainer, frame_id: FrameId, data: bytearray) -> None:
        """Append to a container; once that failed, every thread tells the same reason."""
        if self._failure is not None:
            raise self._failure
        try:
            place.container.append_frame(frame_id, data)
        except StrongroomError as error:
            self._failure = error
            raise

    def _reserve(self, length: int, segments: int) -> _OpenContainer:
        """Give the container that the next frame goes to; the lock is held."""
        if self._failure is not None:
            raise self._failure
        if self._is_closed or self._is_failed:
            raise SessionClosedError("the writing session is closed, or failed")
        place = self._current
        if place is not None and not (
            place.reserved_bytes + length <= self._container_bytes
            and place.container.fits(
                place.reserved_bytes + length - place.container.size_bytes, segments + place.reserved_segments
            )
        ):
            self._close_current()
            place = None
        if place is None:
            place = self._begin()
        place.reserved_bytes += length
        place.reserved_segments += segments
        place.under_way += 1
        return place

    def _begin(self) -> _OpenContainer:
        key = self._keys.next_key() if self._keys else None
        container = ContainerWriter(
            self._store,
            medium=self._medium,
            origin=self._origin,
            content=Content.FRAMES,
            clock=self._clock,
            entropy=self._entropy,
        )
        place = _OpenContainer(container, key, reserved_bytes=container.size_bytes)
        self._current = place
        self._open.append(place)
        return place

    def _close_current(self) -> None:
        place = self._current
        self._current = None
        if place is not None:
            place.is_closing = True
            self._seal_if_complete(place)

    def _seal_if_complete(self, place: _OpenContainer) -> None:
        """Hand a container over to be sealed when nothing is on its way to it; the lock is held.

        After a failure nothing is sealed any more: the session will be aborted.
        """
        if self._is_failed or not place.is_closing or place.under_way:
            return
        while len(self._sealing) >= _MAX_SEALING:
            # a slow disk holds the writers back here, not the memory of the machine
            self._sealing.popleft().result()
        self._sealing.append(self._sealer.submit(self._seal, place))

    def _seal(self, place: _OpenContainer) -> None:
        contents = place.container.seal(self._mark)
        self._open.remove(place)
        self._index.add(contents)
        self._on_sealed(contents)
