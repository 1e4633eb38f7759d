"""Pools, storage between domains, lifecycle policies, backups (T4, R3, R4, R5, K1)."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from strongroom.api.ports import CheckFacts, ImportPolicyCheck
from tests.support.api import CREDENTIAL_SECRET, GRANT_SECRET, Stage

BACKUP: dict[str, Any] = {"op": "backup", "pool": "p", "retention": "30d"}


@pytest.fixture
def pool(stage: Stage) -> None:
    stage.make_pool("p")


def test_a_pool_is_made_listed_and_shown(stage: Stage, admin: TestClient) -> None:
    made = admin.post("/v1/pools", json={"name": "vault", "path": "/srv/vault"})
    assert (made.status_code, made.json()["path"]) == (201, "/srv/vault")
    assert [one["name"] for one in admin.get("/v1/pools").json()["items"]] == ["vault"]
    assert admin.get("/v1/pools/vault").json()["images"] == 0
    missing = admin.get("/v1/pools/other")
    assert (missing.status_code, missing.json()["code"]) == (404, "pool.not-found")
    assert [one["name"] for one in admin.get("/v1/status").json()["pools"]] == ["vault"]
    assert admin.post("/v1/pools", json={"name": "a/b"}).status_code == 400
    assert stage.there.asked[-1][0] == "make_pool"


def test_a_pool_is_repaired_by_a_job_and_the_evidence_says_whether_it_was_a_look(
    stage: Stage, admin: TestClient, pool: None
) -> None:
    for dry_run in (True, False):
        started = admin.post("/v1/pools/p/repair", json={"dry_run": dry_run})
        assert (started.status_code, list(started.json())) == (202, ["job"])
        assert stage.there.asked[-1] == ("repair", stage.there.made["p"].medium, dry_run)
        rows = admin.get("/v1/audit", params={"object": "pool:p"}).json()["items"]
        told = [(row["outcome"], row["facts"].get("dry_run")) for row in rows if row["action"] == "pool.repair"]
        assert ("done", dry_run) in told
    assert admin.post("/v1/pools/other/repair", json={}).status_code == 404
    assert admin.post("/v1/pools/p/repair", json={"dry": True}).status_code == 400


def test_a_pool_is_scrubbed_by_a_job_as_fast_as_is_said(stage: Stage, admin: TestClient, pool: None) -> None:
    for body, rate in (({}, None), ({"bytes_per_second": 5}, 5)):
        assert admin.post("/v1/pools/p/scrub", json=body).status_code == 202
        assert stage.there.asked[-1] == ("scrub", "p", rate)
    assert admin.post("/v1/pools/other/scrub", json={}).status_code == 404
    assert admin.post("/v1/pools/p/scrub", json={"bytes_per_second": 0}).status_code == 400


def test_what_scrubs_found_is_shown_and_damage_is_an_alarm(stage: Stage, admin: TestClient, pool: None) -> None:
    shown = admin.get("/v1/pools/p").json()
    assert (shown["checks"], shown["next_scrub"]) == (None, None)
    at = datetime(2026, 3, 1, tzinfo=UTC)
    facts = stage.there.made["p"]
    stage.there.made["p"] = replace(facts, checks=CheckFacts(at, 2, 0), next_scrub=at + timedelta(days=30))
    shown = admin.get("/v1/pools/p").json()
    assert shown["checks"] == {"oldest": "2026-03-01T00:00:00Z", "unchecked": 2, "damaged": 0}
    assert shown["next_scrub"] == "2026-03-31T00:00:00Z"
    assert "pool.damaged" not in [one["code"] for one in admin.get("/v1/status").json()["alarms"]]
    stage.there.made["p"] = replace(facts, checks=CheckFacts(at, 0, 3))
    (alarm,) = [one for one in admin.get("/v1/status").json()["alarms"] if one["code"] == "pool.damaged"]
    assert alarm["message"] == "3 objects of the pool 'p' were damaged when they were last checked"
    assert "strongroom pool repair p --dry-run" in alarm["hint"]


BUCKET: dict[str, Any] = {"url": "s3://vaults/north/", "endpoint": "https://s3.example:9000", "access_key": "id"}


def test_a_pool_is_made_in_a_bucket_and_its_key_is_shown_nowhere(stage: Stage, admin: TestClient) -> None:
    """P3: the place is shown and kept as evidence, the secret is not."""
    made = admin.post("/v1/pools", json={"name": "cloud", "bucket": {**BUCKET, "secret_key": "quite-secret"}})
    place = "s3://vaults/north?endpoint=https://s3.example:9000&region=us-east-1"
    assert (made.status_code, made.json()["path"]) == (201, place)
    assert admin.post("/v1/pools/cloud/key", json={"access_key": "id2", "secret_key": "more-secret"}).status_code == 200
    assert stage.there.asked[-1][:3] == ("rekey_pool", "cloud", "id2")
    evidence = admin.get("/v1/audit", params={"object": "pool:cloud"}).text
    assert "s3://vaults/north" in evidence
    assert "secret" not in evidence + made.text


@pytest.mark.parametrize(
    "body",
    [
        {"path": "s3://vaults/north"},
        {"path": "/srv/vault", "bucket": {**BUCKET, "secret_key": "quite-secret"}},
        {"bucket": {**BUCKET, "secret_key": "quite-secret", "url": "s3://vaults/../other"}},
        {"bucket": {**BUCKET, "secret_key": "quite-secret", "url": "https://vaults"}},
        {"bucket": {**BUCKET, "secret_key": "quite-secret", "endpoint": "https://user@host/path"}},
        {"bucket": {**BUCKET, "secret_key": "quite-secret", "region": "a&b"}},
        {"bucket": {**BUCKET, "secret_key": "quite secret"}},
    ],
)
def test_what_names_no_bucket_is_refused(stage: Stage, admin: TestClient, body: dict[str, Any]) -> None:
    refused = admin.post("/v1/pools", json={"name": "cloud", **body})
    assert refused.status_code == 400
    assert "quite" not in refused.text
    assert not stage.there.asked


def test_a_target_needs_a_trust_that_is_active(stage: Stage, admin: TestClient) -> None:
    """T4: the refusal says so."""
    stage.meet("munich", active=False)
    body = {"name": "t", "peer": "munich", "pool": "vault", "credential": "id.secret"}
    refused = admin.post("/v1/storage/targets", json=body)
    assert (refused.status_code, refused.json()["code"]) == (409, "storage.trust-not-active")
    assert "'asked'" in refused.json()["detail"]
    domain = stage.meet("oslo", active=True)
    made = admin.post("/v1/storage/targets", json=body | {"peer": "oslo"})
    assert (made.status_code, made.json()["domain"]) == (201, domain.hex())
    assert stage.there.asked[-1][4] == b"id.secret"
    assert [one["name"] for one in admin.get("/v1/storage/targets").json()["items"]] == ["t"]
    assert admin.delete("/v1/storage/targets/t").status_code == 200
    assert admin.delete("/v1/storage/targets/t").status_code == 404
    offers = admin.get("/v1/trusts/oslo/storage").json()["items"]
    assert [one["pool"] for one in offers] == ["vault"]


def test_a_credential_is_for_one_sender_and_pool_and_shown_once(stage: Stage, admin: TestClient, pool: None) -> None:
    """R3."""
    domain = stage.meet("munich", active=True)
    made = admin.post("/v1/storage/credentials", json={"pool": "p", "sender": "munich", "name": "c"})
    assert made.status_code == 201, made.text
    assert made.json()["secret"].endswith(CREDENTIAL_SECRET)
    (listed,) = admin.get("/v1/storage/credentials").json()["items"]
    assert (listed["pool"], listed["sender"], "secret" in listed) == ("p", domain.hex(), False)
    assert admin.delete(f"/v1/storage/credentials/{listed['credential']}").status_code == 200
    absent = admin.post("/v1/storage/credentials", json={"pool": "q", "sender": "munich", "name": "c"})
    assert absent.json()["code"] == "pool.not-found"


def test_a_replication_policy_names_domain_and_import_policy_and_is_checked_there(
    stage: Stage, admin: TestClient, pool: None
) -> None:
    """R5."""
    domain = stage.meet("munich", active=True)
    stage.there.policy_check = ImportPolicyCheck(found=True, active=True, takes_imports=True)
    there = {"op": "replication", "target": "munich", "import_slp": "from-berlin", "retention": 3_600}
    made = admin.post("/v1/slps", json={"name": "gold", "operations": [BACKUP, there]})
    assert made.status_code == 201, made.text
    told = made.json()
    assert told["checked_with_peer"] == [
        {"target": domain.hex(), "import_slp": "from-berlin", "ok": True, "detail": "'from-berlin' is ready there"}
    ]
    first, second = told["operations"]
    assert (first["retention"], second["parent"], second["target"]) == (30 * 86_400, 0, domain.hex())
    assert (second["import_slp"], second["retention"]) == ("from-berlin", 3_600)
    for check, word in (
        (ImportPolicyCheck(found=False, active=False, takes_imports=False), "no import SLP"),
        (ImportPolicyCheck(found=True, active=True, takes_imports=False), "does not import"),
        (ImportPolicyCheck(found=True, active=False, takes_imports=True), "not active"),
    ):
        stage.there.policy_check = check
        refused = admin.put("/v1/slps/gold", json={"operations": [BACKUP, there]})
        assert (refused.status_code, refused.json()["code"]) == (409, "slp.not-ready-there")
        assert word in refused.json()["detail"]
    assert admin.get("/v1/slps/gold").json()["version"] == 1
    stage.there.policy_check = None
    (said,) = admin.put("/v1/slps/gold", json={"operations": [BACKUP, there]}).json()["checked_with_peer"]
    assert (said["ok"], said["detail"][:11]) == (False, "not checked")
    assert admin.get("/v1/slps/gold").json()["version"] == 2


def test_an_import_policy_is_first_and_has_target_retention(admin: TestClient, pool: None) -> None:
    """R4."""
    bounds = {"otherwise": "4w", "at_least": "1d", "at_most": "10w"}
    taken = {"op": "import", "pool": "p", "retention": "target"}
    made = admin.post("/v1/slps", json={"name": "x" * 112, "operations": [taken | bounds]})
    assert made.status_code == 201, made.text
    assert made.json()["operations"][0]["at_most"] == 10 * 604_800
    assert made.json()["checked_with_peer"] is None
    for name, operations in (
        ("x" * 113, [taken]),
        ("second", [BACKUP, taken]),
        ("fixed", [taken | {"retention": "1d"}]),
        ("for-ever", [taken | {"retention": "forever"}]),
        ("as-wanted", [BACKUP | {"retention": "target"}]),
        ("two-words", [BACKUP | {"retention": "1 day"}]),
        ("unknown", [BACKUP | {"colour": "red"}]),
        ("empty", []),
    ):
        refused = admin.post("/v1/slps", json={"name": name, "operations": operations})
        assert refused.status_code == 400, (name, refused.text)
    assert len(admin.get("/v1/slps").json()["items"]) == 1


def test_slips_of_the_pen_are_told_when_a_policy_is_saved(admin: TestClient, pool: None) -> None:
    for operation, code in (
        (BACKUP | {"pool": "q"}, "pool.not-found"),
        (BACKUP | {"key_group": "g"}, "kms.group-not-found"),
    ):
        assert admin.post("/v1/slps", json={"name": "s", "operations": [operation]}).json()["code"] == code
    assert admin.post("/v1/slps", json={"name": "s", "operations": [BACKUP]}).status_code == 201
    again = admin.post("/v1/slps", json={"name": "s", "operations": [BACKUP]})
    assert (again.status_code, again.json()["code"]) == (409, "slp.exists")
    assert admin.put("/v1/slps/other", json={"operations": [BACKUP]}).status_code == 404
    assert admin.post("/v1/slps/s/deactivate").json()["state"] == "inactive"
    assert admin.post("/v1/slps/s/activate").json()["state"] == "active"


def test_no_active_key_means_no_backup(stage: Stage, admin: TestClient, pool: None) -> None:
    """K1: fail closed."""
    admin.post("/v1/kms/groups", json={"name": "g"})
    admin.post("/v1/slps", json={"name": "s", "operations": [BACKUP | {"key_group": "g"}]})
    body = {"paths_b64": [base64.b64encode(b"/home/\xff").decode()], "slp": "s"}
    refused = admin.post("/v1/backups", json=body)
    assert (refused.status_code, refused.json()["code"]) == (423, "kms.no-active-key")
    kms = stage.lock()
    locked = admin.post("/v1/backups", json=body)
    assert (locked.status_code, locked.json()["code"]) == (423, "kms.locked")
    assert not [one for one in stage.there.asked if one[0] == "backup"]
    stage.parts.kms = kms
    admin.post("/v1/kms/keys", json={"group": "g", "name": "k", "activate": True})
    started = admin.post("/v1/backups", json=body)
    assert started.status_code == 201, started.text
    assert started.json()["token"] == GRANT_SECRET
    assert (started.json()["previous"], started.json()["previous_started"]) == (True, "2026-01-01T00:00:00Z")
    assert stage.there.asked[-1] == ("backup", None, (b"/home/\xff",), "s")
    admin.post("/v1/slps/s/deactivate")
    assert admin.post("/v1/backups", json=body).json()["code"] == "slp.not-active"


@pytest.mark.parametrize("path", [b"relative", b"/a\0b", b""])
def test_a_path_that_is_none_is_refused(admin: TestClient, path: bytes) -> None:
    body = {"paths_b64": [base64.b64encode(path).decode()], "slp": "s"}
    refused = admin.post("/v1/backups", json=body)
    assert (refused.status_code, refused.json()["context"]["field"]) == (400, "body.paths_b64.0")


def test_an_import_policy_takes_no_backups(admin: TestClient, pool: None) -> None:
    taken = {"op": "import", "pool": "p", "retention": "target"}
    admin.post("/v1/slps", json={"name": "s", "operations": [taken]})
    assert admin.post("/v1/backups", json={"paths_b64": ["L2hvbWU="], "slp": "s"}).status_code == 400
