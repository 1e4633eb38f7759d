"""Marking: which pages, frames and key envelopes the images of a pool need.

The manifests of all images are gone through level by level, from the highest to the leaves, so that a page that many
images share is looked into once, and no more than the ids of one bucket are held. Nothing here needs a key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from strongroom.core.errors import IntegrityError, NotFoundError, ResourceError
from strongroom.core.ids import DomainId, EnvelopeId, PageId
from strongroom.formats import key_page, manifest_page
from strongroom.formats.manifest_page import MAX_LEVEL, Leaf
from strongroom.pool.errors import CannotMarkError
from strongroom.pool.spool import Spool

Fetch = Callable[[DomainId, PageId], bytes]
"""Gives a page of an origin, its digest checked."""

ORIGIN_BYTES: Final = 2
_MOST_ORIGINS: Final = 1 << 16
ITEM_BYTES: Final = ORIGIN_BYTES + 32
ENVELOPE_BYTES: Final = ORIGIN_BYTES + 16
ITEM_BUCKETS: Final = 64
_LEAVES: Final = 16
_FEW: Final = 4


class Root(NamedTuple):
    """Pages that an image names: those of its streams, or its key pages."""

    origin: DomainId
    pages: tuple[PageId, ...]
    key_pages: tuple[PageId, ...]


class Origins:
    """Numbers for the domains whose images are in the pool: short, and the same for marks and items."""

    def __init__(self) -> None:
        self._numbers: dict[DomainId, int] = {}

    def record(self, origin: DomainId, identity: bytes) -> bytes:
        """Name an item, or an envelope, of an origin."""
        number = self._numbers.setdefault(origin, len(self._numbers))
        if number >= _MOST_ORIGINS:
            raise CannotMarkError("the pool holds images of more domains than can be counted")
        return number.to_bytes(ORIGIN_BYTES, "big") + identity

    def origin(self, record: bytes) -> DomainId:
        """Tell of which origin a record is."""
        number = int.from_bytes(record[:ORIGIN_BYTES], "big")
        return list(self._numbers)[number]


class Marks:
    """What is needed; close it when done.

    Args:
        folder: where what does not fit into memory lies for a while.

    Attributes:
        items: pages, key pages and frames.
        envelopes: key envelopes.
        pages: how many pages were read.
    """

    def __init__(self, folder: Path) -> None:
        self._opened = ExitStack()
        self.origins = Origins()
        self.items = self._spool(folder, ITEM_BYTES, ITEM_BUCKETS)
        self.envelopes = self._spool(folder, ENVELOPE_BYTES, _FEW)
        self.pages = 0
        self._key_pages = self._spool(folder, ITEM_BYTES, _FEW)
        self._unread = self._spool(folder, ITEM_BYTES, _FEW)
        self._levels = [self._spool(folder, ITEM_BYTES, _FEW if level else _LEAVES) for level in range(MAX_LEVEL + 1)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def follow(self, roots: Iterable[Root], fetch: Fetch, check: Callable[[int], None]) -> None:
        """Mark everything below these roots; once for all of them.

        Args:
            roots: of every image.
            fetch: gives pages.
            check: told how many pages were read, now and then; what it raises ends the marking.

        Raises:
            CannotMarkError: a page is not what, or where, it must be: nobody can say what is below it, so nothing may
                be removed.
            PoolFullError, PoolWriteError: no room for what does not fit into memory.
        """
        for root in roots:
            for page in root.pages:
                self._unread.add(self.origins.record(root.origin, page))
            for page in root.key_pages:
                self._key_pages.add(self.origins.record(root.origin, page))
        for pages in self._key_pages.sets():
            for record in pages:
                self._read_key_page(record, fetch, check)
        for pages in self._unread.sets():
            for record in pages:  # their levels are not known before they are read
                self._levels[self._page(record, fetch, check).level].add(record)
        for level in range(MAX_LEVEL, -1, -1):
            for pages in self._levels[level].sets():
                for record in pages:
                    self._read_page(record, level, fetch, check)

    def _read_key_page(self, record: bytes, fetch: Fetch, check: Callable[[int], None]) -> None:
        self.items.add(record)
        page = PageId(record[ORIGIN_BYTES:])
        try:
            envelopes = key_page.decode(self._fetch(record, fetch, check), page)
        except IntegrityError as error:
            raise _unknown(page, error) from error
        for envelope in envelopes:
            self.envelopes.add(record[:ORIGIN_BYTES] + EnvelopeId(envelope))

    def _read_page(self, record: bytes, level: int, fetch: Fetch, check: Callable[[int], None]) -> None:
        self.items.add(record)
        page = self._page(record, fetch, check)
        if page.level != level:
            raise CannotMarkError(f"the page '{record[ORIGIN_BYTES:].hex()}' is named at another level than its own")
        if isinstance(page, Leaf):
            for row in page.frames:
                self.items.add(record[:ORIGIN_BYTES] + row.frame)
        else:
            for child in page.children:
                self._levels[level - 1].add(record[:ORIGIN_BYTES] + child.page)

    def _page(self, record: bytes, fetch: Fetch, check: Callable[[int], None]) -> manifest_page.Page:
        page = PageId(record[ORIGIN_BYTES:])
        try:
            return manifest_page.decode(self._fetch(record, fetch, check), page)
        except IntegrityError as error:
            raise _unknown(page, error) from error

    def _fetch(self, record: bytes, fetch: Fetch, check: Callable[[int], None]) -> bytes:
        page = PageId(record[ORIGIN_BYTES:])
        try:
            data = fetch(self.origins.origin(record), page)
        except (IntegrityError, NotFoundError, ResourceError) as error:
            raise _unknown(page, error) from error
        self.pages += 1
        check(self.pages)
        return data

    def _spool(self, folder: Path, record_bytes: int, buckets: int) -> Spool:
        made = Spool(folder, record_bytes=record_bytes, chosen_by=ORIGIN_BYTES, buckets=buckets)
        return self._opened.enter_context(made)


def _unknown(page: PageId, error: Exception) -> CannotMarkError:
    return CannotMarkError(
        f"what an image needs cannot be told, because its page '{page.hex()}' cannot be read: {error}",
        context={"page": page.hex()},
    )
