"""A client of a domain that has nothing of it: its own folder and environment, and no way into the domain's home."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from sqlalchemy import Connection

from strongroom.cli.client_host import FOLDER
from strongroom.core.ids import DomainId
from strongroom.core.secret import Secret
from strongroom.database import transact
from strongroom.pki import registry
from strongroom.pki.ca import IssuerKind, Subject, issue, to_der
from strongroom.pki.channel import Address
from strongroom.pki.keys import load_key, make_host_key
from strongroom.pki.names import HostNames
from strongroom.pki.tls import Credential
from strongroom.services.client.identity import ClientFolder, ClientIdentity
from strongroom.services.primary.opening import Primary
from tests.support.live_domain import LiveDomain
from tests.support.trusting import WAIT_SECONDS, Done, command, finished

USER = "backupper"
PASSWORD = "kettle orchard bramble sextant walnut ferry"


def add_user(domain: LiveDomain, folder: Path) -> None:
    """Let the domain have an account that may back up and restore, and make tokens."""
    (folder / "password").write_text(PASSWORD)
    domain.cli("user", "create", USER, "--role", "administrator", "--password-file", str(folder / "password"))


class RemoteClient:
    """One client.

    Args:
        domain: whose; only its addresses and what an administrator would tell are taken.
        folder: its own; everything that it has lies there.
    """

    def __init__(self, domain: LiveDomain, folder: Path) -> None:
        self.domain = domain
        self.folder = folder
        folder.mkdir()
        self.state = folder / ".local" / "state" / "strongroom"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("STRONGROOM", "XDG"))}
        self.environment = kept | {"HOME": str(folder)}

    @property
    def url(self) -> str:
        return f"https://localhost:{self.domain.port + 1}"

    @property
    def client_folder(self) -> ClientFolder:
        return ClientFolder(self.state / FOLDER)

    def identity(self) -> ClientIdentity:
        """Give what it keeps."""
        (file,) = self.client_folder.path.glob("*.client")
        return self.client_folder.get(DomainId(bytes.fromhex(file.stem)))

    def enrol(self, name: str) -> Done:
        """Have a token made for it, and enrol."""
        made = self.domain.cli("token", "create", f"for-{name}", "--purpose", "enrol-host", "--role", "client")
        return self.run("host", "enrol", *self._meeting(), "--name", name, "--token-file", "-", secret=made["token"])

    def come_back(self, host: str) -> Done:
        """Have a token made to reissue, and use it."""
        domain = self.domain.cli("status")["domain"]
        bound = ("--for-domain", domain, "--for-host", host)
        made = self.domain.cli("token", "create", f"again-{host}", "--purpose", "reissue", *bound)
        again = ("--again", host, "--token-file", "-")
        return self.run("host", "enrol", *self._meeting(), *again, secret=made["token"])

    def login(self) -> Done:
        pin = ("--fingerprint", self.domain.fingerprint())
        return self.run("login", "--server", self.url, *pin, "--user", USER, "--password-file", "-", secret=PASSWORD)

    def run(self, *words: str, secret: str | None = None) -> Done:
        """Run a command, whatever it ends with."""
        done = subprocess.run(
            command(*words, "--json"),
            input=None if secret is None else secret.encode(),
            stdin=subprocess.DEVNULL if secret is None else None,
            capture_output=True,
            check=False,
            env=self.environment,
            timeout=WAIT_SECONDS,
        )
        return finished(done.returncode, done.stdout, done.stderr)

    def begin(self, *words: str) -> subprocess.Popen[bytes]:
        """Begin a command that is looked at while it runs."""
        return subprocess.Popen(
            command(*words, "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment
        )

    def _meeting(self) -> tuple[str, ...]:
        return ("--to", self.domain.peer, "--fingerprint", self.domain.fingerprint())


def aged(primary: Primary, held: ClientIdentity, age: timedelta) -> ClientIdentity:
    """Have the domain issue what it would have issued to a client some time ago."""
    issuer, now = primary.authorities[IssuerKind.HOSTS], primary.clock.now()
    key = make_host_key()
    subject = Subject(
        home=held.domain, host=held.host, names=HostNames.read([held.name]), listens=False, primary_of=None
    )
    made = issue(issuer, subject, load_key(key).public_key(), now=now - age, entropy=primary.entropy)

    def keep_record(connection: Connection) -> None:
        host = registry.get_host(connection, held.domain, held.host)
        registry.record_certificate(connection, made, issuer, host, now=now)

    transact(primary.engine, keep_record)
    chain = (to_der(made), *(to_der(link) for link in issuer.chain))
    return replace(held, credential=Credential(chain, Secret(key.reveal())))


class Wire:
    """A line to the media server that can be cut."""

    def __init__(self, to: Address) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self._to = to
        self.address = Address("localhost", self._listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        near, _ = self._listener.accept()
        far = socket.create_connection((self._to.host, self._to.port))
        self._ends += [near, far]
        for one, another in ((near, far), (far, near)):
            threading.Thread(target=_carry, args=(one, another), daemon=True).start()

    def cut(self) -> None:
        self._listener.close()
        for end_ in self._ends:
            end_.shutdown(socket.SHUT_RDWR)
            end_.close()


def _carry(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(1 << 20):
            target.sendall(data)
    except OSError:
        return  # it was cut
