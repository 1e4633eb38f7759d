"""Containers: immutable files of many frames or many manifest pages.

Source: ``docs/reference/formats/container.md``. A container is read from its tail: tail, footer, then single
items by offset. One without a tail was being written when the machine stopped; :func:`scan` still finds its
items.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from blake3 import blake3

from strongroom.core.ids import ContainerId, DataKeyId, DomainId, MediumId
from strongroom.formats import frame, key_page, manifest_page
from strongroom.formats.algorithms import Digest, digest, known
from strongroom.formats.errors import DamagedError, NewerFormatError
from strongroom.formats.magic import check_magic
from strongroom.formats.segment import MAX_SEGMENT_BYTES, Buffer

HEADER_MAGIC: Final = b"SRCONT01"
FOOTER_MAGIC: Final = b"SRFOOT01"
TAIL_MAGIC: Final = b"SREND001"
HEADER_BYTES: Final = 96
TAIL_BYTES: Final = 96
MAX_ITEMS: Final = 65_536
MAX_SEGMENTS: Final = 1 << 20
MAX_CONTAINER_BYTES: Final = 1 << 30
MAX_PAGE_BYTES: Final = max(manifest_page.MAX_PAGE_BYTES, key_page.MAX_PAGE_BYTES)

NO_MARK: Final = bytes(32)
"""The mark of a container in which no backup finds a segment again."""

_HEADER: Final = struct.Struct(">8s16s16s32sQBB6s")
_FOOTER: Final = struct.Struct(">8sII")
_ITEM: Final = struct.Struct(">32sQII16s")
_TAIL: Final = struct.Struct(">QQ32s32s8s8s")
MAX_FOOTER_BYTES: Final = _FOOTER.size + _ITEM.size * MAX_ITEMS + frame.ROW.size * MAX_SEGMENTS

Mark = Callable[[bytes], bytes]
"""Computes a container's mark from the digest of its header and footer."""
ReadRange = Callable[[int, int], bytes]
"""Gives ``length`` bytes from ``offset`` of a container, fewer only at its end."""


class Content(IntEnum):
    """What a container holds."""

    FRAMES = 1
    PAGES = 2


@dataclass(frozen=True, slots=True)
class Header:
    """The first 96 bytes of a container."""

    container: ContainerId
    medium: MediumId
    origin: DomainId
    created_ns: int
    content: Content


class Item(NamedTuple):
    """One row of a footer. ``data_key`` is zeros for pages and for frames that are not encrypted."""

    id: bytes
    offset: int
    length: int
    first_segment: int
    data_key: DataKeyId


def encode_header(header: Header) -> bytes:
    """Write a container's header."""
    front = _HEADER.pack(
        HEADER_MAGIC,
        header.container,
        header.medium,
        header.origin,
        header.created_ns,
        header.content,
        Digest.BLAKE3,
        bytes(6),
    )
    return front + digest(front)[:8]


def decode_header(data: Buffer, what: str = "container") -> Header:
    """Read a container's header, the first 96 bytes of ``data``.

    Raises:
        DamagedError: cut short, changed, or a rule is broken.
        NewerFormatError: a later version, or content that this program does not know.
    """
    if len(data) < HEADER_BYTES:
        raise DamagedError(f"{what} is cut short in its header")
    magic, container, medium, origin, created_ns, content, digest_id, zero = _HEADER.unpack_from(data)
    check_magic(magic, HEADER_MAGIC, what)
    view = memoryview(data)
    if digest(view[: _HEADER.size])[:8] != bytes(view[_HEADER.size : HEADER_BYTES]):
        raise DamagedError(f"the header of {what} was changed")
    known(Digest, digest_id, f"digest algorithm of {what}")
    if zero != bytes(6):
        raise DamagedError(f"the header of {what} has reserved bytes that are not zero")
    try:
        kind = Content(content)
    except ValueError as error:
        raise NewerFormatError(f"the header of {what} names content {content}, which is not known here") from error
    return Header(ContainerId(container), MediumId(medium), DomainId(origin), created_ns, kind)


def guess_header(data: Buffer, container: ContainerId, medium: MediumId) -> Header | None:
    """Read what a damaged header still says; whoever asks knows the container and the medium.

    Args:
        data: the header, with the first bytes of the first item behind it.
        container: from the file's name.
        medium: the pool.

    Returns:
        The header as it may have been, its origin and time unproven; ``None`` when nothing says what it holds.
    """
    if len(data) < HEADER_BYTES + frame.FIXED_BYTES:
        return None
    _, _, _, origin, created_ns, _, _, _ = _HEADER.unpack_from(data)
    first = bytes(data[HEADER_BYTES:])
    if first.startswith(frame.MAGIC):
        content = Content.FRAMES
    elif first.startswith((manifest_page.MAGIC, key_page.MAGIC)):
        content = Content.PAGES
    else:
        return None
    return Header(container, medium, DomainId(origin), created_ns, content)


