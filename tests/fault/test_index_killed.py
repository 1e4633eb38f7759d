"""P1: an index whose process was killed at any step is the one that is made anew from the containers."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from strongroom.pool.folder import Folder
from strongroom.pool.index import FILE_NAME, open_index
from tests.fault.index_child import CONTAINERS, LIMITS
from tests.support.index_facts import facts
from tests.support.pool import MEDIUM, CountedEntropy

ROOT = Path(__file__).parents[2]
STEPS = {
    "a table is full": ("strongroom.pool.runs:write", "before", 3),
    "a run is half written": ("os:pwrite", "after", 5),
    "a run is there, its file not stable": ("os:fsync", "before", 5),
    "a run is stable, its name not": ("strongroom.pool.runs:sync_folder", "before", 3),
    "a run is stable, and not listed": ("strongroom.pool.runs:sync_folder", "after", 3),
    "a run is listed": ("strongroom.pool.places:Places.enter", "after", 9),
    "a merge begins": ("strongroom.pool.runs:merge", "before", 4),
    "runs are merged, and not listed": ("strongroom.pool.runs:sync_folder", "after", 6),
    "the merged run is listed, the old ones are there": (
        "strongroom.pool.places:Places._remove_unknown",
        "before",
        4,
    ),
    "one of the old runs is gone": ("strongroom.pool.places:Path.unlink", "after", 7),
    "all old runs are gone": ("strongroom.pool.places:Places._remove_unknown", "after", 4),
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_an_index_goes_on_after_its_process_was_killed(tmp_path: Path, step: tuple[str, str, int]) -> None:
    store = Folder.create(tmp_path / "pool", b"medium header", CountedEntropy())
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/fault/index_child.py"), str(store.path), *map(str, step)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert 0 < len(done.stdout.split()) < CONTAINERS
    index, report = open_index(store.index_path, store, CountedEntropy(), medium=MEDIUM, limits=LIMITS)
    with closing(index):
        assert len(report.added) <= 1, "what was told stays known"
        assert report.problems == []
        with closing(sqlite3.connect(store.index_path / FILE_NAME)) as db:
            (listed,) = db.execute("SELECT COUNT(*) FROM run").fetchone()
        assert len(list(store.index_path.glob("*.run"))) == listed, "files that nobody knows are gone"
        kept = facts(store.index_path)
        index.rebuild(store)
        assert facts(store.index_path) == kept
