"""Lets running domains find their disk full, or failing, at their durable steps, and looks whether the work goes on.

Usage: python -m durability.full SCRATCH [--rounds 200] [--seed S] [--domains 2]

In each round a changed tree is backed up and replicated, an older image is let go, pools are collected, and meanwhile
the kernel refuses calls of one process: its Nth call of a kind, or all from the Nth on. A write then finds no room
(ENOSPC), a read or an fsync fails (EIO). Then there is room again. Ends with 1 when something acknowledged was lost,
an error was not told in words, or something did not go on.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from durability import rounds
from durability.killer import Aim, Tracer
from durability.steps import places_in, step_in
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


class Filling(rounds.Striking):
    """Served domains, of which processes are refused calls.

    Args:
        work: what the domains do.
        rng: chooses what is refused.
    """

    deed = "times refused"

    def __init__(self, work: Work, rng: random.Random) -> None:
        super().__init__(work, rng, ",".join(FAULTS))

    def strike(self) -> tuple[bool, str, list[str]]:
        """Refuse calls to one process."""
        fault = self.draw()
        steps, problems = self.round(fault)
        return bool(steps), f"{fault.aim.domain} {fault.aim.role}, {fault.words}: {'; '.join(steps)}", problems

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
        with Tracer(self._process(aim), aim.call, self._work.scratch / "refused", fault.words) as tracer:
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


if __name__ == "__main__":
    sys.exit(rounds.run("durability.full", (__doc__ or "").split("\n")[0], Filling, sys.argv[1:]))
