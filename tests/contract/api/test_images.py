"""Images, files, receipts, holds, imports, replications, jobs over REST (K2, U2)."""

from __future__ import annotations

import base64
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient

from strongroom.catalog import keys
from strongroom.catalog.file_list import FileEntry, adopt_file_list
from strongroom.catalog.file_list_parquet import write_file_list
from strongroom.catalog.importing import import_fragment
from strongroom.catalog.receipts import keep_hop, keep_receipt
from strongroom.core.ids import KeyTag, to_text
from strongroom.database import transact
from strongroom.jobs import NewJob
from strongroom.lifecycle.tables import ReplicationState, replications
from strongroom.people.roles import UserRole
from tests.support.api import Stage
from tests.support.catalogs import add_pool
from tests.support.images import T0, TAG, TARGET, Domain, FixedEntropy, fixed, image_id


class Filled:
    """A catalog with three images of this domain; the first two are encrypted, and wait for a key."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.domain: Domain = stage.signs()
        transact(stage.engine, lambda connection: add_pool(connection, self.domain))
        self.images = []
        for number, client in enumerate(("alpha", "alpha", "beta")):
            image = self.domain.image(
                f"i{number}", client=client, started=T0 + number * 10**9, encrypted=number < 2, content=1_000
            )
            fragment = self.domain.copy(image)
            transact(
                stage.engine,
                lambda connection, one=fragment: import_fragment(  # type: ignore[misc]
                    connection, one, own=self.domain.id, known=frozenset()
                ),
            )
            self.images.append(image)
        self.texts = [to_text(image_id(image)) for image in self.images]


@pytest.fixture
def filled(stage: Stage) -> Filled:
    return Filled(stage)


def test_images_are_listed_newest_first_in_pages_with_their_keys(filled: Filled, admin: TestClient) -> None:
    """K2: listings show the tags."""
    page = admin.get("/v1/images", params={"limit": 2}).json()
    rest = admin.get("/v1/images", params={"limit": 2, "after": page["next"]}).json()
    assert [one["image"] for one in page["items"] + rest["items"]] == filled.texts[::-1]
    assert rest["next"] is None
    clear, sealed = page["items"]
    assert (clear["state"], clear["key_tags"]) == ("readable", [])
    assert (sealed["state"], sealed["key_tags"], sealed["encrypted"]) == ("waiting-for-key", [TAG.hex()], True)
    assert (sealed["origin_name"], sealed["copies"][0]["pool"]) == ("here", "pool of here")
    assert sealed["copies"][0]["copy"] == 1
    assert sealed["started"] == "2026-01-01T00:00:01Z"


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ({"client": "alpha"}, [1, 0]),
        ({"state": "readable"}, [2]),
        ({"waiting_for_tag": TAG.hex()}, [1, 0]),
        ({"waiting_for_tag": "00" * 32}, []),
        ({"tag": TAG.hex(), "since": "2026-01-01T00:00:01Z"}, [1]),
        ({"until": "2026-01-01T01:00:00+01:00"}, [0]),
        ({"origin": "here"}, [2, 1, 0]),
        ({"origin": "ab" * 32}, []),
        ({"slp": "silver"}, []),
        ({"policy": "homes", "text": "BETA"}, [2]),
    ],
)
def test_filters_narrow_the_list(filled: Filled, admin: TestClient, query: dict[str, str], numbers: list[int]) -> None:
    answer = admin.get("/v1/images", params=query)
    assert answer.status_code == 200, answer.text
    assert [one["image"] for one in answer.json()["items"]] == [filled.texts[number] for number in numbers]


@pytest.mark.parametrize(
    "query",
    [
        {"since": "2026-01-01T00:00:00"},
        {"after": "x"},
        {"after": f"99999999999999999999.{'0' * 32}"},
        {"after": f"1.{'ab' * 32}"},
        {"limit": "0"},
        {"limit": "1001"},
        {"tag": "ab"},
        {"client": "a\0b"},
        {"state": "lost"},
    ],
)
def test_a_query_that_makes_no_sense_names_its_field(admin: TestClient, query: dict[str, str]) -> None:
    answer = admin.get("/v1/images", params=query)
    assert (answer.status_code, answer.json()["code"]) == (400, "api.bad-request")
    assert f"query.{next(iter(query))}" in answer.json()["detail"]


def test_an_image_is_shown_with_the_way_it_came(filled: Filled, admin: TestClient) -> None:
    shown = admin.get(f"/v1/images/{filled.texts[0]}").json()
    assert shown["copies"][0]["hops"] == []
    missing = admin.get("/v1/images/00000000-0000-4000-8000-000000000001")
    assert (missing.status_code, missing.json()["code"]) == (404, "catalog.image-not-found")
    assert admin.get("/v1/images/nonsense").json()["code"] == "api.bad-request"


def test_receipts_are_checked_before_they_are_shown(filled: Filled, admin: TestClient) -> None:
    hop = filled.domain.hop(filled.images[0], TARGET)
    receipt = TARGET.receipt(hop, tags=(TAG,))
    engine = filled.stage.engine
    transact(engine, lambda connection: keep_hop(connection, hop))
    transact(engine, lambda connection: keep_receipt(connection, receipt))
    (shown,) = admin.get(f"/v1/images/{filled.texts[0]}/receipts").json()["items"]
    assert (shown["target"], shown["state"], shown["tags"]) == (to_text(TARGET.id), "sealed", [TAG.hex()])
    assert shown["verified"] is True
    assert shown["copy"] == 1


def test_holds_keep_an_image_and_end_one_by_one(filled: Filled, admin: TestClient) -> None:
    path = f"/v1/images/{filled.texts[0]}"
    first, second = (admin.post(f"{path}/hold", json={"reason": why}).json() for why in ("a case", "another case"))
    assert first["copies"] == [1]
    assert admin.get(path).json()["copies"][0]["hold"] is True
    assert admin.post(f"{path}/release", json={"hold": first["hold"]}).json() == {"holds": [first["hold"]]}
    assert admin.get(path).json()["copies"][0]["hold"] is True
    assert admin.post(f"{path}/release", json={}).json() == {"holds": [second["hold"]]}
    assert admin.get(path).json()["copies"][0]["hold"] is False
    none = admin.post(f"{path}/release", json={})
    assert (none.status_code, none.json()["code"]) == (404, "image.no-such-hold")
    assert admin.post(f"{path}/hold", json={"reason": ""}).status_code == 400


def test_a_copy_of_another_domain_is_not_held_here(stage: Stage, admin: TestClient) -> None:
    image = TARGET.image("foreign")
    transact(stage.engine, lambda connection: add_pool(connection, TARGET))
    fragment = TARGET.copy(image)
    transact(stage.engine, lambda c: import_fragment(c, fragment, own=stage.primary.domain, known=None))
    refused = admin.post(f"/v1/images/{to_text(image_id(image))}/hold", json={"reason": "a case"})
    assert (refused.status_code, refused.json()["code"]) == (409, "image.nothing-to-hold")


def entry(path: bytes, kind: int = 1) -> FileEntry:
    return FileEntry(path, kind, 0o644, 1, 2, b"ada", b"staff\xff", T0, T0, 5, None, 0, None)


def test_files_are_listed_by_folder_and_found_by_pattern(filled: Filled, admin: TestClient) -> None:
    name = image_id(filled.images[2])
    paths = [b"/a", b"/a/x.txt", b"/a/y\xff.txt", b"/a/z.doc"]
    rows = [entry(b"/", 2), entry(paths[0], 2), *(entry(path) for path in paths[1:])]
    lists = filled.stage.parts.file_lists
    written = write_file_list(lists, name, rows, FixedEntropy())
    now = filled.stage.primary.clock.now()
    transact(filled.stage.engine, lambda connection: adopt_file_list(connection, written, now=now))
    url = f"/v1/images/{filled.texts[2]}/files"
    assert [one["path"] for one in admin.get(url).json()["items"]] == ["/"]
    top = admin.get(url, params={"folder_b64": base64.b64encode(b"/").decode()}).json()
    assert [one["path"] for one in top["items"]] == ["/a"]
    folder = base64.b64encode(b"/a").decode()
    page = admin.get(url, params={"folder_b64": folder, "limit": 2}).json()
    rest = admin.get(url, params={"folder_b64": folder, "limit": 2, "after": page["next"]}).json()
    shown = page["items"] + rest["items"]
    assert [base64.b64decode(one["path_b64"]) for one in shown] == paths[1:]
    assert shown[1]["path"] == "/a/y\\xff.txt"
    assert (shown[1]["type"], shown[1]["group"]) == ("file", "staff\\xff")
    assert rest["next"] is None
    found = admin.get(url, params={"find": "*.txt", "limit": 1}).json()
    more = admin.get(url, params={"find": "*.txt", "limit": 1, "after": found["next"]}).json()
    assert [one["path"] for one in found["items"] + more["items"]] == ["/a/x.txt", "/a/y\\xff.txt"]
    assert admin.get(url, params={"find": "[", "limit": 1}).json()["code"] == "catalog.bad-pattern"
    assert admin.get(url, params={"find": "*", "folder_b64": folder}).status_code == 400
    none = admin.get(f"/v1/images/{filled.texts[0]}/files")
    assert (none.status_code, none.json()["code"]) == (404, "catalog.no-file-list")


def test_imports_tell_which_key_is_missing_and_what_waits_for_it(filled: Filled, admin: TestClient) -> None:
    told = admin.get("/v1/imports").json()
    assert told["by_tag"] == [{"tag": TAG.hex(), "known": False, "state": None, "images": 2, "bytes": 2_000}]
    assert {one["image"] for one in told["images"]} == set(filled.texts[:2])
    alarms = admin.get("/v1/status").json()["alarms"]
    assert [alarm["code"] for alarm in alarms] == ["import.waiting-for-key"]
    transact(filled.stage.engine, lambda connection: keys.release(connection, KeyTag(TAG)))
    assert admin.get("/v1/imports", params={"missing_keys": True}).json() == {"by_tag": [], "images": []}


def test_imports_restores_and_checks_start_jobs(filled: Filled, admin: TestClient) -> None:
    filled.stage.make_pool("p")
    assert admin.post("/v1/imports/phase1", json={"pool": "p"}).status_code == 202
    assert admin.post("/v1/imports/phase1", json={"pool": "q"}).json()["code"] == "pool.not-found"
    assert len(admin.post("/v1/imports/phase2", json={"images": filled.texts}).json()["jobs"]) == 3
    assert admin.post("/v1/imports/phase2", json={"images": [], "pool": "p"}).status_code == 400
    assert admin.post(f"/v1/images/{filled.texts[0]}/verify").status_code == 202
    restore = admin.post("/v1/restores", json={"image": filled.texts[0], "copy": 1, "paths_b64": ["L2E="]})
    assert (restore.status_code, restore.json()["files"]) == (201, 7)
    assert filled.stage.there.asked[-1] == ("restore", image_id(filled.images[0]), 1, (b"/a",))


def test_c3_files_of_another_client_are_restored_here_only_by_those_who_may(filled: Filled, admin: TestClient) -> None:
    operator = filled.stage.as_(UserRole.OPERATOR)
    filled.stage.there.client = "alpha"
    alpha, beta = filled.texts[0], filled.texts[2]
    for mount in (False, True):
        assert operator.post("/v1/restores", json={"image": alpha, "mount": mount}).status_code == 201
        refused = operator.post("/v1/restores", json={"image": beta, "mount": mount})
        assert (refused.status_code, refused.json()["code"]) == (403, "session.no-permission")
        assert admin.post("/v1/restores", json={"image": beta, "mount": mount}).status_code == 201
        assert filled.stage.there.asked[-1] == ("mount" if mount else "restore", image_id(filled.images[2]), None, ())
    rows = [row for row in admin.get("/v1/audit").json()["items"] if row["action"] == "image.restore"]
    last = [(row["outcome"], row["facts"].get("redirected")) for row in rows[-2:]]
    assert last == [("attempted", None), ("done", True)]
    assert any(row["outcome"] == "refused" and row["object"] == f"image:{beta}" for row in rows)
    both = admin.post("/v1/restores", json={"image": alpha, "mount": True, "paths_b64": ["L2E="]})
    assert both.status_code == 400


def test_c1_a_job_tells_what_its_client_could_not_restore(filled: Filled, admin: TestClient) -> None:
    store = filled.stage.parts.jobs
    told = {"problems": [{"code": "client.not-permitted", "message": "7 files: owner not set", "files": 7}]}
    jobs = [
        transact(filled.stage.engine, lambda c, kind=kind: store.submit(c, NewJob(kind, subject="s"))).id  # type: ignore[misc]
        for kind in ("restore", "verify")
    ]
    assert admin.post(f"/v1/jobs/{jobs[0]}/problems", json=told).status_code == 200
    (line,) = admin.get(f"/v1/jobs/{jobs[0]}").json()["log"]
    assert (line["level"], line["message"]) == ("warning", "7 files: owner not set")
    assert line["facts"] == {"code": "client.not-permitted", "files": 7}
    assert admin.post(f"/v1/jobs/{jobs[1]}/problems", json=told).status_code == 400
    assert filled.stage.as_(UserRole.SECURITY).post(f"/v1/jobs/{jobs[0]}/problems", json=told).status_code == 403


def test_replications_are_listed_with_state_and_age(filled: Filled, admin: TestClient) -> None:
    domain = filled.stage.meet("munich", active=True)
    now = filled.stage.primary.clock.now()
    for number in range(2):
        values = {
            "image": image_id(filled.images[number]),
            "target": domain,
            "operation": 2,
            "source_domain": filled.domain.id,
            "source_copy": 1,
            "slp": "from-berlin",
            "state": ReplicationState.FAILED if number else ReplicationState.CONFIRMED,
            "attempts": 3,
            "error_code": "peer.unreachable",
            "error": "nobody there",
            "sent_bytes": 12,
            "promised": now - timedelta(days=2),
            "confirmed": None if number else now,
        }
        transact(filled.stage.engine, lambda c, row=values: c.execute(replications.insert().values(**row)))  # type: ignore[misc]
    listed = admin.get("/v1/replications", params={"target": "munich"}).json()["items"]
    assert {one["image"] for one in listed} == set(filled.texts[:2])
    (failed,) = admin.get("/v1/replications", params={"state": "failed-will-retry"}).json()["items"]
    assert (failed["target_name"], failed["error"], failed["attempts"]) == ("munich", "nobody there", 3)
    assert 2 * 86_400 <= failed["age_seconds"] < 2 * 86_400 + 600
    page = admin.get("/v1/replications", params={"limit": 1}).json()
    rest = admin.get("/v1/replications", params={"limit": 1, "after": page["next"]}).json()
    assert {page["items"][0]["image"], rest["items"][0]["image"]} == set(filled.texts[:2])
    assert admin.get("/v1/replications", params={"after": "x"}).status_code == 400
    assert "replication.late" in {alarm["code"] for alarm in admin.get("/v1/status").json()["alarms"]}


def test_jobs_are_watched_cancelled_and_resumed(stage: Stage, admin: TestClient) -> None:
    numbers = [
        transact(
            stage.engine,
            lambda c, kind=kind: stage.parts.jobs.submit(c, NewJob(kind, params={"pool": "p"})),  # type: ignore[misc]
        ).id
        for kind in ("backup", "verify", "backup")
    ]
    assert [one["job"] for one in admin.get("/v1/jobs").json()["items"]] == numbers[::-1]
    assert len(admin.get("/v1/jobs", params={"kind": "backup", "state": "queued"}).json()["items"]) == 2
    page = admin.get("/v1/jobs", params={"limit": 2}).json()
    assert [one["job"] for one in admin.get("/v1/jobs", params={"after": page["next"]}).json()["items"]] == numbers[:1]
    shown = admin.get(f"/v1/jobs/{numbers[0]}").json()
    assert (shown["params"], shown["log"], shown["attempts"]) == ({"pool": "p"}, [], [])
    assert admin.get("/v1/status").json()["jobs"]["queued"] == 3
    assert admin.post(f"/v1/jobs/{numbers[0]}/cancel").json()["state"] == "cancelled"
    ended = admin.post(f"/v1/jobs/{numbers[0]}/cancel")
    assert (ended.status_code, ended.json()["code"]) == (409, "jobs.ended")
    assert admin.post(f"/v1/jobs/{numbers[0]}/resume").json()["state"] == "queued"
    for number in (10**18, 2**63):
        assert admin.get(f"/v1/jobs/{number}").status_code in (400, 404)


def test_a_trust_in_trouble_raises_an_alarm(stage: Stage, admin: TestClient) -> None:
    stage.meet("munich", active=True)
    assert admin.get("/v1/status").json()["trusts"][0]["state"] == "active"
    assert admin.post("/v1/trusts/munich/suspend").json()["state"] == "suspended"
    assert admin.post("/v1/trusts/munich/resume").json()["state"] == "active"
    dry = admin.delete("/v1/trusts/munich", params={"dry_run": True}).json()
    assert dry == {"dependants": [], "removed": False}
    assert admin.get("/v1/trusts/munich").json()["state"] == "active"
    assert admin.delete("/v1/trusts/munich").json()["removed"] is True
    assert admin.get("/v1/trusts/munich").json()["state"] == "removed"
    assert admin.get("/v1/status").json()["trusts"] == []
    checked = admin.post("/v1/trusts/munich/check").json()
    assert checked["ok"] is False
    assert checked["legs"][0]["name"] == "state"
    assert fixed("domain munich").hex() == admin.get("/v1/trusts/munich").json()["domain"]
