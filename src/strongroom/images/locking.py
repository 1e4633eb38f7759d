"""Locking an image: everything that phase one and a restore read of it stays until its lock ends.

Its fragment, its key envelopes in all generations, and the containers with its pages and frames. A page names what is
below it by digests, so what was gone through once for an end of lock is not gone through again: after the first image
of a client, the next ones cost the pages that are new.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import Final

from strongroom.core.ids import DomainId, FrameId, ImageId, PageId
from strongroom.formats import manifest_page
from strongroom.formats.fragment import Fragment
from strongroom.formats.lock_record import LockMode
from strongroom.formats.manifest_page import Leaf
from strongroom.images.open_pool import OpenPool
from strongroom.images.stored_image import Roots, envelopes_of
from strongroom.pool import names
from strongroom.pool.errors import FrameMissingError, PageMissingError
from strongroom.pool.reader import PageReader

_BATCH: Final = 4_096
_MOST_REMEMBERED: Final = 65_536
NS: Final = 1_000_000_000

Followed = dict[tuple[DomainId, PageId], int]
"""Pages that were gone through with all that is below them, and until when that is locked."""


class ImageLocker:
    """Locks images of one pool; may be shared by threads.

    Args:
        pool: the pool.
    """

    def __init__(self, pool: OpenPool) -> None:
        self._pool = pool
        self._lock = threading.Lock()
        self._followed: Followed = {}
        self._lifted = pool.locks.lifted

    def lock(self, fragment: Fragment) -> int:
        """Lock an image as long as it was to be kept when it was written; may be repeated.

        Args:
            fragment: of a copy that lies in the pool.

        Returns:
            When the lock ends, by the lock clock, in ns; 0 in a pool that locks nothing.

        Raises:
            FrameMissingError, PageMissingError, DamagedError: the image is not whole, so it cannot be locked.
            PoolFullError, PoolWriteError, PoolReadError: the storage refused.
        """
        locks = self._pool.locks
        locks.refresh()  # another media server may have made the pool one that locks
        if locks.mode is LockMode.NONE:
            return 0
        key = _key_of(fragment)
        held_ns = locks.until_ns(key)
        if held_ns > locks.now_ns():
            return held_ns  # after a crash, or a lost answer: it was locked with all that it needs
        return self.lock_for(fragment, retention_of(fragment))

    def lock_for(self, fragment: Fragment, seconds: int | None) -> int:
        """Lock an image for so long from now on, ``None`` for ever; a lock that lasts longer stays.

        Returns:
            When the lock ends, by the lock clock, in ns.

        Raises:
            FrameMissingError, PageMissingError, DamagedError: the image is not whole, so it cannot be locked.
            PoolFullError, PoolWriteError, PoolReadError: the storage refused.
        """
        pool, origin = self._pool, fragment.image.signer
        with self._lock:
            if self._lifted != pool.locks.lifted:  # a container that was gone through may be gone itself
                self._lifted = pool.locks.lifted
                self._followed.clear()
        until_ns = max(pool.locks.end_of(seconds), pool.locks.until_ns(_key_of(fragment)))
        roots = Roots.of(fragment)
        pages = _Pages(pool, origin)
        keys = set(pages.holding([PageId(page) for page in fragment.copy.payload.key_pages], PageMissingError))
        keys.update(pool.envelopes.all_keys_of(envelopes_of(pool, fragment, pages.reader.page), origin))
        followed = self._follow(pages, [roots.entries.page, roots.payload.page], until_ns, keys)
        # the fragment is not among the others: while its own lock is missing, all of this is done again
        pool.locks.lock(keys, until_ns)
        with self._lock:
            if len(self._followed) + len(followed) > _MOST_REMEMBERED:
                self._followed.clear()
            self._followed.update(dict.fromkeys(islice(followed, _MOST_REMEMBERED), until_ns))
        pool.locks.lock([_key_of(fragment)], until_ns)
        return until_ns

    def _follow(
        self, pages: _Pages, roots: Iterable[PageId], until_ns: int, keys: set[str]
    ) -> set[tuple[DomainId, PageId]]:
        """Add the containers of all pages and frames below some roots; give the pages that were gone through."""
        met: set[tuple[DomainId, PageId]] = set()
        todo = list(roots)
        while todo:
            batch = [
                page for page in dict.fromkeys(todo[-_BATCH:]) if not self._is_followed(pages, page, until_ns, met)
            ]
            del todo[-_BATCH:]
            keys.update(pages.holding(batch, PageMissingError))
            frames: set[FrameId] = set()
            for page in batch:
                met.add((pages.origin, page))
                found = manifest_page.decode(pages.reader.page(page), page)
                if isinstance(found, Leaf):
                    frames.update(FrameId(row.frame) for row in found.frames)
                else:
                    todo += [PageId(child.page) for child in found.children]
                if len(frames) >= _BATCH:
                    keys.update(pages.holding(frames, FrameMissingError))
                    frames.clear()
            keys.update(pages.holding(frames, FrameMissingError))
        return met

    def _is_followed(self, pages: _Pages, page: PageId, until_ns: int, met: set[tuple[DomainId, PageId]]) -> bool:
        key = (pages.origin, page)
        with self._lock:
            return key in met or self._followed.get(key, 0) >= until_ns


class _Pages:
    """The pages of one origin, and which containers hold them and what they name."""

    def __init__(self, pool: OpenPool, origin: DomainId) -> None:
        self.origin = origin
        self.reader: PageReader = pool.pages(origin)
        self._pool = pool

    def holding(
        self,
        ids: Collection[PageId] | Collection[FrameId],
        missing: type[PageMissingError] | type[FrameMissingError],
    ) -> Iterator[str]:
        """Give the keys of all containers with any of these; one that lies twice is locked in both places."""
        found = self._pool.index.locate(ids, self.origin)
        for item in ids:
            if item not in found:
                raise missing(f"no container holds '{item.hex()}', which the image needs")
            for place in found[item]:
                yield names.container_key(place.container)


def retention_of(fragment: Fragment) -> int | None:
    """Tell for how many seconds a copy was to be kept when it was written; ``None`` for ever."""
    copy = fragment.copy.payload
    if copy.expires is None:
        return None
    if fragment.image.signer == copy.domain and fragment.image.payload.retention is not None:
        return fragment.image.payload.retention
    return max(0, -(-(copy.expires - copy.written) // NS))


def _key_of(fragment: Fragment) -> str:
    return names.image_key(ImageId(fragment.copy.payload.image), fragment.copy.payload.copy)
