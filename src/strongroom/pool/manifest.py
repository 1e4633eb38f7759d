"""Manifests: the Merkle tree of references from an image's stream to its frames, built and read as a stream.

Source: ``docs/reference/formats/manifest-page.md``. Memory is a few pages for each level of the tree.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias, TypeVar

from strongroom.core.errors import IntegrityError, NotFoundError
from strongroom.core.ids import DataKeyId, FrameId, PageId, SegmentName
from strongroom.formats import manifest_page
from strongroom.formats.errors import DamagedError
from strongroom.formats.frame import NO_KEY
from strongroom.formats.manifest_page import MAX_LEVEL, MAX_ROWS, ChildRow, Leaf, Page
from strongroom.pool.errors import PoolReadError
from strongroom.pool.references import Reference

PutPage: TypeAlias = Callable[[bytes], PageId]
"""Stores a page and gives its id."""
FetchPage: TypeAlias = Callable[[PageId], bytes]
"""Gives a page's bytes, which are verified by whoever asked."""
SeenPages: TypeAlias = dict[PageId, tuple[ChildRow, int | None]]
"""What was said of each page that was gone through, and the level at which it stood."""

_LEAF_LEAST: Final = 64
_INTERIOR_LEAST: Final = 16
_INTERIOR_CUT_BELOW: Final = 8


class StreamRoot(NamedTuple):
    """What an image header says of a stream: root page, number of references, bytes of their segments."""

    page: PageId
    segments: int
    bytes: int


class ManifestBuilder:
    """Builds the tree of one stream, from front to back.

    Args:
        put: stores a page.
        merge_repeats: leave out a reference whose segment is that of the one before it: true for *payload*,
            where extents count the changes of segment, false for *entries*, whose bytes are its segments one
            after the other.
    """

    def __init__(self, put: PutPage, *, merge_repeats: bool) -> None:
        self._put = put
        self._merge_repeats = merge_repeats
        self._last: SegmentName | None = None
        self._frames: dict[FrameId, int] = {}
        self._frame_rows: list[tuple[bytes, bytes, int, int]] = []
        self._references: list[tuple[bytes, int, int, int]] = []
        self._levels: list[list[tuple[PageId, int, int]]] = []
        self._has_closed: list[bool] = []
        self._segments = 0
        self._bytes = 0

    def add(self, references: Iterable[Reference]) -> None:
        """Add the next references of the stream."""
        for reference in references:
            if self._merge_repeats and reference.name == self._last:
                continue
            self._last = reference.name
            frame_index = self._frames.get(reference.frame_id)
            if frame_index is None:
                frame_index = self._frames[reference.frame_id] = len(self._frame_rows)
                self._frame_rows.append(
                    (reference.frame_id, reference.data_key_id, reference.frame_length, reference.frame_bytes)
                )
            self._references.append((reference.name, frame_index, reference.position, reference.length))
            count = len(self._references)
            if count == MAX_ROWS or (count >= _LEAF_LEAST and reference.name[-1] == 0):
                self._close_leaf()

    def finish(self) -> StreamRoot:
        """Write what is left and give the root."""
        if self._references or not self._levels:
            self._close_leaf()
        level = 0
        while True:
            rows = self._levels[level]
            if len(rows) == 1 and not self._has_closed[level]:
                return StreamRoot(rows[0][0], self._segments, self._bytes)
            if rows:
                self._close_interior(level)
            level += 1

    def _close_leaf(self) -> None:
        page = manifest_page.encode_leaf(self._frame_rows, self._references)
        count = len(self._references)
        total = sum(row[3] for row in self._references)
        self._frames.clear()
        self._frame_rows.clear()
        self._references.clear()
        self._segments += count
        self._bytes += total
        self._push(0, (self._put(page), count, total))

    def _close_interior(self, level: int) -> None:
        """Write the page over the pages of a level, which becomes a child one level up."""
        rows = self._levels[level]
        if level == MAX_LEVEL:
            raise ValueError("a manifest tree cannot be higher")
        page = manifest_page.encode_interior(level + 1, rows)
        child = (self._put(page), sum(row[1] for row in rows), sum(row[2] for row in rows))
        rows.clear()
        self._has_closed[level] = True
        self._push(level + 1, child)

    def _push(self, level: int, child: tuple[PageId, int, int]) -> None:
        if level == len(self._levels):
            self._levels.append([])
            self._has_closed.append(False)
        rows = self._levels[level]
        rows.append(child)
        if len(rows) == MAX_ROWS or (len(rows) >= _INTERIOR_LEAST and child[0][-1] < _INTERIOR_CUT_BELOW):
            self._close_interior(level)


@dataclass(frozen=True, slots=True)
class PageDamage:
    """A part of a tree that cannot be read.

    Attributes:
        page: the page.
        first_segment: number, in the stream, of the first reference below it.
        segments: how many references are below it.
        error: what is wrong.
    """

    page: PageId
    first_segment: int
    segments: int
    error: IntegrityError | NotFoundError | PoolReadError


_T = TypeVar("_T", Reference, Reference | PageDamage)


