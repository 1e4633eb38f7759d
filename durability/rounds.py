"""Rounds of work in which something is done to a role of running domains, and what is told of them."""

from __future__ import annotations

import argparse
import os
import random
import re
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from durability.aims import Aims
from durability.killer import Aim, Tracer
from durability.steps import places_in
from durability.story import FolderInUseError, hurry
from durability.work import Work
from strongroom.cli.demonstration.domains import DemoDomain

_FULL_LOOK_EVERY: Final = 25
_SCOUTED: Final = 4
"""Rounds in which nothing is done, at first; the later ones have something to let go and to collect."""
_ROLE: Final = re.compile(rb"strongroom\.services\.(\w+)")
_ROLES: Final = ("media", "primary")


class Striking(ABC):
    """Served domains, to whose processes something is done.

    Args:
        work: what the domains do.
        rng: chooses to whom and when.
        calls: of the system, that are noted.

    Attributes:
        aims: which steps were seen, and hit.
    """

    deed: str
    """What is done, for the summary."""

    def __init__(self, work: Work, rng: random.Random, calls: str) -> None:
        self.aims = Aims(rng, [domain.name for domain in work.domains])
        self._random = rng
        self._work = work
        self._calls = calls

    def scout(self) -> list[str]:
        """Work once with nothing done, and take note of the steps; name what is wrong."""
        tracers: dict[tuple[str, str], Tracer] = {}
        with ExitStack() as traced:
            for domain in self._work.domains:
                for role in _ROLES:
                    notes = self._work.scratch / f"{domain.name}-{role}"
                    tracer = Tracer(process_of(domain, role), self._calls, notes)
                    tracers[domain.name, role] = traced.enter_context(tracer)
            problems = self._work.work(lambda: False)
        for (name, role), tracer in tracers.items():
            self.aims.learn(name, role, places_in(tracer.lines()))
        return problems + self._work.look()

    @abstractmethod
    def strike(self) -> tuple[bool, str, list[str]]:
        """Draw what is done, and work one round with it.

        Returns:
            Whether it was done; what it was, in words; and what is wrong.
        """

    def _process(self, aim: Aim) -> int:
        return process_of(next(one for one in self._work.domains if one.name == aim.domain), aim.role)


def process_of(domain: DemoDomain, role: str) -> int:
    """Give the process of a role: a child of the supervisor."""
    listed = Path(f"/proc/{domain.server_pid}/task/{domain.server_pid}/children").read_text().split()
    for child in listed:
        words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        if any((match := _ROLE.fullmatch(word)) and match[1].decode() == role for word in words):
            return int(child)
    raise LookupError(f"'{domain.name}' has no {role}")


def run(program: str, about: str, make: Callable[[Work, random.Random], Striking], words: list[str]) -> int:
    """Read the command line, work, and tell; give the exit code.

    Args:
        program: name of the module.
        about: what it does.
        make: makes what strikes.
        words: of the command line.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=about)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--rounds", type=int, default=200, help="rounds in which something was done")
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
    striking = make(work, rng)
    begun = time.monotonic()
    done = bad = tries = 0
    try:
        work.prepare()
        for _ in range(_SCOUTED):
            bad += _told(striking.scout())
        while done < asked.rounds and time.monotonic() < begun + asked.seconds:
            tries += 1
            was_done, what, problems = striking.strike()
            done += was_done
            if tries % _FULL_LOOK_EVERY == 0:
                problems += work.full_look()
                work.start()
            if was_done or problems:
                print(f"{done}: {what}", flush=True)
            bad += _told(problems)
        bad += _told(work.full_look())
    finally:
        work.stop()
    for (role, step), count in sorted(striking.aims.hits.items()):
        print(f"{count:4d}  {role}: {step}")
    for role, step in striking.aims.never_hit():
        print(f"   0  {role}: {step}")
    print(f"{done} {striking.deed} in {tries} rounds, {time.monotonic() - begun:.0f} s, {bad} with problems")
    return 1 if bad else 0


def _told(problems: Iterable[str]) -> bool:
    """Print what is wrong; tell whether anything is."""
    found = list(problems)
    print("".join(f"    {problem}\n" for problem in found), end="", flush=True)
    return bool(found)
