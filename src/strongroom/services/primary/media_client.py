"""The primary's view of its media servers: what it has them do."""

from __future__ import annotations

import socket
import ssl
import threading
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from typing import TypeVar

import msgspec
from sqlalchemy import Connection, select

from strongroom.catalog.model import Medium
from strongroom.core.errors import from_document
from strongroom.core.ids import DomainId, HostId, ImageId, MediumId
from strongroom.database import read
from strongroom.jobs import JobContext
from strongroom.pki import registry
from strongroom.pki.channel import Address
from strongroom.pki.roles import HostState, Role
from strongroom.pki.tls import client_context
from strongroom.pool import names
from strongroom.pool.place import BucketKey
from strongroom.services import messages, sending_messages, upkeep_messages
from strongroom.services.primary import bucket_keys, pools
from strongroom.services.primary.errors import NoMediaServerError
from strongroom.services.primary.opening import Primary
from strongroom.services.primary.tables import held_certificates, media_beats
from strongroom.services.record_http import RecordClient, lines_of
from strongroom.settings.domain import split_address

T = TypeVar("T", bound=msgspec.Struct)
U = TypeVar("U", sending_messages.SendUpdate, upkeep_messages.CollectUpdate, upkeep_messages.ScrubUpdate)

LONG_SECONDS = 24 * 3600.0
SILENCE_SECONDS = 120.0
_ANSWER_SECONDS = 1.0


