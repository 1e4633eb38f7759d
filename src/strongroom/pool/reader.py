"""Reading frames and pages back, verified."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate, islice
from types import TracebackType
from typing import Final, NamedTuple, Self

from strongroom.core.errors import IntegrityError, StrongroomError
from strongroom.core.ids import ContainerId, DomainId, FrameId, PageId
from strongroom.formats import frame, manifest_page
from strongroom.formats.algorithms import Cipher
from strongroom.formats.errors import DamagedError
from strongroom.pool import names
from strongroom.pool.errors import (
    DataKeyMissingError,
    FrameMissingError,
    ObjectMissingError,
    PageMissingError,
    PoolReadError,
)
from strongroom.pool.index import Index, Location
from strongroom.pool.keys import KeyLookup
from strongroom.pool.references import Reference
from strongroom.pool.store import Store

_MOST_AHEAD: Final = 4_096
_LOCATED_AT_ONCE: Final = 256


class StoredFrame(NamedTuple):
    """A frame as it lies in a container, its digest checked."""

    data: bytes
    head: frame.Head
    container: ContainerId


class OpenFrame:
    """A decrypted frame.

    Args:
        head: its head.
        stored_bytes: length of its stored form.
        plain: its segments one after the other.
    """

    __slots__ = ("_ends", "_plain", "head", "plain_bytes", "stored_bytes")

    def __init__(self, head: frame.Head, stored_bytes: int, plain: bytes) -> None:
        self.head = head
        self.stored_bytes = stored_bytes
        self.plain_bytes = len(plain)
        self._plain = memoryview(plain)
        self._ends = list(accumulate(length for _, length in head.segments))

    def segment(self, reference: Reference) -> memoryview:
        """Give the segment of a reference.

        Raises:
            DamagedError: the frame does not hold what the reference says.
        """
        check_reference(reference, self.head, self.stored_bytes)
        end = self._ends[reference.position]
        return self._plain[end - reference.length : end]


def check_reference(reference: Reference, head: frame.Head, stored_bytes: int) -> None:
    """Compare what a manifest says of a segment and its frame with the frame's own head.

    Raises:
        DamagedError: they differ.
    """
    what = f"frame '{reference.frame_id.hex()}'"
    if (head.cipher is Cipher.NONE) != (head.data_key == frame.NO_KEY):
        raise DamagedError(f"{what} is encrypted under no data key")
    told = (reference.data_key_id, reference.frame_length, reference.frame_bytes)
    if told != (head.data_key, stored_bytes, head.plain_bytes):
        raise DamagedError(f"{what} has another data key or length than the manifest says")
    if reference.position >= len(head.segments) or head.segments[reference.position] != (
        reference.name,
        reference.length,
    ):
        raise DamagedError(f"{what} has another segment at position {reference.position} than the manifest says")


class PageReader:
    """Reads manifest pages of one origin; may be shared by threads.

    Args:
        store: the pool's storage.
        index: the pool's index.
        origin: domain that made the images.
    """

    def __init__(self, store: Store, index: Index, *, origin: DomainId) -> None:
        self._store = store
        self._index = index
        self._origin = origin

    def page(self, page_id: PageId) -> bytes:
        """Give a page whose digest is its id.

        Raises:
            PageMissingError: no container holds it.
            DamagedError: it is there, and changed.
            PoolReadError: the storage refused.
        """
        what = f"page '{page_id.hex()}'"
        failure: StrongroomError = PageMissingError(f"no container holds {what}")
        for place in places_of(self._index, page_id, self._origin):
            try:
                data = read_item(self._store, place)
                if len(data) > manifest_page.MAX_PAGE_BYTES or manifest_page.page_id(data) != page_id:
                    raise DamagedError(f"{what} in container '{place.container.hex()}' has another digest")
                return data
            except ObjectMissingError:
                continue  # collected since the index was read
            except PoolReadError as error:
                failure = error
            except IntegrityError as error:
                self._index.distrusted.add(place.container)
                failure = error
        raise failure


class FrameReader:
    """Reads frames of one origin; may be shared by threads.

    Args:
        store: the pool's storage.
        index: the pool's index.
        origin: domain that made the images.
        key_for: gives frame keys.
        threads: threads that read ahead.
        cache_bytes: decrypted frames that are kept.
        ahead_bytes: bytes of segments that :meth:`read` has on their way.
    """

    def __init__(
        self,
        store: Store,
        index: Index,
        *,
        origin: DomainId,
        key_for: KeyLookup,
        threads: int = 2,
        cache_bytes: int = 16 << 20,
        ahead_bytes: int = 16 << 20,
    ) -> None:
        self._store = store
        self._index = index
        self._origin = origin
        self._key_for = key_for
        self._cache = _Cache(cache_bytes)
        self._ahead_bytes = ahead_bytes
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="read")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the threads."""
        self._threads.shutdown(cancel_futures=True)

    def stored(self, frame_id: FrameId, known: Sequence[Location] = ()) -> StoredFrame:
        """Give a frame as it is stored, its digest checked; needs no key.

        If it lies in more than one container, the first whole one counts.

        Args:
            frame_id: which.
            known: where it lay a moment ago, if somebody has asked the index already.

        Raises:
            FrameMissingError: no container holds it.
            DamagedError: it is there, and changed.
            PoolReadError: the storage refused.
        """
        what = f"frame '{frame_id.hex()}'"
        failure: StrongroomError = FrameMissingError(f"no container holds {what}", context={"frame": frame_id.hex()})
        for place in places_of(self._index, frame_id, self._origin, known):
            try:
                data = read_item(self._store, place)
                return StoredFrame(data, frame.check(data, frame_id), place.container)
            except ObjectMissingError:
                continue  # collected since the index was read
            except PoolReadError as error:
                failure = error
            except IntegrityError as error:
                self._index.distrusted.add(place.container)
                failure = _placed(error, frame_id, place.container)
        raise failure

    def decrypt(self, stored: StoredFrame, frame_id: FrameId) -> OpenFrame:
        """Decrypt and decompress a frame.

        Raises:
            DataKeyMissingError: its data key is not at hand.
            DamagedError: it does not authenticate, or holds something else than its head says.
        """
        key = None
        if stored.head.cipher is not Cipher.NONE:
            key = self._key_for(stored.head.data_key)
            if key is None:
                raise DataKeyMissingError(
                    f"frame '{frame_id.hex()}' needs the data key '{stored.head.data_key.hex()}'",
                    context={"frame": frame_id.hex(), "data_key": stored.head.data_key.hex()},
                )
        try:
            plain = frame.open_body(stored.data, stored.head, key, f"frame '{frame_id.hex()}'")
        except IntegrityError as error:
            raise _placed(error, frame_id, stored.container) from error
        return OpenFrame(stored.head, len(stored.data), plain)

    def frame(self, frame_id: FrameId) -> OpenFrame:
        """Give a decrypted frame, from the cache if it is there.

        Raises:
            FrameMissingError, DataKeyMissingError, DamagedError, PoolReadError: as in :meth:`stored` and
                :meth:`decrypt`.
        """
        return self._frame(frame_id, ())

    def _frame(self, frame_id: FrameId, known: Sequence[Location]) -> OpenFrame:
        opened = self._cache.get(frame_id)
        if opened is None:
            opened = self.decrypt(self.stored(frame_id, known), frame_id)
            self._cache.put(frame_id, opened)
        return opened

    def read(self, references: Iterable[Reference]) -> Iterator[memoryview]:
        """Give the segments of references in order, reading ahead.

        Raises:
            FrameMissingError, DataKeyMissingError, DamagedError, PoolReadError: as in :meth:`frame`; segments
                before the bad one have been given.
        """
        rest = self._located(references)
        ahead: deque[tuple[Reference, _Loading]] = deque()
        loading: dict[FrameId, _Loading] = {}
        loading_bytes = 0
        try:
            while True:
                while loading_bytes < self._ahead_bytes and len(ahead) < _MOST_AHEAD:
                    located = next(rest, None)
                    if located is None:
                        break
                    reference, places = located
                    entry = loading.get(reference.frame_id)
                    if entry is None:
                        future = self._threads.submit(self._frame, reference.frame_id, places)
                        entry = loading[reference.frame_id] = _Loading(future, reference.frame_bytes)
                        loading_bytes += entry.plain_bytes
                    entry.uses += 1
                    ahead.append((reference, entry))
                if not ahead:
                    return
                reference, entry = ahead.popleft()
                yield entry.frame.result().segment(reference)
                entry.uses -= 1
                if entry.uses == 0:
                    del loading[reference.frame_id]
                    loading_bytes -= entry.plain_bytes
        finally:
            for entry in loading.values():
                entry.frame.cancel()

    def _located(self, references: Iterable[Reference]) -> Iterator[tuple[Reference, Sequence[Location]]]:
        """Add where the frames lie: the index is asked for many at once, which takes little longer than for one."""
        rest = iter(references)
        while some := list(islice(rest, _LOCATED_AT_ONCE)):
            places = self._index.locate({reference.frame_id for reference in some}, self._origin)
            for reference in some:
                yield reference, places.get(reference.frame_id, ())


