"""Entering a stream in its middle: references found by number or by place, along a few pages of its manifest."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final

from strongroom.core.ids import PageId
from strongroom.formats.manifest_page import ChildRow, Leaf, Page
from strongroom.pool.manifest import FetchPage, StreamRoot, check_ciphers, check_page, references_of
from strongroom.pool.references import Reference

_PAGES: Final = 32


class SeekableStream:
    """One stream of an image; every page is verified. Not for several threads at once.

    Args:
        root: from the image header.
        fetch: gives pages; the last :data:`_PAGES` are kept, at some 200 KB each.
        is_encrypted: whether the image is.
    """

    def __init__(self, root: StreamRoot, fetch: FetchPage, *, is_encrypted: bool) -> None:
        self._root = ChildRow(root.page, root.segments, root.bytes)
        self._fetch = fetch
        self._is_encrypted = is_encrypted
        self._pages: OrderedDict[tuple[bytes, int | None], Page] = OrderedDict()

    def from_number(self, number: int) -> Iterator[Reference]:
        """Give the references from one of them on.

        Args:
            number: of the first, counted from 0.

        Raises:
            DamagedError, NewerFormatError, PageMissingError, PoolReadError: as in
                :func:`~strongroom.pool.manifest.leaves`.
        """
        for before, leaf in self._leaves(self._root, None, 0, number, lambda row: row.references):
            for at, reference in enumerate(references_of(leaf), before):
                if at >= number:
                    yield reference

    def from_byte(self, offset: int) -> Iterator[tuple[int, Reference]]:
        """Give the references from the one on whose segment holds a byte of the stream.

        Args:
            offset: of the byte.

        Yields:
            Where in the stream the segment begins, and its reference.

        Raises:
            DamagedError, NewerFormatError, PageMissingError, PoolReadError: as in :meth:`from_number`.
        """
        for before, leaf in self._leaves(self._root, None, 0, offset, lambda row: row.bytes):
            at = before
            for reference in references_of(leaf):
                if at + reference.length > offset:
                    yield at, reference
                at += reference.length

    def _leaves(
        self, row: ChildRow, level: int | None, before: int, wanted: int, weight: Callable[[ChildRow], int]
    ) -> Iterator[tuple[int, Leaf]]:
        """Give the leaves below a row that do not end before the wanted place, each with the place of its begin."""
        page = self._page(row, level)
        if isinstance(page, Leaf):
            yield before, page
            return
        for child in page.children:
            if before + weight(child) > wanted:
                yield from self._leaves(child, page.level - 1, before, wanted, weight)
            before += weight(child)

    def _page(self, row: ChildRow, level: int | None) -> Page:
        key = bytes(row.page), level
        page = self._pages.get(key)
        if page is None:
            page = check_page(self._fetch(PageId(row.page)), row, level)
            if isinstance(page, Leaf):
                check_ciphers(page, row, self._is_encrypted)
            self._pages[key] = page
            if len(self._pages) > _PAGES:
                self._pages.popitem(last=False)
        else:
            self._pages.move_to_end(key)
        return page
