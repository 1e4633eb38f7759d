"""What routes ask of other hosts, or of several packages at once; ``services`` fills these ports.

Methods that take a ``Connection`` are part of the caller's transaction and may run several times. The others may talk
to other hosts, block for as long as that takes, and keep their own state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection

from strongroom.audit import Actor
from strongroom.catalog.model import Image
from strongroom.core.ids import DomainId, HostId, ImageId, MediumId
from strongroom.core.secret import Secret
from strongroom.jobs import JobId
from strongroom.pki.channel import Address
from strongroom.pki.fingerprint import Fingerprint
from strongroom.pool.place import BucketKey, BucketPlace

# ---------------------------------------------------------------- media servers


@dataclass(frozen=True)
class LockFacts:
    """How a pool is locked; times are of its lock clock, in ns, and 0 when nothing was ever locked in it."""

    mode: str = "none"
    rounding_days: int = 0
    clock_ns: int = 0
    objects: int = 0
    latest_ns: int = 0


@dataclass(frozen=True)
class CheckFacts:
    """How the objects of a pool held at their last checks.

    Attributes:
        oldest: the check that is longest ago; ``None`` before the first.
        unchecked: containers that were not checked yet.
        damaged: objects that were damaged at their last check.
    """

    oldest: datetime | None
    unchecked: int
    damaged: int


@dataclass(frozen=True)
class PoolFacts:
    """A storage pool, as its media server last told of it.

    ``stored_bytes``, ``free_bytes`` and ``checks`` are ``None`` while it does not tell; ``next_scrub`` is ``None``
    while the pool is scrubbed, and before anything is in it. ``sources`` and ``targets`` name the domains that send to
    the pool, and those that it sends to. ``media_host`` is the first of
    ``media_hosts``.
    """

    name: str
    medium: MediumId
    label: str
    path: str
    media_host: str
    state: str
    online: bool
    stored_bytes: int | None
    free_bytes: int | None
    chunker: str
    requests: Mapping[str, int] = field(default_factory=dict)
    checks: CheckFacts | None = None
    next_scrub: datetime | None = None
    sources: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    lock: LockFacts = LockFacts()
    media_hosts: tuple[str, ...] = ()


@dataclass(frozen=True)
class NewBucket:
    """Where a pool is to be made in object storage, and with which access key."""

    place: BucketPlace
    key: BucketKey


@dataclass(frozen=True)
class HeldCertificate:
    """A certificate that another domain issued to a host of this one. ``serial`` is hexadecimal."""

    issuer: str
    subject: str
    uris: tuple[str, ...]
    serial: str
    not_before: datetime
    not_after: datetime
    host: HostId
    domain: DomainId


class MediaServers(Protocol):
    """This domain's media servers."""

    def make_pool(self, name: str, where: str | NewBucket | None, actor: Actor) -> PoolFacts:
        """Make a pool in a folder or in a bucket; without either, where its media server keeps pools.

        Raises:
            RefusedError: the name is taken, or the place is not empty.
            UnavailableError: no media server answers.
        """

    def rekey_pool(self, name: str, key: BucketKey, actor: Actor) -> PoolFacts:
        """Replace the access key of a pool in a bucket, if the new one serves.

        Raises:
            PlaceError: the pool is in a folder.
            StrongroomError: what the object storage refused with; the earlier key stays.
        """

    def attach_server(self, connection: Connection, name: str, host: HostId) -> PoolFacts:
        """Have another media server serve a pool too.

        Raises:
            PoolNotFoundError, HostNotFoundError: there is no such pool, or no such media server.
            RefusedError: the pool is in a folder, or the media server serves it.
        """

    def detach_server(self, connection: Connection, name: str, host: HostId) -> PoolFacts:
        """Have a media server serve a pool no longer.

        Raises:
            PoolNotFoundError: there is no such pool.
            RefusedError: it does not serve it, or no other one does.
        """

    def heard(self) -> tuple[int, int]:
        """Tell how many media servers were heard of lately, and how many there are."""

    def pools(self) -> Sequence[PoolFacts]:
        """List all pools by name, those whose media server is silent too."""

    def pool(self, name: str) -> PoolFacts | None:
        """Look a pool up."""

    def lock_pool(self, name: str, mode: str, rounding_days: int, actor: Actor) -> PoolFacts:
        """Lock what is stored in a pool from now on, ends rounded up to whole multiples of so many days.

        Raises:
            NotFoundError: there is no such pool.
            RefusedError: it is locked more strictly already.
        """

    def lock_image(self, image: ImageId, seconds: int, reason: str, actor: Actor) -> Mapping[int, int]:
        """Lock the copies of an image in this domain's pools that lock, for so long from now on if not longer already.

        Returns:
            When the lock of each copy ends, by the lock clock of its pool, in ns.

        Raises:
            NotFoundError: there is no such image.
            RefusedError: no copy is in a pool that locks.
        """

    def scrub(self, connection: Connection, name: str, *, bytes_per_second: int | None) -> JobId:
        """Submit a job that reads and checks everything in a pool, as fast as that or as the settings say.

        Raises:
            NotFoundError: there is no such pool.
        """

    def collect(self, connection: Connection, name: str, *, dry_run: bool, lift: bool) -> JobId:
        """Submit a job that frees what no image of a pool needs; with ``dry_run`` it only counts that.

        With ``lift`` also what governance locks keep.

        Raises:
            NotFoundError: there is no such pool.
        """

    def enrol_elsewhere(self, server: Address, pin: Fingerprint, token: Secret, actor: Actor) -> HeldCertificate:
        """Get this domain's media server a certificate of another domain.

        Raises:
            StrongroomError: as :func:`strongroom.pki.bootstrap.introduce` and the other primary do.
        """

    def held_certificates(self) -> Sequence[HeldCertificate]:
        """List the certificates that other domains issued to this domain's media servers."""


