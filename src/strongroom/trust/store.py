"""The trusts of this domain in its database; every change goes through :func:`happen`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from cryptography import x509
from sqlalchemy import Connection, Engine, Row, delete, insert, select, update

from strongroom import audit
from strongroom.core.clock import Clock
from strongroom.core.ids import DomainId, to_text
from strongroom.core.secret import Secret
from strongroom.database import racing, read, transact
from strongroom.pki import registry, revocation
from strongroom.pki.roles import HostState
from strongroom.pki.tls import Credential
from strongroom.trust import home
from strongroom.trust.errors import NotActiveError, TrustNotFoundError
from strongroom.trust.state import Broken, Decision, Effect, Event, Step, Trust, apply
from strongroom.trust.tables import peer_messages, trust_credentials, trusts

_STATE: Final = (
    "ours",
    "our_number",
    "theirs",
    "their_number",
    "incarnation",
    "offered",
    "start",
    "instance",
    "newer",
    "broken",
    "unreachable_since",
    "last_exchange",
)


class CredentialKeys(Protocol):
    """Where the private keys of our certificates at peers lie: outside the database, sealed."""

    def keep(self, name: str, key: Secret) -> None:
        """Keep a key durably under a name of 1 to 64 characters."""

    def get(self, name: str) -> Secret:
        """Give a key back.

        Raises:
            KeyUnavailableError: there is none of this name, or it cannot be opened now.
        """

    def drop(self, name: str) -> None:
        """Destroy a key; nothing happens when there is none of this name."""


@dataclass(frozen=True)
class Peer:
    """One other domain.

    Args:
        trust: what was decided, here and there.
        name: what the other domain calls itself.
        address: ``host:port`` at which our administrator found it; empty before we have added it.
        roots: CA roots, DER, against which its primary is verified; empty before we have added it.
    """

    trust: Trust
    name: str
    address: str
    roots: tuple[bytes, ...]
    created: datetime
    changed: datetime

    @property
    def domain(self) -> DomainId:
        """Its id."""
        return self.trust.peer


@dataclass(frozen=True)
class CredentialView:
    """What is known of the certificate that a peer issued to us."""

    id: bytes
    chain: tuple[bytes, ...]
    not_before: datetime
    not_after: datetime

    @property
    def key_name(self) -> str:
        """Under which its private key is kept."""
        return key_name(self.id)


def key_name(identity: bytes) -> str:
    """Name the private key of a certificate."""
    return f"trust-{to_text(identity)}"


# ---------------------------------------------------------------- reading


def peers(connection: Connection) -> list[Peer]:
    """List all domains with which there is, or was, something; in the order in which they were met."""
    return [_peer(connection, row) for row in connection.execute(select(trusts).order_by(trusts.c.created))]


def find_peer(connection: Connection, domain: DomainId) -> Peer | None:
    """Look a domain up."""
    row = connection.execute(select(trusts).where(trusts.c.peer == domain)).one_or_none()
    return None if row is None else _peer(connection, row)


def get_peer(connection: Connection, domain: DomainId) -> Peer:
    """Look a domain up.

    Raises:
        TrustNotFoundError: there never was anything.
    """
    found = find_peer(connection, domain)
    if found is None:
        raise TrustNotFoundError(f"there is no trust with the domain '{domain.hex()}'")
    return found


def require_active(connection: Connection, domain: DomainId) -> Peer:
    """Make sure that images may pass.

    Raises:
        TrustNotFoundError: there is no trust.
        NotActiveError: says what is missing.
    """
    peer = get_peer(connection, domain)
    if not peer.trust.passes_images:
        why = f"broken ('{peer.trust.broken}')" if peer.trust.broken else f"'{peer.trust.state}'"
        raise NotActiveError(f"the trust with '{peer.name}' is {why}, so nothing passes")
    return peer


def credential_view(connection: Connection, domain: DomainId) -> CredentialView | None:
    """Give the newest certificate that a peer issued to us and that was not forgotten."""
    table = trust_credentials.c
    row = connection.execute(
        select(trust_credentials)
        .where(table.peer == domain, table.forgotten.is_(None))
        .order_by(table.not_after.desc())
        .limit(1)
    ).one_or_none()
    if row is None:
        return None
    chain = tuple(bytes.fromhex(item) for item in row.chain)
    return CredentialView(row.id, chain, row.not_before, row.not_after)


def has_credential(connection: Connection, identity: bytes) -> bool:
    """Tell whether a certificate of ours at a peer was kept."""
    found = select(trust_credentials.c.id).where(trust_credentials.c.id == identity)
    return connection.execute(found).first() is not None


def load_credential(view: CredentialView, keys: CredentialKeys) -> Credential:
    """Put certificate and key together.

    Raises:
        KeyUnavailableError: the key is not there.
    """
    return Credential(view.chain, keys.get(view.key_name))


# ---------------------------------------------------------------- changing


def happen(connection: Connection, domain: DomainId, event: Event, clock: Clock, *, name: str = "") -> Step:
    """Let an event happen to a trust, in the caller's transaction, with all that follows here.

    Args:
        connection: of a writing transaction.
        domain: the peer; one that is not known yet becomes known.
        event: what happened.
        clock: for the times of the rows.
        name: what a domain that is new calls itself.

    Returns:
        The step. When it has a refusal the new state must be committed all the same.

    Raises:
        NotPossibleError, OlderIncarnationError: see :func:`strongroom.trust.state.apply`; nothing changed.
    """
    row = connection.execute(select(trusts).where(trusts.c.peer == domain)).one_or_none()
    before = Trust(domain) if row is None else _trust(row)
    step = apply(before, event)
    now = clock.now()
    facts = {field: getattr(step.trust, field) for field in _STATE} | {"changed": now}
    if row is None:
        with racing():
            connection.execute(insert(trusts).values(peer=domain, name=name, address="", created=now, **facts))
    elif step.trust != before:
        connection.execute(update(trusts).where(trusts.c.peer == domain).values(**facts))
    if Effect.REVOKE in step.effects:
        _revoke(connection, domain, now)
        connection.execute(delete(peer_messages).where(peer_messages.c.peer == domain))
    if Effect.FORGET in step.effects:
        forget_credentials(connection, domain, now)
    _witness(connection, before, step.trust, now)
    return step


def keep_peer(connection: Connection, domain: DomainId, *, name: str, address: str, root: bytes) -> None:
    """Note where a peer is and which root was pinned."""
    connection.execute(update(trusts).where(trusts.c.peer == domain).values(name=name, address=address, root=root))


def keep_credential(
    connection: Connection, identity: bytes, domain: DomainId, chain: Sequence[bytes], now: datetime
) -> None:
    """Keep a certificate that a peer issued to us, in place of those before it."""
    forget_credentials(connection, domain, now)
    leaf = x509.load_der_x509_certificate(chain[0])
    connection.execute(
        insert(trust_credentials).values(
            id=identity,
            peer=domain,
            chain=[item.hex() for item in chain],
            not_before=leaf.not_valid_before_utc,
            not_after=leaf.not_valid_after_utc,
        )
    )


def forget_credentials(connection: Connection, domain: DomainId, now: datetime) -> None:
    """Use the certificates from a peer no more; :func:`sweep_keys` destroys their keys."""
    table = trust_credentials.c
    connection.execute(
        update(trust_credentials).where(table.peer == domain, table.forgotten.is_(None)).values(forgotten=now)
    )


def sweep_keys(engine: Engine, keys: CredentialKeys) -> int:
    """Destroy the keys of forgotten certificates, then their rows; what a crash left is done the next time.

    Returns:
        How many there were.
    """
    table = trust_credentials.c
    with read(engine) as connection:
        found = connection.execute(select(table.id).where(table.forgotten.is_not(None))).scalars().all()
    for identity in found:
        keys.drop(key_name(identity))
    if found:
        transact(engine, lambda connection: connection.execute(delete(trust_credentials).where(table.id.in_(found))))
    return len(found)


def _revoke(connection: Connection, domain: DomainId, now: datetime) -> None:
    for host in registry.hosts(connection, home=domain):
        if host.role.is_foreign and host.state is not HostState.RETIRED:
            revocation.retire(connection, domain, host.id, now=now)


def _witness(connection: Connection, before: Trust, after: Trust, now: datetime) -> None:
    """Leave evidence of each change of what may pass, whoever caused it."""
    if (before.state, before.broken) == (after.state, after.broken):
        return
    facts: dict[str, audit.Fact] = {"before": before.state.value, "after": after.state.value}
    if after.broken is not None:
        facts["broken"] = after.broken.value
    actor = audit.Actor(audit.ActorKind.SYSTEM, "trust")
    audit.record(connection, now, actor, "trust.change", f"domain:{after.peer.hex()}", audit.Outcome.DONE, facts)


def _peer(connection: Connection, row: Row[Any]) -> Peer:
    statement = home.newest_statement(connection, DomainId(row.peer))
    # What the domain signs with its archive key outlives a change of its CA; the pin was how we met it.
    roots = () if row.root is None else (statement.roots if statement else (bytes(row.root),))
    return Peer(_trust(row), row.name, row.address, tuple(roots), row.created, row.changed)


def _trust(row: Row[Any]) -> Trust:
    facts = {field: getattr(row, field) for field in _STATE}
    facts["ours"], facts["theirs"] = Decision(row.ours), Decision(row.theirs)
    facts["broken"] = Broken(row.broken) if row.broken else None
    return Trust(peer=DomainId(row.peer), **facts)
