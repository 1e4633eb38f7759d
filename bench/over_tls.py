"""strongroom from another host: the same domain and command line, over TLS, into a pool of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

from bench import measure
from bench.measure import Cost
from strongroom.cli.demonstration.domains import DemoDomain

OVER_TLS = "strongroom (TLS)"
_POOL = "far"


class StrongroomOverTLS:
    """A client that is enrolled in a running domain, and has nothing else of it.

    Args:
        domain: which runs, and has the key group ``data``.
        folder: the client's own.
        log: what the measured commands print.
    """

    name = OVER_TLS

    def __init__(self, domain: DemoDomain, folder: Path, log: Path) -> None:
        folder.mkdir()
        self._domain = domain
        self._folder = folder
        self._log = log
        # An empty home is none: nothing but the client folder and the login may lead to the domain.
        self._environment = {"STRONGROOM_HOME": "", "XDG_STATE_HOME": str(folder / "state")}
        domain.command("pool", "create", _POOL)
        policy = ("--backup", _POOL, "--retention", "30d", "--key-group", "data")
        domain.command("slp", "create", _POOL, *policy)
        pin = ("--fingerprint", domain.command("ca", "show")["fingerprint_sha256"])
        words = ("--purpose", "enrol-host", "--role", "client", "--reason", "measurement")
        token = domain.command("token", "create", _POOL, *words)["token"]
        self._set_up(
            "host", "enrol", "--to", domain.peer, *pin, "--name", "far.example", "--token-file", "-", secret=token
        )
        password = secrets.token_hex(24)
        account = ("measurement", "--role", "administrator", "--password-file", "-")
        domain.command("user", "create", *account, secret=password)
        people = f"https://localhost:{domain.port + 1}"
        who = ("--user", "measurement", "--password-file", "-")
        self._set_up("login", "--server", people, *pin, *who, secret=password)

    def backup(self, corpus: Path) -> Cost:
        return self._measured("backup", str(corpus), "--slp", _POOL)

    def restore(self, target: Path) -> Cost:
        images = self._domain.command("image", "list", "--client", "far.example")
        last = max(images, key=lambda image: image["started"])
        return self._measured("restore", str(last["image"]), "--to", str(target))

    def stored_bytes(self) -> int:
        return measure.stored_bytes(self._domain.home / "pools" / _POOL, leave_out=("index",))

    def end(self) -> None:
        shutil.rmtree(self._folder)

    def _measured(self, *words: str) -> Cost:
        command = [sys.executable, "-m", "strongroom", *words]
        servers = [self._domain.server_pid]
        return measure.run(command, environment=self._environment, servers=servers, log=self._log)

    def _set_up(self, *words: str, secret: str) -> None:
        with self._log.open("ab") as out:
            subprocess.run(
                [sys.executable, "-m", "strongroom", *words],
                input=secret.encode(),
                stdout=out,
                stderr=out,
                env=os.environ | self._environment,
                check=True,
            )
