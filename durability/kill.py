"""Kills processes of running domains at their durable steps, and looks whether the work goes on and nothing is lost.

Usage: python -m durability.kill SCRATCH [--rounds 200] [--seed S] [--domains 2]

In each round a changed tree is backed up and replicated, an older image is let go, pools are collected, and meanwhile
one process is killed: at a call that makes something durable, or at a random moment. Ends with 1 when something
acknowledged was lost, or something did not go on.
"""

from __future__ import annotations

import random
import sys

from durability import rounds
from durability.aims import CALLS
from durability.killer import Aim, Killer
from durability.work import Work


class Killing(rounds.Striking):
    """Served domains, of which processes are killed.

    Args:
        work: what the domains do.
        rng: chooses whom and when.
    """

    deed = "killed"

    def __init__(self, work: Work, rng: random.Random) -> None:
        super().__init__(work, rng, CALLS)

    def strike(self) -> tuple[bool, str, list[str]]:
        """Kill one process."""
        aim = self.aims.draw()
        step, problems = self.round(aim)
        return bool(step), f"{aim.domain} {aim.role}, {step or 'not reached'}", problems

    def round(self, aim: Aim) -> tuple[str, list[str]]:
        """Work, kill, wait, look.

        Returns:
            The step at which the process was killed, empty when it never came there; and what is wrong.
        """
        with Killer(self._process(aim), aim, self._work.scratch / "killed") as killer:
            problems = self._work.work(killer.is_done)
            is_killed = killer.is_done()
        self.aims.learn(aim.domain, aim.role, killer.places())
        step = killer.step() if is_killed else ""
        if step:
            self.aims.hits[aim.role, step] += 1
        return step, problems + self._work.look()


if __name__ == "__main__":
    sys.exit(rounds.run("durability.kill", (__doc__ or "").split("\n")[0], Killing, sys.argv[1:]))
