"""How-to pages are run as they are written: every command in them, in order, by a shell, in a domain that is served."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.cli.demonstration.domains import free_ports
from strongroom.core.ids import to_text
from tests.docs.test_tutorials import BLOCK, script_of
from tests.support.live_domain import LiveDomain
from tests.support.remote_client import PASSWORD, USER, RemoteClient, add_user
from tests.support.seaweed import BUCKET, Seaweed
from tests.support.trusting import hurry, until

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"


@pytest.fixture
def domain(tmp_path: Path) -> Iterator[LiveDomain]:
    domain = LiveDomain(tmp_path, "north")
    hurry(domain)
    domain.start()
    yield domain
    domain.stop()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_page_on_object_storage_can_be_followed_as_written(
    domain: LiveDomain, seaweed: Seaweed, tmp_path: Path
) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "STRONGROOM_HOME": str(domain.home.path),
        "BUCKET": BUCKET,
        "ENDPOINT": f"http://127.0.0.1:{seaweed.port}",
        "ACCESS_KEY": seaweed.key.access_key,
        "SECRET_KEY": seaweed.key.secret.reveal().decode(),
        "SECOND_HOME": str(tmp_path / "second"),
        "SECOND": "127.0.0.2",
        "SECOND_PORT": str(free_ports()),
        "PRIMARY": f"localhost:{domain.port}",
        "FINGERPRINT": domain.fingerprint(),
    }
    script = script_of(HOW_TO / "pool-on-object-storage.md") + "\nkill %1; wait"
    done = subprocess.run(
        ["bash", "-x"], input=script, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-2_000:]
    shown = domain.cli("pool", "show", "cloud")
    assert shown["images"] == 1
    assert len(shown["media_hosts"]) == 2
    assert not (tmp_path / "bucket-key").exists()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_page_on_other_hosts_can_be_followed_as_written(domain: LiveDomain, tmp_path: Path) -> None:
    """Its commands are of two hosts: each block says of which."""
    domain.cli("pool", "create", "main")
    domain.cli("slp", "create", "daily", "--backup", "main", "--retention", "30d", "--unencrypted")
    add_user(domain, tmp_path)
    there = RemoteClient(domain, tmp_path / "there")
    (there.folder / "documents").mkdir()
    (there.folder / "documents" / "letter").write_text("Dear all")
    (there.folder / "password").write_text(PASSWORD)
    path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    words = {"HOST": "localhost", "FINGERPRINT": domain.fingerprint(), "OPERATOR": USER}
    here = {**os.environ, **path, "STRONGROOM_HOME": str(domain.home.path)}
    folder = {"at the domain": tmp_path, "on the host": there.folder}
    token = there.folder / "token"
    (tmp_path / "token").symlink_to(token)  # the administrator carries it
    for block in BLOCK.findall((HOW_TO / "back-up-another-host.md").read_text(encoding="utf-8")):
        where = block.split("\n")[0].removeprefix("# ")
        if "--again" in block or "reissue" in block:
            words["CLIENT"] = to_text(there.identity().host)
            words["DOMAIN"] = there.identity().domain.hex()
        environment = (here if where == "at the domain" else {**there.environment, **path}) | words
        ports = block.replace(":8710", f":{domain.port}").replace(":8711", f":{domain.port + 1}")
        done = subprocess.run(
            ["bash", "-ex"],
            input=ports,
            capture_output=True,
            text=True,
            cwd=folder[where],
            env=environment,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-2_000:]
    assert next((there.folder / "restored").rglob("letter")).read_text() == "Dear all"


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_pages_on_a_pool_can_be_followed_as_written(domain: LiveDomain, tmp_path: Path) -> None:
    """P2: scrub, repair, free room, lock; in the pages an image or a job is the newest one."""
    domain.cli("pool", "create", "main")
    domain.cli("kms", "group", "create", "homes")
    (tmp_path / "phrase").write_text(PASSWORD)
    source = ("--source", "passphrase", "--passphrase-file", str(tmp_path / "phrase"))
    domain.cli("kms", "key", "create", "one", "--group", "homes", *source, "--activate")
    domain.cli("slp", "create", "daily", "--backup", "main", "--retention", "30d", "--key-group", "homes")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "letter").write_text("Dear all")
    domain.cli("backup", str(folder), "--slp", "daily")
    path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "STRONGROOM_HOME": str(domain.home.path)}
    try:
        for page in ("scrub-a-pool", "damaged-pool", "free-room", "lock-a-pool"):
            blocks = BLOCK.findall((HOW_TO / f"{page}.md").read_text(encoding="utf-8"))
            assert blocks, page
            for block in blocks:
                images = sorted(domain.cli("image", "list"), key=lambda image: image["started"])
                job = max(domain.cli("job", "list"), key=lambda job: job["job"])
                newest = images[-1]["image"] if images else ""
                words = {"IMAGE": newest, "JOB": str(job["job"]), "FOLDER": str(folder)}
                done = subprocess.run(
                    ["bash", "-ex"],
                    input=block,
                    capture_output=True,
                    text=True,
                    cwd=tmp_path,
                    env=os.environ | path | words,
                    check=False,
                )
                assert done.returncode == 0, page + done.stdout[-2_000:] + done.stderr[-2_000:]
        until(lambda: domain.cli("pool", "show", "vault")["lock"]["mode"] == "governance", "it is not locked")
    finally:
        subprocess.run(["chattr", "-R", "-i", domain.home.pool("vault")], capture_output=True, check=False)
