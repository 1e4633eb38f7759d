"""Scrubs of pools: ``POST /v1/work/scrub-pool``."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from strongroom.core.errors import StrongroomError, UnavailableError, to_document
from strongroom.core.ids import MediumId, to_text
from strongroom.images.scrub import Scrubbed, scrub
from strongroom.services import upkeep_messages
from strongroom.services.media.jobs import MediaServer
from strongroom.services.media.long_work import LongWork
from strongroom.services.record_http import InternalError

logger = logging.getLogger(__name__)

_MOST_LISTED: Final = 1_000
_MOST_TEXT: Final = 250


class ScrubbingError(UnavailableError):
    """The pool is being scrubbed already."""

    code = "media.scrubbing"
    default_hint = "the job tries again by itself"


@dataclass(frozen=True)
class ScrubRoute:
    """Scrubs pools, each one once at a time.

    Args:
        server: what is served.
    """

    server: MediaServer
    _busy: set[bytes] = field(default_factory=set)

    async def scrub(self, request: web.Request, said: upkeep_messages.ScrubPool) -> web.StreamResponse:
        """Scrub, and answer in pieces what it is at; the last one has the outcome."""
        if said.medium in self._busy:  # one that was cancelled may not have heard of it yet
            raise ScrubbingError("the pool is being scrubbed already")
        self._busy.add(said.medium)
        work = LongWork(said.job)
        try:
            return await work.answer(request, f"scrub-{said.job}", lambda: self._run(said, work), _update)
        finally:
            self._busy.discard(said.medium)

    def _run(self, said: upkeep_messages.ScrubPool, work: LongWork) -> upkeep_messages.ScrubUpdate:
        facts = {"job": said.job, "medium": to_text(said.medium)}
        try:
            found = scrub(
                self.server.pools.get(MediumId(said.medium)),
                since_ns=said.since_ns,
                pace=work.pace(self.server.clock, said.bytes_per_second),
                check=work.check,
            )
        except StrongroomError as error:
            told = {"event": "not-scrubbed", "code": error.code, **facts}
            logger.warning("a pool was not scrubbed to its end: %s", error.message, extra=told)
            return upkeep_messages.ScrubUpdate(document=to_document(error))
        except Exception:  # noqa: BLE001, RUF100 - a defect must reach the job, not end in a silent stream
            logger.exception("a scrub has a defect", extra={"event": "scrub-defect", **facts})
            return upkeep_messages.ScrubUpdate(document=to_document(InternalError("the scrub failed")))
        for one in found.damaged:
            told = {"event": "object-damaged", "key": one.key, **facts}
            logger.error("an object of a pool is damaged: %s", one.problem, extra=told)
        logger.info("a pool was scrubbed", extra={"event": "scrubbed", "objects": found.objects, **facts})
        return upkeep_messages.ScrubUpdate(scrubbed=_told(found))


def _update(work: LongWork) -> upkeep_messages.ScrubUpdate:
    return upkeep_messages.ScrubUpdate(message=work.message, done=work.done, total=work.total)


def _told(found: Scrubbed) -> upkeep_messages.Scrubbed:
    return upkeep_messages.Scrubbed(
        objects=found.objects,
        bytes=found.bytes,
        damaged=[
            upkeep_messages.DamagedObject(key=one.key, at_ns=one.at_ns, problem=one.problem[:_MOST_TEXT])
            for one in found.damaged[:_MOST_LISTED]
        ],
        damaged_count=len(found.damaged),
        images=[
            upkeep_messages.DamagedImage(
                name=one.name, image=one.image, problems=[text[:_MOST_TEXT] for text in one.problems]
            )
            for one in found.images[:_MOST_LISTED]
        ],
        image_count=len(found.images),
    )
