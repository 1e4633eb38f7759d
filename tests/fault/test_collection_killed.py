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
from tests.unit.images import test_rewriting as rewriting
from tests.unit.images.test_collect import back_up, blocks_of, containers, expire, run

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
REWRITING = {
    "a frame is copied": ("strongroom.pool.containers:ContainerWriter.append_frame", "after", 1),
    "all frames are copied": ("strongroom.pool.containers:ContainerWriter.seal", "before", 1),
    "a copy has its name, the index does not know": ("strongroom.pool.containers:ContainerWriter.seal", "after", 1),
    "the index knows of the copy": ("strongroom.pool.index:Index.add", "after", 1),
    "the old one is about to be condemned": ("strongroom.pool.index:Index.condemn", "before", 2),
    "the old one is condemned": ("strongroom.pool.index:Index.condemn", "after", 2),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Vault, Fragment, Path]:
    """A pool with an image that stays and one that is expired."""
    vault = Vault(tmp_path_factory.mktemp("made"))
    kept = back_up(vault, "kept", random_bytes("kept", 300_000))
    expire(vault, back_up(vault, "gone", random_bytes("gone", 300_000)))
    vault.pool.close()
    return vault, kept, vault.path


def kill(vault: Vault, epoch: int, *words: str | int) -> None:
    """Collect in another process, which kills itself."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/fault/collect_child.py"), str(vault.path), str(epoch), *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_collection_killed_at_any_step_is_made_up_for(
    made: tuple[Vault, Fragment, Path], tmp_path: Path, step: tuple[int, str, str, int]
) -> None:
    vault, kept, original = made
    epoch, function, when, count = step
    vault.path = shutil.copytree(original, tmp_path / "pool")
    vault.reopen()
    if epoch == 3:
        run(vault, 2)
    vault.pool.close()
    kill(vault, epoch, function, when, count)
    vault.reopen()
    assert list(verify_image(vault.pool, kept, vault)) == []
    for later in range(4, 7):
        told = run(vault, later)
    assert (told.unneeded.containers, told.envelopes_waiting) == (0, 0)
    assert len(containers(vault)) == 2
    assert len(vault.pool.envelopes.for_frames()) == 1
    assert list(verify_image(vault.pool, kept, vault)) == []
    vault.pool.close()


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> tuple[Vault, Fragment, Path]:
    """A pool with an image that needs a part of a container, and one that is expired."""
    vault = Vault(tmp_path_factory.mktemp("half"))
    kept = rewriting.sparse(vault)
    vault.pool.close()
    return vault, kept, vault.path


@pytest.mark.parametrize("step", REWRITING.values(), ids=REWRITING)
def test_rewriting_killed_at_any_step_is_made_up_for(
    half: tuple[Vault, Fragment, Path], tmp_path: Path, step: tuple[str, str, int]
) -> None:
    vault, kept, original = half
    vault.path = shutil.copytree(original, tmp_path / "pool")
    vault.reopen()
    before = rewriting.stored(vault)
    key = vault.naming_key().reveal().hex()
    vault.pool.close()
    function, when, count = step
    kill(vault, 1, function, when, count, key)
    vault.reopen()
    assert list(verify_image(vault.pool, kept, vault)) == []
    for later in range(2, 6):
        told = rewriting.run(vault, later)
    assert (told.unneeded.containers, told.sparse_bytes, told.waiting.containers, told.damaged) == (0, 0, 0, [])
    assert before - rewriting.stored(vault) > 780_000
    assert list(verify_image(vault.pool, kept, vault)) == []
    again, result = vault.store(blocks_of(rewriting.FIRST), name="again", limits=rewriting.SMALL)
    assert result.added_bytes < 10_000
    assert list(verify_image(vault.pool, again, vault)) == []
    vault.pool.close()
