"""How each program does each work. All write to a folder of the same file system, with encryption and zstd 3 on."""

from __future__ import annotations

import secrets
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bench import measure
from bench.measure import Cost
from bench.peers import Peers
from strongroom.cli.demonstration.domains import DemoDomain

Environment = dict[str, str]


class Program(Protocol):
    """One program with one store, from its first backup of a corpus on."""

    name: str

    def backup(self, corpus: Path) -> Cost:
        """Back a corpus up once more."""

    def restore(self, target: Path) -> Cost:
        """Restore the last backup whole, to a folder that is not there."""

    def stored_bytes(self) -> int:
        """Tell the length of what was stored."""

    def end(self) -> None:
        """Stop what runs, and remove what was stored."""


class Checking(Program, Protocol):
    """One that can check what it stored."""

    def verify(self) -> Cost:
        """Check every stored byte."""


class Copying(Program, Protocol):
    """One that can bring what it stored to a second store."""

    def copy(self, corpus: Path) -> Cost:
        """Copy everything, to a store that has nothing yet."""


@dataclass
class Restic:
    """restic, with a local repository."""

    name = "restic"

    folder: Path
    peers: Peers
    log: Path
    _environment: Environment = field(default_factory=dict)

    def __post_init__(self) -> None:
        password = secrets.token_hex(16)
        self._environment = {
            "RESTIC_PASSWORD": password,
            "RESTIC_FROM_PASSWORD": password,
            "RESTIC_CACHE_DIR": str(self.folder / "cache"),
        }
        self._restic("init")

    def backup(self, corpus: Path) -> Cost:
        return self._restic("backup", "--quiet", str(corpus))

    def restore(self, target: Path) -> Cost:
        return self._restic("restore", "--quiet", "latest", "--target", str(target))

    def verify(self) -> Cost:
        return self._restic("check", "--read-data")

    def copy(self, corpus: Path) -> Cost:  # noqa: ARG002 - restic copies what its store holds
        source = ("--from-repo", str(self.folder / "store"))
        self._restic("init", *source, "--copy-chunker-params", store="second")
        return self._restic("copy", "--quiet", *source, store="second")

    def stored_bytes(self) -> int:
        return measure.stored_bytes(self.folder / "store")

    def end(self) -> None:
        shutil.rmtree(self.folder)

    def _restic(self, *words: str, store: str = "store") -> Cost:
        command = [str(self.peers.restic), "--repo", str(self.folder / store), *words]
        return measure.run(command, environment=self._environment, log=self.log)


@dataclass
class Borg:
    """borg, with a local repository."""

    name = "borg"

    folder: Path
    peers: Peers
    log: Path
    _environment: Environment = field(default_factory=dict)
    _number: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self._environment = {
            "BORG_PASSPHRASE": secrets.token_hex(16),
            "BORG_REPO": str(self.folder / "store"),
            "BORG_BASE_DIR": str(self.folder / "base"),
        }
        self._borg("init", "--encryption", "repokey-blake2")

    def backup(self, corpus: Path) -> Cost:
        self._number += 1
        return self._borg("create", "--compression", "zstd,3", f"::{self._number}", str(corpus))

    def restore(self, target: Path) -> Cost:
        target.mkdir()
        return self._borg("extract", f"::{self._number}", cwd=target)

    def verify(self) -> Cost:
        return self._borg("check", "--verify-data")

    def stored_bytes(self) -> int:
        return measure.stored_bytes(self.folder / "store")

    def end(self) -> None:
        shutil.rmtree(self.folder)

    def _borg(self, *words: str, cwd: Path | None = None) -> Cost:
        return measure.run([str(self.peers.borg), *words], environment=self._environment, cwd=cwd, log=self.log)


@dataclass
class Floor:
    """What the machine can do at best: tar with zstd, without deduplication or encryption; a walk; tar's restore."""

    name = "floor"

    folder: Path
    log: Path
    _corpus: Path = Path()

    def __post_init__(self) -> None:
        self.folder.mkdir()

    def backup(self, corpus: Path) -> Cost:
        if self._corpus == corpus:
            return measure.run([sys.executable, "-c", _WALK, str(corpus)], log=self.log)
        self._corpus = corpus
        pack = f"tar -C {corpus.parent} -c {corpus.name} | zstd -q -T2 -3 -o {self.folder / 'tar.zst'}"
        return measure.run(["sh", "-c", pack], log=self.log)

    def restore(self, target: Path) -> Cost:
        target.mkdir()
        unpack = f"zstd -q -dc {self.folder / 'tar.zst'} | tar -C {target} -x"
        return measure.run(["sh", "-c", unpack], log=self.log)

    def stored_bytes(self) -> int:
        return measure.stored_bytes(self.folder)

    def end(self) -> None:
        shutil.rmtree(self.folder)


