"""``/v1/backup/JOB``: a client sends an image stream, and hears that its image is acknowledged.

Order: redeem the grant, naming key, data keys, store; ``commit`` at the primary; the fragment on stable storage;
``written``; the answer. A client that goes away leaves nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from aiohttp import ClientError, web

from strongroom.core.errors import ResourceError, StrongroomError
from strongroom.core.ids import KeyGroupId, KeyTag, MediumId, to_text
from strongroom.core.secret import Secret
from strongroom.formats.algorithms import Chunker, Cipher
from strongroom.formats.segment import (
    ENTRIES_CHUNKS,
    PAYLOAD_CHUNKS,
    ChunkSizes,
    SegmentNamer,
    clear_naming_key,
)
from strongroom.images.backup import BackupResult, BackupSession
from strongroom.images.keys import IssuedKeys
from strongroom.images.open_pool import OpenPool
from strongroom.images.previous_listing import nothing_known, previous_listing
from strongroom.pki.errors import UnreachableError
from strongroom.pool.keys import KeysUsable
from strongroom.pool.manifest import StreamRoot
from strongroom.services import messages
from strongroom.services.media.beat import write_fragment
from strongroom.services.media.clients import Caller, Door
from strongroom.services.media.errors import ClientGoneError, StoppingError
from strongroom.services.media.jobs import BACKUP, JobThread, MediaServer, Reporter, job_of
from strongroom.services.media.primary import JobKeys
from strongroom.services.media.socket_body import SocketBody, ask_handler, let_come
from strongroom.services.media.streaming import stream_out
from strongroom.services.record_http import InternalError

logger = logging.getLogger(__name__)

_FEED_BYTES: Final = 1 << 20
_MOST_NAMING_KEYS: Final = 4


@dataclass(frozen=True)
class BackupRoutes:
    """Routes of a client's backup.

    Args:
        server: what they work with.
        door: tells who calls.
    """

    server: MediaServer
    door: Door

    def table(self) -> list[web.RouteDef]:
        """Give the routes."""
        return [
            web.get("/v1/backup/{job}/previous", self._previous),
            web.post("/v1/backup/{job}", self._backup, expect_handler=ask_handler),
        ]

    async def _previous(self, request: web.Request) -> web.StreamResponse:
        job, grant = job_of(request)
        caller = self.door(request)
        async with JobThread(f"previous-{job}") as thread:
            spec = await thread.start(lambda: self.server.redeem(job, grant, BACKUP, caller))
            pool = await thread.start(lambda: self.server.pools.current(MediumId(spec.medium)))
            image, refused = await thread.start(lambda: self.server.open_previous(spec, pool))
            with self.server.sessions.of(job):
                if image is None:
                    return await stream_out(request, nothing_known(refused), thread)
                try:
                    return await stream_out(request, previous_listing(image, pool, _usable(spec, pool)), thread)
                finally:
                    await thread.start(image.close)

    async def _backup(self, request: web.Request) -> web.Response:
        job, grant = job_of(request)
        caller = self.door(request)
        async with JobThread(f"backup-{job}") as thread:
            spec = await thread.start(lambda: self.server.redeem(job, grant, BACKUP, caller))
            backup = _Backup(self.server, spec, caller)
            try:
                with self.server.sessions.of(job):
                    await thread.start(backup.open)
                    await _take_body(request, backup, thread)
                    return web.json_response(await thread.start(backup.finish))
            except asyncio.CancelledError:
                # the server stops; the thread ends what it is at, and then this
                thread.later(lambda: backup.give_up(StoppingError("the media server was stopped")))
                raise
            except StrongroomError as error:
                failed = error
                await thread.start(lambda: backup.give_up(failed))
                raise
            except (OSError, ClientError, web.RequestPayloadError) as error:
                await thread.start(lambda: backup.give_up(_gone(job)))
                raise _gone(job) from error
            finally:
                thread.later(backup.end)


async def _take_body(request: web.Request, backup: _Backup, thread: JobThread) -> None:
    """Have the job's thread take the image stream, which it reads by itself if the client lets it."""
    if not SocketBody.is_possible(request):
        await _feed(request, backup, thread)
        return
    with SocketBody(request) as body:
        try:
            await thread.start(lambda: backup.take(body.pieces()))
        except asyncio.CancelledError:
            body.interrupt()
            raise


async def _feed(request: web.Request, backup: _Backup, thread: JobThread) -> None:
    """Give the body to the job's thread in pieces of some size: one is stored while the next one comes."""
    await let_come(request)
    under_way: asyncio.Future[None] | None = None
    gathered: list[bytes] = []
    length = 0
    async for part in request.content.iter_any():
        gathered.append(part)
        length += len(part)
        if length < _FEED_BYTES and not (under_way is None or under_way.done()):
            continue
        if under_way is not None:
            await under_way
        under_way = thread.start(partial(backup.feed, b"".join(gathered)))
        gathered, length = [], 0
    if under_way is not None:
        await under_way
    await thread.start(partial(backup.feed, b"".join(gathered)))


def _gone(job: int) -> ClientGoneError:
    return ClientGoneError(f"the client of the job {job} closed the connection")


