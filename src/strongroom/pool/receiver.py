"""The receiving side of sealed replication: frames and pages as they are, verified without any key."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from strongroom.core.clock import Clock
from strongroom.core.entropy import Entropy
from strongroom.core.ids import DataKeyId, DomainId, EnvelopeId, FrameId, MediumId, PageId
from strongroom.formats import frame, key_page, manifest_page
from strongroom.formats.container import Content
from strongroom.formats.manifest_page import Page
from strongroom.pool.index import Index
from strongroom.pool.series import DEFAULT_CONTAINER_BYTES, ContainerSeries
from strongroom.pool.store import Store


class FrameReceiver:
    """Takes whole frames and pages of one origin domain; may be shared by threads.

    What :meth:`flush` made durable is found again by the next receiver of this origin, after a crash too: it
    is in sealed containers, and the index is brought up to date when it is opened. What was not flushed is
    gone.

    Args:
        store: the pool's storage.
        index: the pool's index.
        medium: the pool.
        origin: domain that made the images; presence is answered for it alone.
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
        clock: Clock,
        entropy: Entropy,
        container_bytes: int = DEFAULT_CONTAINER_BYTES,
    ) -> None:
        self._lock = threading.Lock()
        self._frames, self._pages = (
            ContainerSeries(
                store,
                index,
                medium=medium,
                origin=origin,
                content=content,
                clock=clock,
                entropy=entropy,
                container_bytes=container_bytes,
            )
            for content in (Content.FRAMES, Content.PAGES)
        )

    def lacking_frames(self, ids: Sequence[FrameId]) -> list[FrameId]:
        """Tell which frames must come, in the order asked."""
        with self._lock:
            return [FrameId(item) for item in self._frames.lacking(list(ids))]

    def lacking_pages(self, ids: Sequence[PageId]) -> list[PageId]:
        """Tell which pages must come, in the order asked.

        A page that is here says nothing of what is below it.
        """
        with self._lock:
            return [PageId(item) for item in self._pages.lacking(list(ids))]

    def add_frame(self, expected: FrameId, data: bytes) -> DataKeyId:
        """Verify and keep a frame; one that is here already is only verified.

        Returns:
            The frame's data key id, for which an envelope must come.

        Raises:
            DamagedError: it is not the frame of this id, or not a frame.
            NewerFormatError: a later version or an unknown algorithm.
            PoolFullError, PoolWriteError: the storage refused; what was not flushed must come again.
        """
        head = frame.check(data, expected)
        with self._lock:
            if self._frames.lacking([expected]):
                self._frames.append_frame(expected, data)
        return head.data_key

    def add_page(self, expected: PageId, data: bytes) -> Page:
        """Verify and keep a page; one that is here already is only verified.

        Returns:
            The page, for the caller to follow.

        Raises:
            DamagedError: it is not the page of this id, or not a page.
            NewerFormatError: a later version.
            PoolFullError, PoolWriteError: the storage refused; what was not flushed must come again.
        """
        page = manifest_page.decode(data, expected)
        with self._lock:
            if self._pages.lacking([expected]):
                self._pages.append_page(expected, data)
        return page

    def add_key_page(self, expected: PageId, data: bytes) -> tuple[EnvelopeId, ...]:
        """Verify and keep a key page; one that is here already is only verified.

        Returns:
            The ids of the envelopes that it lists.

        Raises:
            DamagedError: it is not the key page of this id, or not a key page.
            NewerFormatError: a later version or an unknown algorithm.
            PoolFullError, PoolWriteError: the storage refused; what was not flushed must come again.
        """
        envelopes = key_page.decode(data, expected)
        with self._lock:
            if self._pages.lacking([expected]):
                self._pages.append_page(expected, data)
        return envelopes

    def flush(self) -> None:
        """Make everything durable that was added: frames first, then pages.

        Raises:
            PoolFullError, PoolWriteError: the storage refused; what was not flushed must come again.
        """
        with self._lock:
            self._frames.seal()
            self._pages.seal()

    def abort(self) -> None:
        """Drop what was not flushed."""
        with self._lock:
            self._frames.abort()
            self._pages.abort()
