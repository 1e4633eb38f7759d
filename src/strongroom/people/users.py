"""Users, their grants and their system accounts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NewType

from sqlalchemy import Connection, Row, delete, insert, select, update

from strongroom.core.entropy import Entropy
from strongroom.core.ids import UUID_BYTES
from strongroom.database import racing
from strongroom.people.errors import (
    LastAdministratorError,
    UserExistsError,
    UserNotFoundError,
    UserRequestError,
)
from strongroom.people.roles import UserRole
from strongroom.people.tables import people_grants, people_sessions, people_system_accounts, people_users

UserId = NewType("UserId", bytes)
"""16 bytes, random."""

EVERYWHERE: Final = "*"
MAX_UID: Final = 2**32 - 2
_NAME: Final = re.compile(r"[a-z][a-z0-9._-]{0,63}")
_SCOPE: Final = re.compile(r"[a-z]+:[^\s*][^*]{0,200}")


@dataclass(frozen=True)
class Grant:
    """A role, everywhere or on one object (``noun:name``)."""

    role: UserRole
    scope: str = EVERYWHERE

    def __post_init__(self) -> None:
        if self.scope != EVERYWHERE and not _SCOPE.fullmatch(self.scope):
            raise UserRequestError(f"'{self.scope[:200]}' is neither '*' nor an object like 'policy:nightly'")


@dataclass(frozen=True)
class User:
    """A person, or a program that acts like one."""

    id: UserId
    name: str
    enabled: bool
    has_password: bool
    locked_until: datetime | None
    created: datetime
    grants: frozenset[Grant]


def create(
    connection: Connection,
    name: str,
    grants: frozenset[Grant],
    *,
    password_hash: str | None,
    now: datetime,
    entropy: Entropy,
) -> User:
    """Make a user.

    Args:
        connection: of a writing transaction.
        name: lower case; for signing in.
        grants: at least one.
        password_hash: from :func:`~strongroom.people.passwords.hash_password`, computed before the
            transaction; None for a user of system accounts only.
        now: for the record.
        entropy: for the id.

    Raises:
        UserRequestError: the name cannot be one, or nothing is granted.
        UserExistsError: somebody has the name.
    """
    if not _NAME.fullmatch(name):
        raise UserRequestError(f"'{name[:64]}' is not a name of lower-case letters, digits, '.', '_' and '-'")
    if not grants:
        raise UserRequestError("a user without a role can do nothing")
    if connection.execute(select(people_users.c.id).where(people_users.c.name == name)).first():
        raise UserExistsError(f"there is a user '{name}'")
    user = UserId(entropy.bytes(UUID_BYTES))
    with racing():
        connection.execute(
            insert(people_users).values(
                id=user, name=name, password=password_hash, enabled=True, failures=0, created=now
            )
        )
    _write_grants(connection, user, grants)
    return get(connection, name)


def get(connection: Connection, name: str) -> User:
    """Look a user up.

    Raises:
        UserNotFoundError: nobody has the name.
    """
    row = connection.execute(select(people_users).where(people_users.c.name == name)).one_or_none()
    if row is None:
        raise UserNotFoundError(f"there is no user '{name[:64]}'")
    return _user(connection, row)


def users(connection: Connection) -> list[User]:
    """List users by name."""
    rows = connection.execute(select(people_users).order_by(people_users.c.name)).all()
    return [_user(connection, row) for row in rows]


def set_grants(connection: Connection, name: str, grants: frozenset[Grant]) -> User:
    """Replace what a user was granted; open sessions have the new grants at once.

    Raises:
        UserNotFoundError: nobody has the name.
        UserRequestError: nothing would be granted.
        LastAdministratorError: nobody could administer the domain.
    """
    if not grants:
        raise UserRequestError("a user without a role can do nothing; disable the user instead")
    user = get(connection, name)
    connection.execute(delete(people_grants).where(people_grants.c.user_id == user.id))
    _write_grants(connection, user.id, grants)
    _require_administrator(connection)
    return get(connection, name)


def set_enabled(connection: Connection, name: str, *, enabled: bool) -> User:
    """Let a user in, or out: a disabled user's sessions end.

    Raises:
        UserNotFoundError: nobody has the name.
        LastAdministratorError: nobody could administer the domain.
    """
    user = get(connection, name)
    connection.execute(
        update(people_users).where(people_users.c.id == user.id).values(enabled=enabled, failures=0, locked_until=None)
    )
    if not enabled:
        _end_sessions(connection, user.id)
        _require_administrator(connection)
    return get(connection, name)


def set_password(connection: Connection, name: str, password_hash: str) -> User:
    """Change a password, end all sessions of the user, and lift a lock.

    Raises:
        UserNotFoundError: nobody has the name.
    """
    user = get(connection, name)
    connection.execute(
        update(people_users)
        .where(people_users.c.id == user.id)
        .values(password=password_hash, failures=0, locked_until=None)
    )
    _end_sessions(connection, user.id)
    return get(connection, name)


def register_system_account(connection: Connection, uid: int, name: str) -> None:
    """Let a uid of this machine stand for a user, instead of whomever it stood for.

    Raises:
        UserNotFoundError: nobody has the name.
        UserRequestError: that is no uid.
    """
    if not 0 <= uid <= MAX_UID:
        raise UserRequestError(f"{uid} is not a uid")
    user = get(connection, name)
    remove_system_account(connection, uid)
    connection.execute(insert(people_system_accounts).values(uid=uid, user_id=user.id))


def remove_system_account(connection: Connection, uid: int) -> None:
    """Let a uid stand for nobody; sessions that it opened end."""
    table = people_system_accounts.c
    held = connection.execute(select(table.user_id).where(table.uid == uid)).one_or_none()
    if held is None:
        return
    connection.execute(delete(people_system_accounts).where(table.uid == uid))
    sessions = people_sessions.c
    connection.execute(
        delete(people_sessions).where(sessions.user_id == held.user_id, sessions.origin == "system-account")
    )


def system_accounts(connection: Connection) -> dict[int, str]:
    """List which uid stands for which user."""
    rows = connection.execute(
        select(people_system_accounts.c.uid, people_users.c.name).join(
            people_users, people_users.c.id == people_system_accounts.c.user_id
        )
    )
    return {row.uid: row.name for row in rows}


def grants_of(connection: Connection, user: UserId) -> frozenset[Grant]:
    """Read what a user was granted."""
    rows = connection.execute(select(people_grants).where(people_grants.c.user_id == user))
    return frozenset(Grant(UserRole(row.role), row.scope) for row in rows)


def _write_grants(connection: Connection, user: UserId, grants: frozenset[Grant]) -> None:
    for grant in grants:
        connection.execute(insert(people_grants).values(user_id=user, role=grant.role.value, scope=grant.scope))


def _require_administrator(connection: Connection) -> None:
    held = connection.execute(
        select(people_users.c.id)
        .join(people_grants, people_grants.c.user_id == people_users.c.id)
        .where(
            people_users.c.enabled,
            people_grants.c.role == UserRole.ADMINISTRATOR.value,
            people_grants.c.scope == EVERYWHERE,
        )
        .limit(1)
    ).first()
    if held is None:
        raise LastAdministratorError("the domain would have no administrator")


def _end_sessions(connection: Connection, user: UserId) -> None:
    connection.execute(delete(people_sessions).where(people_sessions.c.user_id == user))


def _user(connection: Connection, row: Row[Any]) -> User:
    return User(
        id=UserId(row.id),
        name=row.name,
        enabled=row.enabled,
        has_password=row.password is not None,
        locked_until=row.locked_until,
        created=row.created,
        grants=grants_of(connection, UserId(row.id)),
    )