@dataclass(slots=True)
class _Loading:
    frame: Future[OpenFrame]
    plain_bytes: int
    uses: int = 0


class _Cache:
    """The frames that were used last."""

    def __init__(self, limit_bytes: int) -> None:
        self._lock = threading.Lock()
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._frames: OrderedDict[FrameId, OpenFrame] = OrderedDict()

    def get(self, frame_id: FrameId) -> OpenFrame | None:
        with self._lock:
            opened = self._frames.get(frame_id)
            if opened is not None:
                self._frames.move_to_end(frame_id)
            return opened

    def put(self, frame_id: FrameId, opened: OpenFrame) -> None:
        with self._lock:
            if frame_id in self._frames:
                return
            self._frames[frame_id] = opened
            self._bytes += opened.plain_bytes
            while self._bytes > self._limit_bytes:
                _, oldest = self._frames.popitem(last=False)
                self._bytes -= oldest.plain_bytes


def places_of(
    index: Index, item: FrameId | PageId, origin: DomainId, known: Sequence[Location] = ()
) -> Iterator[Location]:
    """Give every place of an item, newest first; then those where a collection has put it meanwhile.

    Args:
        index: the pool's.
        item: which.
        origin: whose.
        known: what the index said a moment ago; these come first.
    """
    yield from known
    tried = set(known)
    for is_again in (False, True):
        if is_again:
            index.catch_up()
        for place in index.locate([item], origin).get(item, []):  # type: ignore[arg-type]  # one of two ids
            if place not in tried:
                tried.add(place)
                yield place


def read_item(store: Store, place: Location) -> bytes:
    """Read what lies at a place, unchecked.

    Raises:
        ObjectMissingError: the container is gone.
        PoolReadError: the storage refused.
    """
    return store.read(names.container_key(place.container), place.offset, place.length)


def _placed(error: IntegrityError, frame_id: FrameId, container: ContainerId) -> IntegrityError:
    """Name the container in an error of a frame; the sort of error stays."""
    placed = type(error)(
        f"{error.message}, in container '{container.hex()}'",
        hint=error.hint,
        context={**error.context, "frame": frame_id.hex(), "container": container.hex()},
    )
    placed.__cause__ = error
    return placed