_WALK = "import os, sys; [os.lstat(f'{a}/{c}') for a, b, cs in os.walk(sys.argv[1]) for c in cs]"


class Strongroom:
    """strongroom: two running domains, and the command line, over the Unix socket of this host.

    Args:
        folder: where both homes lie.
        log: what the measured commands print.
    """

    name = "strongroom"

    def __init__(self, folder: Path, log: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._log = log
        self._north, self._south = (DemoDomain(folder, name) for name in ("north", "south"))
        for domain in (self._north, self._south):
            domain.init()
            domain.start()
        self._trust()
        self._policies()

    @property
    def domain(self) -> DemoDomain:
        """The domain that is backed up into."""
        return self._north

    def backup(self, corpus: Path) -> Cost:
        return self._measured("backup", str(corpus), "--slp", "local")

    def restore(self, target: Path) -> Cost:
        return self._measured("restore", self._last_image(), "--to", str(target))

    def verify(self) -> Cost:
        return self._measured("image", "verify", self._last_image(), "--wait")

    def copy(self, corpus: Path) -> Cost:
        """Back up once more, which stores nothing new, under the policy that replicates; measure the replication."""
        self._north.command("backup", str(corpus), "--slp", "replicated")
        with measure.watched(self._servers()) as cost:
            self._north.wait_for("the receipt", "replication", "status", until=_is_confirmed, seconds=600)
        return cost

    def stored_bytes(self) -> int:
        return measure.stored_bytes(self._north.home / "pools", leave_out=("index",))

    def end(self) -> None:
        self._north.stop()
        self._south.stop()
        shutil.rmtree(self._folder)

    def _measured(self, *words: str) -> Cost:
        return measure.run(
            [sys.executable, "-m", "strongroom", *words],
            environment={"STRONGROOM_HOME": str(self._north.home)},
            servers=self._servers(),
            log=self._log,
        )

    def _servers(self) -> list[int]:
        return [self._north.server_pid, self._south.server_pid]

    def _last_image(self) -> str:
        images = self._north.command("image", "list")
        return str(max(images, key=lambda image: image["started"])["image"])

    def _trust(self) -> None:
        north, south = self._north, self._south
        pins = {domain: domain.command("ca", "show")["fingerprint_sha256"] for domain in (north, south)}
        for here, there in ((north, south), (south, north)):
            token = _token(there, f"for-{here.name}", "trust")
            with_pin = ("--fingerprint", pins[there], "--token-file", "-")
            here.command("trust", "add", there.peer, *with_pin, secret=token)
        token = _token(south, "media", "enrol-foreign-media", "--for-domain", north.command("status")["domain"])
        with_pin = ("--fingerprint", pins[south], "--token-file", "-")
        north.command("cert", "issue", "--to", south.peer, *with_pin, secret=token)

    def _policies(self) -> None:
        north, south = self._north, self._south
        south.command("pool", "create", "vault")
        south.command("slp", "create", "from-north", "--import", "vault", "--retention", "target")
        credential = ("north-to-vault", "--pool", "vault", "--sender", "north")
        secret = south.command("storage", "credential", "create", *credential)["secret"]
        target = ("vault", "--peer", "south", "--pool", "vault", "--token-file", "-")
        north.command("storage", "target", "add", *target, secret=secret)
        north.command("pool", "create", "main")
        north.command("kms", "group", "create", "data")
        north.command("kms", "key", "create", "first", "--group", "data", "--source", "random", "--activate")
        policy = ("--backup", "main", "--retention", "30d", "--key-group", "data")
        north.command("slp", "create", "local", *policy)
        north.command("slp", "create", "replicated", *policy, "--replicate-to", "south:from-north")


def _token(domain: DemoDomain, name: str, purpose: str, *words: str) -> str:
    made = domain.command("token", "create", name, "--purpose", purpose, "--reason", "measurement", *words)
    return str(made["token"])


def _is_confirmed(sendings: Any) -> bool:
    return all(sending["state"] == "confirmed" for sending in sendings)