# ---------------------------------------------------------------- work


@dataclass(frozen=True)
class MediaListener:
    """Where a client on another host finds a media server, and how it knows it.

    ``certificates`` are those that count now, SHA-256 in hexadecimal: a revoked one is not among them.
    """

    host: HostId
    address: str
    certificates: tuple[str, ...]


@dataclass(frozen=True)
class DataGrant:
    """Lets one client talk to a media server about one job: over its socket, or a registered host over TLS."""

    token: Secret = field(repr=False)
    socket: str | None
    listener: MediaListener | None


@dataclass(frozen=True)
class StartedBackup:
    """A backup whose media server waits for the client.

    ``previous_started`` is when the earlier image began whose records the media server gives first; ``None`` without.
    """

    job: JobId
    image: ImageId
    grant: DataGrant
    previous_started: datetime | None


@dataclass(frozen=True)
class StartedRestore:
    """A restore whose media server waits for the client."""

    job: JobId
    grant: DataGrant
    files: int
    bytes: int


class Backups(Protocol):
    """Backups of this domain's clients."""

    def start(
        self, actor: Actor, client: str | None, host: HostId | None, paths: Sequence[bytes], slp: str
    ) -> StartedBackup:
        """Begin a backup of a registered host, or one of the media server's own host under a name.

        Args:
            actor: who asks.
            client: name in the catalog; ``None`` stands for the primary's own host. A registered host has its own.
            host: a registered client, which alone can use the grant.
            paths: what to back up.
            slp: the policy.

        Raises:
            NoActiveKeyError: the policy asks for encryption and its group has no active key.
            StrongroomError: any other reason; nothing was begun.
        """


class Restores(Protocol):
    """Restores and mounts on this domain's clients."""

    def is_of(self, image: Image, host: HostId | None) -> bool:
        """Tell whether an image is of the client on which it would be restored; ``None`` is the primary's own host."""

    def start(
        self,
        actor: Actor,
        image: ImageId,
        copy: int | None,
        host: HostId | None,
        paths: Sequence[bytes],
        *,
        mount: bool,
    ) -> StartedRestore:
        """Begin a restore of everything, or of the given paths, or a mount, from the given copy or the best one.

        With a host, it is for that registered client alone.

        Raises:
            KeyNotFoundError: a key is missing.
            StrongroomError: any other reason; nothing was begun.
        """


