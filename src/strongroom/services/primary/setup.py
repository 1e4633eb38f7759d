"""``strongroom init``: a new domain, whole or not at all.

Order: root key, archive certificate, key folder, CA, service keys, keystore, database with registry, primary, media
server and first administrator, settings. Whatever fails takes everything with it; what a loss of power leaves has no
settings, and is no home.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sqlalchemy import Connection

from strongroom.audit import Actor, ActorKind, Outcome, record
from strongroom.core.clock import Clock, to_ns
from strongroom.core.entropy import Entropy
from strongroom.core.errors import InputError, RefusedError
from strongroom.core.ids import DomainId
from strongroom.core.secret import Secret
from strongroom.database import open_engine, read, transact, upgrade
from strongroom.formats import root_key, signed
from strongroom.formats.identity import REVOCATION_LIST, ArchiveSigner, RevocationList, RootKeySigner
from strongroom.formats.passphrase import normalise
from strongroom.kms import durable, phrases
from strongroom.kms.keyfolder import KeyFolder
from strongroom.kms.store import KeystoreFile
from strongroom.people import users
from strongroom.people.roles import UserRole
from strongroom.people.users import Grant
from strongroom.pki import registry, tokens
from strongroom.pki.ca import Authority, IssuerKind, make_issuer, make_root, to_der
from strongroom.pki.channel import DEFAULT_PORT
from strongroom.pki.enrol import Application, Issued, Registrar
from strongroom.pki.fingerprint import Fingerprint, fingerprint_of
from strongroom.pki.roles import Role
from strongroom.pki.tokens import Purpose, TokenOrder
from strongroom.services.identity import Identities
from strongroom.services.primary import service_keys
from strongroom.services.primary.service_keys import ServiceKeys
from strongroom.settings.domain import check_listen, write_settings
from strongroom.settings.home import Home

ARCHIVE_CERTIFICATE = "archive-certificate"
REVOCATIONS = "revocations"


class HomeExistsError(RefusedError):
    """There is something at the place of the new home already."""

    code = "init.home-exists"
    default_hint = "choose another folder, or move the old home, its .keys folder and its .root-key file away"


class DatabaseInUseError(RefusedError):
    """The database that was named holds a domain already."""

    code = "init.database-in-use"
    default_hint = "name an empty database"


class HomeNameError(InputError):
    """The name of the domain or of its host cannot be used."""

    code = "init.bad-name"


@dataclass(frozen=True)
class NewDomain:
    """What ``init`` made, and what its administrator must do with it.

    Attributes:
        domain: the domain id.
        fingerprint: of the CA's root.
        root_key: where the sealed root key lies; to be carried away.
        root_phrase: pass phrase of the root key, when it was made here; shown once.
        administrator: name of the first user.
    """

    domain: DomainId
    fingerprint: Fingerprint
    root_key: Path
    root_phrase: Secret | None
    administrator: str


def init(
    home: Home,
    *,
    name: str,
    host: str | None,
    listen: str | None,
    root_phrase: Secret | None,
    database: str = "",
    clock: Clock,
    entropy: Entropy,
) -> NewDomain:
    """Make a domain.

    Args:
        home: where; nothing may be there but an empty folder.
        name: of the domain, for people.
        host: name or address by which other hosts reach this one; this machine's name by default.
        listen: ``ADDRESS:PORT`` of the peer listener; the two ports behind it are the people's and the media server's.
        root_phrase: pass phrase of the root key, normalised; made here when it is None.
        database: URL of an empty PostgreSQL database; SQLite in the home when it is empty.
        clock: for times.
        entropy: for keys and ids.

    Raises:
        HomeExistsError: something is there.
        DatabaseInUseError: the database is another domain's.
        HomeNameError, SettingsError, WeakPassPhraseError: what was given cannot be used.
    """
    if not 1 <= len(name) <= 128 or not name.isprintable():
        raise HomeNameError(f"'{name[:64]}' is not a name for a domain", hint="give 1 to 128 printable characters")
    _require_nothing(home)
    if root_phrase is not None:
        phrases.check_strength(root_phrase)
    with ExitStack() as undo:
        undo.callback(_remove, home)
        made = _make(
            home,
            name=name,
            host=host or socket.getfqdn(),
            listen=listen or f"0.0.0.0:{DEFAULT_PORT}",
            given_phrase=root_phrase,
            database=database,
            clock=clock,
            entropy=entropy,
        )
        undo.pop_all()  # it is whole: nothing to undo
    return made


def _require_nothing(home: Home) -> None:
    for path in (home.path, home.keys, home.root_key):
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise HomeExistsError(f"'{path}' exists and is not empty")


def _remove(home: Home) -> None:
    for path in (home.path, home.keys):
        shutil.rmtree(path, ignore_errors=True)
    with suppress(FileNotFoundError):
        home.root_key.unlink()


def _make(
    home: Home,
    *,
    name: str,
    host: str,
    listen: str,
    given_phrase: Secret | None,
    database: str,
    clock: Clock,
    entropy: Entropy,
) -> NewDomain:
    check_listen(listen)
    phrase = given_phrase or normalise(phrases.generate(entropy).reveal().decode("utf-8"))
    seed = root_key.make(entropy)
    root = RootKeySigner(seed)
    domain = root.domain
    now_ns = to_ns(clock.now())
    for folder in (home.path, home.path / "pki", home.file_lists, home.media, home.run, home.logs):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    durable.create_file(home.root_key, root_key.seal(seed, phrase, entropy))

    key_folder = KeyFolder(home.keys, entropy)
    hmk, kpk, service = (key_folder.create(purpose, domain) for purpose in ("hmk", "kpk", "service"))
    keys = ServiceKeys.create(home.service_keys, domain, service, clock, entropy)
    archive_seed = Secret(entropy.bytes(32))
    certificate = root.certify(RootKeySigner(archive_seed).public_key, number=1, issued=now_ns)
    ArchiveSigner(archive_seed, certificate)  # refuses a pair that does not fit
    keys.keep(service_keys.ARCHIVE, archive_seed, "ed25519")
    durable.create_file(home.path / "pki" / ARCHIVE_CERTIFICATE, certificate)
    revocations = RevocationList(domain=domain, number=1, issued=now_ns, revoked=())
    durable.create_file(home.path / "pki" / REVOCATIONS, signed.sign(REVOCATION_LIST, revocations, root))
    keys.keep(service_keys.CATALOG, Secret(entropy.bytes(32)), "hkdf-sha256")
    KeystoreFile.create(home.keystore, domain, hmk, kpk, entropy)

    authorities = _make_authorities(domain, name, keys, clock, entropy)
    administrator = _fill_database(
        home, database or f"sqlite:///{home.catalog}", name, host, domain, authorities, clock, entropy
    )
    write_settings(home, domain=name, host=host, listen=listen, database=database)
    return NewDomain(
        domain=domain,
        fingerprint=fingerprint_of(authorities[IssuerKind.ROOT].certificate),
        root_key=home.root_key,
        root_phrase=None if given_phrase else phrase,
        administrator=administrator,
    )


def _make_authorities(
    domain: DomainId, name: str, keys: ServiceKeys, clock: Clock, entropy: Entropy
) -> dict[IssuerKind, Authority]:
    root = make_root(domain, name, now=clock.now(), entropy=entropy)
    made = {IssuerKind.ROOT: root}
    for kind in (IssuerKind.HOSTS, IssuerKind.FOREIGN):
        made[kind] = make_issuer(root, kind, now=clock.now(), entropy=entropy)
    names = {
        IssuerKind.ROOT: service_keys.CA_ROOT,
        IssuerKind.HOSTS: service_keys.CA_HOSTS,
        IssuerKind.FOREIGN: service_keys.CA_FOREIGN,
    }
    for kind, authority in made.items():
        keys.keep(names[kind], authority.key, "ecdsa")
    return made


def _fill_database(
    home: Home,
    database: str,
    name: str,
    host: str,
    domain: DomainId,
    authorities: dict[IssuerKind, Authority],
    clock: Clock,
    entropy: Entropy,
) -> str:
    """Enter authorities, the two hosts and the first administrator."""
    engine = open_engine(database)
    try:
        upgrade(engine)
        with read(engine) as connection:
            if registry.hosts(connection):  # two domains in one would take each other's hosts and keys for their own
                raise DatabaseInUseError("the database holds a domain already")
        registrar = Registrar(engine, domain, authorities, clock, entropy)
        primary, media = Identities(home.primary_identity), Identities(home.media / "certificates")
        requests = primary.make_request(domain), media.make_request(domain)
        account = _account()
        names = _names(host)
        roots = [to_der(authorities[IssuerKind.ROOT].certificate)]
        actor = Actor(ActorKind.SYSTEM, "init")

        def fill(connection: Connection) -> tuple[Issued, Issued]:
            now = clock.now()
            for authority in authorities.values():
                registry.install_authority(connection, authority, now=now)
            own = registrar.admit_primary(connection, requests[0], name, names)
            token = tokens.create(
                connection,
                TokenOrder(
                    name="init-media",
                    purpose=Purpose.ENROL_HOST,
                    reason="media server of the primary's host",
                    validity=timedelta(minutes=5),
                    role=Role.MEDIA,
                ),
                created_by="init",
                now=now,
                entropy=entropy,
            )
            application = Application(
                token=token,
                request=requests[1],
                role=Role.MEDIA,
                label=f"{name} media",
                names=names,
            )
            served = registrar.enrol_in(connection, application)
            grants = frozenset({Grant(UserRole.ADMINISTRATOR), Grant(UserRole.SECURITY)})
            users.create(connection, account, grants, password_hash=None, now=now, entropy=entropy)
            for uid in sorted({0, os.getuid()}):
                users.register_system_account(connection, uid, account)
            record(connection, now, actor, "domain.init", f"domain:{domain.hex()}", Outcome.DONE, {"name": name})
            return own, served

        own, served = transact(engine, fill)
        primary.take(domain, list(own.chain), roots)
        media.take(domain, list(served.chain), roots)
        return account
    finally:
        engine.dispose()


def _account() -> str:
    """Name the first administrator after the system account that makes the domain."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid-{os.getuid()}"


def _names(host: str) -> tuple[str, ...]:
    """Tell under which names the hosts of this machine are called; on the machine itself also by its loopback."""
    return tuple(dict.fromkeys((host, "localhost", "127.0.0.1", "::1")))
