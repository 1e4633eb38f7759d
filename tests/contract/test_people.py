"""People, passwords, sessions and permissions, on both databases (U3)."""

from __future__ import annotations

import threading
from datetime import timedelta
from functools import cache

import pytest
import sqlalchemy as sa

from strongroom import audit
from strongroom.core.clock import ManualClock
from strongroom.core.secret import Secret
from strongroom.database import read, transact
from strongroom.people import users
from strongroom.people.errors import (
    LastAdministratorError,
    NoSystemAccountError,
    PermissionRefusedError,
    SessionExpiredError,
    SessionUnknownError,
    SignInError,
    UserExistsError,
    UserNotFoundError,
    UserRequestError,
)
from strongroom.people.passwords import hash_password
from strongroom.people.roles import UserRole
from strongroom.people.sessions import FREE_FAILURES, IDLE, KEEP_ENDED, LIFETIME, Door, authorise
from strongroom.people.tables import people_sessions
from strongroom.people.users import Grant, User
from tests.support.domains import ENTROPY

PASSWORD = Secret(b"correct horse battery")
WRONG = Secret(b"wrong horse battery")
DEAR = hash_password(PASSWORD, ENTROPY)
"""Takes as long to compare as in the product."""
ADMINISTRATOR = frozenset({Grant(UserRole.ADMINISTRATOR)})
OPERATOR = frozenset({Grant(UserRole.OPERATOR)})


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def door(database: sa.Engine, clock: ManualClock) -> Door:
    make(database, clock, "admin", ADMINISTRATOR)
    return Door(database, clock, ENTROPY)


@cache
def kept() -> str:
    """Give what is kept of the password; asked for by tests, for which it is cheap."""
    return hash_password(PASSWORD, ENTROPY)


def make(engine: sa.Engine, clock: ManualClock, name: str, grants: frozenset[Grant]) -> User:
    return transact(
        engine,
        lambda connection: users.create(
            connection, name, grants, password_hash=kept(), now=clock.now(), entropy=ENTROPY
        ),
    )


def test_session_is_begun_by_password_and_kept_as_a_hash(database: sa.Engine, door: Door) -> None:
    token = door.sign_in("admin", PASSWORD, "192.0.2.1")
    session = door.session(token)
    assert session.name == "admin"
    authorise(session, "trust.add")
    with read(database) as connection:
        row = connection.execute(sa.select(people_sessions)).one()
    assert token.reveal() not in row.digest
    assert bytes.fromhex(token.reveal().decode()) != row.digest


def test_wrong_name_and_wrong_password_are_refused_alike_and_told_apart_in_the_evidence(
    database: sa.Engine, door: Door
) -> None:
    messages = set()
    for name, password in (("admin", WRONG), ("nobody", PASSWORD), ("admin", Secret(b"x" * 5000))):
        with pytest.raises(SignInError) as raised:
            door.sign_in(name, password, "192.0.2.1")
        messages.add((raised.value.message, raised.value.hint))
    assert len(messages) == 1
    with read(database) as connection:
        rows = audit.entries(connection)
    assert {row.facts["reason"] for row in rows} == {
        "wrong password",
        "unknown, disabled, locked or without password",
    }
    assert all("horse" not in str(row) for row in rows)


def test_account_is_locked_for_a_while_after_failures(door: Door, clock: ManualClock) -> None:
    for _ in range(FREE_FAILURES):
        with pytest.raises(SignInError):
            door.sign_in("admin", WRONG, "")
    with pytest.raises(SignInError):
        door.sign_in("admin", PASSWORD, "")
    clock.advance(timedelta(minutes=1))
    door.sign_in("admin", PASSWORD, "")
    # Success has wiped the count.
    with pytest.raises(SignInError):
        door.sign_in("admin", WRONG, "")
    door.sign_in("admin", PASSWORD, "")


