"""What REST asks of other hosts, or of several packages at once: the ports of :mod:`strongroom.api.ports`, filled."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, exists, select

from strongroom.api.ports import (
    CredentialFacts,
    ImportPolicyCheck,
    NewCredential,
    StorageOffer,
    TargetFacts,
)
from strongroom.audit import Actor
from strongroom.catalog.errors import CopyNotFoundError
from strongroom.catalog.images import get_image
from strongroom.catalog.model import CopyState, Readability
from strongroom.catalog.tables import copies, file_lists
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import DomainId, ImageId, MediumId, to_text
from strongroom.core.secret import Secret
from strongroom.database import read, transact
from strongroom.formats import peer_messages as wire
from strongroom.formats.peer_messages import Empty, Refused, SLPCheck, SLPChecked, StorageListed
from strongroom.jobs import JobId
from strongroom.lifecycle.policies import list_policies
from strongroom.replication import credentials, targets
from strongroom.replication.targets import StorageTarget
from strongroom.services.primary import pools
from strongroom.services.primary.errors import (
    NotReadableError,
)
from strongroom.services.primary.expiring import Expiring
from strongroom.services.primary.image_work import ImageWork, has_file_list
from strongroom.services.primary.opening import Primary
from strongroom.services.primary.peers import NoAnswerError, Talk
from strongroom.services.primary.pool_work import PoolWork

MOST_LISTED: Final = 10_000
"""File lists that one call has made: they are submitted in one transaction. Another call takes the next ones."""


class Imports:
    """Bringing in what lies on media."""

    def __init__(self, primary: Primary, work: ImageWork) -> None:
        self._primary = primary
        self._work = work

    def phase_one(self, pool: str, _actor: Actor) -> JobId:
        """Read the headers of a pool."""

        def deed(connection: Connection) -> JobId:
            medium = pools.pool_named(connection, self._primary.domain, pool)
            return self._work.submit_phase_one(connection, medium.medium)

        return transact(self._primary.engine, deed)

    def phase_two(self, images: Sequence[ImageId], pool: str | None, _actor: Actor) -> Sequence[JobId]:
        """Read the file lists of images whose keys are here; those that wait for a key are named."""
        self._work.settle_keys()

        def deed(connection: Connection) -> list[JobId]:
            wanted = list(images) or self._all(connection, pool)
            submitted = [self._work.submit_listing_of(connection, image) for image in wanted]
            return [job for job in submitted if job is not None]

        jobs = transact(self._primary.engine, deed)
        if images and not jobs:
            with read(self._primary.engine) as connection:
                unlisted = [image for image in images if not has_file_list(connection, image)]
                held = [copy for image in unlisted for copy in get_image(connection, image).copies]
            missing = sorted({tag.hex() for copy in held for tag in copy.unknown_tags})
            if missing:
                raise NotReadableError(f"the images wait for the key {', '.join(missing)}")
        return jobs

    def _all(self, connection: Connection, pool: str | None) -> list[ImageId]:
        listed = exists().where(file_lists.c.image == copies.c.image)
        query = select(copies.c.image).where(
            copies.c.state == CopyState.COMPLETE,
            copies.c.readability == Readability.READABLE,
            copies.c.domain == self._primary.domain,
            ~listed,
        )
        if pool is not None:
            query = query.where(copies.c.medium == pools.pool_named(connection, self._primary.domain, pool).medium)
        return [ImageId(image) for image in connection.execute(query.distinct().limit(MOST_LISTED)).scalars()]


class Images:
    """Work on images."""

    def __init__(self, primary: Primary, work: ImageWork, expiring: Expiring) -> None:
        self._primary = primary
        self._work = work
        self._expiring = expiring

    def expire(self, connection: Connection, image: ImageId, copy: int | None, reason: str, *, lift: bool) -> list[int]:
        """Expire copies of an image before their time."""
        return self._expiring.expire_image(connection, image, copy, reason, lift=lift)

    def verify(self, image: ImageId, _actor: Actor) -> JobId:
        """Verify the first complete copy of this domain."""

        def deed(connection: Connection) -> JobId:
            job = self._work.submit_verify_of(connection, image)
            if job is None:
                raise CopyNotFoundError(f"the image '{to_text(image)}' has no complete copy here")
            return job

        return transact(self._primary.engine, deed)


class Pools:
    """Jobs on pools."""

    def __init__(self, primary: Primary, work: PoolWork) -> None:
        self._primary = primary
        self._work = work

    def repair(self, medium: MediumId, *, dry_run: bool) -> JobId:
        """Repair a pool, or look what a repair would do."""
        return transact(self._primary.engine, lambda c: self._work.submit_repair(c, medium, dry_run=dry_run))


class Credentials:
    """What this domain, as a target, lets others write."""

    def __init__(self, primary: Primary) -> None:
        self._primary = primary

    def create(self, connection: Connection, pool: str, sender: DomainId, name: str, *, now: datetime) -> NewCredential:
        """Make a credential for one sender and one pool."""
        medium = pools.pool_named(connection, self._primary.domain, pool)
        made, text = credentials.create(connection, name, medium.medium, sender, now=now, entropy=self._primary.entropy)
        return NewCredential(self._facts(connection, made), text)

    def listed(self, connection: Connection) -> Sequence[CredentialFacts]:
        """List credentials, revoked ones too."""
        return [self._facts(connection, one) for one in credentials.list_all(connection)]

    def revoke(self, connection: Connection, identity: bytes, *, now: datetime) -> CredentialFacts:
        """Withdraw a credential."""
        return self._facts(connection, credentials.revoke(connection, identity, now=now))

    def _facts(self, connection: Connection, one: credentials.Credential) -> CredentialFacts:
        labels = {m.medium: m.label for m in pools.own_pools(connection, self._primary.domain)}
        return CredentialFacts(
            id=one.id,
            name=one.name,
            pool=labels.get(one.medium, to_text(one.medium)),
            sender=one.sender,
            created=one.created,
            expires=None,
            revoked=one.revoked,
            last_used=one.used,
        )


class PeerQueries:
    """Questions to trusted primaries."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk

    def check_import_policy(self, peer: DomainId, slp: str) -> ImportPolicyCheck:
        """Ask what an import SLP is."""
        answer = self._talk.ask(peer, "slp.check", SLPCheck(name=slp))
        if answer.kind != "slp.checked":
            raise _refused(answer.kind, answer.body)
        said = wire.decode(answer.body, SLPChecked)
        return ImportPolicyCheck(found=said.exists, active=said.active, takes_imports=said.exists)

    def storage(self, peer: DomainId) -> Sequence[StorageOffer]:
        """Ask what storage there is for us."""
        return [StorageOffer(server.name, MediumId(server.medium), server.name) for server in self.servers(peer)]

    def servers(self, peer: DomainId) -> Sequence[wire.StorageServer]:
        """Ask what storage there is for us, with its addresses."""
        answer = self._talk.ask(peer, "storage.list", Empty())
        if answer.kind != "storage.listed":
            raise _refused(answer.kind, answer.body)
        return wire.decode(answer.body, StorageListed).servers


