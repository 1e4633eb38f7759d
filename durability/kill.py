"""Kills processes of running domains at their durable steps, and looks whether the work goes on and nothing is lost.

Usage: python -m durability.kill SCRATCH [--rounds 200] [--seed S] [--domains 2]

In each round a changed tree is backed up and replicated, and meanwhile one process is killed: at a call that makes
something durable, or at a random moment. Ends with 1 when something acknowledged was lost, or something did not go on.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import secrets
import shutil
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from durability import check_served, check_stored
from durability.facts import Facts
from durability.killer import Aim, Killer
from durability.story import LOCAL, SENT, FolderInUseError, Story, begin, change, hurry
from strongroom.cli.demonstration.compare import differences
from strongroom.cli.demonstration.domains import CommandFailedError, DemoDomain
from strongroom.core.errors import StrongroomError

_SETTLE_SECONDS: Final = 60.0
_LATEST_SECONDS: Final = 2.0
_FULL_LOOK_EVERY: Final = 25
_ROLE: Final = re.compile(rb"strongroom\.services\.(\w+)")
CALLS: Final = {
    "media": {"": 1, "fsync": 6, "link": 3, "unlink": 4, "mkdir": 2, "write": 12},
    "primary": {"": 1, "fdatasync": 10, "pwrite64": 40, "fsync": 2, "rename": 1, "write": 12},
}
"""Calls at which a role is killed, and the highest number of such a call in a thread that is waited for."""


class Killing:
    """Served domains, of which processes are killed.

    Args:
        scratch: where everything is made.
        domains: 1, or 2 for replication as well.
        seed: chooses whom and when.

    Attributes:
        steps: how often which role was killed at which step.
    """

    def __init__(self, scratch: Path, domains: int, seed: str) -> None:
        begin(scratch)
        self._world = scratch / "world"
        self._tree = scratch / "trees" / "data"
        self._scratch = scratch
        self._random = random.Random(seed)
        self._story = Story(scratch, domains)
        self._facts = {domain.name: Facts(domain.name, domain.port, has_pool=True) for domain in self._story.domains}
        self._is_newest = False
        self._read: dict[Path, int] = {}
        self.steps: Counter[str] = Counter()

    def prepare(self) -> None:
        """Make and serve the domains."""
        self._story.prepare()

    def stop(self) -> None:
        """End the domains."""
        self._story.stop()

    def draw(self) -> Aim:
        """Choose whom to kill, and when."""
        role = self._random.choice(sorted(CALLS))
        call = self._random.choice(sorted(CALLS[role]))
        return Aim(
            domain=self._random.choice(self._story.domains).name,
            role=role,
            call=call,
            number=self._random.randint(1, CALLS[role][call]),
            seconds=self._random.uniform(0, _LATEST_SECONDS),
        )

    def round(self, aim: Aim) -> tuple[str, list[str]]:
        """Work, kill, wait, look.

        Returns:
            The step at which the process was killed, empty when it never came there; and what is wrong.
        """
        domain = next(one for one in self._story.domains if one.name == aim.domain)
        change(self._tree, f"round-{self._random.randrange(1 << 32):08x}")
        self._is_newest = False
        with Killer(_process_of(domain, aim.role), aim, self._scratch / "killed") as killer:
            problems = self._work(killer)
            is_killed = killer.is_done()
        step = killer.step() if is_killed else ""
        if step:
            self.steps[f"{aim.role}: {step}"] += 1
        try:
            for one in self._story.domains:
                one.command("status", "--wait", "60s")
            problems += self._look()
        except (StrongroomError, CommandFailedError) as error:
            problems.append(f"{error.message} [{error.code}]")
        return step, problems + list(check_served.tracebacks(self._world, self._read))

    def full_look(self) -> list[str]:
        """End the domains, and look at all that they stored."""
        self.stop()
        return [problem for facts in self._facts.values() for problem in check_stored.problems_of(facts, self._world)]

    def start(self) -> None:
        """Serve the domains again."""
        for domain in self._story.domains:
            domain.start()

    def _work(self, killer: Killer) -> list[str]:
        """Back up, and wait for the receipt or for the victim's end."""
        policy = SENT if self._story.south else LOCAL
        try:
            image = str(self._story.north.command("backup", str(self._tree), "--slp", policy)["image"])
        except CommandFailedError as error:
            return [f"the backup ended without a word: {error.message}"]
        except StrongroomError as error:
            if killer.is_done():
                return []  # told in words, and acknowledged to nobody
            return [f"the backup was refused, and nobody was killed: {error.message} [{error.code}]"]
        self._facts["north"].images[image] = ""
        self._is_newest = True
        begun = time.monotonic()
        while not killer.is_done():
            if self._is_over(image) and time.monotonic() > begun + 0.5:
                break
            if time.monotonic() > begun + _SETTLE_SECONDS:
                return [f"{image}: the work does not end, and nobody was killed"]
            time.sleep(0.05)
        return []

    def _look(self) -> Iterator[str]:
        """Look whether all goes on: every image that was acknowledged arrives, and the newest one is whole."""
        acknowledged = list(self._facts["north"].images)
        for domain in self._story.domains:
            if not _until(lambda domain=domain: not _open_jobs(domain)):  # type: ignore[misc]
                yield f"{domain.name}: jobs do not end: {_open_jobs(domain)}"
        for image in acknowledged:
            if self._story.south:
                if not _until(lambda image=image: self._is_confirmed(image)):  # type: ignore[misc]
                    yield f"{image}: no receipt"
                self._facts["south"].images[image] = ""
        for domain in self._story.domains:
            listed = {row["image"] for row in domain.command("image", "list")}
            for image in self._facts[domain.name].images.keys() - listed:
                yield f"{domain.name}: {image} is not listed"
            if acknowledged:
                domain.command("image", "verify", acknowledged[-1], "--wait")
        if self._is_newest:
            restored = self._scratch / "restored"
            shutil.rmtree(restored, ignore_errors=True)
            self._story.north.command("restore", acknowledged[-1], "--to", str(restored))
            for difference in differences(self._tree, restored / self._tree.relative_to("/")):
                yield f"{acknowledged[-1]} restored: {difference}"

    def _is_over(self, image: str) -> bool:
        if self._story.south:
            return self._is_confirmed(image)
        return not _open_jobs(self._story.north)

    def _is_confirmed(self, image: str) -> bool:
        query = "SELECT 1 FROM replications WHERE image = ? AND state = 'confirmed'"
        return bool(_rows(self._story.north, query, bytes.fromhex(image.replace("-", ""))))


