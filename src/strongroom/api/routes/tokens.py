"""Authorization tokens."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import Path
from pydantic import Field

from strongroom.api.fields import UUID, Answer, Body, Hex32, Line, Name, text
from strongroom.api.paging import DEFAULT_LIMIT, After, Limit, Page, cut
from strongroom.api.routing import Routes
from strongroom.api.security import CallerDep, PartsDep
from strongroom.core.ids import DomainId, HostId, to_text
from strongroom.database import read
from strongroom.pki import tokens
from strongroom.pki.roles import Role
from strongroom.pki.tokens import DEFAULT_VALIDITY, MAX_USES, MAX_VALIDITY, Purpose, Token, TokenOrder

routes = Routes("tokens")


class TokenRequest(Body):
    """What a token is to be good for."""

    name: Name
    reason: Line
    purpose: Purpose
    valid_seconds: int = Field(
        default=int(DEFAULT_VALIDITY.total_seconds()), ge=1, le=int(MAX_VALIDITY.total_seconds())
    )
    uses: int = Field(default=1, ge=1, le=MAX_USES)
    role: Role | None = Field(default=None, description="for enrol-host: media or client")
    bound_domain: Hex32 | None = None
    bound_host: UUID | None = None


class TokenShown(Answer):
    """A token without its value."""

    name: str
    purpose: Purpose
    role: Role | None
    reason: str
    bound_domain: str | None
    bound_host: str | None
    uses: int
    used: int
    created: datetime
    created_by: str
    expires: datetime
    last_used: datetime | None
    revoked: datetime | None


class NewToken(TokenShown):
    """A token that was just made. Its value is shown now and never again."""

    token: str


@routes.post("/tokens", "token.create", on="token:{name}", everywhere=True, status=201)
def create_token(body: TokenRequest, caller: CallerDep) -> NewToken:
    """Make an authorization token.

    Pass it on by a way that you trust; it is kept here only as a hash.
    """
    parts = caller.parts
    now = parts.clock.now()
    order = TokenOrder(
        name=body.name,
        purpose=body.purpose,
        reason=body.reason,
        validity=timedelta(seconds=body.valid_seconds),
        max_uses=body.uses,
        role=body.role,
        domain=None if body.bound_domain is None else DomainId(body.bound_domain),
        host=None if body.bound_host is None else HostId(body.bound_host),
    )
    value = caller.transact(
        lambda connection: tokens.create(
            connection, order, created_by=caller.session.name, now=now, entropy=parts.entropy
        ),
        facts={"purpose": body.purpose.value, "uses": body.uses, "reason": body.reason},
    )
    with read(parts.engine) as connection:
        made = next(token for token in tokens.tokens(connection) if token.name == body.name)
    return NewToken(token=text(value), **_shown(made).model_dump())


@routes.get("/tokens", "token.read")
def list_tokens(parts: PartsDep, after: After = None, limit: Limit = DEFAULT_LIMIT) -> Page[TokenShown]:
    """List the tokens by name, used and withdrawn ones too."""
    with read(parts.engine) as connection:
        found = tokens.tokens(connection)
    items, following = cut(found, lambda token: token.name, after, limit)
    return Page(items=[_shown(token) for token in items], next=following)


@routes.delete("/tokens/{name}", "token.revoke", on="token:{name}")
def revoke_token(name: Annotated[Name, Path()], caller: CallerDep) -> TokenShown:
    """Withdraw a token; it stays in the list."""
    now = caller.parts.clock.now()
    return _shown(caller.transact(lambda connection: tokens.revoke(connection, name, now=now)))


def _shown(token: Token) -> TokenShown:
    return TokenShown(
        name=token.name,
        purpose=token.purpose,
        role=token.role,
        reason=token.reason,
        bound_domain=None if token.domain is None else to_text(token.domain),
        bound_host=None if token.host is None else to_text(token.host),
        uses=token.max_uses,
        used=token.uses,
        created=token.created,
        created_by=token.created_by,
        expires=token.expires,
        last_used=token.last_used,
        revoked=token.revoked,
    )