class Tail(NamedTuple):
    """Where the footer lies, the digest of header and footer, and the mark over that digest."""

    footer_offset: int
    footer_length: int
    digest: bytes
    mark: bytes


class SealedEnd(NamedTuple):
    """What is appended to seal a container: the bytes of footer and tail, and what the tail says."""

    data: bytes
    tail: Tail


class FooterBuilder:
    """Collects what stands in a footer while items are appended, and writes footer and tail.

    Args:
        header: the container's header as it was written, 96 bytes.
    """

    def __init__(self, header: bytes) -> None:
        self._header = header
        self._items = bytearray()
        self._segments = bytearray()
        self.offset = HEADER_BYTES
        """Where the next item goes, which is also the length of the file so far."""

    @property
    def items(self) -> int:
        """Number of items so far."""
        return len(self._items) // _ITEM.size

    @property
    def segments(self) -> int:
        """Number of segments so far."""
        return len(self._segments) // frame.ROW.size

    @property
    def sealed_bytes(self) -> int:
        """Length that the file has if it is sealed now."""
        return self.offset + _FOOTER.size + len(self._items) + len(self._segments) + TAIL_BYTES

    def fits(self, length: int, segments: int = 0) -> bool:
        """Tell whether one more item keeps the container within the format's bounds."""
        grown = self.sealed_bytes + length + _ITEM.size + segments * frame.ROW.size
        return self.items < MAX_ITEMS and self.segments + segments <= MAX_SEGMENTS and grown <= MAX_CONTAINER_BYTES

    def add(self, item_id: bytes, length: int, rows: Buffer = b"", data_key: DataKeyId = frame.NO_KEY) -> int:
        """Note an item that was appended.

        Args:
            item_id: frame or page id.
            length: its length.
            rows: the segment rows of the frame's head as they stand there; empty for a page.
            data_key: the frame's data key id.

        Returns:
            The item's offset in the file.
        """
        offset = self.offset
        self._items += _ITEM.pack(item_id, offset, length, self.segments, data_key)
        self._segments += rows
        self.offset += length
        return offset

    def finish(self, mark: Mark | None = None) -> SealedEnd:
        """Write footer and tail, which follow the last item.

        Args:
            mark: computes the mark from the digest of header and footer; ``None`` for no mark.
        """
        footer = self.footer()
        total = blake3(self._header).update(footer).digest()
        tail = Tail(self.offset, len(footer), total, NO_MARK if mark is None else mark(total))
        return SealedEnd(footer + _TAIL.pack(*tail, bytes(8), TAIL_MAGIC), tail)

    def footer(self) -> bytes:
        """Write the footer alone."""
        return _FOOTER.pack(FOOTER_MAGIC, self.items, self.segments) + self._items + self._segments


def decode_tail(data: Buffer, file_bytes: int, what: str = "container") -> Tail:
    """Read the last 96 bytes of a sealed container.

    Args:
        data: those bytes.
        file_bytes: length of the whole file.
        what: names the container in messages.

    Raises:
        DamagedError: not a tail, or the footer would not fit exactly between header and tail.
        NewerFormatError: a later version.
    """
    if len(data) != TAIL_BYTES or file_bytes > MAX_CONTAINER_BYTES:
        raise DamagedError(f"{what} is cut short in its tail, or longer than a container can be")
    offset, length, total, mark, zero, magic = _TAIL.unpack(data)
    check_magic(magic, TAIL_MAGIC, what)
    fits = offset >= HEADER_BYTES and _FOOTER.size <= length <= MAX_FOOTER_BYTES
    if not fits or offset + length + TAIL_BYTES != file_bytes or zero != bytes(8):
        raise DamagedError(f"the footer of {what} does not fit between header and tail")
    return Tail(offset, length, total, mark)


