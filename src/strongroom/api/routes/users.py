"""People, and what they may do."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import Path
from pydantic import Field, StringConstraints
from sqlalchemy import Connection

from strongroom.api.fields import Answer, Body, Name, Password, secret
from strongroom.api.paging import DEFAULT_LIMIT, After, Limit, Page, cut
from strongroom.api.routes.session import GrantShown
from strongroom.api.routing import Routes
from strongroom.api.security import Caller, CallerDep, PartsDep
from strongroom.database import read
from strongroom.people import passwords, users
from strongroom.people.roles import UserRole
from strongroom.people.users import EVERYWHERE, MAX_UID, Grant, User

routes = Routes("users")
Uid = Annotated[int, Field(ge=0, le=MAX_UID)]


class GrantRequest(Body):
    """A role, everywhere (``*``) or on one object such as ``slp:nightly``."""

    role: UserRole
    scope: Annotated[str, StringConstraints(max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")] = EVERYWHERE


Roles = Annotated[
    list[UserRole | GrantRequest],
    Field(min_length=1, max_length=100, description="names of roles, or roles on objects"),
]


class UserRequest(Body):
    """A new user; without a password only a system account can sign in."""

    name: Name
    password: Password | None = None
    roles: Roles
    uid: Uid | None = Field(default=None, description="account of the primary's host that stands for the user")


class UserChange(Body):
    """What changes; null stays as it is. A new password ends the user's sessions."""

    password: Password | None = None
    roles: Roles | None = None
    enabled: bool | None = None
    uid: Uid | None = None


class UserShown(Answer):
    """A user."""

    name: str
    roles: list[str]
    grants: list[GrantShown]
    enabled: bool
    has_password: bool
    locked_until: datetime | None
    created: datetime
    uids: list[int]


@routes.get("/users", "user.read")
def list_users(parts: PartsDep, after: After = None, limit: Limit = DEFAULT_LIMIT) -> Page[UserShown]:
    """List the users by name."""
    with read(parts.engine) as connection:
        accounts = users.system_accounts(connection)
        items, following = cut(users.users(connection), lambda user: user.name, after, limit)
    return Page(items=[_shown(user, accounts) for user in items], next=following)


@routes.post("/users", "user.create", on="user:{name}", everywhere=True, status=201)
def create_user(body: UserRequest, caller: CallerDep) -> UserShown:
    """Make a user."""
    parts = caller.parts
    hashed = _hash(caller, body.name, body.password)
    now, grants = parts.clock.now(), _grants(body.roles)

    def deed(connection: Connection) -> UserShown:
        user = users.create(connection, body.name, grants, password_hash=hashed, now=now, entropy=parts.entropy)
        if body.uid is not None:
            users.register_system_account(connection, body.uid, body.name)
        return _shown(user, users.system_accounts(connection))

    return caller.transact(deed, facts={"roles": _told(grants), "uid": body.uid, "password": hashed is not None})


@routes.patch("/users/{name}", "user.change", on="user:{name}", everywhere=True)
def change_user(name: Annotated[Name, Path()], body: UserChange, caller: CallerDep) -> UserShown:
    """Change a user's password, roles, state or system account; all of it, or nothing."""
    hashed = _hash(caller, name, body.password)
    grants = None if body.roles is None else _grants(body.roles)

    def deed(connection: Connection) -> UserShown:
        user = users.get(connection, name)
        if hashed is not None:
            user = users.set_password(connection, name, hashed)
        if grants is not None:
            user = users.set_grants(connection, name, grants)
        if body.enabled is not None:
            user = users.set_enabled(connection, name, enabled=body.enabled)
        if body.uid is not None:
            users.register_system_account(connection, body.uid, name)
        return _shown(user, users.system_accounts(connection))

    facts = {
        "roles": None if grants is None else _told(grants),
        "enabled": body.enabled,
        "uid": body.uid,
        "password": hashed is not None,
    }
    return caller.transact(deed, facts=facts)


def _hash(caller: Caller, name: str, password: Password | None) -> str | None:
    if password is None:
        return None
    value = secret(password)
    passwords.check_strength(value, name)
    with caller.parts.slow.passed():
        return passwords.hash_password(value, caller.parts.entropy)


def _grants(roles: list[UserRole | GrantRequest]) -> frozenset[Grant]:
    return frozenset(Grant(one) if isinstance(one, UserRole) else Grant(one.role, one.scope) for one in roles)


def _told(grants: frozenset[Grant]) -> str:
    return ", ".join(sorted(f"{grant.role.value} on {grant.scope}" for grant in grants))[:2_000]


def _shown(user: User, accounts: dict[int, str]) -> UserShown:
    grants = sorted(user.grants, key=lambda grant: (grant.role, grant.scope))
    return UserShown(
        name=user.name,
        roles=sorted({grant.role.value for grant in grants}),
        grants=[GrantShown(role=grant.role.value, scope=grant.scope) for grant in grants],
        enabled=user.enabled,
        has_password=user.has_password,
        locked_until=user.locked_until,
        created=user.created,
        uids=sorted(uid for uid, name in accounts.items() if name == user.name),
    )
