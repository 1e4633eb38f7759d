"""Keys over REST, on a real keystore (K1, K2, K3, K4)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from strongroom.people.roles import UserRole
from tests.support.api import Stage
from tests.support.kms import KmsHome


@pytest.fixture
def group(admin: TestClient) -> str:
    assert admin.post("/v1/kms/groups", json={"name": "g", "description": "of the tests"}).status_code == 201
    return "g"


def make(admin: TestClient, name: str, **more: object) -> dict[str, str]:
    answer = admin.post("/v1/kms/keys", json={"group": "g", "name": name} | more)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def test_one_key_of_a_group_is_active_and_states_are_passed_one_at_a_time(admin: TestClient, group: str) -> None:
    """K1."""
    first, second = make(admin, "k1", activate=True), make(admin, "k2")
    assert (first["state"], second["state"]) == ("active", "prelive")
    assert second["nist_state"] == "pre-activation"
    assert admin.post(f"/v1/kms/keys/{second['tag']}/activate").json()["state"] == "active"
    listed = {one["name"]: one["state"] for one in admin.get("/v1/kms/keys", params={"group": group}).json()["items"]}
    assert listed == {"k1": "inactive", "k2": "active"}
    (shown,) = admin.get("/v1/kms/groups").json()["items"]
    assert (shown["active"], shown["keys"]["inactive"]) == (second["tag"], 1)
    refused = admin.post(f"/v1/kms/keys/{first['tag']}/terminate")
    assert (refused.status_code, refused.json()["code"]) == (409, "kms.key-transition")
    for verb, state in (("deprecate", "deprecated"), ("terminate", "terminated")):
        assert admin.post(f"/v1/kms/keys/{first['tag']}/{verb}").json()["state"] == state
    assert admin.delete(f"/v1/kms/keys/{first['tag']}").status_code == 200
    assert admin.get(f"/v1/kms/keys/{first['tag']}").json()["code"] == "kms.unknown-key"


def test_a_key_that_images_need_is_not_destroyed(stage: Stage, admin: TestClient, group: str) -> None:
    made = make(admin, "k")
    stage.kms.needed.images[bytes.fromhex(made["tag"])] = 3  # type: ignore[index]
    refused = admin.delete(f"/v1/kms/keys/{made['tag']}")
    assert (refused.status_code, refused.json()["code"], refused.json()["context"]) == (
        409,
        "kms.key-needed",
        {"images": 3},
    )


def test_phrase_and_tag_make_the_key_again_on_another_machine(
    stage: Stage, admin: TestClient, group: str, tmp_path: Path
) -> None:
    """K3: a wrong phrase is refused at once, without data."""
    made = make(admin, "k", source="passphrase", generate=True)
    phrase = made["passphrase"]
    assert len(phrase.split()) >= 6
    assert made["tag"][:32] in made["recovery_sheet"].replace(" ", "")
    assert phrase not in made["recovery_sheet"]
    assert phrase not in admin.get(f"/v1/kms/keys/{made['tag']}").text
    stage.parts.kms = KmsHome(tmp_path, "b").keys
    body = {"tag": made["tag"], "passphrase": f"  {phrase.replace(' ', '   ')} ", "group": "new", "name": "k"}
    wrong = admin.post("/v1/kms/recover", json=body | {"passphrase": "another phrase of six words here"})
    assert (wrong.status_code, wrong.json()["code"]) == (400, "kms.wrong-pass-phrase")
    assert admin.get("/v1/kms/keys").json()["items"] == []
    assert admin.post("/v1/kms/check", json={"tag": made["tag"], "passphrase": phrase}).json()["ok"] is True
    assert admin.get("/v1/kms/keys").json()["items"] == []
    recovered = admin.post("/v1/kms/recover", json=body)
    assert (recovered.status_code, recovered.json()["state"], recovered.json()["recovered"]) == (201, "inactive", True)
    again = admin.post("/v1/kms/recover", json=body)
    assert (again.status_code, again.json()["code"]) == (409, "kms.key-exists")


def test_a_phrase_that_could_be_guessed_is_refused_and_not_repeated(admin: TestClient, group: str) -> None:
    body = {"group": "g", "name": "k", "source": "passphrase", "passphrase": "summer2026"}
    refused = admin.post("/v1/kms/keys", json=body)
    assert (refused.status_code, refused.json()["code"]) == (400, "kms.weak-pass-phrase")
    assert "summer2026" not in refused.text
    for half in ({"source": "passphrase"}, {"source": "random", "generate": True}):
        assert admin.post("/v1/kms/keys", json={"group": "g", "name": "k"} | half).status_code == 400


def test_a_quiesced_keystore_is_carried_and_used_there_without_making_a_key_anew(
    stage: Stage, admin: TestClient, group: str, tmp_path: Path
) -> None:
    """K4."""
    made = make(admin, "k", activate=True)
    assert admin.post("/v1/kms/keystore/quiesce").json() == {"outstanding": 1}
    assert admin.get("/v1/status").json()["kms"] == "quiesced"
    refused = admin.post("/v1/kms/keys", json={"group": "g", "name": "k2"})
    assert (refused.status_code, refused.json()["code"], refused.json()["retry"]) == (409, "kms.quiesced", "later")
    carried = tmp_path / "carried"
    shutil.copy(stage.kms.keystore, carried)
    assert admin.post("/v1/kms/keystore/unquiesce").json() == {"outstanding": 0}
    stage.parts.kms = KmsHome(tmp_path, "b").keys
    body = {"path": str(carried), "keys_path": str(tmp_path / "here.keys"), "preview": True}
    assert admin.post("/v1/kms/keystore/import", json=body).json()["imported"] == [
        {"tag": made["tag"], "state": "inactive"}
    ]
    assert admin.get("/v1/kms/keys").json()["items"] == []
    done = admin.post("/v1/kms/keystore/import", json=body | {"preview": False}).json()
    assert [one["name"] for one in done["groups"]] == ["g"]
    assert admin.get(f"/v1/kms/keys/{made['tag']}").json()["group"] == "g"
    again = admin.post("/v1/kms/keystore/import", json=body | {"preview": False}).json()
    assert (again["imported"], again["skipped"]) == ([], [made["tag"]])
    missing = admin.post("/v1/kms/keystore/import", json=body | {"path": "/nowhere/keystore"})
    assert (missing.status_code, missing.json()["code"]) == (404, "kms.carried-keystore")
    assert admin.post("/v1/kms/keystore/import", json=body | {"path": "keystore"}).status_code == 400


def test_a_locked_keystore_says_so_and_the_rest_goes_on(stage: Stage, admin: TestClient) -> None:
    stage.lock()
    refused = admin.get("/v1/kms/groups")
    assert (refused.status_code, refused.json()["code"]) == (423, "kms.locked")
    status = admin.get("/v1/status").json()
    assert status["kms"] == "locked"
    assert [alarm["code"] for alarm in status["alarms"]] == ["kms.locked"]


def test_operators_see_keys_and_change_none(stage: Stage, admin: TestClient, group: str) -> None:
    made = make(admin, "k")
    operator = stage.as_(UserRole.OPERATOR)
    assert operator.get(f"/v1/kms/keys/{made['tag']}").status_code == 200
    assert operator.post(f"/v1/kms/keys/{made['tag']}/activate").status_code == 403
