"""Signing in, and what a session may do."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from sqlalchemy import Connection, Engine, delete, insert, select, update

from strongroom import audit
from strongroom.core.clock import Clock
from strongroom.core.entropy import Entropy
from strongroom.core.errors import StrongroomError
from strongroom.core.secret import Secret
from strongroom.database import read, transact
from strongroom.formats.algorithms import label
from strongroom.people.errors import (
    NoSystemAccountError,
    PermissionRefusedError,
    SessionExpiredError,
    SessionUnknownError,
    SignInError,
)
from strongroom.people.passwords import hash_of_nobody, matches
from strongroom.people.roles import ALL_PERMISSIONS, PERMISSIONS
from strongroom.people.tables import people_sessions, people_system_accounts, people_users
from strongroom.people.users import EVERYWHERE, Grant, UserId, grants_of

SESSION_BYTES: Final = 32
LIFETIME: Final = timedelta(hours=12)
IDLE: Final = timedelta(minutes=30)
SYSTEM_LIFETIME: Final = timedelta(minutes=10)
FREE_FAILURES: Final = 5
FIRST_LOCK: Final = timedelta(minutes=1)
LONGEST_LOCK: Final = timedelta(minutes=15)
# Writing each use down would make every request a write; a minute more or less does not matter.
USE_GRAIN: Final = timedelta(minutes=1)
# For so long who comes with a session that is over is told so, instead of that there never was one.
KEEP_ENDED: Final = timedelta(days=1)
_LABEL: Final = label("session")


class Origin(StrEnum):
    """How a session was begun."""

    PASSWORD = "password"  # noqa: S105 - a word, not one of them
    SYSTEM_ACCOUNT = "system-account"


@dataclass(frozen=True)
class Session:
    """Who is acting; read from the rows at each request, and never kept longer."""

    digest: bytes
    user: UserId
    name: str
    origin: Origin
    expires: datetime
    grants: frozenset[Grant]

    @property
    def actor(self) -> audit.Actor:
        """Who to write into the evidence."""
        return audit.Actor(audit.ActorKind.USER, f"{self.name}#{self.user.hex()}")


class Door:
    """Lets people in.

    Args:
        engine: the primary's database.
        clock: for locks and lifetimes.
        entropy: for session tokens.
    """

    def __init__(self, engine: Engine, clock: Clock, entropy: Entropy) -> None:
        self._engine = engine
        self._clock = clock
        self._entropy = entropy
        # Compared with when there is no such user, so that the answer takes as long.
        self._nobody = hash_of_nobody(entropy)

    def sign_in(self, name: str, password: Secret, address: str) -> Secret:
        """Begin a session by name and password.

        Args:
            name: as typed.
            password: UTF-8.
            address: where from, for the evidence.

        Returns:
            The session's token, ASCII; the caller keeps it, nobody else has it.

        Raises:
            SignInError: wrong, locked or disabled; which of them, only the evidence tells.
        """
        who = audit.Actor(audit.ActorKind.ANONYMOUS, name[:64], address)
        now = self._clock.now()
        # Counted first: a thousand guesses at once must not all be looked at before the first is counted.
        kept = transact(self._engine, lambda connection: _begin_attempt(connection, name, now))
        # Argon2 takes long, so no transaction is open meanwhile.
        good = matches(password, kept or self._nobody) and kept is not None
        if not good:
            reason = "wrong password" if kept else "unknown, disabled, locked or without password"
            transact(
                self._engine,
                lambda connection: audit.record(
                    connection,
                    now,
                    who,
                    "session.begin",
                    f"user:{name[:64]}",
                    audit.Outcome.REFUSED,
                    {"reason": reason},
                ),
            )
            raise SignInError("name or password is wrong, or the account is locked")
        assert kept is not None  # noqa: S101 - good says so

        def begin(connection: Connection) -> Secret:
            user = connection.execute(
                update(people_users)
                # The password may have been changed while it was being compared.
                .where(people_users.c.name == name, people_users.c.password == kept, people_users.c.enabled)
                .values(failures=0, locked_until=None)
                .returning(people_users.c.id)
            ).one_or_none()
            if user is None:
                raise SignInError("name or password is wrong, or the account is locked")
            return self._begin(connection, UserId(user.id), Origin.PASSWORD, LIFETIME, IDLE)

        return audit.exercise(self._engine, self._clock, who, "session.begin", f"user:{name}", begin)

    def sign_in_locally(self, uid: int) -> Secret:
        """Begin a short session for whom a uid of this machine stands.

        Args:
            uid: as the kernel told it of the socket's other end.

        Raises:
            NoSystemAccountError: for nobody, or for a disabled user.
        """
        who = audit.Actor(audit.ActorKind.ANONYMOUS, f"uid {uid}", "local")

        def begin(connection: Connection) -> Secret:
            user = connection.execute(
                select(people_users.c.id)
                .join(people_system_accounts, people_system_accounts.c.user_id == people_users.c.id)
                .where(people_system_accounts.c.uid == uid, people_users.c.enabled)
            ).one_or_none()
            if user is None:
                raise NoSystemAccountError(f"the uid {uid} stands for no user")
            return self._begin(connection, UserId(user.id), Origin.SYSTEM_ACCOUNT, SYSTEM_LIFETIME, SYSTEM_LIFETIME)

        return audit.exercise(self._engine, self._clock, who, "session.begin", f"uid:{uid}", begin)

    def session(self, token: Secret) -> Session:
        """Find the session of a token, and note that it was used.

        Raises:
            SessionUnknownError: there is none, or its user was disabled.
            SessionExpiredError: it was idle or open for too long.
        """
        digest = _digest(token)
        now = self._clock.now()
        with read(self._engine) as connection:
            session, used = _find(connection, digest, now)
        if now - used >= USE_GRAIN:
            transact(
                self._engine,
                lambda connection: connection.execute(
                    update(people_sessions).where(people_sessions.c.digest == digest).values(used=now)
                ),
            )
        return session

    def sign_out(self, token: Secret) -> None:
        """End a session; one that has ended already is no error."""
        digest = _digest(token)
        transact(
            self._engine,
            lambda connection: connection.execute(delete(people_sessions).where(people_sessions.c.digest == digest)),
        )

    def _begin(
        self, connection: Connection, user: UserId, origin: Origin, lifetime: timedelta, idle: timedelta
    ) -> Secret:
        now = self._clock.now()
        # Each command on the primary's host begins a session: what is long over must not pile up.
        connection.execute(delete(people_sessions).where(people_sessions.c.expires <= now - KEEP_ENDED))
        token = Secret(self._entropy.bytes(SESSION_BYTES).hex().encode("ascii"))
        connection.execute(
            insert(people_sessions).values(
                digest=_digest(token),
                user_id=user,
                origin=origin.value,
                created=now,
                used=now,
                expires=now + lifetime,
                idle_seconds=int(idle.total_seconds()),
            )
        )
        return token


def authorise(session: Session, permission: str, object_: str | None = None) -> None:
    """Check that a session may do something.

    Args:
        session: from :meth:`Door.session`, for this very request.
        permission: ``noun.verb``, one of :data:`~strongroom.people.roles.ALL_PERMISSIONS`.
        object_: ``noun:name`` of what it is done to; None when it concerns no single object, which then takes
            a grant that holds everywhere.

    Raises:
        PermissionRefusedError: it may not.
        ValueError: there is no such permission, a defect of the caller.
    """
    if permission not in ALL_PERMISSIONS:
        raise ValueError(f"'{permission}' is no permission")
    for grant in session.grants:
        if permission in PERMISSIONS[grant.role] and grant.scope in (EVERYWHERE, object_):
            return
    on = f" on '{object_}'" if object_ else ""
    raise PermissionRefusedError(f"'{session.name}' may not do '{permission}'{on}")


def _begin_attempt(connection: Connection, name: str, now: datetime) -> str | None:
    """Count an attempt, and give the password's hash unless the account cannot sign in now."""
    table = people_users.c
    row = connection.execute(
        select(table.id, table.password, table.failures, table.locked_until).where(table.name == name, table.enabled)
    ).one_or_none()
    if row is None or row.password is None or (row.locked_until is not None and now < row.locked_until):
        return None
    failures = row.failures + 1
    lock = None
    if failures >= FREE_FAILURES:
        lock = now + min(FIRST_LOCK * 2 ** min(failures - FREE_FAILURES, 10), LONGEST_LOCK)
    connection.execute(update(people_users).where(table.id == row.id).values(failures=failures, locked_until=lock))
    return str(row.password)


def _find(connection: Connection, digest: bytes, now: datetime) -> tuple[Session, datetime]:
    row = connection.execute(
        select(people_sessions, people_users.c.name, people_users.c.enabled)
        .join(people_users, people_users.c.id == people_sessions.c.user_id)
        .where(people_sessions.c.digest == digest)
    ).one_or_none()
    problem: StrongroomError | None = None
    if row is None or not row.enabled:
        problem = SessionUnknownError("there is no such session")
    elif now >= row.expires:
        problem = SessionExpiredError(f"the session ended at {row.expires:%Y-%m-%d %H:%M} UTC")
    elif now >= row.used + timedelta(seconds=row.idle_seconds):
        problem = SessionExpiredError("the session was idle for too long")
    if problem is not None:
        raise problem
    assert row is not None  # noqa: S101 - a problem otherwise
    user = UserId(row.user_id)
    session = Session(digest, user, row.name, Origin(row.origin), row.expires, grants_of(connection, user))
    return session, row.used


def _digest(token: Secret) -> bytes:
    return hashlib.sha256(_LABEL + token.reveal()).digest()
