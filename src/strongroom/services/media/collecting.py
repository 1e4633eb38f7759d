"""Collections of pools: ``POST /v1/work/collect-pool``."""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from strongroom.core.errors import StrongroomError, UnavailableError, to_document
from strongroom.core.ids import ImageId, MediumId, to_text
from strongroom.images.collect import Collected, collect
from strongroom.pool import names
from strongroom.pool.collection import Count, Epochs
from strongroom.pool.log import OwnLog
from strongroom.pool.place import is_bucket
from strongroom.services import messages
from strongroom.services.media.errors import CancelledError
from strongroom.services.media.following import CollectionLog
from strongroom.services.media.jobs import JobThread
from strongroom.services.media.pools import Pools
from strongroom.services.media.primary import PrimaryClient
from strongroom.services.record_http import CONTENT_TYPE, InternalError, piece

logger = logging.getLogger(__name__)

_UPDATE_SECONDS: Final = 1.0
_MOST_UNREAD: Final = 1_000
_MOST_TEXT: Final = 250


class CollectingError(UnavailableError):
    """The pool is being collected already."""

    code = "media.collecting"
    default_hint = "the job tries again by itself"


@dataclass
class _Collecting:
    """One collection while it runs."""

    said: messages.CollectPool
    stop: threading.Event = field(default_factory=threading.Event)
    message: str = ""

    def check(self, message: str) -> None:
        """Take what it is at.

        Raises:
            CancelledError: nobody waits for it any more.
        """
        self.message = message
        if self.stop.is_set():
            raise CancelledError(f"the job {self.said.job} was cancelled")


@dataclass(frozen=True)
class CollectRoute:
    """Collects pools, each one once at a time.

    Args:
        pools: what is served.
        primary: keeps the logs of pools in object storage.
    """

    pools: Pools
    primary: PrimaryClient
    _busy: set[bytes] = field(default_factory=set)

    async def collect(self, request: web.Request, said: messages.CollectPool) -> web.StreamResponse:
        """Collect, and answer in pieces what it is at; the last one has the outcome.

        Whoever asked ends the collection by closing the connection.
        """
        if said.medium in self._busy:  # one that was cancelled may not have heard of it yet
            raise CollectingError("the pool is being collected already")
        self._busy.add(said.medium)
        collecting = _Collecting(said)
        try:
            async with JobThread(f"collect-{said.job}") as thread:
                task = thread.start(lambda: self._run(collecting))
                try:
                    return await self._answer(request, collecting, task)
                finally:
                    collecting.stop.set()
                    await asyncio.wait({task})
        finally:
            self._busy.discard(said.medium)

    async def _answer(
        self, request: web.Request, collecting: _Collecting, task: asyncio.Future[messages.CollectUpdate]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE})
        await response.prepare(request)
        while not task.done():
            await asyncio.wait({task}, timeout=_UPDATE_SECONDS)
            if not task.done():
                await response.write(piece(messages.CollectUpdate(message=collecting.message)))
        await response.write(piece(task.result()))
        await response.write_eof()
        return response

    def _run(self, collecting: _Collecting) -> messages.CollectUpdate:
        said = collecting.said
        facts = {"job": said.job, "medium": to_text(said.medium)}
        try:
            pool = self.pools.current(MediumId(said.medium))
            log = CollectionLog(self.primary, said) if is_bucket(pool.store.place) else OwnLog()
            found = collect(
                pool,
                epochs=Epochs(said.epoch, said.closed_before, said.young_ns),
                committing=said.committing,
                without=[names.image_key(ImageId(one.image), one.copy) for one in said.without],
                dry_run=said.dry_run,
                check=collecting.check,
                log=log,
            )
        except StrongroomError as error:
            told = {"event": "not-collected", "code": error.code, **facts}
            logger.warning("a pool was not collected: %s", error.message, extra=told)
            return messages.CollectUpdate(document=to_document(error))
        except Exception:  # noqa: BLE001, RUF100 - a defect must reach the job, not end in a silent stream
            logger.exception("a collection has a defect", extra={"event": "collect-defect", **facts})
            return messages.CollectUpdate(document=to_document(InternalError("the collection failed")))
        told = {"event": "collected", "removed": found.removed.containers, "bytes": found.removed.bytes, **facts}
        logger.info("a pool was collected", extra=told)
        return messages.CollectUpdate(collected=_told(found))


def _told(found: Collected) -> messages.Collected:
    return messages.Collected(
        images=found.images,
        pages=found.pages,
        found=_counted(found.found),
        unneeded=_counted(found.unneeded),
        sparse_bytes=found.sparse_bytes,
        condemned=_counted(found.condemned),
        waiting=_counted(found.waiting),
        removed=_counted(found.removed),
        reprieved=found.reprieved,
        envelopes=found.envelopes,
        envelopes_waiting=found.envelopes_waiting,
        unread=[text[:_MOST_TEXT] for text in found.unread[:_MOST_UNREAD]],
    )


def _counted(count: Count) -> messages.Counted:
    return messages.Counted(containers=count.containers, bytes=count.bytes)
