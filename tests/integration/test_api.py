"""The REST interface as it is met: over TLS, and between two domains (T2, T4, T5, U2)."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from strongroom.api.listener import people_server, people_tls
from strongroom.cli.api_client import ApiClient
from strongroom.cli.main import main
from strongroom.core.errors import AuthenticationError, NotFoundError
from strongroom.core.secret import Secret
from strongroom.database import open_engine
from strongroom.people.roles import UserRole
from strongroom.people.users import Grant
from strongroom.pki.ca import load_certificate
from strongroom.pki.fingerprint import fingerprint_of
from tests.support.api import PASSWORD, Stage
from tests.support.databases import copy_tables
from tests.support.trust import Listener


@contextmanager
def stage_in(folder: Path, name: str) -> Iterator[Stage]:
    folder.mkdir()
    copy_tables(folder / "catalog.db")
    engine = open_engine(f"sqlite:///{folder / 'catalog.db'}")
    try:
        yield Stage(engine, folder, name)
    finally:
        engine.dispose()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Stage]:
    with stage_in(tmp_path / "here", "here") as stage:
        yield stage


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Stage]:
    with stage_in(tmp_path / "there", "there") as stage:
        yield stage


@contextmanager
def serving(stage: Stage) -> Iterator[int]:
    """Run the real server in a thread; gives its port."""
    server = people_server(stage.app, "127.0.0.1", 0, people_tls(stage.primary.credential))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    pause = threading.Event()
    for _ in range(500):
        if server.started:
            break
        pause.wait(0.01)
    try:
        yield int(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(10)


def pem(stage: Stage) -> str:
    return ssl.DER_cert_to_PEM_cert(stage.primary.ours.roots[0])


def test_a_command_signs_in_and_works_over_tls(here: Stage, caplog: pytest.LogCaptureFixture) -> None:
    here.add_user("ada", frozenset({Grant(UserRole.ADMINISTRATOR)}), password=PASSWORD)
    with caplog.at_level(logging.DEBUG), serving(here) as port:
        url = f"https://127.0.0.1:{port}"
        with ApiClient(url, None, pem(here)) as stranger:
            with pytest.raises(AuthenticationError) as refused:
                stranger.get("/status")
            assert refused.value.code == "session.missing"
            session = stranger.post("/login", {"user": "ada", "password": PASSWORD})
        with ApiClient(url, Secret(session["token"].encode()), session["ca"]) as client:
            assert client.get("/status")["name"] == "here"
            for number in range(3):
                client.post("/kms/groups", {"name": f"g{number}"})
            assert [one["name"] for one in client.pages("/kms/groups", {"limit": 2})] == ["g0", "g1", "g2"]
            with pytest.raises(NotFoundError) as missing:
                client.get("/images/00000000-0000-4000-8000-000000000001")
            assert missing.value.code == "catalog.image-not-found"
            assert missing.value.hint
            entry = client.get("/audit", {"object": "key-group:g0"})["items"][-1]
            assert entry["actor"].endswith("@127.0.0.1")
            client.post("/logout")
            with pytest.raises(AuthenticationError):
                client.get("/whoami")
    assert PASSWORD not in caplog.text
    assert session["token"] not in caplog.text


def test_a_person_signs_in_from_elsewhere_by_the_roots_fingerprint_t2(
    here: Stage, there: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    here.add_user("ada", frozenset({Grant(UserRole.ADMINISTRATOR)}), password=PASSWORD)
    secret = tmp_path / "password"
    secret.touch(0o600)
    secret.write_text(PASSWORD)
    with serving(here) as port:
        server = ["--server", f"https://127.0.0.1:{port}"]

        def run(*words: str) -> Result:
            return CliRunner().invoke(main, [*words, *server])

        who = ["--user", "ada", "--password-file", str(secret), "--fingerprint"]
        other = run("login", *who, fingerprint_of(there.primary.root.certificate).hex)
        assert "cli.untrusted-server" in other.output
        assert run("whoami").exit_code == 5
        signed_in = run("login", *who, fingerprint_of(here.primary.root.certificate).hex)
        assert signed_in.exit_code == 0, signed_in.output
        assert "ada" in run("whoami").stdout
        assert run("logout").exit_code == 0
        assert run("whoami").exit_code == 5


def test_only_tls_1_3_is_spoken(here: Stage) -> None:
    old = ssl.create_default_context(cadata=pem(here))
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        serving(here) as port,
        pytest.raises(ssl.SSLError),
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        old.wrap_socket(plain, server_hostname="127.0.0.1"),
    ):
        pass


def test_trust_is_made_in_both_domains_over_rest(here: Stage, there: Stage) -> None:
    """T4, T5: errors are told apart, none leaves half a trust, storage waits for the trust to be active."""
    us, them = here.as_(), there.as_()
    with Listener(here.primary) as our_side, Listener(there.primary) as their_side:
        server = str(their_side.address)
        seen = us.get("/v1/ca", params={"server": server}).json()
        assert seen["verified"] is False
        fingerprint = them.get("/v1/ca").json()["fingerprint_sha256"]
        assert seen["fingerprint_sha256"] == fingerprint
        token = them.post("/v1/tokens", json={"name": "t", "reason": "r", "purpose": "trust"}).json()["token"]
        good = {"server": server, "fingerprint": fingerprint, "token": token}
        wrong = {
            "pki.wrong-fingerprint": {"fingerprint": "00" * 32},
            "token.unknown": {"token": "SRT-" + "-".join(["AAAAAAAA"] * 5)},
        }
        for code, change in wrong.items():
            refused = us.post("/v1/trusts", json=good | change)
            assert refused.json()["code"] == code, refused.text
            assert us.get("/v1/trusts").json()["items"] == []
        added = us.post("/v1/trusts", json=good)
        assert (added.status_code, added.json()["state"]) == (201, "waiting"), added.text
        target = {"name": "t", "peer": "there", "pool": "vault", "credential": "id.secret"}
        assert us.post("/v1/storage/targets", json=target).json()["code"] == "storage.trust-not-active"
        used = us.post("/v1/trusts", json=good)
        assert used.json()["code"] == "token.used-up", used.text

        ours = us.post("/v1/tokens", json={"name": "t", "reason": "r", "purpose": "trust"}).json()["token"]
        back = {
            "server": str(our_side.address),
            "fingerprint": us.get("/v1/ca").json()["fingerprint_sha256"],
            "token": ours,
        }
        assert them.post("/v1/trusts", json=back).json()["state"] == "active"
        checked = us.post("/v1/trusts/there/check").json()
        assert checked["ok"] is True, checked
        trust = us.get(f"/v1/trusts/{server}").json()
        assert (trust["state"], trust["health"], trust["name"]) == ("active", "good", "there")
        root = load_certificate(there.primary.ours.roots[0]).subject.rfc4514_string()
        assert trust["held_certificate"]["issuer"].partition("=")[0] == root.partition("=")[0]
        assert trust["issued_certificate"] is not None
        assert {one["owner"] for one in us.get("/v1/certificates").json()["items"]} == {"issued", "held"}
        assert us.post("/v1/storage/targets", json=target).status_code == 201
        assert us.delete("/v1/trusts/there").json()["removed"] is True
        assert us.get("/v1/trusts/there").json()["issued_certificate"] is None


def test_a_primary_that_is_not_there_may_be_tried_again(here: Stage) -> None:
    body = {"server": "127.0.0.1:1", "fingerprint": "00" * 32, "token": "t"}
    answer = here.as_().post("/v1/trusts", json=body)
    assert (answer.status_code, answer.json()["retry"]) == (503, "later")
