"""Kills processes of running domains at their durable steps, and looks whether the work goes on and nothing is lost.

Usage: python -m durability.kill SCRATCH [--rounds 200] [--seed S] [--domains 2]

In each round a changed tree is backed up and replicated, an older image is let go, pools are collected, and meanwhile
one process is killed: at a call that makes something durable, or at a random moment. Ends with 1 when something
acknowledged was lost, or something did not go on.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import secrets
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from durability.aims import CALLS, Aims
from durability.killer import Aim, Killer, Tracer
from durability.steps import places_in
from durability.story import FolderInUseError, hurry
from durability.work import Work
from strongroom.cli.demonstration.domains import DemoDomain

FULL_LOOK_EVERY: Final = 25
_ROLE: Final = re.compile(rb"strongroom\.services\.(\w+)")
_ROLES: Final = ("media", "primary")


class Killing:
    """Served domains, of which processes are killed.

    Args:
        work: what the domains do.
        rng: chooses whom and when.

    Attributes:
        aims: which steps were seen, and hit.
    """

    def __init__(self, work: Work, rng: random.Random) -> None:
        self.aims = Aims(rng, [domain.name for domain in work.domains])
        self._work = work

    def scout(self) -> list[str]:
        """Work once with nobody killed, and take note of the steps; name what is wrong."""
        tracers: dict[tuple[str, str], Tracer] = {}
        with ExitStack() as traced:
            for domain in self._work.domains:
                for role in _ROLES:
                    notes = self._work.scratch / f"{domain.name}-{role}"
                    tracer = Tracer(process_of(domain, role), CALLS, notes)
                    tracers[domain.name, role] = traced.enter_context(tracer)
            problems = self._work.work(lambda: False)
        for (name, role), tracer in tracers.items():
            self.aims.learn(name, role, places_in(tracer.lines()))
        return problems + self._work.look()

    def round(self, aim: Aim) -> tuple[str, list[str]]:
        """Work, kill, wait, look.

        Returns:
            The step at which the process was killed, empty when it never came there; and what is wrong.
        """
        domain = next(one for one in self._work.domains if one.name == aim.domain)
        with Killer(process_of(domain, aim.role), aim, self._work.scratch / "killed") as killer:
            problems = self._work.work(killer.is_done)
            is_killed = killer.is_done()
        self.aims.learn(aim.domain, aim.role, killer.places())
        step = killer.step() if is_killed else ""
        if step:
            self.aims.hits[aim.role, step] += 1
        return step, problems + self._work.look()


def process_of(domain: DemoDomain, role: str) -> int:
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
    parser.add_argument("--seconds", type=int, default=1 << 31, help="end after the round in which so many are over")
    parser.add_argument("--seed", default=secrets.token_hex(4))
    parser.add_argument("--domains", type=int, choices=(1, 2), default=2)
    asked = parser.parse_args(words)
    hurry()
    os.umask(0o022)
    print(f"seed {asked.seed}")
    rng = random.Random(asked.seed)
    try:
        work = Work(asked.scratch.resolve(), asked.domains, rng)
    except FolderInUseError as error:
        parser.error(str(error))
    killing = Killing(work, rng)
    begun = time.monotonic()
    killed = bad = tries = 0
    try:
        work.prepare()
        for _ in range(4):  # the later ones have something to let go and to collect
            problems = killing.scout()
            bad += bool(problems)
            print("".join(f"    {problem}\n" for problem in problems), end="", flush=True)
        while killed < asked.rounds and time.monotonic() < begun + asked.seconds:
            tries += 1
            aim = killing.aims.draw()
            step, problems = killing.round(aim)
            killed += bool(step)
            if tries % FULL_LOOK_EVERY == 0:
                problems += work.full_look()
                work.start()
            bad += bool(problems)
            if step or problems:
                print(f"{killed}: {aim.domain} {aim.role}, {step or 'not reached'}", flush=True)
            print("".join(f"    {problem}\n" for problem in problems), end="", flush=True)
        problems = work.full_look()
        bad += bool(problems)
        print("".join(f"    {problem}\n" for problem in problems), end="", flush=True)
    finally:
        work.stop()
    for (role, step), count in sorted(killing.aims.hits.items()):
        print(f"{count:4d}  {role}: {step}")
    for role, step in killing.aims.never_hit():
        print(f"   0  {role}: {step}")
    print(f"{killed} killed in {tries} rounds, {time.monotonic() - begun:.0f} s, {bad} with problems")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
