"""The work that is recorded: one domain or two, from ``init`` to a restore, and what was acknowledged when.

Usage: python -m durability.story FOLDER DOMAINS      (run below strace by :mod:`durability.powercut`)

FOLDER/world holds the homes, FOLDER/trees what is backed up, FOLDER/marks what was acknowledged: a line of JSON each,
written in the moment in which the command ended well.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Final

from strongroom.cli.demonstration.domains import DemoDomain

PHRASE: Final = "kettle orchard bramble sextant walnut ferry"
GROUP: Final = "homes"
LOCAL: Final = "local"
SENT: Final = "sent"
BRIEF: Final = "brief"
"""Policies: stays here; goes to the other domain too; is over at once."""
POOL: Final = "main"
ENDED: Final = ("done", "failed", "cancelled")
_TAIL_BYTES: Final = 32
_GONE_SECONDS: Final = 60.0
HURRY: Final = {"EXCHANGE_SECONDS": "1", "BEAT_SECONDS": "3", "RETRY_SECONDS": "0.5"}
"""Settings under which domains look more often, so that nobody need wait; nothing else changes."""


class FolderInUseError(Exception):
    """What lies in a scratch folder is not of an earlier run, and is not removed."""


def begin(folder: Path) -> None:
    """Make a scratch folder anew, with an empty world in it.

    Raises:
        FolderInUseError: something else is there.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / "marks").is_file():
        raise FolderInUseError(f"'{folder}' is not empty, and not of an earlier run")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "marks").touch(mode=0o600)
    (folder / "world").mkdir(mode=0o700)


def hurry() -> None:
    """Have the domains that are started from here look more often."""
    os.environ.update({f"STRONGROOM_TIMES__{name}": value for name, value in HURRY.items()})


class StillThereError(Exception):
    """An image that has expired does not leave the pool."""


