"""R7, R10, R11, I1-I3: an image goes to another domain sealed, waits there for its key, and is restored with it.

What the two did is then searched for the secrets that they did it with.
"""

from __future__ import annotations

import base64
import json
import secrets
from pathlib import Path
from typing import Any

import pytest

from strongroom.cli.api_client import ApiClient, UnixConnection, local_session, read_json
from strongroom.core.ids import KeyTag
from strongroom.core.secret import Secret
from strongroom.formats.key_file import Purpose
from strongroom.formats.key_file import decode as read_key_file
from strongroom.services.primary import service_keys
from tests.support import trusting
from tests.support.hidden import Run
from tests.support.live_domain import LiveDomain
from tests.support.trees import make_tree
from tests.support.trusting import GROUP, LOCAL, Pair, opened, until

pytestmark = pytest.mark.slow


def image_at(domain: LiveDomain, image: str) -> dict[str, Any] | None:
    return next((row for row in domain.cli("image", "list") if row["image"] == image), None)


def test_an_image_arrives_sealed_and_only_what_is_new_crosses(pair: Pair, tmp_path: Path) -> None:
    source, target = pair.source, pair.target
    (tmp_path / "tree").mkdir()
    tree = make_tree(tmp_path / "tree")
    first = source.cli("backup", str(tree), "--slp", "gold")["image"]
    until(lambda: pair.confirmed(first), "no receipt")
    there = image_at(target, first)
    assert there is not None
    assert there["state"] == "waiting-for-key"
    source.kill("media")
    (tree / "plain").write_bytes(b"changed")
    source.start("media")
    second = source.cli("backup", str(tree), "--slp", "gold")["image"]
    until(lambda: pair.confirmed(second), "no receipt")
    sent = [line["bytes"] for line in source.log("media") if line["event"] == "sent"]
    assert sent[0] > 5 << 20
    assert sent[-1] < 1 << 20


def test_a_target_that_was_away_gets_its_image_later(pair: Pair, tmp_path: Path) -> None:
    source, target = pair.source, pair.target
    (tmp_path / "file").write_bytes(b"while the target was away")
    target.kill("media")
    image = source.cli("backup", str(tmp_path), "--slp", "gold")["image"]
    until(lambda: any(line["event"] == "not-sent" for line in source.log("media")), "nothing was tried")
    target.start("media")
    until(lambda: pair.confirmed(image), "no receipt")


def test_no_defect_shows_in_the_logs(pair: Pair) -> None:
    for domain in (pair.source, pair.target):
        events = {line["event"] for line in domain.log("media")}
        assert not {"request-failed", "asyncio"} & events


# ---------------------------------------------------------------- secrets


def people(pair: Pair, run: Run, folder: Path) -> None:
    """Make an account, sign in, and be refused with a wrong password."""
    source = pair.source
    password, wrong = secrets.token_urlsafe(18), secrets.token_urlsafe(18)
    run.keep("password", password)
    run.keep("wrong password", wrong)
    hear(run, source, "user", "create", "ada", "--role", "administrator", "--password-file", "-", secret=password)
    with local_session(source.home.session_socket) as api:
        url = api.url
    words = ("login", "--server", url, "--user", "ada", "--fingerprint", source.fingerprint(), "--password-file", "-")
    hear(run, source, *words, secret=wrong, codes=(5,))
    hear(run, source, *words, secret=password)
    login = json.loads((folder / "strongroom" / "logins.json").read_text())[url]["token"]
    run.keep("session of a login", login)
    hear(run, source, "whoami", "--server", url)


def keys_and_tokens(pair: Pair, run: Run) -> None:
    """Make a key whose pass phrase is drawn, and tokens; use wrong ones."""
    source, target = pair.source, pair.target
    made = source.cli("kms", "key", "create", "drawn", "--group", GROUP, "--source", "passphrase", "--generate")
    run.keep("drawn pass phrase", made["passphrase"])
    weak, wrong = "password1 password1", "kettle orchard bramble sextant walnut " + secrets.token_hex(6)
    words = ("--group", GROUP, "--source", "passphrase", "--passphrase-file", "-")
    run.keep("weak pass phrase", weak)
    hear(run, source, "kms", "key", "create", "weak", *words, secret=weak, codes=(2,))
    run.keep("wrong pass phrase", wrong)
    hear(run, source, "kms", "key", "check", made["tag"], "--passphrase-file", "-", secret=wrong, codes=(2,))
    hear(run, source, "kms", "key", "check", made["tag"], "--passphrase-file", "-", secret=made["passphrase"])
    unknown = secrets.token_urlsafe(24)
    run.keep("unknown token", unknown)
    words = ("cert", "issue", "--to", f"localhost:{target.port}", "--fingerprint", target.fingerprint())
    hear(run, source, *words, "--token-file", "-", secret=unknown, codes=(5,))
    given = target.cli("token", "create", "short", "--reason", "a test", "--purpose", "trust")["token"]
    run.keep("token for something else", given)
    hear(run, source, *words, "--token-file", "-", secret=given, codes=(5,))


