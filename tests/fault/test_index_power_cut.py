"""P1: an index of many runs is, after a power cut at any moment, the one that is made anew from what is left."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest

from durability import strace
from durability.model import Draw, FileSystem
from durability.powercut import Cut, cuts
from durability.recording import Recording
from strongroom.pool.folder import Folder
from strongroom.pool.index import FILE_NAME, open_index
from tests.fault.index_child import LIMITS
from tests.support.index_facts import facts
from tests.support.pool import MEDIUM, CountedEntropy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]
CUTS = 60


@pytest.fixture(scope="module", params=list(FileSystem), ids=lambda kind: kind.value)
def recording(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """What a process did that made a pool, took sixty containers into an index with a small table, and removed some."""
    scratch = tmp_path_factory.mktemp("cut")
    world = scratch / "world"
    world.mkdir()
    child = (sys.executable, str(ROOT / "tests/fault/index_child.py"), str(world / "pool"))
    done = subprocess.run(
        strace.command(scratch / "record", *child),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = Recording(world, scratch / "marks", request.param)
    with (scratch / "record").open(encoding="ascii") as lines:
        found.read(lines)
    return found


def in_the_index(recording: Recording, seed: str) -> Iterator[Cut]:
    """Draw cuts at what is done to the index, once the pool is made."""
    made = next(line for line, step in recording.boundaries if "/containers/" in step)
    return (cut for cut in cuts(recording, seed) if cut.line > made and "/index" in cut.step)


def test_an_index_is_made_of_what_the_cut_left(recording: Recording, tmp_path: Path) -> None:
    runs = 0
    for cut in islice(in_the_index(recording, os.urandom(4).hex()), CUTS):
        world = tmp_path / "world"
        shutil.rmtree(world, ignore_errors=True)
        recording.disk.after_cut(cut.line, Draw(cut.draw)).write(world, without=("-shm",), only=lambda _: True)
        store = Folder.open(world / "pool", CountedEntropy("after"))
        index, report = open_index(store.index_path, store, CountedEntropy("after"), medium=MEDIUM, limits=LIMITS)
        with closing(index):
            assert report.problems == [], cut
            with closing(sqlite3.connect(store.index_path / FILE_NAME)) as db:
                (listed,) = db.execute("SELECT COUNT(*) FROM run").fetchone()
            assert len(list(store.index_path.glob("*.run"))) == listed, cut
            runs = max(runs, listed)
            kept = facts(store.index_path)
            index.rebuild(store)
            assert facts(store.index_path) == kept, cut
    assert runs > 1
