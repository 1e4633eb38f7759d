"""Routes of the peer listener for the domain's own media servers: ``POST /v1/media/CALL``.

Each request is answered for the host whose certificate secures the connection, and only for a media server of this
domain; what it may have is decided where the call is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from aiohttp import web

from strongroom.catalog.file_list import FileEntry
from strongroom.core.errors import InputError, from_document
from strongroom.core.ids import HostId, ImageId, from_text
from strongroom.database import read
from strongroom.formats import entries
from strongroom.formats.entries import Entry, MoreExtents, Record
from strongroom.formats.entry_stream import EntriesReader
from strongroom.pki import registry
from strongroom.pki.roles import Role
from strongroom.pki.tls import peer_certificate
from strongroom.services import messages, sending_messages, upkeep_messages
from strongroom.services.primary.client_work import ClientWork
from strongroom.services.primary.errors import NotYoursError
from strongroom.services.primary.image_work import ImageWork
from strongroom.services.primary.key_desk import KeyDesk
from strongroom.services.primary.media_desk import MediaDesk
from strongroom.services.primary.opening import Primary
from strongroom.services.primary.receiving import Receiving
from strongroom.services.record_http import answer, read_body

PREFIX: Final = "/v1/media/"
# A part becomes records before the next one is taken: in memory they are ten times its size.
_PART_BYTES: Final = 128 << 10
_LATEST_NS: Final = (1 << 63) - 1
"""The latest time that a file list can have; entries, and so a restore, have later ones."""
_PARTS_AHEAD: Final = 8


class UnknownCallError(InputError):
    """The primary does not know this call."""

    code = "work.unknown-call"
    default_hint = "bring media server and primary to the same release"


@dataclass(frozen=True)
class MediaRoutes:
    """What the routes translate to."""

    primary: Primary
    clients: ClientWork
    keys: KeyDesk
    desk: MediaDesk
    images: ImageWork
    receiving: Receiving

    def table(self) -> list[web.RouteDef]:
        """Give the routes."""
        return [
            web.post(PREFIX + "file-list", self._file_list),
            web.post(PREFIX + "{call}", self._call),
        ]

    def _calls(self) -> dict[str, tuple[type[msgspec.Struct], Callable[[HostId, Any], msgspec.Struct]]]:
        return {
            "beat": (messages.Beat, self.desk.beat),
            "stored": (upkeep_messages.Stored, self.desk.stored),
            "follow": (upkeep_messages.Follow, self.desk.follow),
            "mark-containers": (upkeep_messages.MarkContainers, self.desk.mark_containers),
            "bucket-key": (messages.AskBucketKey, self.desk.bucket_key),
            "attend": (messages.Attend, self.clients.attend),
            "redeem": (messages.Redeem, self.clients.redeem),
            "issue-keys": (messages.IssueKeys, self.keys.issue),
            "naming-key": (messages.NamingKey, self.keys.naming_key),
            "marking-key": (messages.MarkingKey, self.keys.marking_key),
            "unwrap": (messages.Unwrap, self.keys.unwrap),
            "commit": (messages.CommitBackup, self.clients.commit),
            "commit-received": (sending_messages.CommitReceived, self.receiving.commit),
            "written": (messages.Written, self.desk.written),
            "progress": (messages.Advance, self._progress),
            "done": (messages.Done, self._done),
            "fail": (messages.Failed, self._fail),
            "receive": (sending_messages.Receive, self.receiving.begin),
        }

    async def _call(self, request: web.Request) -> web.Response:
        host = await self._host(request)
        known = self._calls().get(request.match_info["call"])
        if known is None:
            raise UnknownCallError(f"there is no call '{request.match_info['call'][:64]}'")
        kind, function = known
        said = messages.decode(await read_body(request), kind)
        return answer(await asyncio.to_thread(function, host, said))

    async def _file_list(self, request: web.Request) -> web.Response:
        host = await self._host(request)
        try:
            job, image = int(request.query["job"]), ImageId(from_text(request.query["image"]))
        except (KeyError, ValueError) as error:
            raise InputError("a file list is of a job and an image") from error
        await asyncio.to_thread(self._check_listing, host, job, image)
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(_PARTS_AHEAD)
        loop = asyncio.get_running_loop()
        storing = asyncio.create_task(asyncio.to_thread(self.images.take_file_list, image, _entries_from(queue, loop)))
        storing.add_done_callback(_hear)  # if this handler is stopped, nobody else does
        feeding = asyncio.create_task(_feed(request, queue))
        try:
            await asyncio.wait({storing, feeding}, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            feeding.cancel()
            if not storing.done():
                # The body broke off. The thread waits for more of it: what it gets is an end where no list can end.
                while not queue.empty():
                    queue.get_nowait()
                queue.put_nowait(None)
        # A sender that breaks off ends the storing as well, which says so in words of ours.
        await asyncio.gather(feeding, return_exceptions=True)
        await storing
        return answer(messages.Nothing())

    def _check_listing(self, host: HostId, job: int, image: ImageId) -> None:
        with read(self.primary.engine) as connection:
            if image not in self.images.images_of(connection, host, job):
                raise NotYoursError(f"the job {job} does not list the files of that image")

    def _progress(self, host: HostId, said: messages.Advance) -> messages.Continue:
        return messages.Continue(go_on=self.clients.advance(host, said))

    def _done(self, host: HostId, said: messages.Done) -> messages.Nothing:
        self.clients.done(host, said.job, {"files": said.files, "bytes": said.bytes})
        return messages.Nothing()

    def _fail(self, host: HostId, said: messages.Failed) -> messages.Nothing:
        self.clients.fail(host, said.job, from_document(said.document))
        return messages.Nothing()

    async def _host(self, request: web.Request) -> HostId:
        """Tell which media server asks.

        Raises:
            AuthenticationError: no certificate, or one that the registry does not know, or has revoked.
            NotYoursError: it is of another role.
        """
        transport = request.transport
        shown = peer_certificate(transport.get_extra_info("ssl_object") if transport else None)

        def identify() -> HostId:
            with read(self.primary.engine) as connection:
                caller = registry.identify(connection, shown, now=self.primary.clock.now())
            if caller.host.role is not Role.MEDIA or caller.host.home != self.primary.domain:
                raise NotYoursError(f"'{caller.host.label}' is not a media server of this domain")
            return HostId(caller.host.id)

        return await asyncio.to_thread(identify)


def _hear(ended: asyncio.Task[int]) -> None:
    """Take how a task ended, so that asyncio does not call it forgotten."""
    if not ended.cancelled():
        ended.exception()


async def _feed(request: web.Request, queue: asyncio.Queue[bytes | None]) -> None:
    async for part in request.content.iter_chunked(_PART_BYTES):
        await queue.put(part)
    await queue.put(None)


def _entries_from(queue: asyncio.Queue[bytes | None], loop: asyncio.AbstractEventLoop) -> Iterator[FileEntry]:
    """Read file entries from what the media server sends, in the thread that stores them."""
    reader = EntriesReader()
    listing = _Listing()
    while (part := asyncio.run_coroutine_threadsafe(queue.get(), loop).result()) is not None:
        for record in reader.feed(part):
            entry = listing.take(record)
            if entry is not None:
                yield entry
    reader.finish()


class _Listing:
    """Turns records into rows of a file list, counting where each stands in the two streams."""

    def __init__(self) -> None:
        self._offset = 0
        self._references = 0
        self._last: bytes | None = None

    def take(self, record: Record) -> FileEntry | None:
        """Give the row of a file; None for records that only continue one."""
        at = self._offset
        self._offset += len(entries.encode(record))
        extents = record.extents if isinstance(record, Entry | MoreExtents) else []
        first: int | None = None
        for name, _, _ in extents:
            if name is not None:
                if name != self._last:
                    self._references += 1
                    self._last = name
                first = self._references - 1 if first is None else first
        if not isinstance(record, Entry):
            return None
        return FileEntry(
            path=record.path,
            type=record.type,
            mode=record.mode,
            uid=record.uid,
            gid=record.gid,
            owner=record.user,
            group=record.group,
            mtime_ns=min(record.mtime, _LATEST_NS),
            ctime_ns=min(record.ctime, _LATEST_NS),
            size=record.size,
            link=record.target,
            entry_at=at,
            reference=first,
        )
