"""How-to pages are run as they are written: every command in them, in order, by a shell, in a domain that is served."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.cli.demonstration.domains import free_ports
from tests.docs.test_tutorials import script_of
from tests.support.live_domain import LiveDomain
from tests.support.seaweed import BUCKET, Seaweed

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"


@pytest.fixture
def domain(tmp_path: Path) -> Iterator[LiveDomain]:
    domain = LiveDomain(tmp_path, "north")
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
