"""Cuts the power, many times: records real work once, and looks at what each cut may have left.

Usage: python -m durability.powercut SCRATCH [--cuts 400] [--served 30] [--seed S] [--domains 2] [--file-system posix]

SCRATCH needs some 200 MB. Ends with 1 when something acknowledged was lost. A cut is named by its line of the record
and its draw and the domain that alone lost power; ``--again LINE DRAW DOMAIN`` (``''`` for all) looks at one again,
with the record that SCRATCH still holds.
"""

from __future__ import annotations

import argparse
import filecmp
import itertools
import random
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from durability import check_served, check_stored, strace
from durability.facts import facts_at, names_in
from durability.model import EXTREMES, Draw, FileSystem
from durability.recording import Recording
from durability.story import FolderInUseError, begin, hurry

_TOLD_EVERY: Final = 50
_ALONE: Final = 0.4
"""Share of the cuts in which one domain keeps its power."""
_WITHOUT: Final = ("-shm",)
_NUMBERS: Final = re.compile(r"[0-9a-f]{8,}(-[0-9a-f]+)*|\b[0-9a-f]{2}\b")


@dataclass(frozen=True)
class Cut:
    """One cut.

    Attributes:
        line: of the record, behind which the power goes.
        draw: what was chosen of what was not stable.
        step: what was done there.
        domain: the only one that loses power; the other keeps all that it has done. Empty for all.
    """

    line: int
    draw: str
    step: str
    domain: str = ""


class PowerCuts:
    """Records the work, and tries cuts.

    Args:
        scratch: where everything is made.
        domains: 1 or 2.
        kind: what the file system promises.
    """

    def __init__(self, scratch: Path, domains: int, kind: FileSystem) -> None:
        self._scratch = scratch
        self._world = scratch / "world"
        self._domains = domains
        self._kind = kind

    def record(self) -> float:
        """Do the work below strace; give how many seconds it took."""
        begin(self._scratch)
        begun = time.monotonic()
        story = [sys.executable, "-m", "durability.story", str(self._scratch), str(self._domains)]
        subprocess.run(strace.command(self._scratch / "record", *story), check=True)
        self._world.rename(self._scratch / "recorded")
        return time.monotonic() - begun

    def read(self, is_heard: Callable[[str], bool] = lambda _: True) -> Recording:
        """Read the record, and make sure that it tells all.

        Args:
            is_heard: which lines count; those of an fsync may be left out, to see whether it is missed.

        Raises:
            UnreadableRecordError: what the record tells does not end with the files that there are.
        """
        found = Recording(self._world, self._scratch / "marks", self._kind)
        with (self._scratch / "record").open(encoding="ascii") as lines:
            found.read(filter(is_heard, lines))
        self._write(found, Cut(1 << 60, "all", "the end"))
        differ = list(_differences(filecmp.dircmp(self._scratch / "recorded", self._world, ignore=[], hide=[])))
        if differ:
            raise strace.UnreadableRecordError(f"the record does not tell how these came about: {differ[:5]}")
        return found

    def problems_of(self, recording: Recording, cut: Cut, *, served: bool) -> list[str]:
        """Cut, and look; name what is wrong.

        Args:
            recording: what was done.
            cut: where.
            served: serve the homes, too.
        """
        facts = facts_at(recording.marks, cut.line)
        self._write(recording, cut)
        if served:
            scratch = check_served.empty(self._scratch / "restored")
            half_made = [name for name in names_in(recording) if name not in facts]
            found = list(check_served.half_made_problems(half_made, self._world))
            found += check_served.problems_of(facts, self._world, self._scratch / "trees", scratch)
            if found:
                return found
        return [problem for each in facts.values() for problem in check_stored.problems_of(each, self._world)]

    def _write(self, recording: Recording, cut: Cut) -> None:
        shutil.rmtree(self._world, ignore_errors=True)
        recording.disk.after_cut(cut.line, Draw(cut.draw)).write(
            self._world, without=_WITHOUT, only=lambda name: cut.domain in ("", _owner(name))
        )
        if cut.domain:
            recording.disk.after_cut(cut.line, Draw("all")).write(
                self._world, without=_WITHOUT, only=lambda name: _owner(name) != cut.domain
            )


