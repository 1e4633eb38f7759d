"""P1: what is acknowledged survives a power cut, whatever of the rest reached the disk; a killed process; a full disk.

A short run of the harnesses in ``durability``; ``make durability`` does more (docs/explanation/durability.md).
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from itertools import islice

import pytest

from durability import check_collected, story
from durability.full import Fault, Filling
from durability.kill import Killing
from durability.killer import Aim
from durability.model import FileSystem
from durability.powercut import Cut, PowerCuts, cuts
from durability.recording import Recording
from durability.work import Work

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
CUTS = 30


@pytest.fixture(scope="module", autouse=True)
def _hurried() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in story.HURRY.items():
            patch.setenv(f"STRONGROOM_TIMES__{name}", value)
        before = os.umask(0o022)
        yield
        os.umask(before)


@pytest.fixture(scope="module")
def power(tmp_path_factory: pytest.TempPathFactory) -> PowerCuts:
    """One domain, recorded from its making to its last backup, with expiry, a collection and a repair."""
    work = PowerCuts(tmp_path_factory.mktemp("power") / "cut", 1, FileSystem.POSIX)
    work.record()
    return work


@pytest.fixture(scope="module")
def recording(power: PowerCuts) -> Recording:
    return power.read()


def test_what_was_acknowledged_is_whole_after_any_cut(power: PowerCuts, recording: Recording) -> None:
    """C1, P1: keys, catalog, images; the index that was kept is the one that is made anew."""
    seed = os.urandom(4).hex()
    for cut in islice(cuts(recording, seed), CUTS):
        assert power.problems_of(recording, cut, served=False) == [], cut


def test_a_domain_goes_on_after_a_cut(power: PowerCuts, recording: Recording) -> None:
    """It starts, verifies, restores, and backs up again; the cut lies between two acknowledged backups."""
    before, last = [line for line, mark in recording.marks if json.loads(mark)["fact"] == "image"][-2:]
    cut = Cut((before + last) // 2, "lost", "a backup")
    problems = power.problems_of(recording, cut, served=True)
    assert not problems, "\n".join(problems)


def test_an_fsync_that_is_left_out_is_noticed(power: PowerCuts) -> None:
    """The harness can fail: the same work, told without the fsync of the names of containers."""
    shown = "".join(f"\\x{byte:02x}" for byte in b"/pools/main/containers")
    broken = power.read(lambda line: " fsync(" not in line or shown not in line)
    line = broken.marks[-1][0]
    assert power.problems_of(broken, Cut(line, "lost", "the end"), served=False) != []


def test_what_a_collection_leaves_is_noticed(
    power: PowerCuts, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The harness can fail: nobody collects, and an image has just gone."""
    monkeypatch.setattr(check_collected, "collect_twice", lambda *_: None)
    line = next(line for line, step in recording.boundaries if step.startswith("unlink /north/pools/main/images/"))
    found = power.problems_of(recording, Cut(line, "all", "an image is removed"), served=False)
    assert any("survives a collection" in problem for problem in found)


def test_a_role_that_is_killed_or_refused_a_call_goes_on(tmp_path_factory: pytest.TempPathFactory) -> None:
    """R10, P1, P2: its supervisor starts it again; the disk is full, or fails, from some moment on, and then is not."""
    rng = random.Random("a test")  # noqa: S311 - which trees and draws
    work = Work(tmp_path_factory.mktemp("w") / "w", 1, rng)  # short: a socket lies below it
    filling = Filling(work, rng)
    try:
        work.prepare()
        step, problems = Killing(work, rng).round(Aim("north", "media", "link"))
        full, more = filling.round(Fault(Aim("north", "media", "link"), "ENOSPC", stays=True))
        failing, most = filling.round(Fault(Aim("north", "primary", "fdatasync"), "EIO", stays=True))
        problems += [*more, *most, *work.full_look()]
    finally:
        work.stop()
    assert step == "pool: the object gets its name"
    assert step in full
    assert "catalog: a transaction is made stable" in failing
    assert problems == []
