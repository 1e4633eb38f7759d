"""P2, L5: a collection killed at any step loses nothing that an image needs, and the next one frees the rest."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from strongroom.formats.fragment import Fragment
from strongroom.images.verify import verify_image
from tests.support.vault import Vault, random_bytes
from tests.unit.images.test_collect import back_up, containers, expire, run

ROOT = Path(__file__).parents[2]
STEPS = {
    "containers are condemned": (2, "strongroom.pool.index:Index.condemn", "after", 1),
    "envelopes are condemned": (2, "strongroom.images.envelopes:Envelopes.condemn", "after", 1),
    "a container is about to go": (3, "strongroom.pool.folder:Folder.remove", "before", 1),
    "a file is gone, its folder not stable": (3, "strongroom.pool.folder:Path.unlink", "after", 1),
    "a container is gone, the index does not know": (3, "strongroom.pool.index:Index.remove", "before", 1),
    "the index knows of one of them": (3, "strongroom.pool.index:Index.remove", "after", 1),
    "all containers are gone": (3, "strongroom.pool.index:Index.purge", "before", 1),
    "an envelope is gone, its cache does not know": (3, "strongroom.pool.folder:Folder.remove", "after", 3),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Vault, Fragment, Path]:
    """A pool with an image that stays and one that is expired."""
    vault = Vault(tmp_path_factory.mktemp("made"))
    kept = back_up(vault, "kept", random_bytes("kept", 300_000))
    expire(vault, back_up(vault, "gone", random_bytes("gone", 300_000)))
    vault.pool.close()
    return vault, kept, vault.path


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_collection_killed_at_any_step_is_made_up_for(
    made: tuple[Vault, Fragment, Path], tmp_path: Path, step: tuple[int, str, str, int]
) -> None:
    vault, kept, original = made
    epoch, *where = step
    vault.path = shutil.copytree(original, tmp_path / "pool")
    vault.reopen()
    if epoch == 3:
        run(vault, 2)
    vault.pool.close()
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/fault/collect_child.py"), str(vault.path), str(epoch), *map(str, where)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    vault.reopen()
    assert list(verify_image(vault.pool, kept, vault)) == []
    for later in range(4, 7):
        told = run(vault, later)
    assert (told.unneeded.containers, told.envelopes_waiting) == (0, 0)
    assert len(containers(vault)) == 2
    assert len(vault.pool.envelopes.for_frames()) == 1
    assert list(verify_image(vault.pool, kept, vault)) == []
    vault.pool.close()
