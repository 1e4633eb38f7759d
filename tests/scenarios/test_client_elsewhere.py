"""T1, L5: a host that has nothing of the domain is enrolled, backs up, restores, and is shut out again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.pki.ca import load_certificate
from tests.support import trusting
from tests.support.live_domain import LiveDomain
from tests.support.remote_client import RemoteClient, add_user
from tests.support.trees import let_age, make_tree, rsync_differences
from tests.support.trusting import GROUP, Done, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def domain(tmp_path: Path) -> Iterator[LiveDomain]:
    made = LiveDomain(tmp_path, "alpha")
    trusting.hurry(made)
    made.start()
    made.cli("pool", "create", "main")
    made.cli("kms", "group", "create", GROUP)
    made.cli("kms", "key", "create", "one", "--group", GROUP, "--source", "random", "--activate")
    made.cli("slp", "create", "daily", "--backup", "main", "--retention", "30d", "--key-group", GROUP)
    add_user(made, tmp_path)
    yield made
    made.stop()


def test_a_host_is_enrolled_backs_up_restores_and_is_shut_out(domain: LiveDomain, tmp_path: Path) -> None:
    client = RemoteClient(domain, tmp_path / "db1")
    tree = client.folder / "documents"
    tree.mkdir()
    make_tree(tree)

    # Without a certificate there is no way to the media server, and no job is left.
    assert client.login().exit_code == 0
    not_yet = client.run("backup", str(tree), "--slp", "daily", "--client-home", str(client.state / "client"))
    assert (not_yet.exit_code, not_yet.code) == (3, "client.not-enrolled")
    assert domain.cli("job", "list") == []

    enrolled = client.enrol("db1.example")
    assert enrolled.exit_code == 0, enrolled
    let_age(tree)
    first = client.run("backup", str(tree), "--slp", "daily")
    assert first.value["acknowledged"] is True, first
    second = client.run("backup", str(tree), "--slp", "daily")
    assert second.value["read_bytes"] == 0, second
    shown = domain.cli("image", "show", second.value["image"])
    assert (shown["client"], shown["encrypted"]) == ("db1.example", True)
    assert domain.cli("image", "verify", second.value["image"], "--wait")["state"] == "done"

    restored = client.run("restore", second.value["image"], "--to", str(client.folder / "restored"))
    assert restored.exit_code == 0, restored
    assert rsync_differences(tree, client.folder / "restored" / str(tree).lstrip("/")) == ""
    tar = client.run("restore", first.value["image"], "--tar", str(client.folder / "all.tar"))
    assert tar.exit_code == 0, tar
    assert tar.value["tar_bytes"] == (client.folder / "all.tar").stat().st_size

    # The evidence tells for which host each was done.
    deeds = [one for one in domain.cli("audit", "list") if one["action"] in ("image.backup", "image.restore")]
    assert {one["facts"].get("host") for one in deeds if one["outcome"] == "done"} <= {enrolled.value["host"], None}
    assert enrolled.value["host"] in str(deeds)

    serial = f"{load_certificate(client.identity().credential.chain[0]).serial_number:x}"
    domain.cli("cert", "revoke", serial, "--reason", "cessationOfOperation")

    def refused() -> Done | None:
        done = client.run("backup", str(tree), "--slp", "daily")
        return done if done.exit_code else None

    done = until(refused, "a revoked client is still served", every=0.5)
    assert (done.exit_code, done.code) == (5, "pki.certificate-revoked"), done
    assert len(domain.cli("image", "list")) == 2
