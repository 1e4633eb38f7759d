"""Kills processes of running domains at their durable steps, and looks whether the work goes on and nothing is lost.

Usage: python -m durability.kill SCRATCH [--rounds 200] [--seed S]

In each round one process is attached to by strace(1), which kills it (SIGKILL) when one of its threads is about to
make the Nth call of a kind; or it is killed after a random time. The product knows nothing of it. Meanwhile a tree is
backed up and replicated. Ends with 1 when something acknowledged was lost, or something did not go on.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from durability import check_served, check_stored, steps, strace
from durability.facts import Facts
from durability.story import POOL, SENT, Story, change, hurry
from strongroom.cli.demonstration.compare import differences
from strongroom.cli.demonstration.domains import DemoDomain
from strongroom.core.errors import StrongroomError

_SETTLE_SECONDS: Final = 60.0
_ATTACH_SECONDS: Final = 10.0
_LATEST_SECONDS: Final = 2.0
_FULL_LOOK_EVERY: Final = 25
_ROLE: Final = re.compile(rb"strongroom\.services\.(\w+)")
CALLS: Final = {
    "fsync": 8,
    "fdatasync": 12,
    "link": 4,
    "unlink": 6,
    "rename": 2,
    "mkdir": 4,
    "write": 20,
    "pwrite64": 60,
}
"""Calls at which a process is killed, and the highest number of such a call in a thread that is waited for."""


@dataclass(frozen=True)
class Aim:
    """Who is killed, and when: at a call of a kind, or after some seconds when ``call`` is empty."""

    domain: str
    role: str
    call: str
    number: int
    seconds: float


class Killing:
    """Two served domains, of which processes are killed.

    Args:
        scratch: where everything is made.
        seed: chooses whom and when.
    """

    def __init__(self, scratch: Path, seed: str) -> None:
        self._scratch = check_served.empty(scratch)
        (scratch / "world").mkdir(mode=0o700)
        self._random = random.Random(seed)
        self._story = Story(scratch, 2)
        self._facts = {domain.name: Facts(domain.name, domain.port, has_pool=True) for domain in self._story.domains}
        self._tree = scratch / "trees" / "data"
        self.steps: Counter[str] = Counter()

    def prepare(self) -> None:
        """Make and serve the domains."""
        self._story.prepare()

    def stop(self) -> None:
        """End the domains."""
        self._story.stop()

    def round(self, number: int) -> tuple[Aim, str, list[str]]:
        """Work, kill, wait, look.

        Returns:
            What was aimed at; the step at which the process was killed, empty when it never came there; what is wrong.
        """
        aim = self._aim()
        domain = next(one for one in self._story.domains if one.name == aim.domain)
        victim = _process_of(domain, aim.role)
        change(self._tree, f"round-{number}")
        notes = self._scratch / "killed"
        with _killer(victim, aim, notes) as over:
            found = self._work(number, over)
        step = _step(notes, aim) if over() else ""
        if step:
            self.steps[f"{aim.role}: {step}"] += 1
        for one in self._story.domains:
            one.command("status", "--wait", "60s")
        found += list(self._look())
        if number % _FULL_LOOK_EVERY == 0:
            found += self.full_look()
        return aim, step, found

    def full_look(self) -> list[str]:
        """End both domains, look at all that they stored, and serve them again."""
        self.stop()
        found = [problem for facts in self._facts.values() for problem in check_stored.problems_of(facts, self._scratch / "world")]
        for domain in self._story.domains:
            domain.start()
        return found

    def _aim(self) -> Aim:
        domain = self._random.choice(self._story.domains).name
        role = self._random.choice(("media", "primary"))
        call = self._random.choice(("", *CALLS))
        number = self._random.randint(1, CALLS.get(call, 1))
        return Aim(domain, role, call, number, self._random.uniform(0, _LATEST_SECONDS))

    def _work(self, number: int, over: Callable[[], bool]) -> list[str]:
        """Back up, and wait for the receipt or for the victim's end."""
        north = self._story.north
        try:
            image = str(north.command("backup", str(self._tree), "--slp", SENT)["image"])
        except StrongroomError as error:
            if over() and error.code != "demo.command-failed":
                return []  # told in words, and acknowledged to nobody
            return [f"the backup was refused though nobody was killed: {error.message} [{error.code}]"]
        self._facts["north"].images[image] = f"round-{number}"
        deadline = time.monotonic() + _SETTLE_SECONDS
        while not over() and not self._is_confirmed(image):
            if time.monotonic() > deadline:
                return [f"{image}: no receipt, and nobody was killed"]
            time.sleep(0.05)
        return []

    def _look(self) -> Iterator[str]:
        """Look whether all goes on: every image that was acknowledged arrives, and the newest one is whole."""
        north, south = self._story.domains
        acknowledged = self._facts["north"].images
        try:
            for image in acknowledged:
                if not self._until(lambda image=image: self._is_confirmed(image)):  # type: ignore[misc]
                    yield f"{image}: no receipt"
                self._facts["south"].images[image] = acknowledged[image]
            for domain in (north, south):
                if not self._until(lambda domain=domain: not self._open_jobs(domain)):  # type: ignore[misc]
                    yield f"{domain.name}: jobs do not end: {self._open_jobs(domain)}"
                listed = {row["image"] for row in domain.command("image", "list")}
                for image in self._facts[domain.name].images.keys() - listed:
                    yield f"{domain.name}: {image} is not listed"
                if acknowledged:
                    domain.command("image", "verify", list(acknowledged)[-1], "--wait")
            if acknowledged:
                yield from self._restored(north, list(acknowledged)[-1], acknowledged)
        except StrongroomError as error:
            yield f"{error.message} [{error.code}]"
        yield from check_served.tracebacks(self._scratch / "world")

    def _restored(self, north: DemoDomain, image: str, acknowledged: dict[str, str]) -> Iterator[str]:
        """Restore, if the tree is still as that image took it."""
        restored = check_served.empty(self._scratch / "restored")
        north.command("restore", image, "--to", str(restored / "here"))
        if self._is_newest(acknowledged[image]):
            for difference in differences(self._tree, restored / "here" / self._tree.relative_to("/")):
                yield f"{image} restored: {difference}"

    def _is_newest(self, tree: str) -> bool:
        return (self._tree / f"{tree}-large").exists() and max(
            self._tree.glob("*-large"), key=lambda path: path.stat().st_mtime_ns
        ).name == f"{tree}-large"

    def _until(self, found: Callable[[], Any]) -> bool:
        deadline = time.monotonic() + _SETTLE_SECONDS
        while not found():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True

    def _is_confirmed(self, image: str) -> bool:
        query = "SELECT 1 FROM replications WHERE image = ? AND state = 'confirmed'"
        return bool(_rows(self._story.north, query, bytes.fromhex(image.replace("-", ""))))

    def _open_jobs(self, domain: DemoDomain) -> list[tuple[Any, ...]]:
        return _rows(domain, "SELECT id, kind, state FROM jobs WHERE state IN ('queued', 'waiting', 'running')")


