"""What REST asks about pools and the media servers that have them: a port of :mod:`strongroom.api.ports`, filled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

from cryptography import x509
from sqlalchemy import Connection, select

from strongroom.api.ports import (
    CheckFacts,
    HeldCertificate,
    LockFacts,
    NewBucket,
    PoolFacts,
)
from strongroom.audit import Actor
from strongroom.catalog.expiry import lock_copy
from strongroom.catalog.images import get_image
from strongroom.catalog.media import add_medium, get_medium, note_locks
from strongroom.catalog.model import CopyState, Medium
from strongroom.core.clock import from_ns, to_ns
from strongroom.core.ids import UUID_BYTES, DomainId, HostId, ImageId, MediumId, to_text
from strongroom.core.secret import Secret
from strongroom.database import read, transact
from strongroom.formats import signed
from strongroom.formats.errors import ForeignError
from strongroom.formats.lock_record import LockMode
from strongroom.formats.media_header import MEDIA_HEADER, MediaHeader
from strongroom.formats.segment import PAYLOAD_CHUNKS
from strongroom.jobs import JobId
from strongroom.pki import bootstrap, names
from strongroom.pki import messages as pki_messages
from strongroom.pki.ca import load_certificate, to_der
from strongroom.pki.channel import Address
from strongroom.pki.fingerprint import Fingerprint
from strongroom.pki.roles import Role
from strongroom.pool.errors import PlaceError
from strongroom.pool.place import BucketKey, is_bucket
from strongroom.replication import credentials, targets
from strongroom.services import messages, upkeep_messages
from strongroom.services.primary import bucket_keys, pool_servers, pools
from strongroom.services.primary.collecting import Collecting
from strongroom.services.primary.errors import (
    NoMediaServerError,
    NothingToLockError,
    PoolExistsError,
)
from strongroom.services.primary.media_client import MediaClients
from strongroom.services.primary.opening import Primary
from strongroom.services.primary.scrubbing import Scrubbing
from strongroom.services.primary.tables import held_certificates, media_beats
from strongroom.trust import store


class Media:
    """This domain's media servers."""

    def __init__(self, primary: Primary, clients: MediaClients, collecting: Collecting, scrubbing: Scrubbing) -> None:
        self._primary = primary
        self._clients = clients
        self._collecting = collecting
        self._scrubbing = scrubbing

    def make_pool(self, name: str, where: str | NewBucket | None, _actor: Actor) -> PoolFacts:
        """Make a pool: signed header, objects at the media server, key and row in the catalog, in this order."""
        with read(self._primary.engine) as connection:
            self._require_free(connection, name)
        host = self._first_host()
        bucket = where if isinstance(where, NewBucket) else None
        place = str(bucket.place if bucket else where or self._primary.home.pool(name))
        header = MediaHeader(
            domain=self._primary.domain,
            medium=self._primary.entropy.bytes(UUID_BYTES),
            kind=pools.POOL,
            label=name,
            created=to_ns(self._primary.clock.now()),
            features=(),
        )
        key = bucket.key if bucket else None
        lying = self._clients.make_pool(host, place, signed.sign(MEDIA_HEADER, header, self._primary.signer), key)
        found = signed.verify(MEDIA_HEADER, lying, pinned=self._primary.domain).payload
        if (found.kind, found.label) != (pools.POOL, name):
            raise ForeignError(f"the media server answered with the pool '{found.label}'")
        if key:
            bucket_keys.keep(self._primary.keys, MediumId(found.medium), key)

        def deed(connection: Connection) -> Medium:
            self._require_free(connection, name)  # somebody else may have made one meanwhile
            return add_medium(
                connection,
                MediumId(found.medium),
                kind=pools.POOL,
                label=name,
                domain=self._primary.domain,
                location=place,
                host=host,
            )

        transact(self._primary.engine, deed)
        return self._named(name)

    def rekey_pool(self, name: str, key: BucketKey, _actor: Actor) -> PoolFacts:
        """Replace a bucket's access key: the media server tries it, then it is kept."""
        with read(self._primary.engine) as connection:
            medium = pools.pool_named(connection, self._primary.domain, name)
            hosts = pools.hosts_of(connection, medium)
        if not is_bucket(medium.location):
            raise PlaceError(
                f"the pool '{name}' is in a folder, which has no access key", hint="name a pool that is in a bucket"
            )
        for host in self._answering(hosts):  # one of several that is away asks for the key when it is there again
            self._clients.rekey_pool(host, medium.medium, medium.location, key)
        bucket_keys.keep(self._primary.keys, medium.medium, key)
        return self._named(name)

    def attach_server(self, connection: Connection, name: str, host: HostId) -> PoolFacts:
        """Have another media server serve a pool in object storage too."""
        pool_servers.attach(connection, pools.pool_named(connection, self._primary.domain, name), host)
        return self._facts(connection, pools.pool_named(connection, self._primary.domain, name))

    def detach_server(self, connection: Connection, name: str, host: HostId) -> PoolFacts:
        """Have a media server serve a pool no longer; the last one stays."""
        pool_servers.detach(connection, pools.pool_named(connection, self._primary.domain, name), host)
        return self._facts(connection, pools.pool_named(connection, self._primary.domain, name))

    def _answering(self, hosts: Sequence[HostId]) -> Sequence[HostId]:
        """Give those media servers that answer; all of them if none does, so that the error says so."""
        silent = self._clients.silent()
        return [host for host in hosts if host not in silent] or hosts

    def heard(self) -> tuple[int, int]:
        """Tell how many media servers were heard of lately, and how many there are."""
        hosts = self._clients.hosts()
        now = self._primary.clock.now()
        with read(self._primary.engine) as connection:
            beats = {row.host: row.at for row in connection.execute(select(media_beats))}
        started = self._primary.started
        return sum(1 for host in hosts if host in beats and _is_lately(beats[host], now, started)), len(hosts)

    def pools(self) -> Sequence[PoolFacts]:
        """List all pools by name."""
        with read(self._primary.engine) as connection:
            return [self._facts(connection, medium) for medium in pools.own_pools(connection, self._primary.domain)]

    def pool(self, name: str) -> PoolFacts | None:
        """Look a pool up."""
        return next((pool for pool in self.pools() if pool.name == name), None)

    def collect(self, connection: Connection, name: str, *, dry_run: bool, lift: bool) -> JobId:
        """Submit the collection of a pool, or its plan."""
        pool = pools.pool_named(connection, self._primary.domain, name)
        return self._collecting.submit(connection, pool, dry_run=dry_run, lift=lift)

    def lock_pool(self, name: str, mode: str, rounding_days: int, _actor: Actor) -> PoolFacts:
        """Have a pool locked from now on: its media server keeps that in the pool, then it is entered."""
        with read(self._primary.engine) as connection:
            pool = pools.pool_named(connection, self._primary.domain, name)
            hosts = pools.hosts_of(connection, pool)
        if not hosts:
            raise NoMediaServerError(f"no media server serves the pool '{name}'")
        request = upkeep_messages.LockPool(medium=pool.medium, mode=mode, rounding_days=rounding_days)
        # what the first one writes the others find; one that is away finds it when it locks its next image
        told, *_ = [self._clients.lock_pool(host, request) for host in self._answering(hosts)]
        transact(self._primary.engine, lambda c: note_locks(c, pool.medium, mode=told.mode, clock_ns=told.clock_ns))
        return replace(self._named(name), lock=_lock_facts(told))

    def lock_image(self, image: ImageId, seconds: int, reason: str, _actor: Actor) -> Mapping[int, int]:
        """Lock the complete copies of an image in this domain's pools: the storage first, then the catalog."""
        with read(self._primary.engine) as connection:
            held = [
                (copy, get_medium(connection, copy.medium))
                for copy in get_image(connection, image).copies
                if copy.state is CopyState.COMPLETE and copy.key.domain == self._primary.domain
            ]
        locked: dict[int, int] = {}
        for copy, pool in held:
            if pool.lock_mode == LockMode.NONE.word:
                continue
            request = upkeep_messages.LockImage(medium=pool.medium, image=image, copy=copy.key.number, seconds=seconds)
            with read(self._primary.engine) as connection:
                host = self._clients.host_of(connection, pool)
            until_ns = self._clients.lock_image(host, request)
            transact(
                self._primary.engine,
                partial(
                    lock_copy,
                    key=copy.key,
                    until_ns=until_ns,
                    own=self._primary.domain,
                    now=self._primary.clock.now(),
                    reason=reason,
                ),
            )
            locked[copy.key.number] = until_ns
        if not locked:
            raise NothingToLockError(f"the image '{to_text(image)}' has no complete copy in a pool that locks")
        return locked

    def scrub(self, connection: Connection, name: str, *, bytes_per_second: int | None) -> JobId:
        """Submit the scrub of a pool."""
        medium = pools.pool_named(connection, self._primary.domain, name)
        return self._scrubbing.submit(connection, medium, bytes_per_second=bytes_per_second)

    def enrol_elsewhere(self, server: Address, pin: Fingerprint, token: Secret, _actor: Actor) -> HeldCertificate:
        """Get this domain's media server a certificate of another domain: its key is made, and stays, there."""
        host = self._first_host()
        pinned, channel = bootstrap.introduce(server, pin, self._primary.clock)
        with channel:
            request = self._clients.make_request(host, messages.MakeRequest(domain=pinned.domain))
            asked = pki_messages.EnrolRequest(
                token=token.reveal().decode("utf-8"),
                request=request,
                role=Role.FOREIGN_MEDIA.value,
                label=f"{self._primary.settings.domain} media"[:253],
                home=self._primary.domain.hex(),
                host=to_text(host),
            )
            answer = channel.post(pki_messages.ENROL_PATH, asked)
        issued = pki_messages.decode(answer, pki_messages.IssuedDocument)
        root = to_der(pinned.root)
        self._clients.take_certificate(
            host, messages.HostCertificate(domain=pinned.domain, chain=list(issued.chain), roots=[root])
        )
        leaf = bytes(issued.chain[0])

        def keep(connection: Connection) -> None:
            connection.execute(held_certificates.delete().where(held_certificates.c.domain == pinned.domain))
            connection.execute(held_certificates.insert().values(host=host, domain=pinned.domain, certificate=leaf))

        transact(self._primary.engine, keep)
        return _held(host, pinned.domain, leaf)

    def held_certificates(self) -> Sequence[HeldCertificate]:
        """List the certificates that other domains issued to this domain's media servers."""
        with read(self._primary.engine) as connection:
            rows = connection.execute(select(held_certificates)).all()
        return [_held(HostId(row.host), DomainId(row.domain), bytes(row.certificate)) for row in rows]

    def _require_free(self, connection: Connection, name: str) -> None:
        if any(pool.label == name for pool in pools.own_pools(connection, self._primary.domain)):
            raise PoolExistsError(f"there is a pool '{name}'")

    def _first_host(self) -> HostId:
        hosts = self._clients.hosts()
        if not hosts:
            raise NoMediaServerError("the domain has no media server")
        return hosts[0]

    def _named(self, name: str) -> PoolFacts:
        found = self.pool(name)
        if found is None:
            raise NoMediaServerError(f"the pool '{name}' is not there")
        return found

    def _facts(self, connection: Connection, medium: Medium) -> PoolFacts:
        told = pools.state_of(connection, medium.medium)
        hosts = pools.hosts_of(connection, medium)
        since = self._primary.clock.now() - pools.SILENT_AFTER
        heard = select(media_beats.c.host).where(media_beats.c.host.in_(hosts), media_beats.c.at > since)
        online = connection.execute(heard).first() is not None
        sources = {
            store.get_peer(connection, one.sender).name
            for one in credentials.list_all(connection)
            if one.medium == medium.medium and one.revoked is None
        }
        sent_to = {store.get_peer(connection, target.domain).name for target in targets.list_all(connection)}
        return PoolFacts(
            name=medium.label,
            medium=medium.medium,
            label=medium.label,
            path=medium.location,
            media_host=to_text(medium.host) if medium.host else "",
            media_hosts=tuple(to_text(host) for host in hosts),
            state="online" if online else "silent",
            online=online,
            stored_bytes=told.stored_bytes if told else None,
            free_bytes=told.free_bytes if told else None,
            chunker="FastCDC " + "/".join(str(size >> 10) for size in PAYLOAD_CHUNKS) + " KiB",
            requests=told.requests if told else {},
            lock=_lock_facts(told.lock) if told else LockFacts(mode=medium.lock_mode),
            checks=_checks(told),
            next_scrub=self._scrubbing.next_at(connection, medium),
            sources=tuple(sorted(sources)),
            targets=tuple(sorted(sent_to)),
        )


def _lock_facts(told: messages.LockState) -> LockFacts:
    return LockFacts(told.mode, told.rounding_days, told.clock_ns, told.objects, told.latest_ns)


def _checks(told: messages.PoolState | None) -> CheckFacts | None:
    if told is None or told.checks is None:
        return None
    oldest = told.checks.oldest_ns
    return CheckFacts(None if oldest is None else from_ns(oldest), told.checks.unchecked, told.checks.damaged)


def _is_lately(heard: datetime, now: datetime, started: datetime) -> bool:
    """Tell whether a beat is of this run of the primary, and fresh."""
    return heard >= started and now - heard < pools.SILENT_AFTER


def _held(host: HostId, domain: DomainId, data: bytes) -> HeldCertificate:
    certificate = load_certificate(data)
    alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    identity = names.read_identity(certificate)
    return HeldCertificate(
        issuer=certificate.issuer.rfc4514_string(),
        subject=certificate.subject.rfc4514_string(),
        uris=tuple(alternative.get_values_for_type(x509.UniformResourceIdentifier)),
        serial=f"{certificate.serial_number:x}",
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        host=identity.host or host,
        domain=domain,
    )