def leaves(
    root: StreamRoot,
    fetch: FetchPage,
    *,
    is_encrypted: bool,
    on_damage: Callable[[PageDamage], None] | None = None,
    seen: SeenPages | None = None,
) -> Iterator[tuple[int, Leaf]]:
    """Go through the leaf pages of a stream in order, verifying every page.

    Args:
        root: from the image header.
        fetch: gives pages.
        is_encrypted: whether the image is; all of its frames are, or none.
        on_damage: told of what cannot be read, which is then left out; without it the first damage is raised.
        seen: pages that were gone through, which are left out and added to; for checkers, which visit each once.

    Yields:
        The number of the leaf's first reference in the stream, and the leaf.

    Raises:
        DamagedError: a page is not what its parent, or the image header, says.
        NewerFormatError: a page has a later version.
        PageMissingError: a page is not there.
        PoolReadError: the storage refused.
    """
    number = 0
    stack: list[tuple[int | None, Iterator[ChildRow]]] = [
        (None, iter((ChildRow(root.page, root.segments, root.bytes),)))
    ]
    while stack:
        level, rows = stack[-1]
        row = next(rows, None)
        if row is None:
            stack.pop()
            continue
        if seen is not None and seen.get(PageId(row.page)) == (row, level):
            number += row.references
            continue
        try:
            page = check_page(fetch(PageId(row.page)), row, level)
            if isinstance(page, Leaf):
                check_ciphers(page, row, is_encrypted)
        except (IntegrityError, NotFoundError, PoolReadError) as error:
            if on_damage is None:
                raise
            on_damage(PageDamage(PageId(row.page), number, row.references, error))
            number += row.references
            continue
        if seen is not None:
            seen[PageId(row.page)] = row, level
        if isinstance(page, Leaf):
            yield number, page
            number += row.references
        else:
            stack.append((page.level - 1, iter(page.children)))


def read_manifest(root: StreamRoot, fetch: FetchPage, *, is_encrypted: bool) -> Iterator[Reference]:
    """Give the references of a stream in order of use, verifying every page.

    Args:
        root: from the image header.
        fetch: gives pages.
        is_encrypted: whether the image is; all of its frames are, or none.

    Raises:
        DamagedError, NewerFormatError, PageMissingError, PoolReadError: as in :func:`leaves`.
    """
    for _, leaf in leaves(root, fetch, is_encrypted=is_encrypted):
        yield from references_of(leaf)


def readable_references(root: StreamRoot, fetch: FetchPage, *, is_encrypted: bool) -> Iterator[Reference | PageDamage]:
    """Give the references of a stream in order of use, and the damage in place of those that cannot be read.

    Args:
        root: from the image header.
        fetch: gives pages.
        is_encrypted: whether the image is; all of its frames are, or none.
    """
    damages: deque[PageDamage] = deque()
    for _, leaf in leaves(root, fetch, is_encrypted=is_encrypted, on_damage=damages.append):
        while damages:
            yield damages.popleft()
        yield from references_of(leaf)
    yield from damages


def references_of(leaf: Leaf) -> Iterator[Reference]:
    """Give the references of one leaf page."""
    for name, frame_index, position, length in leaf.references:
        frame_id, data_key, stored_bytes, plain_bytes = leaf.frames[frame_index]
        yield Reference(
            SegmentName(name),
            FrameId(frame_id),
            DataKeyId(data_key),
            stored_bytes,
            plain_bytes,
            position,
            length,
        )


def without_repeats(references: Iterable[_T]) -> Iterator[_T]:
    """Give the references of a *payload*, of which none may stand directly behind itself.

    Raises:
        DamagedError: one does; whoever follows extents could not tell whether they mean the first or the second.
    """
    last: SegmentName | None = None
    for reference in references:
        if isinstance(reference, PageDamage):
            last = None
            yield reference
            continue
        if reference.name == last:
            raise DamagedError(f"the payload names the segment '{reference.name.hex()}' twice in a row")
        last = reference.name
        yield reference


def check_page(data: bytes, row: ChildRow, level: int | None) -> Page:
    """Verify a page against what its parent, or the image header, says of it.

    Args:
        data: the page.
        row: its id, and the references and bytes below it.
        level: the level it must have; ``None`` for a root.

    Raises:
        DamagedError: it is not that page, or holds something else.
        NewerFormatError: a later version.
    """
    page = manifest_page.decode(data, PageId(row.page))
    if level is not None and page.level != level:
        raise DamagedError(f"page '{row.page.hex()}' has level {page.level} where {level} belongs")
    if page.reference_count != row.references or page.byte_count != row.bytes:
        raise DamagedError(
            f"page '{row.page.hex()}' holds {page.reference_count} references of {page.byte_count} bytes,"
            f" and {row.references} of {row.bytes} were signed"
        )
    return page


def check_ciphers(leaf: Leaf, row: ChildRow, is_encrypted: bool) -> None:
    """Verify that all frames of a leaf are encrypted, or none, as the image is.

    Raises:
        DamagedError: one is not.
    """
    if any((frame.data_key == NO_KEY) == is_encrypted for frame in leaf.frames):
        wrong = "a frame that is not encrypted" if is_encrypted else "an encrypted frame"
        raise DamagedError(f"page '{row.page.hex()}' names {wrong}, unlike its image")
