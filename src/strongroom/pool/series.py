"""A row of containers that one thread fills, one after the other, with items that exist already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from strongroom.core.clock import Clock
from strongroom.core.entropy import Entropy
from strongroom.core.ids import DomainId, FrameId, MediumId, PageId
from strongroom.formats import frame, manifest_page
from strongroom.formats.container import Content
from strongroom.formats.segment import Buffer
from strongroom.pool.containers import ContainerWriter
from strongroom.pool.index import Index
from strongroom.pool.store import Store

DEFAULT_CONTAINER_BYTES = 64 << 20


class ContainerSeries:
    """Appends whole frames, or whole pages, that are not in the pool yet.

    Args:
        store: the pool's storage.
        index: tells what is there, and learns of each container when it is sealed.
        medium: the pool.
        origin: domain of what is appended.
        content: frames or pages.
        clock: for the containers' headers.
        entropy: for the containers' ids.
        container_bytes: length at which a container is sealed.
    """

    def __init__(
        self,
        store: Store,
        index: Index,
        *,
        medium: MediumId,
        origin: DomainId,
        content: Content,
        clock: Clock,
        entropy: Entropy,
        container_bytes: int = DEFAULT_CONTAINER_BYTES,
    ) -> None:
        self._store = store
        self._index = index
        self._medium = medium
        self._origin = origin
        self._content = content
        self._clock = clock
        self._entropy = entropy
        self._container_bytes = container_bytes
        self._current: ContainerWriter | None = None
        self._unsealed: set[bytes] = set()

    def lacking(self, ids: list[bytes]) -> list[bytes]:
        """Tell which ids are neither in the pool nor in the container being filled, in the order asked.

        What lies in containers alone in which damage was read counts as lacking.
        """
        rest = [item for item in ids if item not in self._unsealed]
        lacking = self._index.lacking(rest, self._origin)
        distrusted = self._index.distrusted
        if not distrusted:
            return lacking
        missing = set(lacking)
        places = self._index.locate([FrameId(item) for item in rest], self._origin)
        return [item for item in rest if item in missing or distrusted.has_all(places.get(item, []))]

    def append_frame(self, frame_id: FrameId, data: Buffer) -> None:
        """Append a frame whose id was checked.

        Raises:
            PoolFullError, PoolWriteError: the storage refused; what is not sealed is dropped.
        """
        with self._container_for(len(data), len(frame.parse_head(data).segments)) as container:
            container.append_frame(frame_id, data)
        self._unsealed.add(frame_id)

    def append_page(self, page_id: PageId, data: Buffer) -> None:
        """Append a page whose id was checked.

        Raises:
            PoolFullError, PoolWriteError: as in :meth:`append_frame`.
        """
        with self._container_for(len(data), 0) as container:
            container.append_page(page_id, data)
        self._unsealed.add(page_id)

    def seal(self) -> None:
        """Make everything that was appended durable and let the index know.

        Raises:
            PoolFullError, PoolWriteError: the storage refused; what is not sealed is dropped.
        """
        current, self._current = self._current, None
        self._unsealed.clear()
        if current is not None:
            self._index.add(current.seal())

    def abort(self) -> None:
        """Drop what is not sealed."""
        current, self._current = self._current, None
        self._unsealed.clear()
        if current is not None:
            current.abort()

    @contextmanager
    def _container_for(self, length: int, segments: int) -> Iterator[ContainerWriter]:
        """Give a container that takes one more item; drop it if that fails."""
        current = self._current
        if current is not None and (
            current.size_bytes + length > self._container_bytes or not current.fits(length, segments)
        ):
            self.seal()
            current = None
        if current is None:
            current = self._current = ContainerWriter(
                self._store,
                medium=self._medium,
                origin=self._origin,
                content=self._content,
                clock=self._clock,
                entropy=self._entropy,
            )
        with ExitStack() as on_error:
            on_error.callback(self.abort)
            yield current
            on_error.pop_all()


class PageSink:
    """Stores the manifest pages of this domain's own images.

    Args:
        store: the pool's storage.
        index: the pool's index.
        medium: the pool.
        origin: this domain.
        clock: for the containers' headers.
        entropy: for the containers' ids.
    """

    def __init__(
        self,
        store: Store,
        index: Index,
        *,
        medium: MediumId,
        origin: DomainId,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._series = ContainerSeries(
            store, index, medium=medium, origin=origin, content=Content.PAGES, clock=clock, entropy=entropy
        )
        self._stored_bytes = 0

    @property
    def stored_bytes(self) -> int:
        """Bytes of the pages that were new, so far."""
        return self._stored_bytes

    def put(self, page: bytes) -> PageId:
        """Store a page, unless it is there.

        Raises:
            PoolFullError, PoolWriteError: the storage refused; the sink can only be aborted.
        """
        page_id = manifest_page.page_id(page)
        if self._series.lacking([page_id]):
            self._series.append_page(page_id, page)
            self._stored_bytes += len(page)
        return page_id

    def finish(self) -> None:
        """Make all pages durable. Call it when the frames they name are: after the session's own ``finish``.

        Raises:
            PoolFullError, PoolWriteError: the storage refused.
        """
        self._series.seal()

    def abort(self) -> None:
        """Drop the pages that are not durable."""
        self._series.abort()
