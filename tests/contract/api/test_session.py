"""Signing in, and what a session may do (U3)."""

from __future__ import annotations

import json
import logging
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from strongroom import audit
from strongroom.audit.tables import audit_log
from strongroom.database import read
from strongroom.people.roles import PERMISSIONS, UserRole
from strongroom.people.users import Grant
from tests.support.api import PASSWORD, Stage


@pytest.fixture
def ada(stage: Stage) -> Stage:
    stage.add_user("ada", frozenset({Grant(UserRole.ADMINISTRATOR)}), password=PASSWORD)
    return stage


def outcomes(stage: Stage, action: str) -> list[str]:
    with read(stage.engine) as connection:
        rows = connection.execute(
            select(audit_log.c.outcome).where(audit_log.c.action == action).order_by(audit_log.c.number)
        )
        return list(rows.scalars())


def test_a_password_gives_a_session_until_it_is_ended(ada: Stage) -> None:
    answer = ada.stranger.post("/v1/login", json={"user": "ada", "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["user"] == "ada"
    assert told["expires"].endswith("Z")
    assert told["ca"].startswith("-----BEGIN CERTIFICATE-----")
    assert answer.headers["cache-control"] == "no-store"
    headers = {"Authorization": f"Bearer {told['token']}"}
    who = ada.stranger.get("/v1/whoami", headers=headers).json()
    assert who["roles"] == ["administrator"]
    assert set(who["permissions"]) == PERMISSIONS[UserRole.ADMINISTRATOR]
    assert ada.stranger.post("/v1/logout", headers=headers).status_code == 200
    refused = ada.stranger.get("/v1/whoami", headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (401, "session.unknown")
    assert refused.headers["www-authenticate"] == "Bearer"
    assert outcomes(ada, "session.begin")[-2:] == ["attempted", "done"]


def test_wrong_passwords_lock_the_account_and_the_answer_does_not_tell(ada: Stage) -> None:
    answers = [ada.stranger.post("/v1/login", json={"user": "ada", "password": "not the password"}) for _ in range(5)]
    answers.append(ada.stranger.post("/v1/login", json={"user": "nobody", "password": "not the password"}))
    answers.append(ada.stranger.post("/v1/login", json={"user": "ada", "password": PASSWORD}))  # locked by now
    assert {(one.status_code, one.json()["code"], one.json()["detail"]) for one in answers} == {
        (401, "session.sign-in-refused", "name or password is wrong, or the account is locked")
    }
    ada.primary.clock.shift += timedelta(minutes=2)
    assert ada.stranger.post("/v1/login", json={"user": "ada", "password": PASSWORD}).status_code == 200
    assert outcomes(ada, "session.begin").count("refused") == 7


def test_attempts_are_counted_by_address(ada: Stage) -> None:
    ada.stranger.post("/v1/login", json={"user": "x", "password": "y"})
    assert ("count", "testclient") in ada.there.asked


def test_a_session_that_is_idle_ends(stage: Stage, admin: TestClient) -> None:
    stage.primary.clock.shift += timedelta(hours=1)
    refused = admin.get("/v1/status")
    assert (refused.status_code, refused.json()["code"]) == (401, "session.expired")


def test_a_refused_permission_leaves_evidence_with_the_address(stage: Stage) -> None:
    operator = stage.as_(UserRole.OPERATOR)
    refused = operator.post("/v1/slps/nightly/activate")
    assert (refused.status_code, refused.json()["code"]) == (403, "session.no-permission")
    with read(stage.engine) as connection:
        last = connection.execute(select(audit_log).order_by(audit_log.c.number.desc()).limit(1)).one()
    assert (last.action, last.object, last.outcome) == ("slp.activate", "slp:nightly", "refused")
    assert last.actor.startswith("user:operator#")
    assert last.actor.endswith("@testclient")


def test_a_role_on_one_object_is_good_for_that_object_only(stage: Stage) -> None:
    """U3: roles scoped to objects."""
    client = stage.user_on("slp:nightly", UserRole.ADMINISTRATOR)
    assert client.post("/v1/slps/nightly/activate").status_code == 404  # let in; there is none
    assert client.post("/v1/slps/weekly/activate").status_code == 403
    body = {"paths_b64": ["L2hvbWU="], "slp": "nightly"}
    assert client.post("/v1/backups", json=body).status_code == 404
    assert client.post("/v1/backups", json=body | {"slp": "weekly"}).status_code == 403
    assert client.post("/v1/backups", json=body | {"slp": ["nightly"]}).status_code == 403
    assert client.get("/v1/users").status_code == 403


def test_a_text_in_the_body_never_takes_the_place_of_a_part_of_the_path(stage: Stage) -> None:
    client = stage.user_on("slp:nightly", UserRole.ADMINISTRATOR)
    body = {"name": "nightly", "operations": [{"op": "backup", "pool": "p", "retention": "1d"}]}
    assert client.put("/v1/slps/weekly", json=body).status_code == 403


def test_a_role_on_one_user_does_not_make_administrators(stage: Stage) -> None:
    """What a user is granted reaches beyond that user."""
    client = stage.user_on("user:operator", UserRole.ADMINISTRATOR)
    assert client.patch("/v1/users/operator", json={"roles": ["administrator"]}).status_code == 403
    token = stage.user_on("token:t", UserRole.SECURITY, uid=2002)
    assert token.post("/v1/tokens", json={"name": "t", "reason": "r", "purpose": "trust"}).status_code == 403


def test_users_are_made_changed_and_kept_from_leaving_nobody_in_charge(stage: Stage, admin: TestClient) -> None:
    made = admin.post(
        "/v1/users",
        json={
            "name": "bob",
            "password": PASSWORD,
            "roles": ["operator", {"role": "security", "scope": "slp:s"}],
            "uid": 77,
        },
    )
    assert made.status_code == 201, made.text
    assert (made.json()["uids"], made.json()["has_password"]) == ([77], True)
    assert {grant["scope"] for grant in made.json()["grants"]} == {"*", "slp:s"}
    assert admin.post("/v1/users", json={"name": "bob", "roles": ["operator"]}).json()["code"] == "user.exists"
    weak = admin.post("/v1/users", json={"name": "eve", "password": "eveeveeveeve", "roles": ["operator"]})
    assert (weak.status_code, weak.json()["code"]) == (400, "user.weak-password")
    bob = stage.client_of(77)
    assert admin.patch("/v1/users/bob", json={"enabled": False}).json()["enabled"] is False
    assert bob.get("/v1/whoami").status_code == 401
    for change in ({"roles": ["operator"]}, {"enabled": False}):
        last = admin.patch("/v1/users/administrator", json=change)
        assert (last.status_code, last.json()["code"]) == (409, "user.last-administrator")
    assert {one["name"] for one in admin.get("/v1/users").json()["items"]} >= {"bob", "administrator"}
    assert admin.get("/v1/whoami").status_code == 200


def test_no_secret_reaches_a_log(ada: Stage, admin: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    phrase = "eclipse walnut trombone harvest quixotic lagoon bramble"
    with caplog.at_level(logging.DEBUG):
        login = ada.stranger.post("/v1/login", json={"user": "ada", "password": PASSWORD}).json()
        ada.stranger.post("/v1/login", json={"user": "ada", "password": "a wrong secret", "x": 1})
        made = admin.post("/v1/tokens", json={"name": "t", "reason": "r", "purpose": "trust"}).json()
        admin.post("/v1/kms/groups", json={"name": "g"})
        key = {"group": "g", "name": "k", "source": "passphrase", "passphrase": phrase}
        assert admin.post("/v1/kms/keys", json=key).status_code == 201
        drawn = key | {"name": "k2", "generate": True}
        drawn.pop("passphrase")
        generated = admin.post("/v1/kms/keys", json=drawn).json()["passphrase"]
        assert (
            admin.post("/v1/users", json={"name": "bob", "password": PASSWORD, "roles": ["nonsense"]}).status_code
            == 400
        )
    with read(ada.engine) as connection:
        evidence = json.dumps([dict(entry.facts) for entry in audit.entries(connection, limit=1_000)])
    for hidden in (PASSWORD, "a wrong secret", login["token"], made["token"], phrase, generated):
        assert hidden not in caplog.text
        assert hidden not in evidence
