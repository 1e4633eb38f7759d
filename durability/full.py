"""Lets running domains find their disk full, or failing, at their durable steps, and looks whether the work goes on.

Usage: python -m durability.full SCRATCH [--rounds 200] [--seed S] [--domains 2]

In each round a changed tree is backed up and replicated, an older image is let go, pools are collected, and meanwhile
the kernel refuses calls of one process: its Nth call of a kind, or all from the Nth on. A write then finds no room
(ENOSPC), a read or an fsync fails (EIO). Then there is room again. Ends with 1 when something acknowledged was lost,
an error was not told in words, or something did not go on.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import sys
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from durability.aims import Aims
from durability.kill import FULL_LOOK_EVERY, process_of
from durability.killer import Aim, Tracer
from durability.steps import places_in, step_in
from durability.story import FolderInUseError, hurry
from durability.work import Work

FAULTS: Final = {
    "write": ("ENOSPC",),
    "pwrite64": ("ENOSPC", "EIO"),
    "mkdir": ("ENOSPC",),
    "link": ("ENOSPC",),
    "rename": ("ENOSPC",),
    "ftruncate": ("ENOSPC",),
    "fsync": ("ENOSPC", "EIO"),
    "fdatasync": ("ENOSPC", "EIO"),
    "pread64": ("EIO",),
}
"""Calls that are refused, and how."""
_ROLES: Final = ("media", "primary")
_INJECTED: Final = "(INJECTED)"


@dataclass(frozen=True)
class Fault:
    """What is refused to whom.

    Attributes:
        aim: which call of which process.
        error: what it is told.
        stays: whether all later calls of that name are refused, too, until the round is over.
    """

    aim: Aim
    error: str
    stays: bool

    @property
    def words(self) -> str:
        """The fault for strace's option ``--inject``."""
        return f"{self.aim.call}:error={self.error}:when={self.aim.number}{'+' if self.stays else ''}"


class Filling:
    """Served domains, of which processes are refused calls.

    Args:
        work: what the domains do.
        rng: chooses what is refused.

    Attributes:
        aims: which steps were seen, and refused.
    """

    def __init__(self, work: Work, rng: random.Random) -> None:
        self.aims = Aims(rng, [domain.name for domain in work.domains])
        self._random = rng
        self._work = work

    def scout(self) -> list[str]:
        """Work once with nothing refused, and take note of the steps; name what is wrong."""
        tracers: dict[tuple[str, str], Tracer] = {}
        with ExitStack() as traced:
            for domain in self._work.domains:
                for role in _ROLES:
                    tracer = Tracer(
                        process_of(domain, role), ",".join(FAULTS), self._work.scratch / f"{domain.name}-{role}"
                    )
                    tracers[domain.name, role] = traced.enter_context(tracer)
            problems = self._work.work(lambda: False)
        for (name, role), tracer in tracers.items():
            self.aims.learn(name, role, places_in(tracer.lines()))
        return problems + self._work.look()

    def draw(self) -> Fault:
        """Choose what is refused next."""
        aim = self.aims.draw()
        while not aim.call:
            aim = self.aims.draw()
        return Fault(aim, self._random.choice(FAULTS[aim.call]), self._random.random() < 0.5)

    def round(self, fault: Fault) -> tuple[list[str], list[str]]:
        """Work, refuse, let it be, look.

        Returns:
            The steps that were refused, none when the process never came there; and what is wrong.
        """
        aim = fault.aim
        domain = next(one for one in self._work.domains if one.name == aim.domain)
        with Tracer(process_of(domain, aim.role), aim.call, self._work.scratch / "refused", fault.words) as tracer:
            problems = self._work.work(lambda: bool(_refused(tracer.lines())))
            steps = _refused(tracer.lines())
        self.aims.learn(aim.domain, aim.role, places_in(tracer.lines()))
        self.aims.hits += Counter((aim.role, step) for step in set(steps))
        return steps, problems + self._work.look()


def _refused(lines: Iterable[str]) -> list[str]:
    """Name the steps that were refused, in order."""
    steps: list[str] = []
    begun: dict[str, str] = {}
    for line in lines:
        thread, _, told = line.partition(" ")
        if "<unfinished" in told:
            begun[thread] = step_in(line)
        elif _INJECTED in told:
            steps.append(begun.get(thread, "") if "resumed>" in told else step_in(line))
    return list(dict.fromkeys(steps))


def main(words: list[str]) -> int:
    """Read the command line, refuse, and tell."""
    parser = argparse.ArgumentParser(prog="python -m durability.full", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--rounds", type=int, default=200, help="rounds in which something was refused")
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
    filling = Filling(work, rng)
    begun = time.monotonic()
    refused = bad = tries = 0

    def tell(problems: list[str]) -> None:
        nonlocal bad
        bad += bool(problems)
        print("".join(f"    {problem}\n" for problem in problems), end="", flush=True)

    try:
        work.prepare()
        for _ in range(4):  # the later ones have something to let go and to collect
            tell(filling.scout())
        while refused < asked.rounds and time.monotonic() < begun + asked.seconds:
            tries += 1
            fault = filling.draw()
            steps, problems = filling.round(fault)
            refused += bool(steps)
            if tries % FULL_LOOK_EVERY == 0:
                problems += work.full_look()
                work.start()
            if steps or problems:
                print(f"{refused}: {fault.aim.domain} {fault.aim.role}, {fault.words}: {'; '.join(steps)}", flush=True)
            tell(problems)
        tell(work.full_look())
    finally:
        work.stop()
    for (role, step), count in sorted(filling.aims.hits.items()):
        print(f"{count:4d}  {role}: {step}")
    for role, step in filling.aims.never_hit():
        print(f"   0  {role}: {step}")
    print(f"{refused} times refused in {tries} rounds, {time.monotonic() - begun:.0f} s, {bad} with problems")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