def _owner(name: str) -> str:
    """Tell which domain a folder or file of the world belongs to."""
    return name.partition(".")[0]


def cuts(recording: Recording, seed: str) -> Iterator[Cut]:
    """Draw cuts without end: all kinds of steps in turn, and at each the extremes and others in turn.

    A cut lies just before a step is over, when most is unstable; just behind an acknowledgement. Of two domains now
    both lose power, now one.
    """
    rng = random.Random(seed)
    domains = names_in(recording)
    kinds: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    for line, step in recording.boundaries:
        kinds[_NUMBERS.sub("#", step)].append((line, step))
    turns = dict.fromkeys(kinds, 0)
    for number in itertools.count():
        for kind in rng.sample(sorted(kinds), len(kinds)):
            line, step = rng.choice(kinds[kind])
            turn = turns[kind] = turns[kind] + 1
            if number == 0:
                turn = rng.randrange(2 * len(EXTREMES))
            place = turn % (2 * len(EXTREMES))
            draw = EXTREMES[place] if place < len(EXTREMES) else f"{seed}-{number}-{line}"
            alone = rng.choice(domains) if len(domains) > 1 and rng.random() < _ALONE else ""
            yield Cut(line if step.startswith("write ") else line - 1, draw, step, alone)


def _differences(found: filecmp.dircmp[str]) -> Iterator[str]:
    """Name what differs; sockets and SQLite's shared memory are left out."""
    for name in (*found.left_only, *found.right_only):
        if not name.endswith(_WITHOUT):
            yield name
    _, mismatch, errors = filecmp.cmpfiles(found.left, found.right, found.common_files, shallow=False)
    yield from (name for name in (*mismatch, *errors) if not name.endswith(_WITHOUT))
    for below in found.subdirs.values():
        yield from _differences(below)


def main(words: list[str]) -> int:
    """Read the command line, cut, and tell."""
    parser = argparse.ArgumentParser(prog="python -m durability.powercut", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--cuts", type=int, default=400, help="cuts after which the files are looked at")
    parser.add_argument("--served", type=int, default=30, help="cuts after which the domains are served again as well")
    parser.add_argument("--seed", default=secrets.token_hex(4))
    parser.add_argument("--domains", type=int, choices=(1, 2), default=2)
    parser.add_argument("--file-system", choices=[kind.value for kind in FileSystem], default=FileSystem.POSIX.value)
    parser.add_argument(
        "--again", nargs=3, metavar=("LINE", "DRAW", "DOMAIN"), help="one cut of the record that is there"
    )
    parser.add_argument("--keep", action="store_true", help="use the record that is there")
    asked = parser.parse_args(words)
    hurry()
    work = PowerCuts(asked.scratch.resolve(), asked.domains, FileSystem(asked.file_system))
    if not (asked.keep or asked.again):
        try:
            print(f"recorded in {work.record():.1f} s", flush=True)
        except FolderInUseError as error:
            parser.error(str(error))
    recording = work.read()
    print(f"{len(recording.disk.deeds)} deeds, {len(recording.boundaries)} steps, {len(recording.marks)} acknowledged")
    if asked.again:
        found = work.problems_of(
            recording, Cut(int(asked.again[0]), asked.again[1], "again", asked.again[2]), served=True
        )
        print("\n".join(found) or "nothing is wrong")
        return 1 if found else 0
    print(f"seed {asked.seed}", flush=True)
    drawn = cuts(recording, asked.seed)
    bad = 0
    begun = time.monotonic()
    every = max(1, (asked.cuts + asked.served) // max(1, asked.served))
    for number in range(asked.cuts + asked.served):
        cut = next(drawn)
        served = asked.served > 0 and number % every == every - 1
        problems = work.problems_of(recording, cut, served=served)
        bad += bool(problems)
        for problem in problems:
            print(
                f"--again {cut.line} {cut.draw} '{cut.domain}'{' served' if served else ''} ({cut.step}): {problem}",
                flush=True,
            )
        if number % _TOLD_EVERY == _TOLD_EVERY - 1:
            print(f"{number + 1} cuts, {bad} with problems", flush=True)
    print(f"{asked.cuts + asked.served} cuts in {time.monotonic() - begun:.0f} s, {bad} with problems")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