class Story:
    """Does the work.

    Args:
        folder: where everything is made.
        domains: 1, or 2 for replication as well.

    Attributes:
        ids: of the domains, by name.
    """

    def __init__(self, folder: Path, domains: int) -> None:
        self.world, self.trees = folder / "world", folder / "trees"
        self.north = DemoDomain(self.world, "north")
        self.south = DemoDomain(self.world, "south") if domains > 1 else None
        self._marks = os.open(folder / "marks", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.ids: dict[str, str] = {}
        self._images: dict[str, str] = {}
        self._gone: list[tuple[DemoDomain, str]] = []

    def mark(self, fact: str, **more: Any) -> None:
        """Note that something was acknowledged."""
        os.write(self._marks, json.dumps({"fact": fact, **more}).encode() + b"\n")

    def run(self) -> None:
        """Do everything, and end the domains."""
        try:
            self.prepare()
            self._back_up("first", LOCAL)
            self._back_up("second", SENT if self.south else LOCAL)
            if self.south:
                self._back_up("third", SENT)
                self._read_there(self.south)
            self._expire("first")
            if self.south:
                self._expire("second")
            self._let_expire("fourth")
            self._collect()
            self._back_up("fifth", SENT if self.south else LOCAL)
            self._repair()
        finally:
            self.stop()

    @property
    def domains(self) -> list[DemoDomain]:
        """The domains, the one that backs up first."""
        return [domain for domain in (self.north, self.south) if domain]

    def prepare(self) -> None:
        """Make and serve the domains, up to the first backup."""
        for domain in self.domains:
            self._make(domain)
        self._make_key()
        if self.south:
            self._make_trust(self.south)
        self._make_policies()

    def stop(self) -> None:
        """End the domains."""
        for domain in self.domains:
            domain.stop()

    def _make(self, domain: DemoDomain) -> None:
        made = domain.init()
        self.mark("domain", name=domain.name, port=domain.port, domain=made["domain"])
        self.ids[domain.name] = made["domain"]
        domain.start()
        domain.command("pool", "create", POOL)
        self.mark("pool", name=domain.name)

    def _make_key(self) -> None:
        north = self.north
        north.command("kms", "group", "create", GROUP)
        made = north.command("kms", "key", "create", "one", "--group", GROUP, "--source", "passphrase",
                             "--passphrase-file", "-", "--activate", secret=PHRASE)  # fmt: skip
        self.mark("key", name=north.name, tag=made["tag"])
        self._tag = made["tag"]

    def _make_trust(self, south: DemoDomain) -> None:
        north = self.north
        pins = {domain.name: domain.command("ca", "show")["fingerprint_sha256"] for domain in (north, south)}
        for one, other in ((north, south), (south, north)):
            given = other.command("token", "create", "trust", "--purpose", "trust", "--reason", "durability")["token"]
            one.command("trust", "add", other.peer, "--fingerprint", pins[other.name], "--token-file", "-",
                        secret=given)  # fmt: skip
        for domain in (north, south):
            domain.wait_for("trust", "trust", "list", until=lambda found: found and found[0]["state"] == "active")
            self.mark("trust", name=domain.name)
        given = south.command("token", "create", "media", "--purpose", "enrol-foreign-media", "--reason", "durability",
                              "--for-domain", self.ids["north"])["token"]  # fmt: skip
        north.command("cert", "issue", "--to", south.peer, "--fingerprint", pins["south"], "--token-file", "-",
                      secret=given)  # fmt: skip
        south.command("slp", "create", "from-north", "--import", POOL, "--retention", "target")
        credential = south.command("storage", "credential", "create", "for-north", "--pool", POOL, "--sender", "north")
        north.command("storage", "target", "add", "south-main", "--peer", "south", "--pool", POOL, "--token-file", "-",
                      secret=credential["secret"])  # fmt: skip
        self.mark("target", name=north.name)

    def _make_policies(self) -> None:
        words = ("--backup", POOL, "--retention", "30d", "--key-group", GROUP)
        self.north.command("slp", "create", LOCAL, *words)
        self.mark("policy", name=self.north.name, policy=LOCAL)
        self.north.command("slp", "create", BRIEF, "--backup", POOL, "--retention", "1s", "--key-group", GROUP)
        self.mark("policy", name=self.north.name, policy=BRIEF)
        if self.south:
            self.north.command("slp", "create", SENT, *words, "--replicate-to", "south:from-north")
            self.mark("policy", name=self.north.name, policy=SENT)

    def _back_up(self, number: str, policy: str) -> str:
        """Change the tree, keep it as it was then, and back it up; give the image."""
        change(self.trees / "data", number)
        kept = self.trees / number
        shutil.copytree(self.trees / "data", kept)
        image = str(self.north.command("backup", str(self.trees / "data"), "--slp", policy)["image"])
        self._images[number] = image
        if policy == BRIEF:
            return image
        self.mark("image", name=self.north.name, image=image, tree=number)
        if policy == SENT and self.south:
            self.north.wait_for(
                "receipt", "replication", "status",
                until=lambda rows: any(row["image"] == image and row["state"] == "confirmed" for row in rows),
            )  # fmt: skip
            self.mark("receipt", name=self.north.name, image=image)
            self.mark("image", name=self.south.name, image=image, tree=number)
        return image

    def _read_there(self, south: DemoDomain) -> None:
        """Bring the key, read the pool's headers again, wait for the lists of files, and restore."""
        south.command("kms", "group", "create", GROUP)
        south.command("kms", "key", "recover", self._tag, "--group", GROUP, "--name", "one", "--passphrase-file", "-",
                      secret=PHRASE)  # fmt: skip
        self.mark("key", name=south.name, tag=self._tag)
        south.command("import", "phase1", POOL, "--wait")
        south.command("import", "phase2", "--pool", POOL, "--wait")
        wait_for_jobs(south)

    def _expire(self, number: str) -> None:
        """Let an image go by hand, in every domain that has it."""
        image = self._images[number]
        for domain in self.domains:
            if any(row["image"] == image for row in domain.command("image", "list")):
                self.mark("goes", name=domain.name, image=image)
                domain.command("image", "expire", image, "--reason", "durability", "--yes")
                self.mark("expired", name=domain.name, image=image)
                self._gone.append((domain, image))

    def _let_expire(self, number: str) -> None:
        """Back up, and wait until the image is gone by itself."""
        image = self._back_up(number, BRIEF)
        self.north.wait_for(
            "expiry", "image", "list", until=lambda rows: not any(row["image"] == image for row in rows)
        )
        self.mark("expired", name=self.north.name, image=image)
        self._gone.append((self.north, image))

    def _wait_until_gone(self, domain: DemoDomain, image: str) -> None:
        """Wait until nothing of an image is in a pool's folder of headers.

        Raises:
            StillThereError: it did not go.
        """
        headers = domain.home / "pools" / POOL / "images"
        deadline = time.monotonic() + _GONE_SECONDS
        while any(headers.glob(f"*/{image.replace('-', '')}-*")):
            if time.monotonic() > deadline:
                raise StillThereError(f"the image '{image}' is in the pool of '{domain.name}' after {_GONE_SECONDS} s")
            time.sleep(0.05)

    def _collect(self) -> None:
        """Free the room of what is gone: an image is out of the list first, and out of the pool a little later."""
        for domain, image in self._gone:
            self._wait_until_gone(domain, image)
        for domain in self.domains:
            domain.command("pool", "collect", POOL, "--wait")

    def _repair(self) -> None:
        """Damage the end of the largest container, from which nothing is lost, and have it repaired."""
        containers = (self.north.home / "pools" / POOL / "containers").glob("*/*")
        path = max(containers, key=lambda one: (one.stat().st_size, one.name))
        self.mark("damaged", name=self.north.name, container=path.name)
        with path.open("r+b") as file:
            file.seek(-_TAIL_BYTES, os.SEEK_END)
            file.write(bytes(_TAIL_BYTES))
            file.flush()
            os.fsync(file.fileno())
        wait_for_jobs(self.north)  # a repair is refused beside them
        self.north.command("pool", "repair", POOL)
        self.mark("repaired", name=self.north.name)


def wait_for_jobs(domain: DemoDomain) -> list[dict[str, Any]]:
    """Wait until no job is under way, and give them all."""
    found: list[dict[str, Any]] = domain.wait_for(
        "the end of all jobs", "job", "list", until=lambda rows: all(row["state"] in ENDED for row in rows)
    )
    return found


def change(tree: Path, number: str) -> None:
    """Change a small tree: most of it stays, some is new, one file grows, one goes."""
    tree.mkdir(parents=True, exist_ok=True)
    rng = random.Random(number)
    for place in range(6):
        (tree / f"{number}-{place}").write_bytes(rng.randbytes(20_000) + b"text " * 3_000)
    (tree / f"{number}-large").write_bytes(rng.randbytes(400_000))
    with (tree / "grows").open("ab") as file:
        file.write(rng.randbytes(50_000))
    files = sorted(tree.iterdir())
    if len(files) > 10:
        files[3].unlink()


if __name__ == "__main__":
    os.umask(0o022)
    hurry()
    Story(Path(sys.argv[1]).resolve(), int(sys.argv[2])).run()
