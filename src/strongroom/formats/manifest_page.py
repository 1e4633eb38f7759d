"""Manifest pages: the Merkle tree from an image's stream to its frames.

Source: ``docs/reference/formats/manifest-page.md``. Rows are fixed tables; they are unpacked in one go and
not held as objects of their own.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from strongroom.core.ids import PageId
from strongroom.formats.algorithms import Digest, digest, known
from strongroom.formats.errors import DamagedError
from strongroom.formats.frame import MAX_FRAME_BYTES, MAX_PLAIN_BYTES
from strongroom.formats.frame import MAX_SEGMENTS as MAX_FRAME_SEGMENTS
from strongroom.formats.magic import check_magic
from strongroom.formats.segment import MAX_SEGMENT_BYTES, Buffer

MAGIC: Final = b"SRP1"
FIXED_BYTES: Final = 16
MAX_PAGE_BYTES: Final = 256 << 10
MAX_ROWS: Final = 1_024
MAX_LEVEL: Final = 8

_FIXED: Final = struct.Struct(">4sBB2sII")
MAX_SUM: Final = 1 << 62
_FRAME: Final = struct.Struct(">32s16sII")
_REFERENCE: Final = struct.Struct(">32sHHI")
_CHILD: Final = struct.Struct(">32sQQ")


class FrameRow(NamedTuple):
    """A frame that a leaf uses: id, data key id, length of its stored form, bytes of its segments."""

    frame: bytes
    data_key: bytes
    stored_bytes: int
    plain_bytes: int


class ReferenceRow(NamedTuple):
    """One use of a segment: name, index of the frame in the page, position in the frame, length."""

    name: bytes
    frame_index: int
    position: int
    length: int


class ChildRow(NamedTuple):
    """A page below: id, number of references under it, bytes of their segments."""

    page: bytes
    references: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Leaf:
    """A page of level 0."""

    frames: tuple[FrameRow, ...]
    references: tuple[ReferenceRow, ...]

    @property
    def level(self) -> int:
        """Always 0."""
        return 0

    @property
    def reference_count(self) -> int:
        """Number of references in the page."""
        return len(self.references)

    @property
    def byte_count(self) -> int:
        """Bytes of the segments that the references name."""
        return sum(reference[3] for reference in self.references)


@dataclass(frozen=True, slots=True)
class Interior:
    """A page of level 1 to 8."""

    level: int
    children: tuple[ChildRow, ...]

    @property
    def reference_count(self) -> int:
        """Number of references below, as the children's rows say."""
        return sum(child[1] for child in self.children)

    @property
    def byte_count(self) -> int:
        """Bytes of their segments, as the children's rows say."""
        return sum(child[2] for child in self.children)


Page: TypeAlias = Leaf | Interior


def page_id(page: Buffer) -> PageId:
    """Compute the id of a whole page."""
    return PageId(digest(memoryview(page)))


def encode_leaf(
    frames: Sequence[tuple[bytes, bytes, int, int]], references: Sequence[tuple[bytes, int, int, int]]
) -> bytes:
    """Write a leaf.

    Args:
        frames: rows in the fields and order of :class:`FrameRow`.
        references: rows in the fields and order of :class:`ReferenceRow`.
    """
    parts = [_FIXED.pack(MAGIC, 0, Digest.BLAKE3, bytes(2), len(frames), len(references))]
    parts += [_FRAME.pack(*row) for row in frames]
    parts += [_REFERENCE.pack(*row) for row in references]
    return b"".join(parts)


def encode_interior(level: int, children: Sequence[tuple[bytes, int, int]]) -> bytes:
    """Write an interior page of a level from rows in the fields and order of :class:`ChildRow`."""
    return b"".join(
        [_FIXED.pack(MAGIC, level, Digest.BLAKE3, bytes(2), len(children), 0), *(_CHILD.pack(*row) for row in children)]
    )


def length_at(fixed: Buffer, what: str = "page") -> int:
    """Tell a page's whole length from its first 16 bytes, bounds checked.

    Raises:
        DamagedError: not a page, or a count over its bound.
        NewerFormatError: a later version.
    """
    return _parse_fixed(fixed, what)[3]


def decode(page: Buffer, expected: PageId) -> Page:
    """Verify a page by its id and read it.

    Raises:
        DamagedError: the digest is not the id, or a rule of the page is broken.
        NewerFormatError: a later version.
    """
    what = f"page '{expected.hex()}'"
    if len(page) > MAX_PAGE_BYTES:
        raise DamagedError(f"{what} has {len(page)} bytes, more than the {MAX_PAGE_BYTES} that are allowed")
    if page_id(page) != expected:
        raise DamagedError(f"{what} has another digest")
    level, first, _, length = _parse_fixed(page, what)
    if length != len(page):
        raise DamagedError(f"{what} has {len(page)} bytes, and its counts say {length}")
    rows = memoryview(page)[FIXED_BYTES:]
    if level:
        return _interior(level, rows, what)
    return _leaf(rows[: _FRAME.size * first], rows[_FRAME.size * first :], what)


def _parse_fixed(data: Buffer, what: str) -> tuple[int, int, int, int]:
    """Read level, both counts, and the length that follows from them."""
    if len(data) < FIXED_BYTES:
        raise DamagedError(f"{what} is cut short")
    magic, level, digest_id, zero, first, second = _FIXED.unpack_from(data)
    check_magic(magic, MAGIC, what)
    known(Digest, digest_id, f"digest algorithm of {what}")
    if zero != bytes(2) or level > MAX_LEVEL or first > MAX_ROWS or second > MAX_ROWS:
        raise DamagedError(f"{what} has a level or a count that is not allowed")
    if level == 0:
        return level, first, second, FIXED_BYTES + _FRAME.size * first + _REFERENCE.size * second
    if first == 0 or second != 0:
        raise DamagedError(f"{what} has no child, or a reserved number that is not zero")
    return level, first, second, FIXED_BYTES + _CHILD.size * first


def _interior(level: int, rows: memoryview, what: str) -> Interior:
    children = tuple(map(ChildRow._make, _CHILD.iter_unpack(rows)))
    if any(child.references == 0 or child.bytes < child.references for child in children):
        raise DamagedError(f"{what} has a child without references, or with fewer bytes than references")
    page = Interior(level, children)
    if page.reference_count > MAX_SUM or page.byte_count > MAX_SUM:
        raise DamagedError(f"{what} claims more than can be")
    return page


def _leaf(frame_rows: memoryview, reference_rows: memoryview, what: str) -> Leaf:
    frames = tuple(map(FrameRow._make, _FRAME.iter_unpack(frame_rows)))
    references = tuple(map(ReferenceRow._make, _REFERENCE.iter_unpack(reference_rows)))
    if len({row.frame for row in frames}) != len(frames):
        raise DamagedError(f"{what} lists a frame twice")
    for row in frames:
        if not 1 <= row.plain_bytes <= MAX_PLAIN_BYTES or row.stored_bytes > MAX_FRAME_BYTES:
            raise DamagedError(f"{what} lists the frame '{row.frame.hex()}' with impossible lengths")
    used = 0
    for _, frame_index, position, length in references:
        if frame_index >= len(frames) or position >= MAX_FRAME_SEGMENTS or not 1 <= length <= MAX_SEGMENT_BYTES:
            raise DamagedError(f"{what} has a reference to no frame, position or length that can be")
        if frame_index > used:
            raise DamagedError(f"{what} lists its frames in another order than their first use")
        used += frame_index == used
    if used != len(frames):
        raise DamagedError(f"{what} lists a frame that it does not use")
    return Leaf(frames, references)
