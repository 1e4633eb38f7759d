"""The steps that are measured: one image through two domains, by public commands."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeAlias

from bench.processes import Ended, peak_bytes, processes_of, reset_peak, run
from strongroom.cli.demonstration.domains import CommandFailedError, DemoDomain

PHRASE: Final = "granite umbrella violin harbour lantern mosaic"
COMMAND: Final = "command"
_CLOCK_TICK_SECONDS: Final = 2.5
_POLL_SECONDS: Final = 1.0
_LONGEST_WAIT_SECONDS: Final = 3_600.0
_SHOWN: Final = 5

Compare: TypeAlias = Callable[[Path, Path], Iterator[str]]


@dataclass
class Step:
    """One step of one input.

    Attributes:
        subject: the input.
        name: what was done.
        seconds: how long it took, from the first command until its effect was seen.
        peaks: for each process of both domains, and for the commands of the step, the most bytes resident at once.
    """

    subject: str
    name: str
    seconds: float
    peaks: dict[str, int]


def remove_tree(top: Path) -> None:
    """Remove a folder with all that is in it, however deep."""
    # rmtree joins paths, and they get too long for it; rm goes down folder by folder
    subprocess.run(["rm", "-rf", "--", str(top)], check=True)


class Bench:
    """Two domains; the second receives what the first one sends, and gets its keys later.

    Args:
        folder: where everything is made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._source = DemoDomain(folder, "north")
        self._target = DemoDomain(folder, "south")
        self._output = folder / "output"
        self._command_peak = 0

    def begin(self) -> None:
        """Make both domains, their trust, and what replication needs."""
        source, target = self._source, self._target
        for domain in (source, target):
            domain.init()
            domain.start()
        pins = {domain.name: domain.command("ca", "show")["fingerprint_sha256"] for domain in (source, target)}
        for domain, other in ((source, target), (target, source)):
            token = other.command("token", "create", "trust", "--purpose", "trust", "--reason", "bench")["token"]
            pinned = ("--fingerprint", pins[other.name], "--token-file", "-")
            domain.command("trust", "add", other.peer, *pinned, secret=token)
        for domain in (source, target):
            domain.wait_for("trust", "trust", "list", until=lambda found: bool(found) and found[0]["state"] == "active")
        foreign = ("--purpose", "enrol-foreign-media", "--for-domain", str(source.command("status")["domain"]))
        token = target.command("token", "create", "media", *foreign, "--reason", "bench")["token"]
        pinned = ("--fingerprint", pins[target.name], "--token-file", "-")
        source.command("cert", "issue", "--to", target.peer, *pinned, secret=token)
        target.command("pool", "create", "vault")
        target.command("slp", "create", "from-north", "--import", "vault", "--retention", "target")
        for_source = ("--pool", "vault", "--sender", "north")
        credential = target.command("storage", "credential", "create", "north-to-vault", *for_source)
        at_target = ("--peer", "south", "--pool", "vault", "--token-file", "-")
        source.command("storage", "target", "add", "vault-of-south", *at_target, secret=credential["secret"])
        source.command("pool", "create", "pool")

    def stop(self) -> None:
        """End both domains."""
        for domain in (self._source, self._target):
            domain.stop()

    def measure(self, subject: str, count: int, compare: Compare) -> Iterator[Step]:
        """Take one input through everything.

        Args:
            subject: name of the input's folder.
            count: how many files and folders it has.
            compare: names what differs between the input and what was restored.

        Raises:
            StrongroomError: a step did not do what it should.
        """
        tag = self._make_policies(subject)
        data = self._folder / subject
        image = ""
        time.sleep(_CLOCK_TICK_SECONDS)  # what was changed just before a backup is read again by the next one

        def back_up(policy: str) -> None:
            nonlocal image
            done = self._run(self._source, "backup", str(data), "--slp", f"{subject}-{policy}").value()
            image = done["image"]
            _expect("files in the image", done["files"], count)

        yield self._step(subject, "backup", lambda: back_up("here"))
        yield self._step(subject, "list of files", lambda: self._wait_listed(self._source, image, count))
        yield self._step(subject, "unchanged backup", lambda: back_up("sent"))
        yield self._step(subject, "replication, sealed", lambda: self._wait_confirmed(image))
        yield self._step(subject, "list of files", lambda: self._wait_listed(self._source, image, count))
        yield self._step(
            subject, "import, phase one", lambda: self._run(self._target, "import", "phase1", "vault", "--wait")
        )
        yield self._step(subject, "key, phase two", lambda: self._recover(subject, tag, image, count))
        yield from self._use(subject, image, count, compare)

    def _use(self, subject: str, image: str, count: int, compare: Compare) -> Iterator[Step]:
        target = self._target
        data, restored = self._folder / subject, self._folder / f"{subject}-restored"
        yield self._step(subject, "restore", lambda: self._run(target, "restore", image, "--to", str(restored)))
        found = list(islice(compare(data, restored / data.relative_to("/")), _SHOWN))
        _expect("differences after the restore", found, [])
        remove_tree(restored)
        yield self._step(subject, "restore as tar", lambda: self._restore_tar(image))
        yield self._step(subject, "files of a folder", lambda: self._run(target, "image", "files", image, str(data)))
        yield self._step(subject, "search, few found", lambda: self._run(target, "image", "find", image, "*9999*"))
        yield self._step(subject, "search, all found", lambda: self._find_all(image, count))
        yield self._step(subject, "verify", lambda: self._run(target, "image", "verify", image, "--wait"))
        pool = target.command("pool", "show", "vault")["path"]
        yield self._step(subject, "inspect the pool", lambda: self._run(target, "inspect", pool, "--recursive"))

    # ------------------------------------------------------------ steps

    def _make_policies(self, subject: str) -> str:
        """Make a key group of its own, so that this input's key comes when it is this input's turn; give the tag."""
        source = self._source
        source.command("kms", "group", "create", subject)
        words = (subject, "--group", subject, "--source", "passphrase", "--passphrase-file", "-", "--activate")
        key = source.command("kms", "key", "create", *words, secret=PHRASE)
        kept = ("--backup", "pool", "--retention", "30d", "--key-group", subject)
        source.command("slp", "create", f"{subject}-here", *kept)
        source.command("slp", "create", f"{subject}-sent", *kept, "--replicate-to", "south:from-north")
        return str(key["tag"])

    def _wait_listed(self, domain: DemoDomain, image: str, count: int) -> None:
        def listed(jobs: list[dict[str, Any]]) -> str | None:
            for job in jobs:
                if job["kind"] == "list-files" and job["subject"] == image:
                    if job["state"] == "failed":
                        raise CommandFailedError(f"the job {job['job']} failed")
                    if job["state"] == "done":
                        return str(job["job"])
            return None

        job = self._wait(domain, listed, "job", "list")
        _expect("files in the list", self._run(domain, "job", "show", job).value()["result"]["files"], count)

    def _wait_confirmed(self, image: str) -> None:
        def confirmed(rows: list[dict[str, Any]]) -> bool:
            return any(row["image"] == image and row["state"] == "confirmed" for row in rows)

        self._wait(self._source, confirmed, "replication", "status")

    def _recover(self, subject: str, tag: str, image: str, count: int) -> None:
        words = ("kms", "key", "recover", tag, "--group", subject, "--name", subject, "--passphrase-file", "-")
        self._target.command("kms", "group", "create", subject)
        self._run(self._target, *words, secret=PHRASE)
        self._wait_listed(self._target, image, count)

    def _find_all(self, image: str, count: int) -> None:
        _expect("files found", self._run(self._target, "image", "find", image, "**").lines(), count)

    def _restore_tar(self, image: str) -> None:
        ended = run(self._target.home, ("restore", image, "--tar", "-"), Path("/dev/null"), self._output)
        self._command_peak = max(self._command_peak, ended.peak_bytes)

    # ------------------------------------------------------------ measuring

    def _step(self, subject: str, name: str, deed: Callable[[], object]) -> Step:
        self._command_peak = 0
        before = processes_of(self._source) | processes_of(self._target)
        for pid in before.values():
            reset_peak(pid)
        begun = time.monotonic()
        deed()
        seconds = time.monotonic() - begun
        after = processes_of(self._source) | processes_of(self._target)
        _expect("processes that served throughout", after, before)
        peaks = {process: peak_bytes(pid) for process, pid in after.items()}
        if self._command_peak:
            peaks[COMMAND] = self._command_peak
        return Step(subject, name, seconds, peaks)

    def _run(self, domain: DemoDomain, *words: str, secret: str | None = None) -> Ended:
        ended = run(domain.home, (*words, "--json"), self._output, self._output, secret)
        self._command_peak = max(self._command_peak, ended.peak_bytes)
        return ended

    def _wait(self, domain: DemoDomain, found: Callable[[Any], Any], *words: str) -> Any:
        deadline = time.monotonic() + _LONGEST_WAIT_SECONDS
        while not (value := found(self._run(domain, *words).value())):
            if time.monotonic() > deadline:
                raise CommandFailedError(f"waited an hour for 'strongroom {' '.join(words)}'")
            time.sleep(_POLL_SECONDS)
        return value


def _expect(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise CommandFailedError(f"{what}: {found}, not {wanted}")