def _until(found: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _SETTLE_SECONDS
    while not found():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _open_jobs(domain: DemoDomain) -> list[tuple[Any, ...]]:
    return _rows(domain, "SELECT id, kind, state FROM jobs WHERE state IN ('queued', 'waiting', 'running')")


def _rows(domain: DemoDomain, query: str, *values: object) -> list[tuple[Any, ...]]:
    """Ask a catalog beside its primary, which need not run."""
    connection = sqlite3.connect(domain.home / "catalog.db", timeout=20)
    try:
        return connection.execute(query, values).fetchall()
    finally:
        connection.close()


def _process_of(domain: DemoDomain, role: str) -> int:
    """Give the process of a role: a child of the supervisor."""
    listed = Path(f"/proc/{domain.server_pid}/task/{domain.server_pid}/children").read_text().split()
    for child in listed:
        words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        if any((match := _ROLE.fullmatch(word)) and match[1].decode() == role for word in words):
            return int(child)
    raise LookupError(f"'{domain.name}' has no {role}")


def main(words: list[str]) -> int:
    """Read the command line, kill, and tell."""
    parser = argparse.ArgumentParser(prog="python -m durability.kill", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--rounds", type=int, default=200, help="rounds in which a process was killed")
    parser.add_argument("--seed", default=secrets.token_hex(4))
    parser.add_argument("--domains", type=int, choices=(1, 2), default=2)
    asked = parser.parse_args(words)
    hurry()
    os.umask(0o022)
    print(f"seed {asked.seed}")
    try:
        killing = Killing(asked.scratch.resolve(), asked.domains, asked.seed)
    except FolderInUseError as error:
        parser.error(str(error))
    begun = time.monotonic()
    killed = bad = tries = 0
    try:
        killing.prepare()
        while killed < asked.rounds:
            tries += 1
            aim = killing.draw()
            step, problems = killing.round(aim)
            killed += bool(step)
            if tries % _FULL_LOOK_EVERY == 0 or killed == asked.rounds:
                problems += killing.full_look()
                killing.start()
            bad += bool(problems)
            if step or problems:
                print(f"{killed}: {aim.domain} {aim.role}, {step or 'not reached'}", flush=True)
            print("".join(f"    {problem}\n" for problem in problems), end="", flush=True)
    finally:
        killing.stop()
    for step, count in sorted(killing.steps.items()):
        print(f"{count:4d}  {step}")
    print(f"{killed} killed in {tries} rounds, {time.monotonic() - begun:.0f} s, {bad} with problems")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
