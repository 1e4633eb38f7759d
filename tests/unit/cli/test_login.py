"""Signing in to a primary elsewhere: what is believed, what is sent, what is kept."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from strongroom.cli import logins
from strongroom.cli.main import main
from strongroom.core.secret import Secret
from tests.support.contract_server import DOMAIN, Authority, Contract, serve_tls
from tests.unit.cli.conftest import Domain

ME = {"user": "root", "roles": ["administrator"], "permissions": ["*"], "expires": "2026-01-02T00:00:00Z"}


def test_a_home_and_a_server_are_not_both_asked(domain: Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    logins.remember(domain.url, Secret(b"kept"), domain.root_pem, "eva")
    domain.primary.routes["GET /whoami"] = ME
    assert domain.json("whoami", "--server", domain.url, exit_code=2)["code"] == "core.bad-input"
    monkeypatch.setenv("STRONGROOM_HOME", str(domain.home))
    assert CliRunner().invoke(main, ["whoami", "--server", domain.url]).exit_code == 0
    assert domain.primary.asked[-1].token == "kept"


@pytest.mark.parametrize("kept", ["[", "[]", '{"https://a:1": {"token": "t"}}', '{"https://a:1": null}'])
def test_damaged_logins_are_told_and_cured(kept: str) -> None:
    logins._file().parent.mkdir(parents=True)
    logins._file().write_text(kept)
    result = CliRunner().invoke(main, ["whoami"])
    assert result.exit_code == 2
    assert "log in again" in result.stderr


def test_logins_are_stable_before_they_take_the_place_of_the_former_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    monkeypatch.setattr("os.fsync", lambda handle: lengths.append(os.fstat(handle).st_size))
    logins.remember("https://a:1", Secret(b"kept"), "root", "eva")
    assert lengths == [logins._file().stat().st_size]


def test_login_sends_the_password_only_after_the_pin_and_keeps_the_session(domain: Domain) -> None:
    domain.primary.routes["GET /ca/roots"] = {"roots": [domain.root_pem]}
    domain.primary.routes["POST /login"] = {
        "token": "kept-token",
        "user": "eva",
        "expires": "2026-01-02T00:00:00Z",
        "ca": domain.root_pem,
    }
    domain.primary.routes["GET /whoami"] = ME
    words = ["login", "--server", domain.url, "--user", "eva", "--fingerprint", domain.fingerprint]
    result = CliRunner().invoke(main, [*words, "--password-file", "-"], input="open sesame\n")
    assert result.exit_code == 0, result.output
    assert domain.primary.body("POST /login") == {"user": "eva", "password": "open sesame"}
    assert CliRunner().invoke(main, ["whoami"]).exit_code == 0
    assert domain.primary.asked[-1].token == "kept-token"
    kept = logins._file()
    assert kept.stat().st_mode & 0o777 == 0o600


def test_login_with_a_wrong_pin_sends_nothing(domain: Domain) -> None:
    domain.primary.routes["GET /ca/roots"] = {"roots": [domain.root_pem]}
    words = ["login", "--server", domain.url, "--user", "eva", "--fingerprint", "00" * 32, "--password-file", "-"]
    result = CliRunner().invoke(main, words, input="open sesame")
    assert result.exit_code == 8
    assert "cli.untrusted-server" in result.stderr
    assert domain.primary.paths() == ["GET /ca/roots"]


def test_login_sends_nothing_to_another_host_of_the_pinned_domain(domain: Domain, tmp_path: Path) -> None:
    host = Authority.make(tmp_path, "host", leaf=f"strongroom:host:{DOMAIN}:01234567-89ab-cdef-0123-456789abcdef")
    contract = Contract(routes={"GET /ca/roots": {"roots": [host.root_pem]}})
    with serve_tls(contract, host) as url:
        words = ["login", "--server", url, "--user", "eva", "--fingerprint", host.fingerprint, "--password-file", "-"]
        result = CliRunner().invoke(main, words, input="open sesame\n")
    assert result.exit_code == 8
    assert "not the primary of its domain" in result.stderr
    assert contract.paths() == ["GET /ca/roots"]


def test_login_refuses_a_server_that_does_not_come_from_the_pinned_root(domain: Domain, tmp_path: Path) -> None:
    other = Authority.make(tmp_path, "other")
    # It shows the right root, and has a certificate of another.
    domain.primary.routes["GET /ca/roots"] = {"roots": [other.root_pem]}
    words = ["login", "--server", domain.url, "--user", "eva", "--fingerprint", other.fingerprint]
    result = CliRunner().invoke(main, [*words, "--password-file", "-"], input="open sesame")
    assert result.exit_code == 8
    assert "cli.untrusted-server" in result.stderr
    assert "POST /login" not in domain.primary.paths()


@pytest.mark.parametrize("common_name", ["evil", "evil!", "evil!!"])
def test_login_trusts_no_root_that_hides_behind_the_pinned_one(
    domain: Domain, tmp_path: Path, common_name: str
) -> None:
    """Whoever sits in between can show the real root, and its own behind it in the same text."""
    real = Authority.make(tmp_path, common_name)
    bundle = real.root_pem + domain.root_pem
    domain.primary.routes["GET /ca/roots"] = {"roots": [bundle]}
    domain.primary.routes["POST /login"] = {"token": "t", "user": "eva", "expires": "soon"}
    (tmp_path / "bundle.pem").write_text(bundle)
    words = ["login", "--server", domain.url, "--user", "eva", "--password-file", "-", "--fingerprint"]
    for more in ([], ["--ca", str(tmp_path / "bundle.pem")]):
        result = CliRunner().invoke(main, [*words, real.fingerprint, *more], input="open sesame")
        assert result.exit_code in (2, 8), result.output
    assert "POST /login" not in domain.primary.paths()


def test_login_with_the_root_from_a_file(domain: Domain, tmp_path: Path) -> None:
    (tmp_path / "root.pem").write_text(domain.root_pem)
    domain.primary.routes["POST /login"] = {"token": "t", "user": "eva", "expires": "soon", "ca": domain.root_pem}
    words = ["login", "--server", domain.url, "--user", "eva", "--ca", str(tmp_path / "root.pem"), "--json"]
    result = CliRunner().invoke(main, [*words, "--password-file", "-"], input="open sesame")
    assert json.loads(result.stdout) == {"server": domain.url, "user": "eva", "expires": "soon"}
    assert domain.primary.paths() == ["POST /login"]


def test_login_without_any_root_is_refused_before_a_connection(domain: Domain) -> None:
    result = CliRunner().invoke(main, ["login", "--server", domain.url, "--user", "eva", "--password-file", "-"])
    assert result.exit_code == 5
    assert domain.primary.asked == []


def test_logout_forgets_also_when_the_server_does_not_know_the_session(domain: Domain) -> None:
    logins.remember(domain.url, Secret(b"old"), domain.root_pem, "eva")
    result = CliRunner().invoke(main, ["logout"])
    assert result.exit_code == 3  # this server has no such route: not a reason to forget
    domain.primary.routes["POST /logout"] = {}
    assert CliRunner().invoke(main, ["logout"]).exit_code == 0
    assert CliRunner().invoke(main, ["whoami"]).exit_code == 5
