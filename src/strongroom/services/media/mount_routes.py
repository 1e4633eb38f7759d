"""``/v1/mount/JOB``: a client has an image open, and reads whatever it likes of it.

The first request opens the image and stays open: it is the client's session, and its end is the end of the mount. The
others are questions about it, answered as long as it lasts. Source: ``docs/reference/protocols/mount.md``.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from aiohttp import web

from strongroom.core.errors import InputError, StrongroomError
from strongroom.core.ids import ImageId, MediumId, to_text
from strongroom.core.secret import Secret
from strongroom.formats import entries, mount
from strongroom.images.ranges import Ranges
from strongroom.images.stored_image import StoredImage
from strongroom.images.tree import ImageTree, Node, without_extents
from strongroom.services import messages
from strongroom.services.media.clients import Caller, Door
from strongroom.services.media.errors import ClientGoneError, NotMountedError, StoppingError, UnknownWorkError
from strongroom.services.media.jobs import MOUNT, JobThread, MediaServer, Reporter, job_of
from strongroom.services.media.primary import ImageKeys
from strongroom.services.media.streaming import CONTENT_TYPE
from strongroom.services.record_http import read_body

logger = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 0.5
_U32: Final = struct.Struct(">I")

T = TypeVar("T")


class _Mount:
    """One image, open for one client; questions come from several threads.

    Args:
        server: what it works with.
        spec: what may be read.
        grant: the client's, of which the digest is kept.
        caller: the client.
    """

    def __init__(self, server: MediaServer, spec: messages.JobSpec, grant: Secret, caller: Caller) -> None:
        pool = server.pools.current(MediumId(spec.medium))
        image = ImageId(spec.image)
        self._digest = hashlib.sha256(grant.reveal()).digest()
        self._host = caller.host
        self._server = server
        self._spec = spec
        self._reporter = Reporter(server, spec.job, caller.check)
        self._lock = threading.Lock()
        self._busy = 0
        self._closed = False
        self._sent_bytes = 0
        self.ended = threading.Event()
        fragment = pool.fragments.read(image, spec.copy)
        self._image = StoredImage(pool, fragment, ImageKeys(server.patient, spec.job, image))
        try:
            self.tree = ImageTree(self._image)
        except StrongroomError:
            self._image.close()
            raise
        self._ranges = Ranges(self._image, self.tree)
        logger.info("a mount began", extra={"event": "mount-began", "job": spec.job, "image": to_text(image)})

    def is_of(self, grant: Secret, caller: Caller) -> bool:
        """Tell whether the client that began this asks, and with the grant that began it."""
        return caller.host == self._host and hmac.compare_digest(self._digest, hashlib.sha256(grant.reveal()).digest())

    def call(self, question: Callable[[_Mount], bytes]) -> bytes:
        """Answer a question, unless the mount has ended.

        Raises:
            NotMountedError: it has.
            StrongroomError: the image cannot be read there.
        """
        with self._lock:
            if self._closed:
                raise NotMountedError(f"the mount of job {self._spec.job} has ended")
            self._busy += 1
        try:
            return question(self)
        finally:
            with self._lock:
                self._busy -= 1
                if self._closed and not self._busy:
                    self._image.close()

    def look(self, said: mount.Look) -> bytes:
        """Give the records of a file, or nothing."""
        node = self.tree.find(said.path)
        if node is None:
            return b""
        more = b"".join(entries.encode(record) for record in self.tree.attributes(node))
        return entries.encode(without_extents(node.entry)) + more

    def list(self, said: mount.List) -> bytes:
        """Give the next records of a folder; of attributes, those in the records themselves."""
        found: list[bytes] = []
        length = 0
        for node in self.tree.children(said.folder, said.after):
            found.append(entries.encode(without_extents(node.entry)))
            length += len(found[-1])
            if len(found) == mount.MAX_LISTED or length >= mount.MAX_LISTED_BYTES:
                break
        return b"".join(found)

    def read(self, said: mount.Read) -> bytes:
        """Give bytes of a file."""
        node = self._regular(said.path)
        data = self._ranges.read(node, said.offset, said.length)
        with self._lock:
            self._sent_bytes += len(data)
        return data

    def report(self) -> None:
        """Tell the primary now and then how much was read.

        Raises:
            CancelledError: the job is to stop.
        """
        self._reporter.report(lambda: (0, self._sent_bytes))

    def tell(self) -> None:
        """Tell the primary that the client has ended it."""
        self._server.patient.done(messages.Done(job=self._spec.job, files=0, bytes=self._sent_bytes))
        facts = {"event": "mount-ended", "job": self._spec.job, "bytes": self._sent_bytes}
        logger.info("a mount ended", extra=facts)

    def close(self) -> None:
        """Answer no more; the image is let go when the last question is answered."""
        with self._lock:
            self._closed = True
            if not self._busy:
                self._image.close()

    def _regular(self, path: bytes) -> Node:
        node = self.tree.find(path)
        if node is None or node.entry.type != entries.REGULAR:
            raise InputError(f"{entries.shown(path)} is no regular file of the image")
        return node


@dataclass(frozen=True)
class MountRoutes:
    """Routes of a client's mount.

    Args:
        server: what they work with.
        door: tells who calls.
    """

    server: MediaServer
    door: Door
    _mounts: dict[int, _Mount] = field(default_factory=dict)

    def table(self) -> list[web.RouteDef]:
        """Give the routes."""
        return [
            web.get("/v1/mount/{job}", self._mount, allow_head=False),
            web.post("/v1/mount/{job}/{question}", self._answer),
        ]

    async def _mount(self, request: web.Request) -> web.StreamResponse:
        job, grant = job_of(request)
        caller = self.door(request)
        async with JobThread(f"mount-{job}") as thread:
            spec = await thread.start(lambda: self.server.redeem(job, grant, MOUNT, caller))
            try:
                with self.server.sessions.of(job):
                    opened = await thread.start(lambda: _Mount(self.server, spec, grant, caller))
                    return await self._hold(request, opened, spec.job, thread)
            except asyncio.CancelledError:
                thread.later(lambda: self.server.fail(job, StoppingError("the media server was stopped")))
                raise
            except StrongroomError as error:
                failed = error
                await thread.start(lambda: self.server.fail(job, failed))
                raise

    async def _hold(self, request: web.Request, opened: _Mount, job: int, thread: JobThread) -> web.StreamResponse:
        """Keep the image open until its client, or anybody else, ends it."""
        try:
            self._mounts[job] = opened
            word = mount.encode(mount.Opened(files=opened.tree.files, content=opened.tree.content))
            response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE})
            try:
                await response.prepare(request)
                await response.write(_U32.pack(len(word)) + word)
                while not opened.ended.is_set():
                    await asyncio.sleep(_LOOK_SECONDS)
                    if request.transport is None or request.transport.is_closing():
                        raise ClientGoneError("the client went away without ending its mount")
                    await thread.start(opened.report)
                await thread.start(opened.tell)
                await response.write_eof()
            except OSError as error:
                raise ClientGoneError("the client closed the connection") from error
            except StrongroomError:
                if request.transport is not None:
                    request.transport.abort()
                raise
            return response
        finally:
            self._mounts.pop(job, None)
            thread.later(opened.close)

    async def _answer(self, request: web.Request) -> web.Response:
        job, grant = job_of(request)
        caller = self.door(request)
        opened = self._mounts.get(job)
        if opened is None or not opened.is_of(grant, caller):
            raise NotMountedError(f"no image is open for the job {job}, or the grant is not its own")
        body = await read_body(request, mount.MAX_QUESTION_BYTES)
        found = await asyncio.to_thread(opened.call, _question(request.match_info["question"], body))
        return web.Response(body=found, content_type=CONTENT_TYPE)


def _question(name: str, body: bytes) -> Callable[[_Mount], bytes]:
    """Read a question; it is answered elsewhere."""
    match name:
        case "look":
            look = mount.decode(body, mount.Look)
            return lambda opened: opened.look(look)
        case "list":
            listing = mount.decode(body, mount.List)
            return lambda opened: opened.list(listing)
        case "read":
            reading = mount.decode(body, mount.Read)
            return lambda opened: opened.read(reading)
        case "end":
            return _end
        case _:
            raise UnknownWorkError(f"there is no question '{name[:64]}'")


def _end(opened: _Mount) -> bytes:
    opened.ended.set()
    return b""
