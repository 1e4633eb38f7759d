"""The pools that this media server serves, open."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

from strongroom.core.clock import Clock
from strongroom.core.entropy import Entropy
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import DomainId, MediumId, to_text
from strongroom.formats import signed
from strongroom.formats.errors import ForeignError
from strongroom.formats.identity import REVOCATION_LIST
from strongroom.formats.media_header import MEDIA_HEADER
from strongroom.images.open_pool import OpenPool
from strongroom.pool import names
from strongroom.pool.errors import PoolReadError
from strongroom.services import messages
from strongroom.services.media.errors import OtherPoolError, PoolNotOpenError

logger = logging.getLogger(__name__)


class Pools:
    """Opens pools as the primary says; may be shared by threads.

    A pool that is no longer served is not closed before :meth:`close`: a session may still be at work in it.

    Args:
        domain: the own domain, to which they must belong.
        clock: for what is written.
        entropy: for what is written.
    """

    def __init__(self, domain: DomainId, clock: Clock, entropy: Entropy) -> None:
        self._domain = domain
        self._clock = clock
        self._entropy = entropy
        self._lock = threading.RLock()
        self._open: dict[MediumId, OpenPool] = {}
        self._served: set[MediumId] = set()

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
        """Open what is to be served; what cannot be opened is tried again at the next call."""
        with self._lock:
            for pool in told:
                medium = MediumId(pool.medium)
                if medium in self._open:
                    continue
                try:
                    self._keep(self._checked(Path(pool.path)), medium)
                except StrongroomError as error:
                    logger.warning(
                        "a pool cannot be opened: %s",
                        error.message,
                        extra={"event": "pool-not-opened", "medium": to_text(medium), "code": error.code},
                    )
            self._served = {MediumId(pool.medium) for pool in told}

    def make(self, path: Path, header: bytes, revocations: bytes) -> bytes:
        """Make a pool folder and serve it; one that is there already with this header is served.

        So is an unused one of this label that nobody told of: whoever had it made lost power before it was entered.

        Returns:
            The media header that lies there.

        Raises:
            DamagedError, SignatureError, ForeignError: header or list are not of this domain.
            OtherPoolError: another pool is there.
            PoolExistsError: something that is no pool is there.
            PoolFullError, PoolWriteError: the file system refused.
        """
        asked = signed.verify(MEDIA_HEADER, header, pinned=self._domain).payload
        medium = MediumId(asked.medium)
        revoked = signed.verify(REVOCATION_LIST, revocations, pinned=self._domain).payload
        with self._lock:
            if medium not in self._open:
                if (path / names.MEDIUM).exists():
                    pool = self._checked(path)
                    if pool.header.label == asked.label and self._is_unused(pool):
                        medium = pool.medium
                else:
                    pool = OpenPool.create(path, header, self._clock, self._entropy)
                self._keep(pool, medium)
            self._open[medium].folder.put(names.revocation_key(revoked.number), revocations)
            self._served.add(medium)
            return self._open[medium].folder.read(names.MEDIUM, 0, MEDIA_HEADER.max_bytes)

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
            for pool in self._open.values():
                pool.close()
            self._open.clear()
            self._served.clear()

    def _checked(self, path: Path) -> OpenPool:
        pool = OpenPool.open(path, self._clock, self._entropy)
        if pool.domain != self._domain:
            pool.close()
            raise ForeignError(f"the pool in '{path}' belongs to the domain '{pool.domain.hex()}'")
        return pool

    def _is_unused(self, pool: OpenPool) -> bool:
        if pool.medium in self._open:
            return False
        kinds = (names.CONTAINERS, names.ENVELOPES, names.IMAGES, names.JOURNAL)
        return not any(True for kind in kinds for _ in pool.folder.list(kind))

    def _keep(self, pool: OpenPool, medium: MediumId) -> None:
        if pool.medium != medium:
            pool.close()
            raise OtherPoolError(
                f"the pool in '{pool.folder.path}' is '{to_text(pool.medium)}', not '{to_text(medium)}'"
            )
        self._open[medium] = pool
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


def state_of(pool: OpenPool) -> messages.PoolState:
    """Tell how a pool is.

    Raises:
        PoolReadError: its folder is gone, such as a file system that is not mounted any more, or cannot be read.
    """
    try:
        free_bytes = shutil.disk_usage(pool.folder.path).free
    except OSError as error:
        raise PoolReadError(f"cannot read '{pool.folder.path}': {error.strerror}") from error
    return messages.PoolState(
        medium=pool.medium,
        path=str(pool.folder.path),
        free_bytes=free_bytes,
        stored_bytes=sum(size for *_, size in pool.index.containers()),
        journal=max(pool.journal.sequences(), default=0),
    )
