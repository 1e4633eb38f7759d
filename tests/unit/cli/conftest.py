from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from starlette.routing import Match

from strongroom.api.routes import ALL
from strongroom.cli.main import main
from tests.support.contract_server import Authority, Contract, serve_tls, serve_unix


def in_api(method: str, path: str) -> bool:
    """Whether the primary's API has such a call."""
    scope = {"type": "http", "method": method, "path": path}
    return any(route.matches(scope)[0] is Match.FULL for routes in ALL for route in routes.router.routes)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


@dataclass
class Domain:
    """A domain on this host, as a command sees it."""

    home: Path
    url: str
    root_pem: str
    fingerprint: str
    primary: Contract
    media: Contract
    media_socket: Path

    def run(self, *words: str, text: str | bytes | None = None) -> Result:
        """Run a command with this home."""
        return CliRunner().invoke(main, [*words, "--home", str(self.home)], input=text)

    def json(self, *words: str, text: str | None = None, exit_code: int = 0) -> Any:
        """Run a command with --json: stdout holds one value and nothing else."""
        result = self.run(*words, "--json", text=text)
        assert result.exit_code == exit_code, result.output
        return json.loads(result.stdout)


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the logins and the environment of who runs the tests out."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in [name for name in os.environ if name.startswith("STRONGROOM_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def domain(authority: Authority) -> Iterator[Domain]:
    # A path of a Unix socket has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="sr-"))
    primary, media = Contract(), Contract()
    try:
        with (
            serve_tls(primary, authority) as url,
            serve_unix(primary, folder / "run" / "session.sock"),
            serve_unix(media, folder / "run" / "media.sock") as media_socket,
        ):
            primary.routes["POST /session"] = {"url": url, "token": "session-token", "ca": authority.root_pem}
            yield Domain(folder, url, authority.root_pem, authority.fingerprint, primary, media, media_socket)
        # The answers are a test's own; that there is somebody to give them is not.
        asked = {(one.method, one.path) for one in primary.asked} - {("POST", "/session")}
        assert [call for call in sorted(asked) if not in_api(*call)] == []
    finally:
        shutil.rmtree(folder)
