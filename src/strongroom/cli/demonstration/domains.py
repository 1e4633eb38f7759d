"""A domain of the demonstration: a home, a ``strongroom serve`` beside us, and commands that speak to it."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from strongroom.core.errors import StrongroomError, from_document

START_SECONDS: Final = "60s"
_PORTS: Final = 3
_LOOK_SECONDS: Final = 0.5
"""Between two commands that look whether something is done: each keeps the machine busy for half as long."""
_LOWEST_PORT: Final = 20_000
_HIGHEST_PORT: Final = 32_000


class CommandFailedError(StrongroomError):
    """A command of the demonstration did not do what it should."""

    code = "demo.command-failed"
    default_hint = "run it again with --keep DIR, and look at the logs in DIR"


class DemoDomain:
    """One domain.

    Args:
        folder: where its home, key folder and files lie.
        name: of the domain.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.home = folder / name
        self.port = free_ports()
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def peer(self) -> str:
        """Where its primary listens to others."""
        return f"localhost:{self.port}"

    @property
    def server_pid(self) -> int:
        """Process of ``strongroom serve``.

        Raises:
            CommandFailedError: it does not run.
        """
        if self._server is None or self._server.poll() is not None:
            raise CommandFailedError(f"the domain '{self.name}' is not served")
        return self._server.pid

    def init(self) -> dict[str, Any]:
        """Make the domain."""
        made: dict[str, Any] = self.command(
            "init", str(self.home), "--domain", self.name, "--host", "localhost", "--listen", f"127.0.0.1:{self.port}"
        )
        return made

    def start(self) -> None:
        """Serve it, and wait until it answers."""
        with (self.home.with_name(self.home.name + ".log")).open("ab") as log:
            self._server = subprocess.Popen(  # noqa: S603 - this program itself
                [sys.executable, "-m", "strongroom", "serve", str(self.home)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.command("status", "--wait", START_SECONDS)

    def stop(self) -> None:
        """End it in order, or by force when it does not end."""
        if self._server is not None:
            self._server.send_signal(signal.SIGTERM)
            try:
                self._server.wait(60)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
            self._server = None

    def destroy(self, to: Path) -> None:
        """Kill it for good, as a fire would: its processes at once, and its folders out of reach."""
        if self._server is not None:
            self._server.kill()
            self._server.wait(60)
            self._server = None
        # The roles end when the supervisor is gone; nothing of them may write into the folder while it moves.
        self._wait_for_silence()
        to.mkdir(parents=True)
        for path in (self.home, self.home.with_name(self.home.name + ".keys")):
            shutil.move(path, to / path.name)

    def command(self, *words: str, secret: str | None = None, codes: tuple[int, ...] = (0,)) -> Any:
        """Run a command with ``--json``; give what it printed.

        Args:
            words: without ``strongroom``.
            secret: given on standard input.
            codes: exit codes that are right.

        Raises:
            CommandFailedError: another exit code.
            StrongroomError: the error that the command told.
        """
        environment = {**os.environ, "STRONGROOM_HOME": str(self.home)}
        done = subprocess.run(  # noqa: S603 - this program itself
            [sys.executable, "-m", "strongroom", *words, "--json"],
            input=None if secret is None else secret.encode(),
            stdin=subprocess.DEVNULL if secret is None else None,
            capture_output=True,
            env=environment,
            check=False,
        )
        value = json.loads(done.stdout) if done.stdout.strip() else None
        if done.returncode in codes:
            return value
        if isinstance(value, dict) and value.get("message_type") == "error":
            raise from_document(value)
        raise CommandFailedError(
            f"'strongroom {' '.join(words[:3])}' ended with exit code {done.returncode}:"
            f" {done.stderr.decode(errors='replace')[-500:].strip()}"
        )

    def refusal(self, *words: str, secret: str | None = None) -> StrongroomError:
        """Run a command that must be refused; give why."""
        try:
            self.command(*words, secret=secret)
        except CommandFailedError:
            raise
        except StrongroomError as error:
            return error
        raise CommandFailedError(f"'strongroom {' '.join(words[:3])}' was done, and should have been refused")

    def wait_for(self, what: str, *words: str, until: Any, seconds: float = 90.0) -> Any:
        """Repeat a command until its answer is as it must become.

        Raises:
            CommandFailedError: it did not in time.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            value = self.command(*words)
            if until(value):
                return value
            time.sleep(_LOOK_SECONDS)
        raise CommandFailedError(f"waited {seconds:.0f} seconds for: {what}")

    def _wait_for_silence(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if all(_is_free(port) for port in range(self.port, self.port + _PORTS)):
                return
            time.sleep(0.1)
        raise CommandFailedError(f"'{self.name}' still listens 30 seconds after its end")


def free_ports() -> int:
    """Find three free ports in a row.

    They lie below those that the system gives to outgoing connections: a service that is started again must find its
    ports as it left them.
    """
    while True:
        port = _LOWEST_PORT + secrets.randbelow(_HIGHEST_PORT - _LOWEST_PORT)
        if all(_is_free(one) for one in range(port, port + _PORTS)):
            return port


def _is_free(port: int) -> bool:
    try:
        with socket.create_server(("127.0.0.1", port)):
            return True
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return False
