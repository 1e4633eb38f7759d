"""Trust between domains."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import Path, Query
from pydantic import Field
from sqlalchemy import Connection

from strongroom.api.errors import AmbiguousError
from strongroom.api.fields import Answer, Body, Hex32, Line, Password, address, secret
from strongroom.api.paging import DEFAULT_LIMIT, After, Limit, Page, cut
from strongroom.api.routing import Routes
from strongroom.api.security import CallerDep, PartsDep
from strongroom.core.ids import DIGEST_BYTES, DomainId, to_text
from strongroom.database import read
from strongroom.pki import registry
from strongroom.pki.ca import load_certificate
from strongroom.pki.fingerprint import read_pin
from strongroom.pki.roles import Role
from strongroom.trust import store
from strongroom.trust.check import Verdict
from strongroom.trust.decisions import Dependant
from strongroom.trust.errors import TrustNotFoundError
from strongroom.trust.making import Invitation
from strongroom.trust.state import Trust
from strongroom.trust.store import Peer

routes = Routes("trusts")
PeerName = Annotated[Line, Path(description="id of the other domain, its name, or its server's address")]


class PeerCertificate(Answer):
    """A certificate that one primary issued to the other."""

    issuer: str
    subject: str
    serial: str
    not_after: datetime


class TrustShown(Answer):
    """A trust with another domain."""

    domain: str
    name: str
    state: str
    health: str = Field(description="good, unreachable, or broken: and the reason")
    server: str
    added_at: datetime
    last_exchange: datetime | None
    held_certificate: PeerCertificate | None = Field(description="what the other domain issued to this primary")
    issued_certificate: PeerCertificate | None = Field(description="what this domain issued to the other primary")
    incarnation: int


class TrustRequest(Body):
    """What the other administrator handed over."""

    server: Line
    fingerprint: Line
    token: Password
    domain: Hex32 | None = None


class LegShown(Answer):
    """One leg of the way to the other domain; ``verdict`` tells bad from untried."""

    name: str
    ok: bool
    verdict: Verdict
    detail: str
    cure: str


class Checked(Answer):
    """What came of the legs."""

    ok: bool
    legs: list[LegShown]


class DependantShown(Answer):
    """Something that stops working when a trust goes."""

    kind: str
    name: str


class Removed(Answer):
    """What has stopped working, or would."""

    dependants: list[DependantShown]
    removed: bool


class OfferShown(Answer):
    """A pool in which the other domain lets this one write."""

    pool: str
    medium: str
    label: str


@routes.get("/trusts", "trust.read")
def list_trusts(parts: PartsDep, after: After = None, limit: Limit = DEFAULT_LIMIT) -> Page[TrustShown]:
    """List the trusts, removed ones too."""
    with read(parts.engine) as connection:
        items, following = cut(store.peers(connection), lambda peer: peer.domain.hex(), after, limit)
        return Page(items=[_shown(connection, peer) for peer in items], next=following)


@routes.get("/trusts/{peer}", "trust.read")
def show_trust(peer: PeerName, parts: PartsDep) -> TrustShown:
    """Show a trust."""
    with read(parts.engine) as connection:
        return _shown(connection, find_peer(connection, peer))


@routes.post("/trusts", "trust.add", status=201)
def add_trust(body: TrustRequest, caller: CallerDep) -> TrustShown:
    """Add another domain.

    The other administrator does the same there; until then the trust is 'waiting'. A wrong fingerprint, token, name or
    clock is told by its own code, and leaves nothing behind.
    """
    invitation = Invitation(
        address(body.server),
        read_pin(body.fingerprint),
        secret(body.token),
        None if body.domain is None else DomainId(body.domain),
    )
    added = caller.parts.maker.add(invitation, caller.actor)
    return _now(caller, added.domain)


@routes.post("/trusts/{peer}/check", "trust.check")
def check_trust(peer: PeerName, caller: CallerDep) -> Checked:
    """Try every leg of the way to the other domain, and tell the cure of what is wrong."""
    domain = _domain_of(caller, peer)
    legs = caller.act(lambda: caller.parts.checker.check(domain), object_=f"domain:{domain.hex()}")
    shown = [
        LegShown(name=leg.name, ok=leg.verdict is Verdict.GOOD, verdict=leg.verdict, detail=leg.finding, cure=leg.cure)
        for leg in legs
    ]
    return Checked(ok=all(leg.ok for leg in shown), legs=shown)


@routes.post("/trusts/{peer}/suspend", "trust.suspend")
def suspend_trust(peer: PeerName, caller: CallerDep) -> TrustShown:
    """Let nothing pass until the trust is resumed; certificates stay good."""
    domain = _domain_of(caller, peer)
    caller.parts.desk.suspend(domain, caller.actor)
    return _now(caller, domain)


@routes.post("/trusts/{peer}/resume", "trust.suspend")
def resume_trust(peer: PeerName, caller: CallerDep) -> TrustShown:
    """Take a suspension back."""
    domain = _domain_of(caller, peer)
    caller.parts.desk.resume(domain, caller.actor)
    return _now(caller, domain)


@routes.post("/trusts/{peer}/confirm", "trust.change")
def confirm_trust(peer: PeerName, caller: CallerDep) -> TrustShown:
    """Say that the other primary, which was restored or seen twice, is the right one."""
    domain = _domain_of(caller, peer)
    caller.parts.desk.confirm(domain, caller.actor)
    return _now(caller, domain)


@routes.delete("/trusts/{peer}", "trust.remove")
def remove_trust(
    peer: PeerName,
    caller: CallerDep,
    force: Annotated[bool, Query(description="although something needs it")] = False,
    dry_run: Annotated[bool, Query(description="only tell what would stop working")] = False,
) -> Removed:
    """Remove a trust, and revoke what was issued to the other domain's hosts."""
    parts = caller.parts
    domain = _domain_of(caller, peer)
    with read(parts.engine) as connection:
        needing = [_dependant(one) for one in parts.desk.dependants(connection, domain)]
    if not dry_run:
        parts.desk.remove(domain, caller.actor, force=force)
    return Removed(dependants=needing, removed=not dry_run)


