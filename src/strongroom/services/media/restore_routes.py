"""``GET /v1/restore/JOB``: a client gets an image, or some of its files, as an image stream.

With ``?holes=1`` the stream says in front of a file's contents where its holes are.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from aiohttp import web

from strongroom.core.errors import StrongroomError
from strongroom.core.ids import ImageId, MediumId, to_text
from strongroom.images.holes import Holes
from strongroom.images.restore import restore_stream
from strongroom.images.selection import Selection
from strongroom.images.stored_image import StoredImage
from strongroom.services import messages
from strongroom.services.media.clients import Caller, Door
from strongroom.services.media.errors import StoppingError
from strongroom.services.media.jobs import RESTORE, JobThread, MediaServer, Reporter, job_of
from strongroom.services.media.primary import ImageKeys
from strongroom.services.media.streaming import stream_out

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RestoreRoutes:
    """The route of a client's restore.

    Args:
        server: what it works with.
        door: tells who calls.
    """

    server: MediaServer
    door: Door

    def table(self) -> list[web.RouteDef]:
        """Give the routes."""
        return [web.get("/v1/restore/{job}", self._restore, allow_head=False)]

    async def _restore(self, request: web.Request) -> web.StreamResponse:
        job, grant = job_of(request)
        caller = self.door(request)
        async with JobThread(f"restore-{job}") as thread:
            spec = await thread.start(lambda: self.server.redeem(job, grant, RESTORE, caller))
            restore = _Restore(self.server, spec, caller, with_holes=request.query.get("holes") == "1")
            try:
                with self.server.sessions.of(job):
                    response = await stream_out(request, restore.pieces(), thread)
                    await thread.start(restore.tell)
            except asyncio.CancelledError:
                thread.later(lambda: self.server.fail(job, StoppingError("the media server was stopped")))
                raise
            except StrongroomError as error:
                failed = error
                await thread.start(lambda: self.server.fail(job, failed))
                raise
            finally:
                thread.later(restore.close)
        return response


class _Restore:
    """One restore; everything runs in its own thread."""

    def __init__(self, server: MediaServer, spec: messages.JobSpec, caller: Caller, *, with_holes: bool) -> None:
        self._server = server
        self._spec = spec
        self._with_holes = with_holes
        self._reporter = Reporter(server, spec.job, caller.check)
        self._opened = ExitStack()
        self._sent_bytes = 0

    def pieces(self) -> Iterator[bytes]:
        """Give the image stream."""
        spec = self._spec
        pool = self._server.pools.current(MediumId(spec.medium))
        image = ImageId(spec.image)
        fragment = pool.fragments.read(image, spec.copy)
        keys = ImageKeys(self._server.patient, spec.job, image)
        opened = self._opened.enter_context(StoredImage(pool, fragment, keys))
        logger.info("a restore began", extra={"event": "restore-began", "job": spec.job, "image": to_text(image)})
        holes = None
        if self._with_holes:
            holes = self._opened.enter_context(Holes(opened, pool.store.index_path))
        for piece in restore_stream(opened, Selection(spec.paths), holes):
            self._sent_bytes += len(piece)
            yield piece
            self._reporter.report(lambda: (0, self._sent_bytes))

    def tell(self) -> None:
        """Tell the primary that everything was sent."""
        self._server.patient.done(messages.Done(job=self._spec.job, files=0, bytes=self._sent_bytes))
        logger.info(
            "a restore ended",
            extra={"event": "restore-ended", "job": self._spec.job, "bytes": self._sent_bytes},
        )

    def close(self) -> None:
        """Let go of the image."""
        self._opened.close()
