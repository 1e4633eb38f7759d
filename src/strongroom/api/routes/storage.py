"""Storage between domains: credentials that this one gives as a target, targets that it has as a source."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import Path
from pydantic import Field

from strongroom.api.errors import TrustNotActiveError
from strongroom.api.fields import UUID, Answer, Body, Line, Name, PartOfPath, Password, secret, text
from strongroom.api.paging import DEFAULT_LIMIT, After, Limit, Page, cut
from strongroom.api.ports import CredentialFacts, TargetFacts
from strongroom.api.routes.pools import find_pool
from strongroom.api.routes.trusts import find_peer
from strongroom.api.routing import Routes
from strongroom.api.security import CallerDep, PartsDep
from strongroom.core.ids import to_text
from strongroom.database import read
from strongroom.trust import store
from strongroom.trust.errors import NotActiveError

routes = Routes("storage")


class CredentialRequest(Body):
    """Who may write where."""

    pool: Name
    sender: Line = Field(description="the domain that may write: id, name or server")
    name: Name


class CredentialShown(Answer):
    """A credential without its secret."""

    credential: str
    name: str
    pool: str
    sender: str
    created: datetime
    expires: datetime | None
    revoked: datetime | None
    last_used: datetime | None


class NewCredentialShown(CredentialShown):
    """A credential that was just made. Its secret is shown now and never again."""

    secret: str = Field(description="'id.secret', to be given to 'strongroom storage target add' in the other domain")


class TargetRequest(Body):
    """Where this domain may write."""

    name: PartOfPath
    peer: Line = Field(description="the other domain: id, name or server")
    pool: Name = Field(description="name of the pool there")
    credential: Password = Field(description="the text that the other administrator handed over")


class TargetShown(Answer):
    """A pool of another domain, as a target of this one."""

    name: str
    domain: str
    pool: str
    medium: str
    media: list[str]
    state: str


@routes.post("/storage/credentials", "storage.grant", on="pool:{pool}", status=201)
def create_credential(body: CredentialRequest, caller: CallerDep) -> NewCredentialShown:
    """Let another domain write new images into a pool of this one: no reading, no deleting."""
    parts = caller.parts
    find_pool(parts, body.pool)
    now = parts.clock.now()
    with read(parts.engine) as connection:
        sender = find_peer(connection, body.sender).domain
    made = caller.transact(
        lambda connection: parts.credentials.create(connection, body.pool, sender, body.name, now=now),
        facts={"sender": sender.hex(), "name": body.name},
        describe=lambda new: {"credential": to_text(new.facts.id)},
    )
    return NewCredentialShown(secret=text(made.text), **_credential(made.facts).model_dump())


@routes.get("/storage/credentials", "storage.read")
def list_credentials(parts: PartsDep, after: After = None, limit: Limit = DEFAULT_LIMIT) -> Page[CredentialShown]:
    """List the credentials that this domain gave, withdrawn ones too."""
    with read(parts.engine) as connection:
        found = parts.credentials.listed(connection)
    items, following = cut(found, lambda one: one.id.hex(), after, limit)
    return Page(items=[_credential(one) for one in items], next=following)


@routes.delete("/storage/credentials/{credential}", "storage.revoke", on="credential:{credential}")
def revoke_credential(credential: Annotated[UUID, Path()], caller: CallerDep) -> CredentialShown:
    """Withdraw a credential; what was written with it stays."""
    now = caller.parts.clock.now()
    revoked = caller.transact(lambda connection: caller.parts.credentials.revoke(connection, credential, now=now))
    return _credential(revoked)


@routes.post("/storage/targets", "storage.target", on="target:{name}", status=201)
def add_target(body: TargetRequest, caller: CallerDep) -> TargetShown:
    """Make a pool of another domain a target of this one; its trust must be active."""
    parts = caller.parts

    def add() -> TargetFacts:
        with read(parts.engine) as connection:
            peer = find_peer(connection, body.peer)
            try:
                store.require_active(connection, peer.domain)
            except NotActiveError as error:
                raise TrustNotActiveError(error.message) from error
        return parts.targets.add(body.name, peer.domain, body.pool, secret(body.credential), caller.actor)

    return _target(caller.act(add, facts={"peer": body.peer, "pool": body.pool}))


@routes.get("/storage/targets", "storage.read")
def list_targets(parts: PartsDep, after: After = None, limit: Limit = DEFAULT_LIMIT) -> Page[TargetShown]:
    """List the targets by name."""
    with read(parts.engine) as connection:
        found = parts.targets.listed(connection)
    items, following = cut(found, lambda one: one.name, after, limit)
    return Page(items=[_target(one) for one in items], next=following)


@routes.delete("/storage/targets/{name}", "storage.target", on="target:{name}")
def remove_target(name: Annotated[Name, Path()], caller: CallerDep) -> TargetShown:
    """Remove a target and its credential; what was sent there stays there."""
    return _target(caller.act(lambda: caller.parts.targets.remove(name, caller.actor)))


def _credential(facts: CredentialFacts) -> CredentialShown:
    return CredentialShown(
        credential=to_text(facts.id),
        name=facts.name,
        pool=facts.pool,
        sender=to_text(facts.sender),
        created=facts.created,
        expires=facts.expires,
        revoked=facts.revoked,
        last_used=facts.last_used,
    )


def _target(facts: TargetFacts) -> TargetShown:
    return TargetShown(
        name=facts.name,
        domain=to_text(facts.domain),
        pool=facts.pool,
        medium=to_text(facts.medium),
        media=list(facts.media),
        state=facts.state,
    )
