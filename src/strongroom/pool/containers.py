"""Reading sealed containers from a store, and writing new ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import chain, islice
from typing import NamedTuple

from strongroom.core.clock import Clock, to_ns
from strongroom.core.entropy import Entropy
from strongroom.core.ids import UUID_BYTES, ContainerId, DataKeyId, DomainId, FrameId, MediumId, PageId
from strongroom.formats import container as format
from strongroom.formats import frame, manifest_page
from strongroom.formats.errors import DamagedError, ForeignError
from strongroom.formats.segment import Buffer
from strongroom.pool import names
from strongroom.pool.errors import PoolWriteError
from strongroom.pool.store import Store


class ItemFacts(NamedTuple):
    """What the index keeps of one item, with the segments of a frame."""

    id: bytes
    offset: int
    length: int
    data_key: DataKeyId
    segments: tuple[tuple[bytes, int], ...]

    @property
    def plain_bytes(self) -> int:
        """Bytes of all segments of a frame; 0 for a page."""
        return sum(length for _, length in self.segments)


class Contents(NamedTuple):
    """What a container holds.

    Attributes:
        header: its header.
        size_bytes: its length.
        digest: digest of header and footer.
        mark: what its writer made of that digest with the naming key; zeros when there is none.
        items: its items, which can be gone through more than once.
    """

    header: format.Header
    size_bytes: int
    digest: bytes
    mark: bytes
    items: Iterable[ItemFacts]


class _FooterItems:
    """The items of a footer, unpacked while they are gone through."""

    def __init__(self, footer: format.Footer) -> None:
        self._footer = footer

    def __iter__(self) -> Iterator[ItemFacts]:
        segments = self._footer.segments()
        ends = (item.first_segment for item in islice(self._footer.items(), 1, None))
        for item, end in zip(self._footer.items(), chain(ends, (self._footer.segment_count,)), strict=True):
            rows = tuple(islice(segments, end - item.first_segment))
            yield ItemFacts(item.id, item.offset, item.length, item.data_key, rows)


def read_contents(store: Store, container: ContainerId, medium: MediumId) -> Contents:
    """Read what a sealed container holds, from header, footer and tail alone.

    Raises:
        ObjectMissingError: it is not there.
        DamagedError: header, footer or tail do not hold, or it is not the container that its name says.
        ForeignError: it belongs to another medium.
        NewerFormatError: a later version.
    """
    what = f"container '{container.hex()}'"
    key = names.container_key(container)
    size_bytes = store.size(key)
    raw_header = store.read(key, 0, format.HEADER_BYTES)
    header = _own_header(raw_header, container, medium, what)
    if size_bytes < format.HEADER_BYTES + format.TAIL_BYTES:
        raise DamagedError(f"{what} is cut short")
    raw_tail = store.read(key, size_bytes - format.TAIL_BYTES, format.TAIL_BYTES)
    tail = format.decode_tail(raw_tail, size_bytes, what)
    footer = store.read(key, tail.footer_offset, tail.footer_length)
    items = _FooterItems(format.decode_footer(raw_header, footer, tail, what))
    return Contents(header, size_bytes, tail.digest, tail.mark, items)


def scan_contents(store: Store, container: ContainerId, medium: MediumId) -> Contents:
    """Read what a container holds from its items themselves; slow, for one whose footer is damaged.

    Raises:
        ObjectMissingError: it is not there.
        DamagedError: its header does not hold.
        ForeignError: it belongs to another medium.
        NewerFormatError: header or an item has a later version.
    """
    what = f"container '{container.hex()}'"
    key = names.container_key(container)
    header = _own_header(store.read(key, 0, format.HEADER_BYTES), container, medium, what)
    items = []
    for offset, item in format.scan(lambda offset, length: store.read(key, offset, length)):
        if header.content is format.Content.FRAMES:
            head = frame.parse_head(item, what)
            facts = ItemFacts(frame.frame_id(item), offset, len(item), head.data_key, head.segments)
        else:
            facts = ItemFacts(manifest_page.page_id(item), offset, len(item), frame.NO_KEY, ())
        items.append(facts)
    return Contents(header, store.size(key), format.NO_MARK, format.NO_MARK, items)


def _own_header(raw: bytes, container: ContainerId, medium: MediumId, what: str) -> format.Header:
    header = format.decode_header(raw, what)
    if header.container != container:
        raise DamagedError(f"{what} says in its header that it is '{header.container.hex()}'")
    if header.medium != medium:
        raise ForeignError(f"{what} belongs to the medium '{header.medium.hex()}', not to '{medium.hex()}'")
    return header


class ContainerWriter:
    """One container while it is being written; for one thread at a time.

    Args:
        store: the pool's storage.
        medium: the pool.
        origin: domain whose frames or pages it takes.
        content: what it takes.
        clock: gives the time of creation.
        entropy: gives the container id.
    """

    def __init__(
        self,
        store: Store,
        *,
        medium: MediumId,
        origin: DomainId,
        content: format.Content,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self.id = ContainerId(entropy.bytes(UUID_BYTES))
        self._header = format.Header(self.id, medium, origin, to_ns(clock.now()), content)
        raw = format.encode_header(self._header)
        self._footer = format.FooterBuilder(raw)
        self._items: list[ItemFacts] = []
        self._is_broken = False
        self._upload = store.upload()
        with ExitStack() as on_error:
            on_error.callback(self._upload.abort)
            self._append(raw)
            on_error.pop_all()

    @property
    def size_bytes(self) -> int:
        """Length so far, without footer."""
        return self._footer.offset

    @property
    def items(self) -> list[ItemFacts]:
        """What was appended."""
        return self._items

    def fits(self, length: int, segments: int) -> bool:
        """Tell whether one more item keeps within the format's bounds."""
        return self._footer.fits(length, segments)

    def append_frame(self, frame_id: FrameId, data: Buffer) -> None:
        """Append a whole frame whose id was computed or checked.

        Raises:
            PoolFullError, PoolWriteError: the storage refused; the container can only be aborted.
        """
        head = frame.parse_head(data)
        self._append(data)
        rows = memoryview(data)[frame.FIXED_BYTES : head.head_bytes]
        offset = self._footer.add(frame_id, len(data), rows, head.data_key)
        self._items.append(ItemFacts(frame_id, offset, len(data), head.data_key, head.segments))

    def append_page(self, page_id: PageId, data: Buffer) -> None:
        """Append a whole page.

        Raises:
            PoolFullError, PoolWriteError: as in :meth:`append_frame`.
        """
        self._append(data)
        offset = self._footer.add(page_id, len(data))
        self._items.append(ItemFacts(page_id, offset, len(data), frame.NO_KEY, ()))

    def seal(self, mark: format.Mark | None = None) -> Contents:
        """Write footer and tail, make it durable and give it its name.

        Args:
            mark: computes the mark, for what a backup wrote; ``None`` for no mark.

        Raises:
            PoolFullError, PoolWriteError: the storage refused; the container has no name.
        """
        end, tail = self._footer.finish(mark)
        with ExitStack() as on_error:
            on_error.callback(self._upload.abort)
            self._append(end)
            self._upload.finish(names.container_key(self.id))
            on_error.pop_all()
        return Contents(self._header, self._footer.offset + len(end), tail.digest, tail.mark, self._items)

    def abort(self) -> None:
        """Drop everything; the container never gets a name."""
        self._upload.abort()

    def _append(self, data: Buffer) -> None:
        """Append, unless an append failed before: part of it may lie where the next item would go."""
        if self._is_broken:
            raise PoolWriteError(f"container '{self.id.hex()}' was not written whole")
        self._is_broken = True
        self._upload.append(data)
        self._is_broken = False


def list_containers(store: Store) -> Iterator[ContainerId]:
    """Give the ids of all sealed containers, rising."""
    for stored in store.list(names.CONTAINERS):
        container = names.container_of(stored.key)
        if container is not None:
            yield container