class Targets:
    """Where this domain, as a source, may write."""

    def __init__(self, primary: Primary, queries: PeerQueries) -> None:
        self._primary = primary
        self._queries = queries

    def add(self, name: str, peer: DomainId, pool: str, credential: Secret, _actor: Actor) -> TargetFacts:
        """Add a target: the other domain is asked for the pool, which it names only to who has a credential for it."""
        identity, secret = credentials.read_text(credential)
        offered = {server.name: server for server in self._queries.servers(peer)}
        if pool not in offered:
            raise targets.TargetNotFoundError(
                f"the other domain offers no pool '{pool}' to this one",
                hint="ask its administrator for a storage credential for this domain and that pool",
            )
        target = StorageTarget(
            name=name,
            domain=peer,
            server=pool,
            medium=MediumId(offered[pool].medium),
            addresses=tuple(offered[pool].media),
            credential=identity,
            added=self._primary.clock.now(),
        )

        def deed(connection: Connection) -> None:
            targets.add(connection, target)
            # Not before: a target that is there already must not lose its secret to a slip of the pen.
            self._primary.keys.keep(target.key_name, secret)

        transact(self._primary.engine, deed)
        return self._facts(target)

    def listed(self, connection: Connection) -> Sequence[TargetFacts]:
        """List targets by name."""
        return [self._facts(target) for target in targets.list_all(connection)]

    def remove(self, name: str, _actor: Actor) -> TargetFacts:
        """Remove a target and the secret of its credential; images that were promised to its domain wait."""

        def deed(connection: Connection) -> StorageTarget:
            domain = targets.get(connection, name).domain
            needing = [
                stored.policy.name
                for stored in list_policies(connection)
                if stored.active and domain in stored.policy.named_targets
            ]
            if needing:
                raise targets.TargetNeededError(f"the lifecycle policies {', '.join(sorted(needing))} send to '{name}'")
            return targets.remove(connection, name)

        removed = transact(self._primary.engine, deed)
        self._primary.keys.drop(removed.key_name)
        return self._facts(removed)

    def _facts(self, target: StorageTarget) -> TargetFacts:
        return TargetFacts(
            name=target.name,
            domain=target.domain,
            pool=target.server,
            medium=target.medium,
            media=target.addresses,
            state="defined",
        )


def _refused(kind: str, body: bytes) -> StrongroomError:
    if kind != "refused":
        return NoAnswerError(f"the other domain answered with '{kind}'")
    said = wire.decode(body, Refused)
    error = NoAnswerError(f"the other domain refused: {said.message}", hint=said.hint)
    error.code = said.code
    return error