def test_guesses_at_once_find_no_gap_in_the_count(database: sa.Engine, door: Door) -> None:
    """Each attempt is counted before its password is looked at."""
    transact(database, lambda connection: users.set_password(connection, "admin", DEAR))  # all are under way at once

    def guess() -> None:
        with pytest.raises(SignInError):
            door.sign_in("admin", WRONG, "")

    threads = [threading.Thread(target=guess) for _ in range(FREE_FAILURES + 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with read(database) as connection:
        reasons = [row.facts["reason"] for row in audit.entries(connection)]
    assert reasons.count("wrong password") == FREE_FAILURES


def test_session_ends_by_idleness_and_by_age(door: Door, clock: ManualClock) -> None:
    token = door.sign_in("admin", PASSWORD, "")
    clock.advance(IDLE - timedelta(seconds=1))
    door.session(token)
    clock.advance(IDLE)
    with pytest.raises(SessionExpiredError, match="idle"):
        door.session(token)
    token = door.sign_in("admin", PASSWORD, "")
    for _ in range(LIFETIME // timedelta(minutes=20) - 1):
        clock.advance(timedelta(minutes=20))
        door.session(token)
    clock.advance(timedelta(minutes=20))
    with pytest.raises(SessionExpiredError, match="ended"):
        door.session(token)


def test_sessions_that_are_long_over_do_not_pile_up(database: sa.Engine, door: Door, clock: ManualClock) -> None:
    for _ in range(3):
        door.sign_in("admin", PASSWORD, "")
        clock.advance(LIFETIME + KEEP_ENDED)
    held = door.sign_in("admin", PASSWORD, "")
    with read(database) as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(people_sessions)).scalar_one() == 1
    door.session(held)


def test_session_ends_when_asked_and_when_the_password_changes(database: sa.Engine, door: Door) -> None:
    first, second = door.sign_in("admin", PASSWORD, ""), door.sign_in("admin", PASSWORD, "")
    door.sign_out(first)
    with pytest.raises(SessionUnknownError):
        door.session(first)
    door.session(second)
    transact(database, lambda connection: users.set_password(connection, "admin", kept()))
    with pytest.raises(SessionUnknownError):
        door.session(second)
    with pytest.raises(SessionUnknownError):
        door.session(Secret(b"nonsense"))


def test_system_account_gives_a_short_session_and_only_to_its_uid(
    database: sa.Engine, door: Door, clock: ManualClock
) -> None:
    with pytest.raises(NoSystemAccountError):
        door.sign_in_locally(1000)
    transact(database, lambda connection: users.register_system_account(connection, 1000, "admin"))
    token = door.sign_in_locally(1000)
    assert door.session(token).name == "admin"
    with pytest.raises(NoSystemAccountError):
        door.sign_in_locally(1001)
    with read(database) as connection:
        assert users.system_accounts(connection) == {1000: "admin"}
    clock.advance(timedelta(minutes=10))
    with pytest.raises(SessionExpiredError):
        door.session(token)
    again = door.sign_in_locally(1000)
    transact(database, lambda connection: users.remove_system_account(connection, 1000))
    with pytest.raises(SessionUnknownError):
        door.session(again)


def test_disabled_user_is_out_at_once(database: sa.Engine, door: Door, clock: ManualClock) -> None:
    make(database, clock, "op", OPERATOR)
    token = door.sign_in("op", PASSWORD, "")
    transact(database, lambda connection: users.set_enabled(connection, "op", enabled=False))
    with pytest.raises(SessionUnknownError):
        door.session(token)
    with pytest.raises(SignInError):
        door.sign_in("op", PASSWORD, "")


def test_grant_on_one_object_holds_there_and_nowhere_else(database: sa.Engine, door: Door, clock: ManualClock) -> None:
    make(database, clock, "op", frozenset({Grant(UserRole.OPERATOR, "policy:nightly")}))
    token = door.sign_in("op", PASSWORD, "")
    session = door.session(token)
    authorise(session, "policy.run", "policy:nightly")
    for object_ in ("policy:other", None):
        with pytest.raises(PermissionRefusedError):
            authorise(session, "policy.run", object_)
    with pytest.raises(PermissionRefusedError):
        authorise(session, "policy.delete", "policy:nightly")
    with pytest.raises(ValueError, match=r"policy\.fly"):
        authorise(session, "policy.fly")
    # A change of grants is in force at the next request of an open session.
    transact(database, lambda connection: users.set_grants(connection, "op", OPERATOR))
    authorise(door.session(token), "policy.run")


def test_last_administrator_cannot_be_taken_away(database: sa.Engine, door: Door, clock: ManualClock) -> None:
    scoped = frozenset({Grant(UserRole.ADMINISTRATOR, "policy:x")})
    for act in (
        lambda connection: users.set_grants(connection, "admin", OPERATOR),
        lambda connection: users.set_grants(connection, "admin", scoped),
        lambda connection: users.set_enabled(connection, "admin", enabled=False),
    ):
        with pytest.raises(LastAdministratorError):
            transact(database, act)
    make(database, clock, "second", ADMINISTRATOR)
    transact(database, lambda connection: users.set_grants(connection, "admin", OPERATOR))
    with read(database) as connection:
        assert [user.name for user in users.users(connection)] == ["admin", "second"]


def test_names_and_grants_are_checked(database: sa.Engine, door: Door, clock: ManualClock) -> None:
    with pytest.raises(UserExistsError):
        make(database, clock, "admin", OPERATOR)
    for name in ("", "Admin", "a b", "x" * 65):
        with pytest.raises(UserRequestError):
            make(database, clock, name, OPERATOR)
    with pytest.raises(UserRequestError):
        make(database, clock, "op", frozenset())
    with pytest.raises(UserRequestError):
        Grant(UserRole.OPERATOR, "everything")
    with pytest.raises(UserNotFoundError):
        transact(database, lambda connection: users.set_password(connection, "nobody", kept()))
    with pytest.raises(UserRequestError):
        transact(database, lambda connection: users.register_system_account(connection, -1, "admin"))