class _Backup:
    """One backup; everything runs in its own thread."""

    def __init__(self, server: MediaServer, spec: messages.JobSpec, caller: Caller) -> None:
        self._server = server
        self._spec = spec
        self._caller = caller
        self._reporter = Reporter(server, spec.job, caller.check)
        self._resources = ExitStack()
        self._session: BackupSession | None = None
        self._ended = False
        self._followed = 0

    def open(self) -> None:
        """Get the keys and begin."""
        spec = self._spec
        pool = self._server.pools.current(MediumId(spec.medium))
        self._followed = self._server.pools.followed(pool.medium)
        is_encrypted = spec.cipher != Cipher.NONE
        previous, _ = self._server.open_previous(spec, pool)
        if previous is not None:
            self._resources.enter_context(previous)
        self._session = self._resources.enter_context(
            BackupSession(
                pool,
                namer=SegmentNamer(self._naming_key(pool) if is_encrypted else clear_naming_key(pool.medium)),
                keys=IssuedKeys(JobKeys(self._server.patient, spec.job), pool.envelopes) if is_encrypted else None,
                usable=_usable(spec, pool),
                previous=previous,
            )
        )
        logger.info(
            "a backup began",
            extra={
                "event": "backup-began",
                "job": spec.job,
                "image": to_text(spec.image),
                "previous": previous is not None,
            },
        )

    def take(self, pieces: Iterable[memoryview]) -> None:
        """Take the whole stream."""
        for piece in pieces:
            self.feed(piece)

    def feed(self, data: bytes | memoryview) -> None:
        """Take a piece of the stream."""
        session = self._opened()
        session.feed(data)
        self._reporter.report(lambda: session.progress)

    def finish(self) -> dict[str, Any]:
        """Make an image of it; give what the client hears."""
        result = self._opened().finish()
        self._caller.check()  # who was revoked meanwhile has no image made
        told = self._server.patient.commit(_commit(self._spec.job, result, self._followed))
        self._ended = True  # from here on the image is there, or the beat goes on with it
        waits_for = ""
        try:
            write_fragment(self._server.pools, self._server.patient, told)
        except (UnreachableError, ResourceError) as error:
            waits_for = f"{error.message} [{error.code}]"
            logger.warning(
                "an image is stored and not acknowledged yet: %s",
                error.message,
                extra={"event": "not-acknowledged", "job": self._spec.job, "code": error.code},
            )
        logger.info(
            "a backup ended",
            extra={
                "event": "backup-ended",
                "job": self._spec.job,
                "image": to_text(told.image),
                "acknowledged": not waits_for,
            },
        )
        return {
            "image": to_text(told.image),
            "files": result.files,
            "content_bytes": result.content,
            "read_bytes": result.read_bytes,
            "same_bytes": result.same_bytes,
            "added_bytes": result.added_bytes,
            "problems": result.problems,
            "acknowledged": not waits_for,
            "waits_for": waits_for,
        }

    def give_up(self, error: StrongroomError) -> None:
        """Drop what is not an image, and say why."""
        self.close()
        if not self._ended:
            self._ended = True
            self._server.fail(self._spec.job, error)

    def end(self) -> None:
        """Let go of everything; after a defect, say that there will be no image."""
        self.give_up(InternalError(f"the backup of the job {self._spec.job} failed"))

    def close(self) -> None:
        """Let go of everything."""
        self._resources.close()

    def _opened(self) -> BackupSession:
        if self._session is None:
            raise RuntimeError("a backup is opened before it is fed")
        return self._session

    def _naming_key(self, pool: OpenPool) -> Secret:
        held = pool.envelopes.naming(origin=pool.domain, group=KeyGroupId(self._spec.group), medium=pool.medium)
        envelopes = [
            data for envelope in held[:_MOST_NAMING_KEYS] for data in pool.envelopes.read(envelope, pool.domain)[:1]
        ]
        answer = self._server.patient.naming_key(messages.NamingKey(job=self._spec.job, envelopes=envelopes))
        if answer.envelope is not None:
            pool.envelopes.put(answer.envelope)  # before the first name, so that the next backup finds this one's
        return Secret(answer.key)


def _usable(spec: messages.JobSpec, pool: OpenPool) -> KeysUsable:
    """Tell which data keys the image of a job may refer to."""
    group, tags = KeyGroupId(spec.group), [KeyTag(tag) for tag in spec.tags]
    return lambda keys: pool.envelopes.usable(keys, origin=pool.domain, group=group, tags=tags)


def _commit(job: int, result: BackupResult, followed: int) -> messages.CommitBackup:
    return messages.CommitBackup(
        job=job,
        entries=_stream(result.roots.entries, ENTRIES_CHUNKS),
        payload=_stream(result.roots.payload, PAYLOAD_CHUNKS),
        key_pages=list(result.key_pages),
        tags=list(result.tags),
        files=result.files,
        content=result.content,
        problems=result.problems,
        read_bytes=result.read_bytes,
        same_bytes=result.same_bytes,
        added_bytes=result.added_bytes,
        followed=followed,
    )


def _stream(root: StreamRoot, sizes: ChunkSizes) -> messages.Stream:
    chunker = (Chunker.FASTCDC_2020, *sizes)
    return messages.Stream(root=root.page, segments=root.segments, bytes=root.bytes, chunker=chunker)
