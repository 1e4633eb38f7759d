"""The demonstration: what a newcomer runs first does the whole main job (R2 to R8, T1 to T6, K3, K4, I1 to I3)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.trees import make_tree

STRONGROOM = str(Path(sys.executable).with_name("strongroom"))


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_demonstration_does_every_step_and_restores_the_same_tree(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source")
    words = ["demo", "--json", "--source", str(source), "--keep", str(tmp_path / "kept")]
    done = subprocess.run([STRONGROOM, *words], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()
    evidence = json.loads(done.stdout)
    assert [step["name"] for step in evidence["steps"] if not step["ok"]] == []
    assert len(evidence["steps"]) == 8
    assert evidence["identical"] is True
    assert (tmp_path / "kept" / "ashes" / "north").is_dir()


def test_a_folder_that_holds_something_is_not_taken_for_the_demonstration(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    done = subprocess.run([STRONGROOM, "demo", "--keep", str(tmp_path)], capture_output=True, check=False)
    assert done.returncode == 2
    assert b"is not empty" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
