"""Collections of pools: ``POST /v1/work/collect-pool``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from strongroom.core.errors import StrongroomError, UnavailableError, to_document
from strongroom.core.ids import ImageId, KeyGroupId, MediumId, to_text
from strongroom.core.secret import Secret
from strongroom.images.collect import Collected, Rewriting, collect
from strongroom.pool import names
from strongroom.pool.collection import Count, Epochs
from strongroom.pool.rewriting import Limits
from strongroom.services import messages, upkeep_messages
from strongroom.services.media.jobs import MediaServer
from strongroom.services.media.long_work import LongWork
from strongroom.services.record_http import InternalError

logger = logging.getLogger(__name__)

_MOST_UNREAD: Final = 1_000
_MOST_TEXT: Final = 250


class CollectingError(UnavailableError):
    """The pool is being collected already."""

    code = "media.collecting"
    default_hint = "the job tries again by itself"


@dataclass(frozen=True)
class CollectRoute:
    """Collects pools, each one once at a time.

    Args:
        server: what is served, and the primary, which opens naming keys.
    """

    server: MediaServer
    _busy: set[bytes] = field(default_factory=set)

    async def collect(self, request: web.Request, said: upkeep_messages.CollectPool) -> web.StreamResponse:
        """Collect, and answer in pieces what it is at; the last one has the outcome.

        Whoever asked ends the collection by closing the connection.
        """
        if said.medium in self._busy:  # one that was cancelled may not have heard of it yet
            raise CollectingError("the pool is being collected already")
        self._busy.add(said.medium)
        work = LongWork(said.job)
        try:
            return await work.answer(request, f"collect-{said.job}", lambda: self._run(said, work), _update)
        finally:
            self._busy.discard(said.medium)

    def _run(self, said: upkeep_messages.CollectPool, work: LongWork) -> upkeep_messages.CollectUpdate:
        facts = {"job": said.job, "medium": to_text(said.medium)}
        try:
            found = collect(
                self.server.pools.get(MediumId(said.medium)),
                epochs=Epochs(said.epoch, said.closed_before, said.young_ns),
                committing=said.committing,
                without=[names.image_key(ImageId(one.image), one.copy) for one in said.without],
                rewriting=self._rewriting(said, work),
                dry_run=said.dry_run,
                lift=said.lift,
                check=work.check,
            )
        except StrongroomError as error:
            told = {"event": "not-collected", "code": error.code, **facts}
            logger.warning("a pool was not collected: %s", error.message, extra=told)
            return upkeep_messages.CollectUpdate(document=to_document(error))
        except Exception:  # noqa: BLE001, RUF100 - a defect must reach the job, not end in a silent stream
            logger.exception("a collection has a defect", extra={"event": "collect-defect", **facts})
            return upkeep_messages.CollectUpdate(document=to_document(InternalError("the collection failed")))
        told = {"event": "collected", "removed": found.removed.containers, "bytes": found.removed.bytes, **facts}
        logger.info("a pool was collected", extra=told)
        return upkeep_messages.CollectUpdate(collected=_told(found))

    def _rewriting(self, asked: upkeep_messages.CollectPool, work: LongWork) -> Rewriting | None:
        said = asked.rewriting
        if said is None:
            return None

        def naming_keys(group: KeyGroupId, envelopes: Sequence[bytes]) -> Secret | None:
            told = messages.MarkingKey(job=asked.job, group=group, envelopes=list(envelopes))
            key = self.server.primary.marking_key(told).key
            return None if key is None else Secret(key)

        return Rewriting(
            Limits(said.percent, said.most_bytes),
            naming_keys,
            work.pace(self.server.clock, said.bytes_per_second),
        )


def _update(work: LongWork) -> upkeep_messages.CollectUpdate:
    return upkeep_messages.CollectUpdate(message=work.message, done=work.done, total=work.total)


def _told(found: Collected) -> upkeep_messages.Collected:
    return upkeep_messages.Collected(
        images=found.images,
        pages=found.pages,
        found=_counted(found.found),
        unneeded=_counted(found.unneeded),
        sparse_bytes=found.sparse_bytes,
        rewritten=_counted(found.rewritten),
        copied_bytes=found.copied_bytes,
        rewrite_later=found.rewrite_later,
        damaged=[text[:_MOST_TEXT] for text in found.damaged[:_MOST_UNREAD]],
        full=found.full[:_MOST_TEXT],
        condemned=_counted(found.condemned),
        waiting=_counted(found.waiting),
        removed=_counted(found.removed),
        reprieved=found.reprieved,
        envelopes=found.envelopes,
        envelopes_waiting=found.envelopes_waiting,
        locked=_counted(found.locked),
        unread=[text[:_MOST_TEXT] for text in found.unread[:_MOST_UNREAD]],
    )


def _counted(count: Count) -> upkeep_messages.Counted:
    return upkeep_messages.Counted(containers=count.containers, bytes=count.bytes)
