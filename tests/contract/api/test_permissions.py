"""No route without a permission, no use of authority without evidence (U3)."""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Connection, Engine, text

from strongroom import audit
from strongroom.api.app import describe
from strongroom.api.routes import ALL
from strongroom.api.routing import PERMISSION_KEY
from strongroom.database import is_sqlite, read, transact
from strongroom.people.roles import ALL_PERMISSIONS, PERMISSIONS, UserRole
from tests.support.api import Stage

HEX: Final = "ab" * 32
UUID: Final = "00000000-0000-4000-8000-000000000001"
PARTS: Final = {
    "name": "thing",
    "peer": "elsewhere",
    "serial": "ab",
    "credential": UUID,
    "image": UUID,
    "host": UUID,
    "job": "1",
    "tag": HEX,
}
OPERATIONS: Final = [{"op": "backup", "pool": "p", "retention": "1d"}]
ADDRESS: Final = {"server": "127.0.0.1:1", "fingerprint": HEX, "token": "t"}
BODIES: Final[dict[tuple[str, str], dict[str, Any]]] = {
    ("post", "/v1/tokens"): {"name": "t", "reason": "r", "purpose": "trust"},
    ("post", "/v1/certificates/media"): ADDRESS,
    ("post", "/v1/certificates/{serial}/revoke"): {},
    ("post", "/v1/trusts"): ADDRESS,
    ("post", "/v1/pools"): {"name": "p"},
    ("post", "/v1/pools/{name}/repair"): {},
    ("post", "/v1/pools/{name}/key"): {"access_key": "a", "secret_key": "s"},
    ("post", "/v1/pools/{name}/servers"): {"host": UUID},
    ("post", "/v1/storage/credentials"): {"pool": "p", "sender": "elsewhere", "name": "c"},
    ("post", "/v1/storage/targets"): {"name": "t", "peer": "elsewhere", "pool": "p", "credential": "c"},
    ("post", "/v1/slps"): {"name": "s", "operations": OPERATIONS},
    ("put", "/v1/slps/{name}"): {"operations": OPERATIONS},
    ("post", "/v1/backups"): {"paths_b64": ["L2hvbWU="], "slp": "s"},
    ("post", "/v1/restores"): {"image": UUID},
    ("post", "/v1/jobs/{job}/problems"): {"problems": [{"code": "c", "message": "m", "files": 1}]},
    ("post", "/v1/images/{image}/hold"): {"reason": "a case"},
    ("post", "/v1/images/{image}/release"): {},
    ("post", "/v1/images/{image}/expire"): {"reason": "a case"},
    ("post", "/v1/pools/{name}/collect"): {},
    ("post", "/v1/pools/{name}/lock"): {"mode": "governance"},
    ("post", "/v1/pools/{name}/scrub"): {},
    ("post", "/v1/images/{image}/lock"): {"days": 3, "reason": "a case"},
    ("post", "/v1/expiry/confirm"): {},
    ("post", "/v1/kms/groups"): {"name": "g"},
    ("post", "/v1/kms/keys"): {"group": "g", "name": "k"},
    ("post", "/v1/kms/recover"): {"tag": HEX, "passphrase": "p", "group": "g", "name": "k"},
    ("post", "/v1/kms/check"): {"tag": HEX, "passphrase": "p"},
    ("post", "/v1/kms/keystore/import"): {"path": "/nowhere", "keys_path": "/nowhere"},
    ("post", "/v1/imports/phase1"): {"pool": "p"},
    ("post", "/v1/imports/phase2"): {},
    ("post", "/v1/users"): {"name": "u", "roles": ["operator"]},
    ("patch", "/v1/users/{name}"): {"enabled": True},
}

HOSTILE: Final[list[Any]] = ["a\0b", "\ud800", "x" * 70_000, 2**70, -1, None, [], {"a": [1]}, ["\udfff"], "../../x", ""]
HOSTILE_PARTS: Final = ["a\0b", "ü\u202e", "x" * 3_000, str(2**70), "-1", "..", "%"]


def operations(stage: Stage) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method, path, operation) for path, item in describe()["paths"].items() for method, operation in item.items()
    ]


def call(client: TestClient, method: str, path: str) -> Any:
    body = BODIES.get((method, path))
    return client.request(method, path.format_map(PARTS), json=body)


def test_every_route_of_the_application_was_declared_with_a_permission(stage: Stage) -> None:
    declared = {
        (method.lower(), f"/v1{route.path}")  # type: ignore[attr-defined]
        for routes in ALL
        for route in routes.router.routes
        for method in route.methods  # type: ignore[attr-defined]
    }
    documented = {(method, path) for method, path, _ in operations(stage)}
    assert documented == declared
    included = [getattr(route, "original_router", None) for route in stage.app.routes]
    assert included == [routes.router for routes in ALL]  # nothing else is in the application
    for method, path, operation in operations(stage):
        permission = operation[PERMISSION_KEY]
        assert permission in ALL_PERMISSIONS | {"anybody", "session"}, (method, path)
        guarded = any("HTTPBearer" in scheme for scheme in operation.get("security", ()))
        assert guarded is (permission != "anybody"), (method, path)
    assert {path for _, path, one in operations(stage) if one[PERMISSION_KEY] == "anybody"} == {
        "/v1/ca/roots",
        "/v1/login",
        "/v1/openapi.json",
    }