def sessions_and_grants(pair: Pair, run: Run, tree: Path) -> None:
    """Do what a command does with its session and its grant, and what it may not do with them."""
    source = pair.source
    connection = UnixConnection(source.home.session_socket)
    connection.request("POST", "/session")
    given = read_json(connection.getresponse())
    connection.close()
    run.keep("session of the socket", given["token"])
    with ApiClient(given["url"], Secret(given["token"].encode()), given["ca"]) as api:
        paths = [base64.b64encode(bytes(tree)).decode()]
        begun = api.post("/backups", {"paths_b64": paths, "slp": LOCAL})
        run.keep("grant", begun["token"])
        for way in ("backup", "restore"):
            channel = UnixConnection(source.home.media_socket)
            headers = {"Authorization": f"Bearer {begun['token']}"}
            channel.request("POST", f"/v1/{way}/{begun['job']}/nonsense", b"no stream", headers)
            run.heard.append((f"answer to a wrong {way}", channel.getresponse().read().decode()))
            channel.close()
        api.post(f"/jobs/{begun['job']}/cancel")


def hear(run: Run, domain: LiveDomain, *words: str, secret: str | None = None, codes: tuple[int, ...] = (0,)) -> None:
    """Run a command that says no secret, and keep what it said."""
    done = trusting.run(domain, *words, secret=secret)
    assert done.exit_code in codes, done
    run.heard.append((" ".join(words[:3]), f"{json.dumps(done.value, ensure_ascii=False)}\n{done.errors}"))


def keep_what_was_made(pair: Pair, run: Run) -> frozenset[Path]:
    """Note the secrets of init, of the trust and of the keys; give the files that are there to hold some of them."""
    run.keep("pass phrase", trusting.PHRASE)
    for name in ("alpha-trust", "beta-trust", "beta-media", "credential"):
        run.keep(f"token {name}", (pair.folder / name).read_text())
    holders: set[Path] = set()
    for domain in (pair.source, pair.target):
        run.keep(f"root pass phrase of {domain.name}", domain.made["root_passphrase"])
        purposes: tuple[Purpose, ...] = ("hmk", "kpk", "service")
        for purpose in purposes:
            path = domain.home.keys / purpose
            run.keep(f"{purpose} of {domain.name}", read_key_file(path.read_bytes(), purpose).key.reveal())
            holders.add(path)
        with opened(domain) as primary:
            for name in (service_keys.ARCHIVE, service_keys.CATALOG, service_keys.CA_ROOT, service_keys.CA_HOSTS):
                run.keep(f"{name} of {domain.name}", primary.keys.get(name).reveal())
    with opened(pair.source) as primary:
        run.keep("KMS key", primary.kms.ring.decrypting_key(KeyTag(bytes.fromhex(pair.tag))).reveal())
    return frozenset(holders)


def test_no_secret_shows_anywhere(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in logs, job state, errors, words and environments of processes, databases, the audit, or any file."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    source, target = pair.source, pair.target
    run = Run((source, target))
    (tmp_path / "file").write_bytes(b"anything")
    with run.watching():
        image = pair.send(tmp_path / "file")
        people(pair, run, tmp_path)
        keys_and_tokens(pair, run)
        sessions_and_grants(pair, run, tmp_path)
        for domain in (source, target):
            for noun in ("job", "audit", "token", "user", "trust", "storage credential", "storage target", "cert"):
                hear(run, domain, *noun.split(), "list")
            hear(run, domain, "status")
            hear(run, domain, "kms", "key", "list")
    holders = keep_what_was_made(pair, run)
    found = {name: run.places(secret, but=holders) for name, secret in run.secrets.items()}
    assert {name: places for name, places in found.items() if places} == {}
    # what may be known shows in each of these places, so that the search above did look at them
    assert {"cmdline", "environ"} <= run.places(str(source.home.path).encode())
    assert {"kms key list", "table copy_tags of beta", "file beta/catalog.db-wal"} <= run.places(
        bytes.fromhex(pair.tag)
    )
    assert {"job list", "table jobs of alpha", "file alpha/logs/media.log"} <= run.places(image.encode())
    assert {"audit list", "table audit_log of alpha"} <= run.places(b"user:ada")
