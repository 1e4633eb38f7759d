"""Two domains that trust each other, on this host: one backs up and sends, the other receives."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from strongroom.services.primary.opening import Primary, open_primary
from strongroom.settings.domain import DomainSettings
from strongroom.settings.system import SystemClock, SystemEntropy
from tests.support.live_domain import LiveDomain

WAIT_SECONDS = 60.0
SLP = "gold"
CLEAR = "clear"
LOCAL = "local"
GROUP = "homes"
PHRASE = "kettle orchard bramble sextant walnut ferry"


SELDOM = 0.5
"""Between two looks that are commands: each is a process, and takes a fifth of a second of the machine."""


def until(found: Callable[[], Any], what: str, seconds: float = WAIT_SECONDS, every: float = 0.1) -> Any:
    """Wait until something is found."""
    deadline = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < deadline, what
        time.sleep(every)
    return result


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    exit_code: int
    value: Any
    errors: str

    @property
    def code(self) -> str:
        """Code of the error that it told; empty when there is none."""
        return str(self.value.get("code", "")) if isinstance(self.value, dict) else ""


def environment(domain: LiveDomain) -> dict[str, str]:
    return {**os.environ, "STRONGROOM_HOME": str(domain.home.path)}


def command(*words: str) -> list[str]:
    return [str(Path(sys.executable).with_name("strongroom")), *words]


def run(domain: LiveDomain, *words: str, secret: str | None = None) -> Done:
    """Run a command of a domain, whatever it ends with."""
    done = subprocess.run(
        command(*words, "--json"),
        input=None if secret is None else secret.encode(),
        stdin=subprocess.DEVNULL if secret is None else None,
        capture_output=True,
        check=False,
        env=environment(domain),
        timeout=WAIT_SECONDS,
    )
    return finished(done.returncode, done.stdout, done.stderr)


def finished(exit_code: int, output: bytes, errors: bytes) -> Done:
    text = errors.decode(errors="replace")
    assert "Traceback" not in text, text
    assert b"Traceback" not in output, output
    return Done(exit_code, json.loads(output) if output.strip() else None, text)


def refusal(domain: LiveDomain, *words: str, secret: str | None = None) -> Done:
    """Run a command that must be refused in words that help."""
    done = run(domain, *words, secret=secret)
    assert done.exit_code not in (0, 1), (words, done)
    assert isinstance(done.value, dict), done
    assert done.value["message_type"] == "error", done
    assert done.value["detail"], done
    assert done.value["hint"], done
    assert done.value["retry"] in ("never", "later"), done
    return done


def begin(domain: LiveDomain, *words: str) -> subprocess.Popen[bytes]:
    """Begin a command that is looked at while it runs."""
    return subprocess.Popen(
        command(*words, "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(domain)
    )


def end(process: subprocess.Popen[bytes]) -> Done:
    output, errors = process.communicate(timeout=WAIT_SECONDS)
    return finished(process.returncode, output, errors)


def token(domain: LiveDomain, folder: Path, name: str, *words: str) -> Path:
    """Have a token made, and keep it in a file."""
    made = domain.cli("token", "create", name, "--reason", "a test", *words)
    path = folder / f"{domain.name}-{name}"
    path.write_text(made["token"])
    return path


def hurry(domain: LiveDomain) -> None:
    """Let a domain look more often, so that tests need not wait; nothing else changes.

    Not more often than that: an exchange is a TLS handshake at both ends, which two idle domains would do all the time.
    What has to be told at once, such as a receipt, is told at once whatever the interval.
    """
    with domain.home.settings_file.open("a") as file:
        file.write("\n[times]\nexchange_seconds = 5.0\nbeat_seconds = 2.0\nretry_seconds = 0.5\n")


def is_trusting(domain: LiveDomain) -> bool:
    return bool(domain.cli("trust", "list")[0]["state"] == "active")


class Pair:
    """A source and a target that trust each other; the source may write into the target's pool.

    Args:
        folder: where their homes lie.
        pool: words for ``pool create main`` of a domain, where the pool is not to be a folder in its home.
    """

    def __init__(self, folder: Path, pool: Callable[[str], Sequence[str]] = lambda _: ()) -> None:
        self.folder = folder
        self.source, self.target = LiveDomain(folder, "alpha"), LiveDomain(folder, "beta")
        source, target = self.source, self.target
        folder.chmod(0o700)
        for domain in (source, target):
            hurry(domain)
            domain.start()
            domain.cli("pool", "create", "main", *pool(domain.name))
        source.cli("kms", "group", "create", GROUP)
        self.phrase = folder / "phrase"
        self.phrase.write_text(PHRASE)
        words = ("--source", "passphrase", "--passphrase-file", str(self.phrase))
        self.tag = str(source.cli("kms", "key", "create", "one", "--group", GROUP, *words, "--activate")["tag"])
        for one, other in ((source, target), (target, source)):
            given = token(other, folder, "trust", "--purpose", "trust")
            words = ("--fingerprint", other.fingerprint(), "--token-file", str(given))
            one.cli("trust", "add", f"localhost:{other.port}", *words)
        for domain in (source, target):  # the second one's word reaches the first with an exchange
            until(partial(is_trusting, domain), "no trust", every=SELDOM)
        given = token(target, folder, "media", "--purpose", "enrol-foreign-media", "--for-domain", self.id_of(source))
        words = ("--fingerprint", target.fingerprint(), "--token-file", str(given))
        source.cli("cert", "issue", "--to", f"localhost:{target.port}", *words)
        credential = target.cli("storage", "credential", "create", "for-alpha", "--pool", "main", "--sender", "alpha")
        (folder / "credential").write_text(credential["secret"])
        where = ("--peer", "beta", "--pool", "main", "--token-file", str(folder / "credential"))
        source.cli("storage", "target", "add", "beta-main", *where)
        target.cli("slp", "create", "from-alpha", "--import", "main", "--retention", "target")
        encrypted = ("--key-group", GROUP)
        for name, how in (
            (SLP, (*encrypted, "--replicate-to", "beta:from-alpha")),
            (CLEAR, ("--unencrypted", "--replicate-to", "beta:from-alpha")),
            (LOCAL, encrypted),
        ):
            source.cli("slp", "create", name, "--backup", "main", "--retention", "30d", *how)

    def stop(self) -> None:
        """End both."""
        for domain in (self.source, self.target):
            domain.stop()

    @staticmethod
    def id_of(domain: LiveDomain) -> str:
        """Give a domain's id."""
        return str(domain.made["domain"])

    def confirmed(self, image: str) -> bool:
        """Tell whether the source has the target's receipt."""
        return bool(
            rows(
                self.source,
                "SELECT 1 FROM replications WHERE image = ? AND state = 'confirmed'",
                bytes.fromhex(image.replace("-", "")),
            )
        )

    def send(self, tree: Path, slp: str = SLP) -> str:
        """Back a tree up, and wait for the target's receipt; give the image."""
        image = str(self.source.cli("backup", str(tree), "--slp", slp)["image"])
        until(lambda: self.confirmed(image), "no receipt")
        return image