def test_every_route_refuses_strangers_and_roles_that_lack_the_permission(stage: Stage) -> None:
    clients = {role: stage.as_(role) for role in UserRole}
    wrong = []
    for method, path, operation in operations(stage):
        permission = operation[PERMISSION_KEY]
        if permission == "anybody":
            continue
        status = call(stage.stranger, method, path).status_code
        if status != 401:
            wrong.append((method, path, "stranger", status))
        if permission == "session":
            continue
        for role, client in clients.items():
            if permission not in PERMISSIONS[role]:
                status = call(client, method, path).status_code
                if status != 403:
                    wrong.append((method, path, role.value, status))
    assert not wrong


def test_every_route_lets_roles_in_that_have_the_permission_and_expects_what_it_refuses(stage: Stage) -> None:
    """Whatever the answer, it is none of 401 and 403, nor one that nobody expected."""
    wrong = []
    for role in UserRole:
        client = stage.as_(role)
        for method, path, operation in operations(stage):
            if operation[PERMISSION_KEY] in PERMISSIONS[role]:
                answer = call(client, method, path)
                if answer.status_code in (401, 403, 405, 500) or "api.bad-request" in answer.text:
                    wrong.append((method, path, role.value, answer.status_code, answer.text))
    assert not wrong


def test_whatever_changes_something_leaves_evidence(stage: Stage, admin: TestClient) -> None:
    stage.make_pool("p")
    stage.meet("elsewhere", active=False)
    silent = []
    for method, path, operation in operations(stage):
        if method == "get" or operation[PERMISSION_KEY] == "anybody" or path == "/v1/logout":
            continue
        before = _number(stage.engine)
        answer = call(admin, method, path)
        if _number(stage.engine) == before:
            silent.append((method, path, answer.status_code, answer.text))
    assert not silent
    before = _number(stage.engine)
    assert admin.post("/v1/logout").status_code == 200
    assert _number(stage.engine) == before + 2


def test_hostile_values_are_refused_and_never_a_defect(stage: Stage, admin: TestClient) -> None:
    stage.make_pool("p")
    stage.meet("elsewhere", active=True)
    wrong = []
    for method, path, operation in operations(stage):
        requests: list[dict[str, Any]] = [{"path": {part: value}} for part in PARTS for value in HOSTILE_PARTS]
        requests = [one for one in requests if f"{{{next(iter(one['path']))}}}" in path]
        for parameter in operation.get("parameters", ()):
            if parameter["in"] == "query":
                requests += [{"params": {parameter["name"]: value}} for value in HOSTILE_PARTS]
        body = BODIES.get((method, path), {})
        requests += [{"body": body | {field: value}} for field in body for value in HOSTILE]
        for request in requests:
            url = path.format_map(
                PARTS | {part: quote(value, safe="") for part, value in request.get("path", {}).items()}
            )
            content = json.dumps(request.get("body", body)).encode()
            answer = admin.request(
                method,
                url,
                params=request.get("params"),
                content=content if method != "get" else None,
                headers={"Content-Type": "application/json"},
            )
            if answer.status_code in (401, 403, 500):
                wrong.append((method, url, str(request)[:200], answer.text[:300]))
    assert not wrong


def test_the_evidence_can_be_read_and_checked_and_a_changed_row_is_found(stage: Stage, admin: TestClient) -> None:
    """U3: the audit is tamper-evident."""
    admin.post("/v1/kms/groups", json={"name": "g"})
    rows = admin.get("/v1/audit", params={"object": "key-group:g"}).json()["items"]
    assert [(row["action"], row["outcome"]) for row in rows] == [("key.create", "attempted"), ("key.create", "done")]
    verified = admin.get("/v1/audit/verify").json()
    assert verified["ok"] is True
    assert verified["entries"] >= rows[-1]["number"]
    page = admin.get("/v1/audit", params={"limit": 1}).json()
    assert admin.get("/v1/audit", params={"limit": 1, "after": page["next"]}).json()["items"][0]["number"] == 2
    tamper(stage.engine)
    broken = admin.get("/v1/audit/verify")
    assert (broken.status_code, broken.json()["code"]) == (422, "audit.damaged")


def tamper(engine: Engine) -> None:
    """Do what somebody with the database's own rights can do: take the triggers away first."""

    def act(connection: Connection) -> None:
        if is_sqlite(engine):
            connection.execute(text("DROP TRIGGER audit_log_UPDATE"))
        else:
            connection.execute(text("ALTER TABLE audit_log DISABLE TRIGGER audit_log_refuse"))
        connection.execute(text("UPDATE audit_log SET actor = 'user:somebody' WHERE number = 1"))

    transact(engine, act)


def _number(engine: Engine) -> int:
    with read(engine) as connection:
        return audit.current_head(connection).number


def test_a_defect_in_a_deed_leaves_evidence_that_it_was_tried_and_not_done(
    stage: Stage, admin: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(stage.there, "make_pool", broken)
    assert admin.post("/v1/pools", json={"name": "p"}).json()["code"] == "api.internal"
    rows = admin.get("/v1/audit", params={"object": "pool:p"}).json()["items"]
    assert [(row["outcome"], row["facts"].get("code")) for row in rows] == [
        ("attempted", None),
        ("refused", "api.internal"),
    ]
