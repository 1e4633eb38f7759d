"""The pools that this media server serves, open."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from strongroom.core.clock import Clock
from strongroom.core.entropy import Entropy
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import DomainId, MediumId, to_text
from strongroom.formats import signed
from strongroom.formats.errors import ForeignError
from strongroom.formats.identity import REVOCATION_LIST
from strongroom.formats.media_header import MEDIA_HEADER
from strongroom.images.locking import ImageLocker
from strongroom.images.open_pool import OpenPool
from strongroom.pool import names
from strongroom.pool.errors import NotAPoolError
from strongroom.pool.folder import Folder
from strongroom.pool.place import BucketKey, BucketPlace, is_bucket
from strongroom.pool.store import PoolStore
from strongroom.services import messages
from strongroom.services.media.errors import OtherPoolError, PoolNotOpenError

logger = logging.getLogger(__name__)

_OPENED_AT_ONCE: Final = 2
_FIRST_SECONDS: Final = 15.0
"""How long a media server that begins waits for object storage: whoever asks next finds the pools open."""


class Pools:
    """Opens pools as the primary says; may be shared by threads.

    A pool that is no longer served is not closed before :meth:`close`: a session may still be at work in it. Object
    storage may be slow or away, so a bucket is opened by a thread of its own, and nobody waits for it.

    Args:
        domain: the own domain, to which they must belong.
        work: folder for the caches of pools in object storage, and for what is on its way there.
        key_for: asks the primary for the access key of a pool in object storage.
        clock: for what is written.
        entropy: for what is written.
    """

    def __init__(
        self, domain: DomainId, work: Path, key_for: Callable[[MediumId], BucketKey], clock: Clock, entropy: Entropy
    ) -> None:
        self._domain = domain
        self._work = work
        self._key_for = key_for
        self._clock = clock
        self._entropy = entropy
        self._lock = threading.RLock()
        self._open: dict[MediumId, OpenPool] = {}
        self._lockers: dict[MediumId, ImageLocker] = {}
        self._served: set[MediumId] = set()
        self._opening: dict[MediumId, Future[None]] = {}
        self._keeping: Future[None] | None = None
        self._is_closed = False
        self._has_served = False
        self._opener = ThreadPoolExecutor(_OPENED_AT_ONCE, thread_name_prefix="open-pool")

    def get(self, medium: MediumId) -> OpenPool:
        """Give a pool.

        Raises:
            PoolNotOpenError: it is not served here, or could not be opened.
        """
        with self._lock:
            pool = self._open.get(medium)
            if pool is None or medium not in self._served:
                raise PoolNotOpenError(f"this media server does not serve the pool '{to_text(medium)}'")
            return pool

    def serve(self, told: Sequence[messages.PoolToOpen]) -> None:
        """Open what is to be served; what cannot be opened is tried again at the next call.

        The first call waits a while for object storage, the others do not.
        """
        with self._lock:
            is_first, self._has_served = not self._has_served, True
            for pool in told:
                medium = MediumId(pool.medium)
                if medium in self._open:
                    continue
                if not is_bucket(pool.path):
                    self._try(medium, pool.path)
                elif medium not in self._opening or self._opening[medium].done():
                    self._opening[medium] = self._opener.submit(self._try, medium, pool.path)
            self._served = {MediumId(pool.medium) for pool in told}
            opening = list(self._opening.values())
        if is_first:
            wait(opening, _FIRST_SECONDS)

    def make(self, path: str, header: bytes, revocations: bytes, key: BucketKey | None) -> bytes:
        """Make a pool and serve it; one that is there already with this header is served.

        Args:
            path: a folder, or with a key the place of a bucket.
            header: the signed media header.
            revocations: the revocation list of the domain.
            key: for the bucket.

        So is an unused one of this label that nobody told of: whoever had it made lost power before it was entered.

        Returns:
            The media header that lies there.

        Raises:
            DamagedError, SignatureError, ForeignError: header or list are not of this domain.
            OtherPoolError: another pool is there.
            PoolExistsError: something that is no pool is there.
            PoolFullError, PoolWriteError: the storage refused.
            BucketMissingError, BucketDeniedError, BucketRegionError, BucketUnreachableError: as they say.
        """
        asked = signed.verify(MEDIA_HEADER, header, pinned=self._domain).payload
        medium = MediumId(asked.medium)
        revoked = signed.verify(REVOCATION_LIST, revocations, pinned=self._domain).payload
        with self._lock:
            pool = self._open.get(medium)
        if pool is None:
            pool = self._made_bucket(path, medium, header, key) if key else self._made_folder(Path(path), header)
            if pool.header.label == asked.label and self._is_unused(pool):
                medium = pool.medium
            pool = self._keep(pool, medium)
        pool.store.put(names.revocation_key(revoked.number), revocations)
        with self._lock:
            self._served.add(medium)
        return pool.store.read(names.MEDIUM, 0, MEDIA_HEADER.max_bytes)

    def rekey(self, medium: MediumId, path: str, key: BucketKey) -> None:
        """Ask a pool's object storage with another access key from now on; a pool that is not open is opened with it.

        Raises:
            BucketMissingError, BucketDeniedError, BucketRegionError, BucketUnreachableError: it does not serve; the
                earlier key stays.
        """
        from strongroom.pool.bucket import BucketStore

        with self._lock:
            pool = self._open.get(medium)
        if pool is None:
            self._keep(self._checked(self._bucket(BucketPlace.read(path), medium, key)), medium)
        elif isinstance(pool.store, BucketStore):
            pool.store.rekey(key)

    def locker(self, medium: MediumId) -> ImageLocker:
        """Give what locks the images of a pool.

        Raises:
            PoolNotOpenError: the pool is not served here, or could not be opened.
        """
        pool = self.get(medium)
        with self._lock:
            return self._lockers.setdefault(medium, ImageLocker(pool))

    def keep_clocks(self) -> None:
        """Keep the lock clocks of the pools; called with every beat, which waits for no storage."""
        with self._lock:
            if not self._is_closed and (self._keeping is None or self._keeping.done()):
                self._keeping = self._opener.submit(_keep_clocks, list(self._open.values()))

    def states(self) -> list[messages.PoolState]:
        """Tell how the served pools are; one whose storage cannot be read is left out, and the others are told."""
        with self._lock:
            served = [self._open[medium] for medium in sorted(self._served & self._open.keys())]
        states = []
        for pool in served:
            try:
                states.append(state_of(pool))
            except StrongroomError as error:
                logger.warning(
                    "a pool cannot be read: %s",
                    error.message,
                    extra={"event": "pool-not-read", "medium": to_text(pool.medium), "code": error.code},
                )
        return states

    def close(self) -> None:
        """Close all; nothing may be at work in them."""
        with self._lock:
            self._is_closed = True  # a last beat may still be under way
        self._opener.shutdown(cancel_futures=True)
        with self._lock:
            for pool in self._open.values():
                keep_clock(pool, at_once=True)
                pool.close()
            self._open.clear()
            self._lockers.clear()
            self._served.clear()

    def _try(self, medium: MediumId, path: str) -> None:
        """Open a pool, if it can be opened."""
        try:
            if is_bucket(path):
                pool = self._checked(self._bucket(BucketPlace.read(path), medium, self._key_for(medium)))
            else:
                pool = self._checked(Folder.open(Path(path), self._entropy))
            self._keep(pool, medium)
        except StrongroomError as error:
            logger.warning(
                "a pool cannot be opened: %s",
                error.message,
                extra={"event": "pool-not-opened", "medium": to_text(medium), "code": error.code},
            )

    def _made_folder(self, path: Path, header: bytes) -> OpenPool:
        if (path / names.MEDIUM).exists():
            return self._checked(Folder.open(path, self._entropy))
        return self._checked(Folder.create(path, header, self._entropy))

    def _made_bucket(self, path: str, medium: MediumId, header: bytes, key: BucketKey) -> OpenPool:
        place = BucketPlace.read(path)
        try:
            store = self._bucket(place, medium, key)
        except NotAPoolError:
            store = self._bucket(place, medium, key, header)
        return self._checked(store)

    def _bucket(self, place: BucketPlace, medium: MediumId, key: BucketKey, header: bytes | None = None) -> PoolStore:
        """Open a bucket; with a header, make the pool in it."""
        # Here, because what speaks to object storage takes memory and time that most media servers need not spend.
        from strongroom.pool.bucket import BucketStore

        work = self._work / medium.hex()
        if header is None:
            return BucketStore.open(place, key, work, self._entropy)
        return BucketStore.create(place, key, work, header, self._entropy)

    def _checked(self, store: PoolStore) -> OpenPool:
        with ExitStack() as on_error:
            on_error.callback(store.close)
            pool = OpenPool.over(store, self._clock, self._entropy)
            on_error.pop_all()
        if pool.domain != self._domain:
            pool.close()
            raise ForeignError(f"the pool in '{store.place}' belongs to the domain '{pool.domain.hex()}'")
        return pool

    def _is_unused(self, pool: OpenPool) -> bool:
        with self._lock:
            if pool.medium in self._open:
                return False
        kinds = (names.CONTAINERS, names.ENVELOPES, names.IMAGES, names.JOURNAL)
        return not any(True for kind in kinds for _ in pool.store.list(kind))

    def _keep(self, pool: OpenPool, medium: MediumId) -> OpenPool:
        """Take an open pool in; another thread may have been faster, and then its one is given."""
        if pool.medium != medium:
            pool.close()
            raise OtherPoolError(
                f"the pool in '{pool.store.place}' is '{to_text(pool.medium)}', not '{to_text(medium)}'"
            )
        with self._lock:
            kept = self._open.setdefault(medium, pool)
        if kept is not pool:
            pool.close()
            return kept
        for container, items in pool.salvaged:
            logger.info(
                "what a dead receiver had taken was kept",
                extra={
                    "event": "container-salvaged",
                    "medium": to_text(medium),
                    "container": container.hex(),
                    "items": items,
                },
            )
        for container, problem in pool.refreshed.problems:
            logger.warning(
                "a container has a problem: %s",
                problem,
                extra={"event": "container-problem", "medium": to_text(medium), "container": container.hex()},
            )
        for problem in pool.refused:
            logger.warning(
                "a key envelope was refused: %s",
                problem,
                extra={"event": "envelope-refused", "medium": to_text(medium)},
            )
        return pool


def _keep_clocks(pools: Sequence[OpenPool]) -> None:
    for pool in pools:
        keep_clock(pool)


def keep_clock(pool: OpenPool, *, at_once: bool = False) -> None:
    """Keep the lock clock of a pool; where the storage refuses, the clock goes on and is kept another time."""
    try:
        pool.locks.keep_clock(at_once=at_once)
    except StrongroomError as error:
        logger.warning(
            "the lock clock of a pool is not kept: %s",
            error.message,
            extra={"event": "lock-clock-not-kept", "medium": to_text(pool.medium), "code": error.code},
        )


def state_of(pool: OpenPool) -> messages.PoolState:
    """Tell how a pool is.

    Raises:
        PoolReadError: its folder is gone, such as a file system that is not mounted any more, or cannot be read.
    """
    sizes = [size for *_, size in pool.index.containers()]
    checks = pool.checks.state()
    return messages.PoolState(
        medium=pool.medium,
        path=pool.store.place,
        free_bytes=pool.store.free_bytes(),
        stored_bytes=sum(sizes),
        journal=pool.journal.last(),
        checks=messages.PoolChecks(
            oldest_ns=checks.oldest_ns,
            unchecked=max(0, len(sizes) - checks.containers),
            damaged=checks.damaged,
        ),
        requests=dict(pool.store.requests()),
        lock=lock_state(pool),
    )


def lock_state(pool: OpenPool) -> messages.LockState:
    """Tell how a pool is locked."""
    facts = pool.locks.facts()
    return messages.LockState(
        mode=facts.mode.word,
        rounding_days=facts.rounding_days,
        clock_ns=facts.clock_ns,
        objects=facts.objects,
        latest_ns=facts.latest_ns,
    )
