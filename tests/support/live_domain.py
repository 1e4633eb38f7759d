"""A whole domain on this host: a home made by ``init``, and its roles as processes, asked by the command line."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from strongroom.cli.demonstration.domains import free_ports
from strongroom.cli.main import main
from strongroom.services.stopping import READY
from strongroom.settings.home import Home

START_SECONDS = 60
_AT_WORK = frozenset({"backup", "restore", "mount"})
"""Commands that read and write files: with a mask, threads and memory of their own."""


class Role:
    """One role's process."""

    def __init__(self, name: str, home: Home) -> None:
        watched, self._held = os.pipe()
        told, tells = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"strongroom.services.{name}", str(home.path), str(watched), str(tells)],
            pass_fds=(watched, tells),
        )
        os.close(watched)
        os.close(tells)
        ready, _, _ = select.select([told], [], [], START_SECONDS)
        said = os.read(told, len(READY)) if ready else b""
        os.close(told)
        if said != READY:
            self.kill()
            raise AssertionError(f"'{name}' did not begin to serve")

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self._end()

    def stop(self) -> int:
        """End it as an administrator would."""
        self.process.send_signal(signal.SIGTERM)
        return self._end()

    def abandon(self) -> int:
        """Let go of the pipe, as when the process that started it is gone."""
        os.close(self._held)
        self._held = -1
        return self._end()

    def _end(self) -> int:
        code = self.process.wait(30)
        if self._held >= 0:
            os.close(self._held)
            self._held = -1
        return code


class LiveDomain:
    """A domain that runs.

    Args:
        path: an empty folder.
        name: of the domain.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.name = name
        self.home = Home(path / name)
        self.port = free_ports()
        self.made = self.cli(
            "init", str(self.home.path), "--domain", name, "--host", "localhost", "--listen", self.peer
        )
        self.roles: dict[str, Role] = {}

    @property
    def peer(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self, *names: str) -> None:
        for name in names or ("primary", "media"):
            self.roles[name] = Role(name, self.home)

    def stop(self, *names: str) -> None:
        for name in names or reversed(list(self.roles)):
            self.roles.pop(name).stop()

    def kill(self, name: str) -> None:
        self.roles.pop(name).kill()

    def cli(self, *words: str, codes: tuple[int, ...] = (0,)) -> Any:
        """Run a command; give what it printed, read as JSON.

        One that asks the primary runs in this process, because most of the time of a new one goes into its start.
        """
        given = {"STRONGROOM_HOME": str(self.home.path)}
        if words[0] in _AT_WORK or threading.current_thread() is not threading.main_thread():
            command = [str(Path(sys.executable).with_name("strongroom")), *words, "--json"]
            done = subprocess.run(command, capture_output=True, check=False, text=True, env=os.environ | given)
            exit_code, out, errors = done.returncode, done.stdout, done.stderr
        else:
            ended = CliRunner().invoke(main, [*words, "--json"], env=given)
            exit_code, out, errors = ended.exit_code, ended.stdout, ended.stderr
        if exit_code not in codes:
            raise AssertionError(f"{words}: exit {exit_code}: {errors[-2000:]}{self.tail()}")
        return json.loads(out) if out.strip() else {}

    def fingerprint(self) -> str:
        return str(self.made["fingerprint_sha256"])

    def log(self, role: str) -> list[dict[str, Any]]:
        path = self.home.logs / f"{role}.log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def tail(self) -> str:
        return "".join(f"\n{role}: {line}" for role in ("primary", "media") for line in self.log(role)[-5:])