class Imports(Protocol):
    """Bringing in what lies on media."""

    def phase_one(self, pool: str, actor: Actor) -> JobId:
        """Read the headers of a pool; needs no key."""

    def phase_two(self, images: Sequence[ImageId], pool: str | None, actor: Actor) -> Sequence[JobId]:
        """Read the file lists of images, those of a pool, or all that wait and whose keys are here."""


class ImageWork(Protocol):
    """Work on images."""

    def expire(
        self, connection: Connection, image: ImageId, copy: int | None, reason: str, *, lift: bool
    ) -> Sequence[int]:
        """Expire the copies of an image on this domain's media, or the named one, before their time.

        With ``lift`` also those that a governance lock keeps.

        Raises:
            NotFoundError: there is no such image, or copy.
            RefusedError: a job reads it, or something keeps a copy.
        """

    def verify(self, image: ImageId, actor: Actor) -> JobId:
        """Read every byte of a complete copy here, and check it."""


class PoolWork(Protocol):
    """Jobs on pools."""

    def repair(self, medium: MediumId, *, dry_run: bool) -> JobId:
        """Mend what is damaged in a pool, or only say what would be done.

        Raises:
            RefusedError: jobs are at work in it.
        """


# ---------------------------------------------------------------- storage between domains


@dataclass(frozen=True)
class CredentialFacts:
    """A storage credential that this domain gave to a sender."""

    id: bytes
    name: str
    pool: str
    sender: DomainId
    created: datetime
    expires: datetime | None
    revoked: datetime | None
    last_used: datetime | None


@dataclass(frozen=True)
class NewCredential:
    """A credential that was just made; ``text`` (``id.secret``) is shown once."""

    facts: CredentialFacts
    text: Secret


@dataclass(frozen=True)
class TargetFacts:
    """A pool of another domain, as this domain's storage target."""

    name: str
    domain: DomainId
    pool: str
    medium: MediumId
    media: tuple[str, ...]
    state: str


class StorageCredentials(Protocol):
    """What this domain, as a target, lets others write."""

    def create(self, connection: Connection, pool: str, sender: DomainId, name: str, *, now: datetime) -> NewCredential:
        """Make a credential for one sender and one pool."""

    def listed(self, connection: Connection) -> Sequence[CredentialFacts]:
        """List credentials, revoked ones too."""

    def revoke(self, connection: Connection, identity: bytes, *, now: datetime) -> CredentialFacts:
        """Withdraw a credential.

        Raises:
            NotFoundError: there is none.
        """


class StorageTargets(Protocol):
    """Where this domain, as a source, may write."""

    def add(self, name: str, peer: DomainId, pool: str, credential: Secret, actor: Actor) -> TargetFacts:
        """Add a target; asks its domain whether the credential is good.

        Raises:
            RefusedError: the name is taken, or the other domain refused.
        """

    def listed(self, connection: Connection) -> Sequence[TargetFacts]:
        """List targets by name."""

    def remove(self, name: str, actor: Actor) -> TargetFacts:
        """Remove a target and its credential.

        Raises:
            NotFoundError: there is none.
            RefusedError: a policy needs it.
        """


# ---------------------------------------------------------------- questions to other primaries


@dataclass(frozen=True)
class ImportPolicyCheck:
    """What another domain says of an import SLP of its own."""

    found: bool
    active: bool
    takes_imports: bool


@dataclass(frozen=True)
class StorageOffer:
    """A pool in which another domain lets this one write."""

    pool: str
    medium: MediumId
    label: str


class PeerQueries(Protocol):
    """Questions to trusted primaries; each waits for the answer."""

    def check_import_policy(self, peer: DomainId, slp: str) -> ImportPolicyCheck:
        """Ask what an import SLP is (``slp.check``).

        Raises:
            UnavailableError: there is no answer now.
            StrongroomError: the other refused.
        """

    def storage(self, peer: DomainId) -> Sequence[StorageOffer]:
        """Ask what storage there is for us (``storage.list``); raises as above."""


class AddressLimit(Protocol):
    """Counts what strangers ask."""

    def count(self, address: str) -> None:
        """Count one attempt to sign in; called on the event loop.

        Raises:
            UnavailableError: it is one too many.
        """