class _killer:
    """Kills a process as aimed, while it is entered; gives whether the process is gone."""

    def __init__(self, victim: int, aim: Aim, notes: Path) -> None:
        self._victim = victim
        self._aim = aim
        self._notes = notes
        self._strace: subprocess.Popen[bytes] | None = None
        self._due = 0.0

    def __enter__(self) -> Callable[[], bool]:
        self._notes.unlink(missing_ok=True)
        if not self._aim.call:
            self._due = time.monotonic() + self._aim.seconds
            return self._over
        where = f"{self._aim.call}:signal=SIGKILL:when={self._aim.number}"
        self._strace = subprocess.Popen(
            ["strace", "--follow-forks", "--decode-fds=path", f"--attach={self._victim}", f"--trace={self._aim.call}",
             f"--inject={where}", "--quiet=attach", f"--output={self._notes}", "--string-limit=0"],
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + _ATTACH_SECONDS
        while not _is_traced(self._victim):
            if time.monotonic() > deadline:
                raise TimeoutError("strace cannot attach to a process: may this account trace others?")
            time.sleep(0.01)
        return self._over

    def _over(self) -> bool:
        if not self._aim.call and time.monotonic() >= self._due and _is_alive(self._victim):
            os.kill(self._victim, signal.SIGKILL)
        return not _is_alive(self._victim)

    def __exit__(self, *_: object) -> None:
        if self._strace is not None:
            if self._strace.poll() is None and not self._over():
                self._strace.terminate()
            self._strace.wait()


def _is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _is_traced(process: int) -> bool:
    try:
        tasks = list(Path(f"/proc/{process}/task").iterdir())
        return all("\nTracerPid:\t0\n" not in (task / "status").read_text() for task in tasks)
    except FileNotFoundError:
        return False


def _process_of(domain: DemoDomain, role: str) -> int:
    """Give the process of a role: a child of the supervisor."""
    listed = Path(f"/proc/{domain.server_pid}/task/{domain.server_pid}/children").read_text().split()
    for child in listed:
        words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        if any((match := _ROLE.fullmatch(word)) and match[1].decode() == role for word in words):
            return int(child)
    raise LookupError(f"'{domain.name}' has no {role}")


def _step(notes: Path, aim: Aim) -> str:
    """Name the step at which a process was killed: the last call of that kind that did not return."""
    if not aim.call:
        return "at a random moment"
    for line in reversed(notes.read_text().splitlines()):
        if f" {aim.call}(" in line and ("= ?" in line or "unfinished" in line):
            paths = re.findall(r'<([^>]*)>|"([^"]*)"', line)
            shown = next((one or other for one, other in paths if (one or other).startswith("/")), "")
            return steps.name_of(f"{aim.call} {shown}")
    return f"{aim.call}, unseen"


def _rows(domain: DemoDomain, query: str, *values: object) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(domain.home / "catalog.db", timeout=20)
    try:
        return connection.execute(query, values).fetchall()
    finally:
        connection.close()


def main(words: list[str]) -> int:
    """Read the command line, kill, and tell."""
    parser = argparse.ArgumentParser(prog="python -m durability.kill", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--rounds", type=int, default=200, help="rounds in which a process was killed")
    parser.add_argument("--seed", default=secrets.token_hex(4))
    asked = parser.parse_args(words)
    hurry()
    os.umask(0o022)
    print(f"seed {asked.seed}")
    killing = Killing(asked.scratch.resolve(), asked.seed)
    begun = time.monotonic()
    killed = bad = number = 0
    try:
        killing.prepare()
        while killed < asked.rounds:
            number += 1
            aim, step, problems = killing.round(number)
            killed += bool(step)
            bad += bool(problems)
            if step or problems:
                print(f"{killed}: {aim.domain} {aim.role}, {step or 'not reached'}", flush=True)
            for problem in problems:
                print(f"    {problem}", flush=True)
        problems = killing.full_look()
        bad += bool(problems)
        print("".join(f"    {problem}\n" for problem in problems), end="")
    finally:
        killing.stop()
    for step, count in sorted(killing.steps.items()):
        print(f"{count:4d}  {step}")
    print(f"{killed} killed in {number} rounds, {time.monotonic() - begun:.0f} s, {bad} with problems")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
