"""Sessions, listings, errors: what every command does with a server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from strongroom.cli.main import main
from strongroom.core.errors import (
    AuthorityError,
    InputError,
    KeyUnavailableError,
    NotFoundError,
    RefusedError,
    ResourceError,
    StrongroomError,
    UnavailableError,
)
from tests.support.contract_server import Asked
from tests.unit.cli.conftest import Domain

ME = {"user": "root", "roles": ["administrator"], "permissions": ["*"], "expires": "2026-01-02T00:00:00Z"}
STATUS = {
    "domain": "ab" * 32,
    "name": "berlin",
    "host": "b1",
    "kms": "open",
    "pools": [{"name": "main", "free_bytes": 5 << 30, "online": True}],
    "jobs": {"queued": 0, "running": 1, "waiting": 0, "failed_24h": 2},
    "alarms": [{"code": "kms.locked", "message": "the keystore is locked", "hint": "open it"}],
    "trusts": [{"name": "paris", "state": "active", "health": "reachable"}],
}


def test_the_system_account_gets_a_session_over_the_socket_and_uses_it_over_tls(domain: Domain) -> None:
    domain.primary.routes["GET /whoami"] = ME
    assert domain.json("whoami") == ME
    # `/session` is outside of /v1, and carries no token.
    assert [asked.token for asked in domain.primary.asked] == [None, "session-token"]


def test_u2_listings_are_read_to_their_last_page_and_json_has_every_field(domain: Domain) -> None:
    def page(asked: Asked) -> object:
        if asked.query.get("after") == ["2"]:
            return {"items": [{"name": "c"}], "next": None}
        return {"items": [{"name": "a", "more": 1}, {"name": "b"}], "next": 2}

    domain.primary.routes["GET /tokens"] = page
    assert domain.json("token", "list") == [{"name": "a", "more": 1}, {"name": "b"}, {"name": "c"}]


def test_an_empty_listing_is_an_empty_array_and_people_are_told_what_to_do(domain: Domain) -> None:
    domain.primary.routes["GET /trusts"] = {"items": [], "next": None}
    assert domain.json("trust", "list") == []
    result = domain.run("trust", "list")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "strongroom trust add" in result.stderr


@pytest.mark.parametrize(
    "error",
    [InputError, NotFoundError, RefusedError, AuthorityError, KeyUnavailableError, UnavailableError, ResourceError],
)
def test_what_the_server_refuses_keeps_its_code_hint_and_exit_code(
    domain: Domain, error: type[StrongroomError]
) -> None:
    def refuse(_: Asked) -> object:
        refused = error("it is so", hint="do this")
        refused.code = "noun.what-is-wrong"
        raise refused

    domain.primary.routes["GET /whoami"] = refuse
    result = domain.run("whoami")
    assert result.exit_code == error.exit_code
    assert result.stdout == ""
    assert result.stderr == "strongroom: error: it is so [noun.what-is-wrong]\nstrongroom: hint: do this\n"
    document = domain.json("whoami", exit_code=error.exit_code)
    assert (document["message_type"], document["code"]) == ("error", "noun.what-is-wrong")


def test_words_of_a_server_cannot_steer_the_terminal(domain: Domain) -> None:
    domain.primary.routes["GET /whoami"] = {"user": "a\x1b[2Jb\u202e"}
    assert domain.run("whoami").stdout == "user  a\\x1b[2Jb\\u202e\n"


def test_a_home_without_a_primary_is_unavailable_with_a_hint(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["whoami", "--home", str(tmp_path)])
    assert result.exit_code == 8
    assert "strongroom serve" in result.stderr


def test_status_waits_for_the_domain_to_answer(domain: Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def slowly(_: Asked) -> object:
        tries.append(1)
        if len(tries) < 3:
            raise UnavailableError("not yet")
        return STATUS

    monkeypatch.setattr("strongroom.cli.commands.status.POLL_SECONDS", 0.01)
    domain.primary.routes["GET /status"] = slowly
    assert domain.run("status").exit_code == 8
    result = domain.run("status", "--wait", "20s")
    assert result.exit_code == 0
    assert "pool     main: online, 5.00 GiB free" in result.stdout
    assert "ALARM    the keystore is locked [kms.locked]" in result.stdout


def test_status_ends_with_8_when_media_servers_do_not_serve_in_time(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("strongroom.cli.commands.status.POLL_SECONDS", 0.2)
    domain.primary.routes["GET /status"] = STATUS | {"media_servers": {"online": 0, "known": 1}}
    assert domain.json("status", "--wait", "1s", exit_code=8)["code"] == "cli.not-serving"
    assert domain.json("status")["media_servers"]["online"] == 0


def test_ca_show_asks_the_own_primary_about_another_domain(domain: Domain) -> None:
    domain.primary.routes["GET /ca"] = {
        "domain": "ab" * 32,
        "name": "paris",
        "fingerprint_sha256": "cd" * 32,
        "words": [f"word{number}" for number in range(26)],
        "verified": False,
    }
    result = domain.run("ca", "show", "--server", "paris.example:8710")
    assert result.exit_code == 0, result.output
    assert domain.primary.asked[-1].query == {"server": ["paris.example:8710"]}
    assert ":".join(["CD"] * 32) in result.stdout
    assert "compare it" in result.stderr


def test_trust_check_ends_with_10_when_a_leg_does_not_hold(domain: Domain) -> None:
    legs = [{"name": "names", "ok": True}, {"name": "chain", "ok": False, "detail": "expired", "cure": "renew it"}]
    domain.primary.routes["POST /trusts/paris/check"] = {"legs": legs, "ok": False}
    result = domain.run("trust", "check", "paris")
    assert result.exit_code == 10
    assert "FAILED  chain: expired\n        renew it" in result.stdout
    assert domain.json("trust", "check", "paris", exit_code=10)["legs"] == legs


def test_a_broken_audit_ends_with_6(domain: Domain) -> None:
    domain.primary.routes["GET /audit/verify"] = {"ok": False, "entries": 7}
    assert domain.json("audit", "verify", exit_code=6) == {"ok": False, "entries": 7}


def test_job_watch_waits_for_the_end_and_ends_with_11_on_failure(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("strongroom.cli.jobs.POLL_SECONDS", 0.01)
    states = iter(["queued", "running", "failed"])
    error = {"code": "pool.full", "message": "the pool is full", "hint": "make room", "retry": "later"}
    domain.primary.routes["GET /jobs/7"] = lambda _: {"job": 7, "state": next(states), "error": error}
    result = domain.run("job", "watch", "7")
    assert result.exit_code == 11
    assert result.stderr == (
        "strongroom: error: job '7' is failed: the pool is full [cli.job-failed]\nstrongroom: hint: make room\n"
    )


def test_a_session_that_ends_while_a_job_is_watched_is_begun_anew(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    from strongroom.core.errors import AuthenticationError

    monkeypatch.setattr("strongroom.cli.jobs.POLL_SECONDS", 0.01)

    def job(_: Asked) -> object:
        if domain.primary.paths().count("POST /session") < 2:
            raise AuthenticationError("the session is over")
        return {"job": 7, "state": "done"}

    domain.primary.routes["GET /jobs/7"] = job
    assert domain.json("job", "watch", "7") == {"job": 7, "state": "done"}


def test_a_job_is_resumed(domain: Domain) -> None:
    domain.primary.routes["POST /jobs/7/resume"] = {"job": 7, "state": "queued"}
    assert domain.json("job", "resume", "7") == {"job": 7, "state": "queued"}
    assert "job 7 is queued" in domain.run("job", "resume", "7").stdout


@pytest.mark.parametrize(
    ("words", "route", "body"),
    [
        (
            [
                *("slp", "create", "daily", "--backup", "main", "--retention", "30d", "--key-group", "office"),
                *("--replicate-to", "paris.example:8710:daily"),
            ],
            "POST /slps",
            {
                "name": "daily",
                "data_class": "",
                "operations": [
                    {"op": "backup", "pool": "main", "retention": "30d", "key_group": "office"},
                    {
                        "op": "replication",
                        "parent": 0,
                        "target": "paris.example:8710",
                        "import_slp": "daily",
                        "retention": None,
                    },
                ],
            },
        ),
        (
            ["slp", "create", "daily", "--import", "far", "--retention", "target"],
            "POST /slps",
            {
                "name": "daily",
                "data_class": "",
                "operations": [{"op": "import", "pool": "far", "retention": "target"}],
            },
        ),
        (
            ["token", "create", "paris", "--purpose", "trust", "--valid", "2h"],
            "POST /tokens",
            {"name": "paris", "reason": "trust", "purpose": "trust", "valid_seconds": 7200, "uses": 1},
        ),
        (
            ["token", "create", "m2", "--purpose", "enrol-host", "--role", "media", "--uses", "99999"],
            "POST /tokens",
            {
                "name": "m2",
                "reason": "enrol-host",
                "purpose": "enrol-host",
                "role": "media",
                "valid_seconds": 86_400,
                "uses": 99_999,
            },
        ),
        (
            ["kms", "key", "create", "k1", "--group", "office", "--generate", "--activate"],
            "POST /kms/keys",
            {
                "group": "office",
                "name": "k1",
                "description": "",
                "source": "passphrase",
                "activate": True,
                "generate": True,
            },
        ),
        (["import", "phase1", "far"], "POST /imports/phase1", {"pool": "far"}),
        (["import", "phase2", "i1", "i2"], "POST /imports/phase2", {"images": ["i1", "i2"]}),
        (["user", "create", "eva", "--role", "operator", "--uid", "7"], "POST /users", None),
    ],
)
def test_commands_speak_the_contract(domain: Domain, words: list[str], route: str, body: object) -> None:
    domain.primary.routes[route] = {"token": "t", "tag": "ab", "job": 3, "jobs": []}
    domain.json(*words)
    assert domain.primary.body(route) == (body or {"name": "eva", "roles": ["operator"], "uid": 7})


@pytest.mark.parametrize(
    ("words", "route", "field"),
    [
        (["trust", "add", "p:1", "--fingerprint", "f", "--token-file", "-"], "POST /trusts", "token"),
        (
            ["cert", "issue", "--to", "p:1", "--fingerprint", "f", "--token-file", "-"],
            "POST /certificates/media",
            "token",
        ),
        (
            ["storage", "target", "add", "t", "--peer", "p", "--pool", "x", "--token-file", "-"],
            "POST /storage/targets",
            "credential",
        ),
        (
            ["kms", "key", "recover", "ab", "--group", "g", "--name", "n", "--passphrase-file", "-"],
            "POST /kms/recover",
            "passphrase",
        ),
        (["kms", "key", "check", "ab", "--passphrase-file", "-"], "POST /kms/check", "passphrase"),
        (["user", "create", "eva", "--role", "operator", "--password-file", "-"], "POST /users", "password"),
    ],
)
def test_secrets_come_from_standard_input(domain: Domain, words: list[str], route: str, field: str) -> None:
    domain.primary.routes[route] = {"ok": True}
    domain.json(*words, text="seven  magpies on a wire\n")
    assert domain.primary.body(route)[field] == "seven  magpies on a wire"


def test_a_secret_is_not_asked_for_without_a_terminal(domain: Domain) -> None:
    document = domain.json("kms", "key", "check", "ab", exit_code=2)
    assert document["code"] == "cli.secret-not-given"
    assert "--passphrase-file" in document["hint"]


@pytest.mark.parametrize(("content", "code"), [(b"", 2), (b"\n", 2), (b"\xff", 2), (b"x" * 65_537, 2), (b"ok\r\n", 0)])
def test_a_secret_that_cannot_be_one_is_refused(domain: Domain, tmp_path: Path, content: bytes, code: int) -> None:
    (tmp_path / "phrase").write_bytes(content)
    domain.primary.routes["POST /kms/check"] = {"ok": True}
    domain.json("kms", "key", "check", "ab", "--passphrase-file", str(tmp_path / "phrase"), exit_code=code)


def test_a_recovery_sheet_is_written_for_the_caller_alone_and_never_over_another(
    domain: Domain, tmp_path: Path
) -> None:
    domain.primary.routes["POST /kms/keys"] = {"tag": "ab", "state": "prelive", "recovery_sheet": "SHEET"}
    sheet = tmp_path / "sheet.txt"
    words = ["kms", "key", "create", "k", "--group", "g", "--sheet", str(sheet)]
    assert domain.run(*words).exit_code == 0
    assert sheet.read_text() == "SHEET\n"
    assert sheet.stat().st_mode & 0o777 == 0o600
    result = domain.run(*words)
    assert result.exit_code == 9
    assert "file exists" in result.stderr


def test_what_cannot_be_undone_is_not_done_without_a_yes(domain: Domain) -> None:
    domain.primary.routes["DELETE /kms/keys/ab"] = {"ok": True}
    assert domain.json("kms", "key", "destroy", "ab", exit_code=2)["code"] == "cli.not-confirmed"
    assert domain.primary.asked == []
    assert domain.json("kms", "key", "destroy", "ab", "--yes") == {"ok": True}


def test_what_a_removed_trust_takes_along_can_be_seen_before(domain: Domain) -> None:
    answer = {"dependants": [{"kind": "SLP", "name": "nightly"}], "removed": False}
    domain.primary.routes["DELETE /trusts/paris"] = answer
    result = domain.run("trust", "remove", "paris", "--dry-run")
    assert domain.primary.asked[-1].query == {"dry_run": ["true"]}
    assert result.stdout == "trust with 'paris' would be removed\n"
    assert "SLP 'nightly'" in result.stderr


@pytest.mark.parametrize("words", [["--purpose", "enrol-host"], ["--purpose", "trust", "--role", "media"]])
def test_a_token_has_a_role_when_its_purpose_needs_one(domain: Domain, words: list[str]) -> None:
    assert domain.json("token", "create", "x", *words, exit_code=2)["code"] == "core.bad-input"
    assert domain.primary.asked == []


@pytest.mark.parametrize("verb", ["show", "check", "suspend", "resume", "confirm", "remove"])
def test_each_thing_to_do_with_a_trust_is_a_call_of_the_api(domain: Domain, verb: str) -> None:
    words = ["trust", verb, "munich", *(["--yes"] if verb == "confirm" else [])]
    assert domain.run(*words).exit_code == 3
    assert [asked for asked in domain.primary.paths() if "munich" in asked] != []


@pytest.mark.parametrize(
    "words",
    [
        ["--backup", "main", "--retention", "30d"],
        ["--backup", "main", "--retention", "30d", "--unencrypted", "--key-group", "g"],
        ["--backup", "main", "--key-group", "g"],
        ["--backup", "main", "--retention", "target", "--key-group", "g"],
        ["--backup", "main", "--retention", "30d", "--key-group", "g", "--replicate-to", "paris"],
        ["--backup", "main", "--retention", "1m", "--key-group", "g"],
        ["--import", "far"],
        ["--import", "far", "--retention", "target", "--key-group", "g"],
        ["--import", "far", "--backup", "main", "--retention", "30d"],
        [],
    ],
)
def test_a_policy_that_leaves_a_choice_open_is_refused_before_it_is_sent(domain: Domain, words: list[str]) -> None:
    assert domain.run("slp", "create", "daily", *words).exit_code == 2
    assert domain.primary.asked == []


def test_a_policy_comes_from_a_document(domain: Domain) -> None:
    domain.primary.routes["POST /slps"] = {"state": "active"}
    operations = [{"op": "import", "pool": "far", "retention": "90d"}]
    text = json.dumps({"operations": operations, "data_class": "gold"})
    domain.json("slp", "create", "daily", "--file", "-", text=text)
    assert domain.primary.body("POST /slps") == {"name": "daily", "data_class": "gold", "operations": operations}
    assert domain.run("slp", "create", "daily", "--file", "-", text="[").exit_code == 2
    for more in (["--retention", "30d"], ["--key-group", "g"], ["--unencrypted"], ["--data-class", "gold"]):
        assert domain.run("slp", "create", "daily", "--file", "-", *more, text=text).exit_code == 2
    assert domain.run("slp", "create", "daily", "--file", "-", text='{"name": "weekly"}').exit_code == 2


def test_files_of_an_image_show_names_of_any_bytes(domain: Domain) -> None:
    item = {"path": "/a\udcff\n", "path_b64": "L2H/Cg==", "type": "file", "size": 2048}
    domain.primary.routes["GET /images/i1/files"] = {"items": [item], "next": None}
    result = domain.run("image", "files", "i1", "/a")
    assert domain.primary.asked[-1].query == {"folder_b64": ["L2E="]}
    assert "/a\\xff\\n" in result.stdout
    assert "2.00 KiB" in result.stdout
    assert domain.json("image", "find", "i1", "*.pdf") == [item]
    assert domain.primary.asked[-1].query == {"find": ["*.pdf"]}


def test_missing_keys_are_listed_with_what_to_do(domain: Domain) -> None:
    tag = {"tag": "ab", "known": False, "state": None, "images": 3, "bytes": 1024}
    domain.primary.routes["GET /imports"] = {"images": [], "by_tag": [tag]}
    result = domain.run("import", "status", "--missing-keys")
    assert domain.primary.asked[-1].query == {"missing_keys": ["true"]}
    assert "1.00 KiB" in result.stdout
    assert "kms key recover" in result.stderr


def test_an_interruption_ends_with_130_without_a_traceback(domain: Domain) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("strongroom.cli.api_client.ApiClient.get", interrupt)
        result = domain.run("whoami")
    assert (result.exit_code, result.stderr) == (130, "strongroom: interrupted\n")


def test_a_defect_has_no_traceback_unless_asked_for(domain: Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    domain.primary.routes["POST /trusts/p/check"] = {"not": "the contract"}
    result = domain.run("trust", "check", "p")
    assert result.exit_code == 1
    assert "cli.defect" in result.stderr
    assert "Traceback" not in result.output
    monkeypatch.setenv("STRONGROOM_TRACEBACK", "1")
    assert isinstance(domain.run("trust", "check", "p").exception, KeyError)