class Footer:
    """A checked footer. Rows are unpacked while they are iterated; nothing is kept for each of them.

    Args:
        data: the footer's bytes, already checked by :func:`decode_footer`.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        _, self._items, self._segments = _FOOTER.unpack_from(data)

    def __len__(self) -> int:
        return int(self._items)

    @property
    def segment_count(self) -> int:
        """Number of segments in all frames."""
        return int(self._segments)

    def items(self) -> Iterator[Item]:
        """Give the items in order."""
        end = _FOOTER.size + _ITEM.size * self._items
        return map(Item._make, _ITEM.iter_unpack(memoryview(self._data)[_FOOTER.size : end]))

    def segments(self) -> Iterator[tuple[bytes, int]]:
        """Give name and length of each segment, in the order of the items."""
        start = _FOOTER.size + _ITEM.size * self._items
        return frame.ROW.iter_unpack(memoryview(self._data)[start:])


def decode_footer(header: bytes, footer: bytes, tail: Tail, what: str = "container") -> Footer:
    """Check a footer against header and tail.

    Raises:
        DamagedError: its digest differs, or its rows break a rule.
        NewerFormatError: a later version.
    """
    if len(footer) != tail.footer_length or len(footer) < _FOOTER.size:
        raise DamagedError(f"the footer of {what} is cut short")
    if blake3(header[:HEADER_BYTES]).update(footer).digest() != tail.digest:
        raise DamagedError(f"header or footer of {what} was changed")
    magic, items, segments = _FOOTER.unpack_from(footer)
    check_magic(magic, FOOTER_MAGIC, what)
    if not 1 <= items <= MAX_ITEMS or segments > MAX_SEGMENTS:
        raise DamagedError(f"the footer of {what} claims {items} items and {segments} segments")
    if len(footer) != _FOOTER.size + _ITEM.size * items + frame.ROW.size * segments:
        raise DamagedError(f"the footer of {what} has not the length that its counts say")
    checked = Footer(footer)
    is_pages = decode_header(header, what).content is Content.PAGES
    _check_items(checked, tail, is_pages, what)
    return checked


def _check_items(footer: Footer, tail: Tail, is_pages: bool, what: str) -> None:
    expected, previous_first = HEADER_BYTES, -1
    longest = MAX_PAGE_BYTES if is_pages else frame.MAX_FRAME_BYTES
    for before, item in enumerate(footer.items()):
        if item.offset != expected or item.length == 0:
            raise DamagedError(f"the items of {what} leave a gap or overlap at {expected}")
        if item.length > longest:  # nobody signed it, and whoever reads the item asks for so many bytes
            raise DamagedError(f"the footer of {what} lists an item of {item.length} bytes at {expected}")
        if is_pages:
            right = item.first_segment == 0 and item.data_key == frame.NO_KEY
        else:
            # each frame has at least one segment, so the first is 0 and every further one is higher
            right = previous_first < item.first_segment <= footer.segment_count and (
                expected != HEADER_BYTES or item.first_segment == 0
            )
        if not right:
            raise DamagedError(f"the footer of {what} counts segments wrongly at item {before}")
        expected += item.length
        previous_first = item.first_segment
    if expected != tail.footer_offset:
        raise DamagedError(f"the items of {what} do not reach from header to footer")
    if is_pages:
        if footer.segment_count:
            raise DamagedError(f"the footer of {what} lists segments of pages")
    elif previous_first >= footer.segment_count:
        raise DamagedError(f"the footer of {what} counts segments wrongly at its last item")
    if any(not 1 <= length <= MAX_SEGMENT_BYTES for _, length in footer.segments()):
        raise DamagedError(f"the footer of {what} lists a segment of an impossible length")


def scan(read: ReadRange) -> Iterator[tuple[int, bytes]]:
    """Read a container from its front, item by item, without looking at footer or tail.

    Args:
        read: gives ranges of the container.

    Yields:
        Offset and bytes of each whole item, up to the first place where no whole item follows. Each is as its
        own head says; its id is the digest of its bytes.

    Raises:
        DamagedError: the header does not hold.
        NewerFormatError: header or an item has a later version.
    """
    header = decode_header(read(0, HEADER_BYTES))
    length_at: Callable[[Buffer], int]
    if header.content is Content.FRAMES:
        fixed_bytes, length_at = frame.FIXED_BYTES, frame.stored_length_at
    else:
        fixed_bytes, length_at = manifest_page.FIXED_BYTES, _page_length_at
    offset = HEADER_BYTES
    while offset < MAX_CONTAINER_BYTES:
        fixed = read(offset, fixed_bytes)
        try:
            length = length_at(fixed)
        except DamagedError:
            return  # the footer, or where the writer was stopped
        item = read(offset, length)
        if len(item) < length:
            return
        yield offset, item
        offset += length


def _page_length_at(fixed: Buffer) -> int:
    if bytes(fixed[: len(key_page.MAGIC)]) == key_page.MAGIC:
        return key_page.length_at(fixed)
    return manifest_page.length_at(fixed)
