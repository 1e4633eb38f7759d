"""Signing in and out."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from cryptography.hazmat.primitives.serialization import Encoding
from fastapi import Depends, Request
from pydantic import Field

from strongroom.api.fields import Answer, Body, Done, Name, Password, secret, text
from strongroom.api.routing import Routes
from strongroom.api.security import ANYBODY, SESSION, CallerDep, PartsDep, parts_of
from strongroom.people.roles import PERMISSIONS
from strongroom.people.sessions import Session
from strongroom.pki.ca import load_certificate

routes = Routes("session")


class Login(Body):
    """Name and password."""

    user: Name
    password: Password


class NewSession(Answer):
    """A session; the token is shown once."""

    token: str
    user: str
    expires: datetime
    ca: str = Field(description="root certificate of the domain, PEM")


class GrantShown(Answer):
    """A role, everywhere (``*``) or on one object."""

    role: str
    scope: str


class Who(Answer):
    """Who is signed in, and what it may do everywhere."""

    user: str
    roles: list[str]
    grants: list[GrantShown]
    permissions: list[str]
    expires: datetime


async def _counted(request: Request) -> str:
    address = request.client.host if request.client else ""
    parts_of(request).sign_ins.count(address)
    return address


@routes.post("/login", ANYBODY)
def log_in(body: Login, parts: PartsDep, address: Annotated[str, Depends(_counted)]) -> NewSession:
    """Sign in with name and password.

    After several failures the account is locked for a while; the answer is the same for a wrong name, a wrong password
    and a locked account.
    """
    with parts.slow.passed():
        token = parts.door.sign_in(body.user, secret(body.password), address)
    session = parts.door.session(token)
    root = load_certificate(parts.ours.roots[0]).public_bytes(Encoding.PEM).decode("ascii")
    return NewSession(token=text(token), user=session.name, expires=session.expires, ca=root)


@routes.post("/logout", SESSION)
def log_out(caller: CallerDep) -> Done:
    """End this session."""
    caller.act(lambda: caller.parts.door.sign_out(caller.token), object_=f"user:{caller.session.name}")
    return Done()


@routes.get("/whoami", SESSION)
def who_am_i(caller: CallerDep) -> Who:
    """Tell who is signed in, and what it may do."""
    return _who(caller.session)


def _who(session: Session) -> Who:
    grants = sorted(session.grants, key=lambda grant: (grant.role, grant.scope))
    everywhere = [PERMISSIONS[grant.role] for grant in grants if grant.scope == "*"]
    return Who(
        user=session.name,
        roles=sorted({grant.role.value for grant in grants}),
        grants=[GrantShown(role=grant.role.value, scope=grant.scope) for grant in grants],
        permissions=sorted(frozenset().union(*everywhere)),
        expires=session.expires,
    )
