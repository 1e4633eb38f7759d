"""P2: rewriting leaves alone what a retention lock keeps, and a lock that was lifted does not count any more."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from strongroom.core.ids import ImageId
from strongroom.formats.lock_record import LockMode
from strongroom.images.collect import Collected, collect
from strongroom.images.locking import ImageLocker
from strongroom.pool import names
from strongroom.pool.collection import Epochs
from tests.support.locking import pass_time, removable_again
from tests.support.vault import Vault
from tests.unit.images.test_collect import blocks_of, containers, is_whole
from tests.unit.images.test_rewriting import FIRST, SMALL, place_of, run, sparse


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    with removable_again(tmp_path):
        vault = Vault(tmp_path / "vault")
        vault.pool.locks.strengthen(LockMode.GOVERNANCE, 7)
        yield vault
        vault.pool.close()


def lifted(vault: Vault, epoch: int) -> Collected:
    return collect(
        vault.pool,
        epochs=Epochs(epoch, epoch, None),
        committing=[],
        rewriting=vault.rewriting(),
        dry_run=False,
        check=lambda *_: None,
        lift=True,
    )


def test_sparse_container_is_rewritten_only_when_its_lock_is_over_p2(vault: Vault) -> None:
    kept = sparse(vault)
    path, _, _ = place_of(vault, kept)
    end_ns = ImageLocker(vault.pool).lock(kept)
    told = run(vault, 1)
    assert (told.rewritten.containers, told.condemned.containers, told.damaged) == (0, 1, [])
    assert told.sparse_bytes > 700_000
    told = lifted(vault, 2)
    assert (told.rewritten.containers, told.condemned.containers, told.removed.containers) == (0, 0, 1)
    assert path.exists()
    ahead = timedelta(microseconds=(end_ns - vault.pool.locks.now_ns()) // 1_000 + 1)
    pass_time(vault.clock, vault.pool.locks, ahead)
    told = run(vault, 3)
    assert (told.rewritten.containers, told.condemned.containers, told.sparse_bytes) == (1, 1, 0)
    assert run(vault, 4).removed.containers == 1
    assert not path.exists()
    assert is_whole(vault, kept)


@pytest.mark.parametrize("lifts", [False, True])
def test_container_that_is_locked_while_it_is_rewritten_stays_p2(vault: Vault, lifts: bool) -> None:
    """Its lock is lifted neither: what is needed of it lies in the copy, which nobody has locked."""
    kept = sparse(vault)
    path, _, _ = place_of(vault, kept)
    assert run(vault, 1).rewritten.containers == 1
    key = path.relative_to(vault.path).as_posix()
    vault.pool.locks.lock([key], vault.pool.locks.end_of(3_600))
    told = lifted(vault, 2) if lifts else run(vault, 2)
    assert (told.reprieved, told.removed.containers) == (1, 1)
    assert path.exists()
    assert is_whole(vault, kept)


def test_image_that_is_stored_again_after_its_lock_was_lifted_is_locked_whole_p2(vault: Vault) -> None:
    locker = ImageLocker(vault.pool)
    image, _ = vault.store(blocks_of(FIRST), name="image", limits=SMALL, encrypted=False)
    locker.lock(image)
    vault.pool.fragments.remove(ImageId(image.image.payload.image), 1, lift=True)
    assert lifted(vault, 1).condemned.containers == 2
    assert lifted(vault, 2).removed.containers == 2
    again, _ = vault.store(blocks_of(FIRST), name="again", limits=SMALL, encrypted=False)
    locker.lock(again)
    held = {key.rpartition("/")[2] for key in vault.pool.locks.locked(names.CONTAINERS)}
    assert held >= containers(vault)
    assert len(containers(vault)) == 2