def rows(domain: LiveDomain, query: str, *values: object) -> list[tuple[Any, ...]]:
    """Ask a domain's catalog beside its primary, which need not run."""
    connection = sqlite3.connect(domain.home.catalog, timeout=20)
    try:
        return connection.execute(query, values).fetchall()
    finally:
        connection.close()


@contextmanager
def changing(domain: LiveDomain) -> Iterator[sqlite3.Connection]:
    """Change a catalog whose primary does not run."""
    connection = sqlite3.connect(domain.home.catalog, isolation_level=None, timeout=20)
    connection.execute("PRAGMA foreign_keys=ON")
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def opened(domain: LiveDomain) -> Iterator[Primary]:
    """A primary's own code beside its process."""
    primary = open_primary(domain.home, DomainSettings.load(domain.home), SystemClock(), SystemEntropy())
    yield primary
    primary.engine.dispose()


def files_of(domain: LiveDomain) -> Iterator[tuple[Path, bytes]]:
    """Everything of a domain on this host: home and key folder, databases with their logs, pools, logs."""
    for top in (domain.home.path, domain.home.keys):
        for path in sorted(top.rglob("*")):
            if path.is_file() and not path.is_symlink():
                yield path, path.read_bytes()


def key_of(image: str) -> bytes:
    """Give an image's id as the catalog has it."""
    return bytes.fromhex(image.replace("-", ""))


def wait_until_listed(domain: LiveDomain, image: str) -> None:
    """Wait until the job has ended that lists an image's files: while it reads the image, nobody expires it."""
    query = "SELECT 1 FROM jobs WHERE kind = 'list-files' AND subject = ? AND state = 'done'"
    until(lambda: rows(domain, query, image), f"the files of '{image}' are not listed")


def containers(domain: LiveDomain) -> dict[str, int]:
    """Give the sealed containers in a domain's pool, with their i-node."""
    found = (domain.home.pool("main") / "containers").glob("*/*")
    return {path.name: path.stat().st_ino for path in found}


def incoming(domain: LiveDomain) -> list[Path]:
    """Give what is being written in a domain's pool."""
    return list((domain.home.pool("main") / "incoming").iterdir())


def is_writing(domain: LiveDomain, more_than: int = 1 << 20) -> bool:
    """Tell whether one file of an unfinished session has so many bytes already."""
    try:
        return any(path.stat().st_size > more_than for path in incoming(domain))
    except FileNotFoundError:  # what a session left is removed meanwhile
        return False


def write_random(path: Path, seed: int, size: int) -> Path:
    """Write a file that does not compress."""
    rng = random.Random(seed)  # noqa: S311 - contents of test files
    with path.open("wb") as file:
        for start in range(0, size, 1 << 20):
            file.write(rng.randbytes(min(1 << 20, size - start)))
    return path
