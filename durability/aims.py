"""Chooses whom to kill, and when: at the steps that were hit least, where they were seen before."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from durability.killer import Aim
from durability.steps import BESIDE, Place

CALLS: Final = "fsync,fdatasync,link,unlink,mkdir,rename,write,pwrite64"
"""What makes something durable, or is about to."""
_LATEST_SECONDS: Final = 2.0
_BY_CHANCE: Final = 0.2
"""Share of the rounds in which somebody is killed at a random moment."""


class Aims:
    """Knows where steps were seen, and which were hit.

    Args:
        rng: chooses.
        domains: whose roles may be killed.

    Attributes:
        hits: how often each role was killed at each step.
    """

    def __init__(self, rng: random.Random, domains: Sequence[str]) -> None:
        self._random = rng
        self._domains = domains
        self._seen: defaultdict[tuple[str, str], list[tuple[str, Place]]] = defaultdict(list)
        self._tries: Counter[tuple[str, str]] = Counter()
        self.hits: Counter[tuple[str, str]] = Counter()

    def learn(self, domain: str, role: str, places: Mapping[str, list[Place]]) -> None:
        """Take where steps were seen in the process of a role."""
        for step, found in places.items():
            if step and step not in BESIDE:
                self._seen[role, step] += [(domain, place) for place in found]

    def draw(self) -> Aim:
        """Choose whom to kill next, and when."""
        if not self._seen or self._random.random() < _BY_CHANCE:
            role = self._random.choice(("media", "primary"))
            return Aim(self._random.choice(self._domains), role, seconds=self._random.uniform(0, _LATEST_SECONDS))
        steps = sorted(self._seen)
        self._random.shuffle(steps)
        wanted = min(steps, key=lambda step: 3 * self.hits[step] + self._tries[step])
        self._tries[wanted] += 1
        domain, place = self._random.choice(self._seen[wanted])
        return Aim(domain, wanted[0], place.call, place.number)

    def never_hit(self) -> list[tuple[str, str]]:
        """Name the steps that were seen, and at which nobody was killed."""
        return sorted(step for step in self._seen if not self.hits[step])
