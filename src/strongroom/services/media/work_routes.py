"""``POST /v1/work/CALL``: what this domain's primary has its media server do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import msgspec
from aiohttp import web

from strongroom.core.ids import DomainId, ImageId, MediumId
from strongroom.core.secret import Secret
from strongroom.formats.errors import DamagedError
from strongroom.formats.lock_record import MODES, LockMode
from strongroom.images.errors import NoSuchCopyError
from strongroom.images.repair import repair_pool
from strongroom.images.stored_image import StoredImage
from strongroom.images.verify import verify_image
from strongroom.pool import names
from strongroom.pool.errors import LockedError
from strongroom.pool.place import BucketKey
from strongroom.services import messages, sending_messages, upkeep_messages
from strongroom.services.identity import Identities
from strongroom.services.media.callers import Callers
from strongroom.services.media.collecting import CollectRoute
from strongroom.services.media.errors import UnknownWorkError
from strongroom.services.media.jobs import MediaServer
from strongroom.services.media.pools import lock_state, state_of
from strongroom.services.media.primary import ImageKeys
from strongroom.services.media.scrubbing import ScrubRoute
from strongroom.services.media.sending import SendRoute
from strongroom.services.record_http import answer, read_body

logger = logging.getLogger(__name__)

PREFIX: Final = "/v1/work/"
_MOST_ANSWER_BYTES: Final = 6 << 20
_MOST_PROBLEMS: Final = 1_000
_MOST_TEXT: Final = 250
_MOST_PATH: Final = 1_024


@dataclass(frozen=True)
class WorkRoutes:
    """Routes of the primary's work.

    Args:
        server: what they work with.
        callers: tells who calls.
        identities: certificates of this host.
        sending: sends images to other domains.
        collecting: frees room in pools.
        scrubbing: reads and checks pools.
        took_certificate: told of the domain whose certificate is new.
    """

    server: MediaServer
    callers: Callers
    identities: Identities
    sending: SendRoute
    collecting: CollectRoute
    scrubbing: ScrubRoute
    took_certificate: Callable[[DomainId], None]

    def table(self) -> list[web.RouteDef]:
        """Give the routes."""
        return [
            web.post(PREFIX + "send-image", self._send_image),
            web.post(PREFIX + "collect-pool", self._collect_pool),
            web.post(PREFIX + "scrub-pool", self._scrub_pool),
            web.post(PREFIX + "{call}", self._call),
        ]

    def _calls(self) -> dict[str, tuple[type[msgspec.Struct], Callable[[Any], msgspec.Struct]]]:
        return {
            "make-pool": (messages.MakePool, self._make_pool),
            "rekey-pool": (messages.RekeyPool, self._rekey_pool),
            "read-fragments": (messages.ReadFragments, self._read_fragments),
            "read-journal": (messages.ReadJournal, self._read_journal),
            "list-files": (messages.ListFiles, self._list_files),
            "remove-fragments": (upkeep_messages.RemoveFragments, self._remove_fragments),
            "verify-image": (messages.VerifyImage, self._verify_image),
            "repair-pool": (upkeep_messages.RepairPool, self._repair_pool),
            "restore-fragment": (messages.FragmentToWrite, self._restore_fragment),
            "limit-sending": (sending_messages.LimitSending, self._limit_sending),
            "make-request": (messages.MakeRequest, self._make_request),
            "take-certificate": (messages.HostCertificate, self._take_certificate),
            "lock-pool": (upkeep_messages.LockPool, self._lock_pool),
            "lock-image": (upkeep_messages.LockImage, self._lock_image),
            "pool-status": (messages.PoolStatus, self._pool_status),
        }

    async def _call(self, request: web.Request) -> web.Response:
        self.callers.our_primary(request)
        known = self._calls().get(request.match_info["call"])
        if known is None:
            raise UnknownWorkError(f"there is no call '{request.match_info['call'][:64]}'")
        kind, function = known
        said = messages.decode(await read_body(request), kind)
        return answer(await asyncio.to_thread(function, said))

    async def _send_image(self, request: web.Request) -> web.StreamResponse:
        self.callers.our_primary(request)
        return await self.sending.send(request, messages.decode(await read_body(request), sending_messages.SendImage))

    async def _collect_pool(self, request: web.Request) -> web.StreamResponse:
        self.callers.our_primary(request)
        return await self.collecting.collect(
            request, messages.decode(await read_body(request), upkeep_messages.CollectPool)
        )

    async def _scrub_pool(self, request: web.Request) -> web.StreamResponse:
        self.callers.our_primary(request)
        return await self.scrubbing.scrub(request, messages.decode(await read_body(request), upkeep_messages.ScrubPool))

    def _make_pool(self, said: messages.MakePool) -> messages.PoolMade:
        key = _bucket_key(said.key) if said.key else None
        return messages.PoolMade(header=self.server.pools.make(said.path, said.header, said.revocations, key))

    def _rekey_pool(self, said: messages.RekeyPool) -> messages.Nothing:
        self.server.pools.rekey(MediumId(said.medium), said.path, _bucket_key(said.key))
        return messages.Nothing()

    def _read_fragments(self, said: messages.ReadFragments) -> messages.Fragments:
        fragments = self.server.pools.get(MediumId(said.medium)).fragments
        if said.name:
            return messages.Fragments(
                rows=[messages.FragmentRow(name=said.name, data=fragments.read_raw(said.name))], more=False
            )
        rows: list[messages.FragmentRow] = []
        length = 0
        for name in fragments.names(said.after):
            if len(rows) == said.most or length >= _MOST_ANSWER_BYTES:
                return messages.Fragments(rows=rows, more=True)
            try:
                data = fragments.read_raw(name)
            except NoSuchCopyError:
                continue  # it was expired since its name was read
            except DamagedError as error:
                # one that cannot be a fragment must not hide the others: the primary refuses it by its name
                logger.warning("a file is no fragment: %s", error.message, extra={"event": "no-fragment"})
                data = b""
            rows.append(messages.FragmentRow(name=name, data=data))
            length += len(data)
        return messages.Fragments(rows=rows, more=False)

    def _read_journal(self, said: messages.ReadJournal) -> messages.JournalBatches:
        journal = self.server.pools.get(MediumId(said.medium)).journal
        rows: list[messages.BatchToWrite] = []
        length = 0
        for sequence in journal.sequences(said.after):
            if len(rows) == said.most or length >= _MOST_ANSWER_BYTES:
                return messages.JournalBatches(rows=rows, more=True)
            rows.append(messages.BatchToWrite(medium=said.medium, sequence=sequence, data=journal.read(sequence)))
            length += len(rows[-1].data)
        return messages.JournalBatches(rows=rows, more=False)

    def _list_files(self, said: messages.ListFiles) -> messages.Nothing:
        pool = self.server.pools.current(MediumId(said.medium))
        image = ImageId(said.image)
        fragment = pool.fragments.read(image, said.copy)
        with StoredImage(pool, fragment, ImageKeys(self.server.primary, said.job, image)) as stored:
            references = stored.references(stored.roots.entries)
            pieces = (bytes(piece) for piece in stored.frames.read(references))
            self.server.primary.file_list(said.job, image, pieces)
        return messages.Nothing()

    def _remove_fragments(self, said: upkeep_messages.RemoveFragments) -> upkeep_messages.FragmentsRemoved:
        pool = self.server.pools.get(MediumId(said.medium))
        pool.locks.refresh()  # another media server may have locked one since
        locked = []
        for one in said.fragments:
            try:
                pool.fragments.remove(ImageId(one.image), one.copy, lift=said.lift)
            except LockedError as error:
                logger.warning("a fragment stays: %s", error.message, extra={"event": "fragment-locked"})
                until_ns = pool.locks.until_ns(names.image_key(ImageId(one.image), one.copy))
                locked.append(upkeep_messages.StillLocked(image=one.image, copy=one.copy, until_ns=until_ns))
            else:
                pool.checks.forget([names.image_key(ImageId(one.image), one.copy)])
        return upkeep_messages.FragmentsRemoved(locked=locked)

    def _lock_pool(self, said: upkeep_messages.LockPool) -> messages.LockState:
        pool = self.server.pools.get(MediumId(said.medium))
        pool.locks.strengthen(MODES.get(said.mode, LockMode.NONE), said.rounding_days)
        return lock_state(pool)

    def _lock_image(self, said: upkeep_messages.LockImage) -> upkeep_messages.Locked:
        pool = self.server.pools.get(MediumId(said.medium))
        fragment = pool.fragments.read(ImageId(said.image), said.copy)
        if pool.locks.mode is LockMode.NONE:
            return upkeep_messages.Locked(until_ns=0)
        return upkeep_messages.Locked(until_ns=self.server.pools.locker(pool.medium).lock_for(fragment, said.seconds))

    def _verify_image(self, said: messages.VerifyImage) -> messages.VerifyAnswer:
        pool = self.server.pools.current(MediumId(said.medium))
        image = ImageId(said.image)
        fragment = pool.fragments.read(image, said.copy)
        keys = ImageKeys(self.server.primary, said.job, image) if said.with_data else None
        found = islice(verify_image(pool, fragment, keys), _MOST_PROBLEMS)
        return messages.VerifyAnswer(problems=[f"{one.code}: {one.message}"[:_MOST_TEXT] for one in found])

    def _repair_pool(self, said: upkeep_messages.RepairPool) -> upkeep_messages.RepairAnswer:
        found = repair_pool(self.server.pools.current(MediumId(said.medium)), dry_run=said.dry_run)
        return upkeep_messages.RepairAnswer(
            containers=[
                upkeep_messages.MendedContainer(
                    container=one.container,
                    problems=[f"{problem.code}: {problem.message}"[:_MOST_TEXT] for problem in one.problems],
                    whole=one.whole,
                    copied=one.copied,
                    lost=one.lost,
                    aside=one.aside[:_MOST_PATH],
                    why_kept=one.why_kept,
                )
                for one in found.containers[:_MOST_PROBLEMS]
            ],
            container_count=len(found.containers),
            indexed=found.indexed,
            images=[
                upkeep_messages.DamagedImage(
                    name=one.name, image=one.image, problems=[text[:_MOST_TEXT] for text in one.problems]
                )
                for one in found.images[:_MOST_PROBLEMS]
            ],
            image_count=len(found.images),
        )

    def _restore_fragment(self, said: messages.FragmentToWrite) -> messages.Nothing:
        pool = self.server.pools.get(MediumId(said.medium))
        pool.locks.refresh()
        pool.fragments.restore(ImageId(said.image), said.copy, said.data)
        pool.checks.forget([names.image_key(ImageId(said.image), said.copy)])
        return messages.Nothing()

    def _limit_sending(self, said: sending_messages.LimitSending) -> messages.Nothing:
        self.sending.pace.set_limit(said.bytes_per_second)
        return messages.Nothing()

    def _make_request(self, said: messages.MakeRequest) -> messages.HostRequest:
        return messages.HostRequest(request=self.identities.make_request(DomainId(said.domain)))

    def _take_certificate(self, said: messages.HostCertificate) -> messages.Nothing:
        domain = DomainId(said.domain)
        self.identities.take(domain, said.chain, said.roots)
        self.took_certificate(domain)
        return messages.Nothing()

    def _pool_status(self, said: messages.PoolStatus) -> messages.PoolState:
        medium = MediumId(said.medium)
        return state_of(self.server.pools.get(medium), self.server.pools.followed(medium))


def _bucket_key(row: messages.BucketKeyRow) -> BucketKey:
    return BucketKey(row.access_key, Secret(row.secret))