@routes.get("/trusts/{peer}/storage", "storage.read")
def list_storage_of_peer(peer: PeerName, caller: CallerDep) -> Page[OfferShown]:
    """Ask another domain in which of its pools this one may write."""
    offers = caller.parts.peers.storage(_domain_of(caller, peer))
    return Page(
        items=[OfferShown(pool=offer.pool, medium=to_text(offer.medium), label=offer.label) for offer in offers]
    )


def find_peer(connection: Connection, words: str) -> Peer:
    """Find the domain that people name by its id, its name or its server.

    Raises:
        TrustNotFoundError: there is none.
        AmbiguousError: the name fits several.
    """
    compact = words.lower()
    if len(compact) == 2 * DIGEST_BYTES and not set(compact) - set("0123456789abcdef"):
        return store.get_peer(connection, DomainId(bytes.fromhex(compact)))
    found = [peer for peer in store.peers(connection) if words in (peer.name, peer.address)]
    if not found:
        raise TrustNotFoundError(f"there is no trust with '{words}'")
    if len(found) > 1:
        raise AmbiguousError(f"'{words}' fits {len(found)} domains: {', '.join(one.domain.hex() for one in found)}")
    return found[0]


def health_of(trust: Trust) -> str:
    """Tell in a word or two whether a trust works."""
    if trust.broken is not None:
        return f"broken: {trust.broken.value}"
    return "unreachable" if trust.unreachable_since is not None else "good"


def _domain_of(caller: CallerDep, peer: str) -> DomainId:
    with read(caller.parts.engine) as connection:
        return find_peer(connection, peer).domain


def _now(caller: CallerDep, domain: DomainId) -> TrustShown:
    with read(caller.parts.engine) as connection:
        return _shown(connection, store.get_peer(connection, domain))


def _shown(connection: Connection, peer: Peer) -> TrustShown:
    held = store.credential_view(connection, peer.domain)
    return TrustShown(
        domain=to_text(peer.domain),
        name=peer.name,
        state=peer.trust.state.value,
        health=health_of(peer.trust),
        server=peer.address,
        added_at=peer.created,
        last_exchange=peer.trust.last_exchange,
        held_certificate=None if held is None else _of_chain(held.chain[0]),
        issued_certificate=_issued(connection, peer.domain),
        incarnation=peer.trust.incarnation,
    )


def _of_chain(data: bytes) -> PeerCertificate:
    leaf = load_certificate(data)
    return PeerCertificate(
        issuer=leaf.issuer.rfc4514_string(),
        subject=leaf.subject.rfc4514_string(),
        serial=f"{leaf.serial_number:x}",
        not_after=leaf.not_valid_after_utc,
    )


def _issued(connection: Connection, domain: DomainId) -> PeerCertificate | None:
    for host in registry.hosts(connection, role=Role.FOREIGN_PRIMARY, home=domain):
        for certificate in registry.certificates(connection, domain, host.id):
            if certificate.revoked is None:
                return PeerCertificate(
                    issuer=certificate.authority.value.hex(),
                    subject=host.label,
                    serial=f"{certificate.serial:x}",
                    not_after=certificate.not_after,
                )
    return None


def _dependant(one: Dependant) -> DependantShown:
    return DependantShown(kind=one.kind, name=one.name)
