"""The application over real parts: database, CA, keystore, file lists; what is on other hosts is played here."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from anyio.from_thread import BlockingPortal
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Connection, Engine

from strongroom.api.app import create_app
from strongroom.api.errors import PoolNotFoundError
from strongroom.api.parts import Parts
from strongroom.api.ports import (
    CredentialFacts,
    DataGrant,
    HeldCertificate,
    ImportPolicyCheck,
    LockFacts,
    MediaListener,
    NewBucket,
    NewCredential,
    PoolFacts,
    StartedBackup,
    StartedRestore,
    StorageOffer,
    TargetFacts,
)
from strongroom.audit import Actor, ActorKind
from strongroom.catalog.file_list import FileLists
from strongroom.catalog.images import get_image
from strongroom.catalog.model import Image
from strongroom.core.errors import NotFoundError, UnavailableError
from strongroom.core.ids import DomainId, HostId, ImageId, MediumId
from strongroom.core.secret import Secret
from strongroom.database import transact
from strongroom.jobs import JobId, JobStore
from strongroom.kms.service import KeyManagement
from strongroom.people import passwords, users
from strongroom.people.roles import UserRole
from strongroom.people.sessions import Door
from strongroom.people.users import EVERYWHERE, Grant
from strongroom.pki.channel import Address
from strongroom.pki.fingerprint import Fingerprint
from strongroom.pool.place import BucketKey
from strongroom.trust import home, store
from strongroom.trust.check import TrustChecker
from strongroom.trust.decisions import TrustDesk
from strongroom.trust.state import Added, Asked, Decision
from tests.support.images import Domain, fixed
from tests.support.kms import KmsHome
from tests.support.trust import ENTROPY, Primary

PASSWORD = "correct horse battery staple"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
UIDS = {UserRole.ADMINISTRATOR: 1001, UserRole.SECURITY: 1002, UserRole.OPERATOR: 1003}
GRANT_SECRET = "grant-secret-of-one-job"
CREDENTIAL_SECRET = "credential-secret-of-one-sender"


@dataclass
class Elsewhere:
    """Other hosts: media servers, clients, other primaries. Remembers what it was asked."""

    made: dict[str, PoolFacts] = field(default_factory=dict)
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    kept: dict[bytes, CredentialFacts] = field(default_factory=dict)
    aims: dict[str, TargetFacts] = field(default_factory=dict)
    policy_check: ImportPolicyCheck | None = None
    client: str = ""
    jobs: Any = field(default_factory=lambda: itertools.count(1))

    def make_pool(self, name: str, where: str | NewBucket | None, actor: Actor) -> PoolFacts:
        path = str(where.place) if isinstance(where, NewBucket) else where
        self.asked.append(("make_pool", name, path, str(actor)))
        medium = MediumId(fixed(f"pool {name}", 16))
        self.made[name] = PoolFacts(name, medium, name, path or f"/pools/{name}", "m1", "open", True, 0, 10**9, "c1")
        return self.made[name]

    def rekey_pool(self, name: str, key: BucketKey, actor: Actor) -> PoolFacts:
        self.asked.append(("rekey_pool", name, key.access_key, str(actor)))
        if name not in self.made:
            raise PoolNotFoundError(f"there is no pool '{name}'")
        return self.made[name]

    def attach_server(self, _connection: Connection, name: str, host: HostId) -> PoolFacts:
        self.asked.append(("attach_server", name, host))
        return self._served(name)

    def detach_server(self, _connection: Connection, name: str, host: HostId) -> PoolFacts:
        self.asked.append(("detach_server", name, host))
        return self._served(name)

    def _served(self, name: str) -> PoolFacts:
        if name not in self.made:
            raise PoolNotFoundError(f"there is no pool '{name}'")
        return self.made[name]

    def pools(self) -> Sequence[PoolFacts]:
        return list(self.made.values())

    def pool(self, name: str) -> PoolFacts | None:
        return self.made.get(name)

    def enrol_elsewhere(self, server: Address, pin: Fingerprint, token: Secret, actor: Actor) -> HeldCertificate:
        self.asked.append(("enrol_elsewhere", str(server), pin.value, token.reveal(), str(actor)))
        return HeldCertificate("CN=i", "CN=s", (), "ab", NOW, NOW, HostId(bytes(16)), DomainId(bytes(32)))

    def lock_pool(self, name: str, mode: str, rounding_days: int, actor: Actor) -> PoolFacts:
        self.asked.append(("lock_pool", name, mode, rounding_days, str(actor)))
        if name not in self.made:
            raise PoolNotFoundError(f"there is no pool '{name}'")
        self.made[name] = replace(self.made[name], lock=LockFacts(mode, rounding_days, 10**18, 0, 0))
        return self.made[name]

    def lock_image(self, image: ImageId, seconds: int, reason: str, actor: Actor) -> Mapping[int, int]:
        self.asked.append(("lock_image", image, seconds, reason, str(actor)))
        return {1: 2 * 10**18}

    def scrub(self, _connection: Connection, name: str, *, bytes_per_second: int | None) -> JobId:
        if name not in self.made:
            raise NotFoundError("there is no such pool")
        self.asked.append(("scrub", name, bytes_per_second))
        return JobId(next(self.jobs))

    def collect(self, _connection: Connection, name: str, *, dry_run: bool, lift: bool) -> JobId:
        if name not in self.made:
            raise NotFoundError("there is no such pool")
        self.asked.append(("collect", name, dry_run, lift))
        return JobId(next(self.jobs))

    def expire(
        self, connection: Connection, image: ImageId, copy: int | None, reason: str, *, lift: bool
    ) -> Sequence[int]:
        copies = [one.key for one in get_image(connection, image).copies if copy in (None, one.key.number)]
        self.asked.append(("expire", image, copy, reason, lift))
        return sorted(key.number for key in copies)

    def heard(self) -> tuple[int, int]:
        return 1, 1

    def held_certificates(self) -> Sequence[HeldCertificate]:
        return ()

    def grant(self, host: HostId | None) -> DataGrant:
        secret = Secret(GRANT_SECRET.encode())
        if host is None:
            return DataGrant(secret, "/run/media.sock", None)
        self.asked.append(("for", host))
        return DataGrant(secret, None, MediaListener(HostId(fixed("media", 16)), "media.example:8712", ("ab" * 32,)))

    def start_backup(self, client: str | None, host: HostId | None, paths: Sequence[bytes], slp: str) -> StartedBackup:
        grant = self.grant(host)
        self.asked.append(("backup", client, tuple(paths), slp))
        return StartedBackup(JobId(next(self.jobs)), ImageId(fixed("begun", 16)), grant, NOW)

    def start_restore(
        self, image: ImageId, copy: int | None, host: HostId | None, paths: Sequence[bytes], *, mount: bool
    ) -> StartedRestore:
        grant = self.grant(host)
        self.asked.append(("mount" if mount else "restore", image, copy, tuple(paths)))
        return StartedRestore(JobId(next(self.jobs)), grant, 7, 1_000)

    def phase_one(self, pool: str, actor: Actor) -> JobId:
        self.asked.append(("phase_one", pool, str(actor)))
        return JobId(next(self.jobs))

    def phase_two(self, images: Sequence[ImageId], pool: str | None, actor: Actor) -> Sequence[JobId]:
        self.asked.append(("phase_two", tuple(images), pool, str(actor)))
        return [JobId(next(self.jobs)) for _ in images] or [JobId(next(self.jobs))]

    def verify(self, image: ImageId, actor: Actor) -> JobId:
        self.asked.append(("verify", image, str(actor)))
        return JobId(next(self.jobs))

    def repair(self, medium: MediumId, *, dry_run: bool) -> JobId:
        self.asked.append(("repair", medium, dry_run))
        return JobId(next(self.jobs))

    def check_import_policy(self, peer: DomainId, slp: str) -> ImportPolicyCheck:
        self.asked.append(("check_import_policy", peer, slp))
        if self.policy_check is None:
            raise UnavailableError("the other primary does not answer")
        return self.policy_check

    def storage(self, peer: DomainId) -> Sequence[StorageOffer]:
        self.asked.append(("storage", peer))
        return [StorageOffer("vault", MediumId(fixed("vault", 16)), "vault")]

    def count(self, address: str) -> None:
        self.asked.append(("count", address))


@dataclass
class _Backups:
    there: Elsewhere

    def start(
        self, _actor: Actor, client: str | None, host: HostId | None, paths: Sequence[bytes], slp: str
    ) -> StartedBackup:
        return self.there.start_backup(client, host, paths, slp)


@dataclass
class _Restores:
    there: Elsewhere

    def is_of(self, image: Image, host: HostId | None) -> bool:
        return image.client == self.there.client if host is None else image.client_host == host

    def start(
        self,
        _actor: Actor,
        image: ImageId,
        copy: int | None,
        host: HostId | None,
        paths: Sequence[bytes],
        *,
        mount: bool,
    ) -> StartedRestore:
        return self.there.start_restore(image, copy, host, paths, mount=mount)


@dataclass
class _Credentials:
    there: Elsewhere

    def create(
        self, _connection: Connection, pool: str, sender: DomainId, name: str, *, now: datetime
    ) -> NewCredential:
        facts = CredentialFacts(fixed(name, 16), name, pool, sender, now, None, None, None)
        self.there.kept[facts.id] = facts
        return NewCredential(facts, Secret(f"{facts.id.hex()}.{CREDENTIAL_SECRET}".encode()))

    def listed(self, _connection: Connection) -> Sequence[CredentialFacts]:
        return list(self.there.kept.values())

    def revoke(self, _connection: Connection, identity: bytes, *, now: datetime) -> CredentialFacts:
        if identity not in self.there.kept:
            raise NotFoundError("there is no such credential")
        return self.there.kept[identity]


@dataclass
class _Targets:
    there: Elsewhere

    def add(self, name: str, peer: DomainId, pool: str, credential: Secret, actor: Actor) -> TargetFacts:
        self.there.asked.append(("add_target", name, peer, pool, credential.reveal(), str(actor)))
        self.there.aims[name] = TargetFacts(name, peer, pool, MediumId(fixed(pool, 16)), ("m:1",), "ready")
        return self.there.aims[name]

    def listed(self, _connection: Connection) -> Sequence[TargetFacts]:
        return list(self.there.aims.values())

    def remove(self, name: str, _actor: Actor) -> TargetFacts:
        if name not in self.there.aims:
            raise NotFoundError("there is no such target")
        return self.there.aims.pop(name)


class Stage:
    """One primary with its application, and a client for it.

    Args:
        engine: of a database with the tables of the product.
        folder: for the keystore and the file lists.
        name: of the domain.
        port: at which its peer listener is said to be.
        app: the application of a stage that is over, made this one's: what FastAPI works out for it takes a while.
        portal: the event loop that answers; without one, each request has its own, in a thread that is made for it.
    """

    def __init__(
        self,
        engine: Engine,
        folder: Path,
        name: str = "here",
        *,
        port: int = 1,
        app: FastAPI | None = None,
        portal: BlockingPortal | None = None,
    ) -> None:
        self.engine = engine
        self._portal = portal
        self.primary = Primary(name, engine, port=port)
        self.kms = KmsHome(folder, name)
        self.there = Elsewhere()
        self.door = Door(engine, self.primary.clock, ENTROPY)
        for role, uid in UIDS.items():
            self.add_user(role.value, frozenset({Grant(role)}), uid=uid)
        self.parts = Parts(
            engine=engine,
            ours=self.primary.ours,
            door=self.door,
            kms=self.kms.keys,
            maker=self.primary.maker,
            desk=TrustDesk(engine, self.primary.clock, lambda _connection, _peer: ()),
            checker=TrustChecker(engine, self.primary.exchange, self.primary.keys, self.primary.clock),
            jobs=JobStore(self.primary.clock),
            file_lists=FileLists(folder / "files", Secret(bytes(32))),
            media=self.there,
            backups=_Backups(self.there),
            restores=_Restores(self.there),
            imports=self.there,
            images=self.there,
            pools=self.there,
            credentials=_Credentials(self.there),
            targets=_Targets(self.there),
            peers=self.there,
            sign_ins=self.there,
            clock=self.primary.clock,
            entropy=ENTROPY,
            started=self.primary.clock.now() - timedelta(minutes=1),
        )
        self.app = app or create_app(self.parts)
        self.app.state.parts = self.parts
        self.stranger = self._client({})

    def add_user(
        self, name: str, grants: frozenset[Grant], *, uid: int | None = None, password: str | None = None
    ) -> None:
        hashed = None if password is None else passwords.hash_password(Secret(password.encode()), ENTROPY)

        def add(connection: Connection) -> None:
            users.create(connection, name, grants, password_hash=hashed, now=self.primary.clock.now(), entropy=ENTROPY)
            if uid is not None:
                users.register_system_account(connection, uid, name)

        transact(self.engine, add)

    def user_on(self, scope: str, role: UserRole = UserRole.OPERATOR, uid: int = 2001) -> TestClient:
        """Make a user with a role on one object only, and a client that acts as this user."""
        self.add_user(f"u{uid}", frozenset({Grant(role, scope)}), uid=uid)
        return self.client_of(uid)

    def as_(self, role: UserRole = UserRole.ADMINISTRATOR) -> TestClient:
        """Give a client with a session of a user who has this role everywhere."""
        return self.client_of(UIDS[role])

    def client_of(self, uid: int) -> TestClient:
        token = self.door.sign_in_locally(uid).reveal().decode()
        return self._client({"Authorization": f"Bearer {token}"})

    def _client(self, headers: dict[str, str]) -> TestClient:
        client = TestClient(self.app, base_url="https://testserver", raise_server_exceptions=False, headers=headers)
        client.portal = self._portal
        return client

    def make_pool(self, name: str) -> PoolFacts:
        """Have a pool."""
        return self.there.make_pool(name, None, Actor(ActorKind.SYSTEM, "test"))

    def meet(self, name: str, *, active: bool) -> DomainId:
        """Have a trust with another domain, as its exchange would leave it."""
        domain = DomainId(fixed(f"domain {name}"))

        def happen(connection: Connection) -> None:
            clock = self.primary.clock
            store.happen(connection, domain, Asked(1, 1, home.take_number(connection)), clock, name=name)
            if active:
                added = Added(home.take_number(connection), Decision.ADDED, 2, 1)
                store.happen(connection, domain, added, clock)

        transact(self.engine, happen)
        return domain

    def signs(self) -> Domain:
        """Give this domain as one that signs headers."""
        domain = Domain(self.primary.ours.name)
        object.__setattr__(domain, "signer", self.primary.signer)
        return domain

    def lock(self) -> KeyManagement:
        """Lock the keystore."""
        kms, self.parts.kms = self.parts.kms, None
        assert kms is not None
        return kms


__all__ = ["CREDENTIAL_SECRET", "EVERYWHERE", "GRANT_SECRET", "NOW", "PASSWORD", "Elsewhere", "Stage"]
