"""A primary, open: its keys, its database and what stands on them. Nothing runs yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from sqlalchemy import Engine

from strongroom.api.errors import KeystoreLockedError
from strongroom.catalog import keys as catalog_keys
from strongroom.catalog.file_list import FileLists
from strongroom.core.clock import Clock
from strongroom.core.entropy import Entropy
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import DomainId, HostId, KeyTag
from strongroom.database import open_engine, read, upgrade
from strongroom.formats.identity import ArchiveSigner
from strongroom.jobs import JobStore
from strongroom.kms.data_keys import DataKeys
from strongroom.kms.keyfolder import KeyFolder
from strongroom.kms.keyring import KeyRing
from strongroom.kms.service import KeyManagement
from strongroom.kms.store import KeystoreFile
from strongroom.pki import registry
from strongroom.pki.ca import Authority, IssuerKind, restore, to_der
from strongroom.pki.enrol import Registrar
from strongroom.pki.roles import Role
from strongroom.services.identity import Held, Identities
from strongroom.services.primary import service_keys
from strongroom.services.primary.service_keys import ServiceKeys
from strongroom.services.primary.setup import ARCHIVE_CERTIFICATE, REVOCATIONS
from strongroom.settings.domain import DomainSettings, split_address
from strongroom.settings.home import Home
from strongroom.trust.home import OurDomain

FIRST_INCARNATION: Final = 1


@dataclass(frozen=True)
class Kms:
    """The key management service, when its keystore could be opened."""

    management: KeyManagement
    ring: KeyRing
    data_keys: DataKeys


@dataclass(frozen=True)
class Primary:
    """Everything of a primary that its services share."""

    home: Home
    settings: DomainSettings
    clock: Clock
    entropy: Entropy
    engine: Engine
    keys: ServiceKeys
    signer: ArchiveSigner
    ours: OurDomain
    authorities: dict[IssuerKind, Authority]
    registrar: Registrar
    identities: Identities
    jobs: JobStore
    file_lists: FileLists
    revocations: bytes
    open_kms: Callable[[], Kms]
    started: datetime

    @property
    def domain(self) -> DomainId:
        """This domain."""
        return self.ours.domain

    @property
    def incarnation(self) -> int:
        """Raised by each restore of the primary."""
        return self.ours.incarnation

    @property
    def kms(self) -> Kms:
        """The KMS.

        Raises:
            KeystoreLockedError: the keystore is not open.
        """
        return self.open_kms()

    @property
    def root(self) -> x509.Certificate:
        """The CA's root."""
        return self.authorities[IssuerKind.ROOT].certificate

    def known_tags(self) -> frozenset[KeyTag] | None:
        """Tell which key tags the KMS can open today; None when it cannot be asked."""
        try:
            return frozenset(self.kms.management.decryptable())
        except StrongroomError:
            return None

    def own_identity(self) -> Held:
        """Give the primary's certificate of its own domain."""
        return self.identities.get(self.domain)


class _Usage:
    """Tells the KMS which images need a key."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def images_needing(self, tag: KeyTag) -> int:
        """Count the images with a copy that needs this key."""
        with read(self._engine) as connection:
            return catalog_keys.needing(connection, tag)


def open_primary(home: Home, settings: DomainSettings, clock: Clock, entropy: Entropy) -> Primary:
    """Open the primary of a home, and bring its database to this program's schema.

    Raises:
        KeyFileMissingError, WrongKeyFileError, DamagedError: the service keys cannot be opened.
        DatabaseNewerError, DatabaseUnreachableError: the database cannot be used.
    """
    folder = KeyFolder(home.keys, entropy)
    keys = ServiceKeys(home.service_keys, folder.load("service"), clock, entropy)
    certificate = (home.path / "pki" / ARCHIVE_CERTIFICATE).read_bytes()
    signer = ArchiveSigner(keys.get(service_keys.ARCHIVE), certificate)
    engine = open_engine(settings.primary.database or f"sqlite:///{home.catalog}")
    upgrade(engine)
    authorities = _authorities(engine, keys)
    with read(engine) as connection:
        (own,) = registry.hosts(connection, role=Role.PRIMARY)
    _, port = split_address(settings.primary.listen_peer)
    ours = OurDomain(
        domain=keys.domain,
        name=settings.domain,
        host=HostId(own.id),
        incarnation=FIRST_INCARNATION,
        roots=(to_der(authorities[IssuerKind.ROOT].certificate),),
        addresses=(f"{settings.host}:{port}",),
        signer=signer,
    )
    return Primary(
        home=home,
        settings=settings,
        clock=clock,
        entropy=entropy,
        engine=engine,
        keys=keys,
        signer=signer,
        ours=ours,
        authorities=authorities,
        registrar=Registrar(engine, keys.domain, authorities, clock, entropy),
        identities=Identities(home.primary_identity),
        jobs=JobStore(clock),
        file_lists=FileLists(home.file_lists, keys.get(service_keys.CATALOG)),
        revocations=(home.path / "pki" / REVOCATIONS).read_bytes(),
        open_kms=_kms_opener(home, folder, engine, signer, clock, entropy),
        started=clock.now(),
    )


def _kms_opener(
    home: Home, folder: KeyFolder, engine: Engine, signer: ArchiveSigner, clock: Clock, entropy: Entropy
) -> Callable[[], Kms]:
    """Open the keystore when it is first asked for, and again until it opens."""
    opened: list[Kms] = []

    def open_kms() -> Kms:
        if not opened:
            try:
                store = KeystoreFile(home.keystore, folder.load("hmk"), folder.load("kpk"), entropy)
            except StrongroomError as error:
                told = f"the keystore cannot be opened: {error.message}"
                raise KeystoreLockedError(told, hint=error.hint) from error
            ring = KeyRing(store)
            management = KeyManagement(store, _Usage(engine), clock=clock, entropy=entropy)
            opened.append(Kms(management, ring, DataKeys(ring, signer, FIRST_INCARNATION, clock, entropy)))
        return opened[0]

    return open_kms


def _authorities(engine: Engine, keys: ServiceKeys) -> dict[IssuerKind, Authority]:
    names = {
        IssuerKind.ROOT: service_keys.CA_ROOT,
        IssuerKind.HOSTS: service_keys.CA_HOSTS,
        IssuerKind.FOREIGN: service_keys.CA_FOREIGN,
    }
    with read(engine) as connection:
        certificates = {kind: registry.believed_authorities(connection, kind)[0] for kind in names}
    root = to_der(certificates[IssuerKind.ROOT])
    return {
        kind: restore(
            kind,
            to_der(certificates[kind]),
            keys.get(name),
            None if kind is IssuerKind.ROOT else root,
        )
        for kind, name in names.items()
    }