class MediaClients:
    """Calls media servers of this domain.

    Args:
        primary: who calls.
    """

    def __init__(self, primary: Primary) -> None:
        self._primary = primary
        self._lock = threading.Lock()
        self._clients: dict[HostId, tuple[Address, RecordClient]] = {}
        self._busy: Counter[HostId] = Counter()

    def close(self) -> None:
        """Let go of the connections."""
        with self._lock:
            for _, client in self._clients.values():
                client.close()

    def hosts(self) -> list[HostId]:
        """Tell which media servers the domain has."""
        with read(self._primary.engine) as connection:
            return [HostId(host.id) for host in registry.hosts(connection, role=Role.MEDIA)]

    def address_of(self, host: HostId) -> Address:
        """Tell where a media server listens: where it said, or beside the primary.

        Raises:
            NoMediaServerError: it is not registered.
        """
        with read(self._primary.engine) as connection:
            found = registry.find_host(connection, self._primary.domain, host)
            told = connection.execute(
                select(media_beats.c.address).where(media_beats.c.host == host)
            ).scalar_one_or_none()
        if found is None:
            raise NoMediaServerError("the media server of this pool is not registered")
        if told:
            return Address.read(told)
        _, port = split_address(self._primary.settings.media.listen)
        return Address(self._primary.settings.host, port)

    def silent(self) -> frozenset[HostId]:
        """Tell which media servers take no connection now; asks nobody when there is only one."""
        with read(self._primary.engine) as connection:
            found = registry.hosts(connection, role=Role.MEDIA)
        hosts = [HostId(host.id) for host in found if host.state is HostState.ACTIVE]
        return frozenset(host for host in hosts if not self._answers(host)) if len(hosts) > 1 else frozenset()

    def host_of(self, connection: Connection, medium: Medium) -> HostId:
        """Choose the media server for a piece of work in a pool.

        Raises:
            NoMediaServerError: none serves it.
        """
        several = len(pools.hosts_of(connection, medium)) > 1
        return pools.host_of(
            connection,
            medium,
            since=self._primary.clock.now() - pools.SILENT_AFTER,
            busy=self._busy,
            without=self.silent() if several else (),
        )

    def sender_of(self, connection: Connection, medium: Medium, target: DomainId) -> HostId:
        """Choose the media server that is to send an image to a domain: one that has a certificate of it.

        Raises:
            NoMediaServerError: none serves the pool.
        """
        known = set(
            connection.execute(select(held_certificates.c.host).where(held_certificates.c.domain == target)).scalars()
        )
        without = {host for host in pools.hosts_of(connection, medium) if host not in known}
        if len(pools.hosts_of(connection, medium)) > 1:
            without |= self.silent()
        return pools.host_of(
            connection,
            medium,
            since=self._primary.clock.now() - pools.SILENT_AFTER,
            busy=self._busy,
            without=without,
        )

    def make_pool(self, host: HostId, path: str, header: bytes, key: BucketKey | None) -> bytes:
        """Make a pool: a folder, or with a key in the bucket that the path names.

        Returns:
            The media header that lies there, which may be of an earlier attempt.
        """
        request = messages.MakePool(
            path=path,
            header=header,
            revocations=self._primary.revocations,
            key=bucket_keys.row_of(key) if key else None,
        )
        return self._ask(host, "make-pool", request, messages.PoolMade).header

    def rekey_pool(self, host: HostId, medium: MediumId, path: str, key: BucketKey) -> None:
        """Have a pool's bucket asked with another access key."""
        request = messages.RekeyPool(medium=medium, path=path, key=bucket_keys.row_of(key))
        self._ask(host, "rekey-pool", request, messages.Nothing)

    def fragments(self, host: HostId, medium: MediumId) -> Iterator[tuple[str, bytes]]:
        """Give all fragments of a pool, name and whole bytes."""
        after, more = "", True
        while more:
            page = self._ask(
                host,
                "read-fragments",
                messages.ReadFragments(medium=medium, after=after, most=64),
                messages.Fragments,
            )
            for row in page.rows:
                yield row.name, row.data
                after = row.name
            more = page.more and bool(page.rows)

    def read_fragment(self, host: HostId, medium: MediumId, image: ImageId, copy: int) -> bytes:
        """Give one fragment as it lies in its pool.

        Raises:
            NoMediaServerError: it is not there.
        """
        name = names.image_key(image, copy)
        page = self._ask(
            host,
            "read-fragments",
            messages.ReadFragments(medium=medium, after="", most=1, name=name),
            messages.Fragments,
        )
        for row in page.rows:
            if row.name == name:
                return row.data
        raise NoMediaServerError(f"the fragment '{name}' is not on its storage")

    def list_files(self, host: HostId, request: messages.ListFiles) -> None:
        """Have an image's entries read, and sent here."""
        self._ask(host, "list-files", request, messages.Nothing, timeout=LONG_SECONDS)

    def verify_image(self, host: HostId, request: messages.VerifyImage) -> list[str]:
        """Have an image verified; give what is wrong with it."""
        return self._ask(host, "verify-image", request, messages.VerifyAnswer, timeout=LONG_SECONDS).problems

    def repair_pool(self, host: HostId, request: upkeep_messages.RepairPool) -> upkeep_messages.RepairAnswer:
        """Have a pool repaired, or looked at."""
        return self._ask(host, "repair-pool", request, upkeep_messages.RepairAnswer, timeout=LONG_SECONDS)

    def restore_fragment(self, host: HostId, fragment: messages.FragmentToWrite) -> None:
        """Have a fragment that is damaged or gone written again."""
        self._ask(host, "restore-fragment", fragment, messages.Nothing)

    def remove_fragments(
        self, host: HostId, medium: MediumId, fragments: list[upkeep_messages.FragmentName], *, lift: bool
    ) -> list[upkeep_messages.StillLocked]:
        """Have the files of expired copies removed from a pool; they are gone when this returns.

        Returns:
            Those that the pool keeps, because they are locked.
        """
        request = upkeep_messages.RemoveFragments(medium=medium, fragments=fragments, lift=lift)
        return self._ask(host, "remove-fragments", request, upkeep_messages.FragmentsRemoved).locked

    def lock_pool(self, host: HostId, request: upkeep_messages.LockPool) -> messages.LockState:
        """Have what is stored in a pool locked from now on.

        Raises:
            WeakerLockError: it is locked more strictly already.
        """
        return self._ask(host, "lock-pool", request, messages.LockState)

    def lock_image(self, host: HostId, request: upkeep_messages.LockImage) -> int:
        """Have a copy locked for some time from now on; give when its lock ends, 0 in a pool that locks nothing."""
        return self._ask(host, "lock-image", request, upkeep_messages.Locked, timeout=LONG_SECONDS).until_ns

    def collect_pool(
        self, host: HostId, request: upkeep_messages.CollectPool, context: JobContext
    ) -> upkeep_messages.Collected:
        """Have a pool collected; reports to the job what it is at, and stops when it is cancelled.

        Raises:
            StrongroomError: what the media server refused with.
        """
        with closing(self._updates(host, "collect-pool", request, upkeep_messages.CollectUpdate)) as updates:
            for told in updates:
                if told.collected is not None:
                    return told.collected
                context.progress(bytes_done=told.done, bytes_total=told.total, message=told.message)
                context.check()
        raise NoMediaServerError("the media server stopped before the pool was collected")

    def scrub_pool(
        self, host: HostId, request: upkeep_messages.ScrubPool, context: JobContext
    ) -> upkeep_messages.Scrubbed:
        """Have a pool scrubbed; reports progress to the job, and stops when it is cancelled.

        Raises:
            StrongroomError: what the media server refused with.
        """
        with closing(self._updates(host, "scrub-pool", request, upkeep_messages.ScrubUpdate)) as updates:
            for told in updates:
                if told.scrubbed is not None:
                    return told.scrubbed
                context.progress(bytes_done=told.done, bytes_total=told.total, message=told.message)
                context.check()
        raise NoMediaServerError("the media server stopped before the pool was scrubbed")

    def send_image(
        self, host: HostId, request: sending_messages.SendImage, context: JobContext
    ) -> sending_messages.Sent:
        """Have an image sent to another domain; reports progress to the job, and stops when it is cancelled.

        Raises:
            StrongroomError: what the media server, or the target, refused with.
        """
        with closing(self._updates(host, "send-image", request, sending_messages.SendUpdate)) as updates:
            for told in updates:
                if told.sent is not None:
                    return told.sent
                context.progress(bytes_done=told.bytes, files=told.frames)
                context.check()
        raise NoMediaServerError("the media server stopped before the image was sent")

    def make_request(self, host: HostId, request: messages.MakeRequest) -> bytes:
        """Have a media server make a key for another domain, and give its certificate request."""
        return self._ask(host, "make-request", request, messages.HostRequest).request

    def take_certificate(self, host: HostId, certificate: messages.HostCertificate) -> None:
        """Give a media server the certificate that another domain issued to it."""
        self._ask(host, "take-certificate", certificate, messages.Nothing)

    def _ask(self, host: HostId, call: str, message: msgspec.Struct, kind: type[T], timeout: float = 60.0) -> T:
        with self._working(host):
            return self._client(host).ask(f"/v1/work/{call}", message, kind, timeout=timeout)

    def _updates(self, host: HostId, call: str, message: msgspec.Struct, kind: type[U]) -> Generator[U]:
        """Ask for long work, and give what the media server says of it; close it, and the work ends.

        Raises:
            StrongroomError: what the media server refused with, also in the middle.
        """
        asked = messages.encode(message)
        with (
            self._working(host),
            self._client(host).stream(f"/v1/work/{call}", asked, timeout=SILENCE_SECONDS) as response,
        ):
            for data in lines_of(response):
                told = messages.decode(data, kind)
                if told.document is not None:
                    raise from_document(told.document)
                yield told

    @contextmanager
    def _working(self, host: HostId) -> Iterator[None]:
        """Count a piece of work that a media server does."""
        with self._lock:
            self._busy[host] += 1
        try:
            yield
        finally:
            with self._lock:
                self._busy[host] -= 1

    def _answers(self, host: HostId) -> bool:
        address = self.address_of(host)
        try:
            socket.create_connection((address.host, address.port), _ANSWER_SECONDS).close()
        except OSError:
            return False
        return True

    def _client(self, host: HostId) -> RecordClient:
        address = self.address_of(host)
        with self._lock:
            kept = self._clients.get(host)
            if kept is not None and kept[0] == address:
                return kept[1]
            if kept is not None:
                kept[1].close()  # it listens elsewhere now; a question that is under way goes on
            client = RecordClient(address, self._context(), self._primary.domain, primary=False)
            self._clients[host] = address, client
            return client

    def _context(self) -> ssl.SSLContext:
        held = self._primary.own_identity()
        return client_context([self._primary.root], held.credential)
