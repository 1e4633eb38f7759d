"""P2: all that phase one and a restore read of an image is locked with it, and neither collected nor put aside."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from strongroom.core.ids import ImageId, PageId
from strongroom.formats.lock_record import LAST_NS, LockMode
from strongroom.images.collect import Collected, collect
from strongroom.images.locking import ImageLocker, retention_of
from strongroom.images.repair import repair_pool
from strongroom.pool import names
from strongroom.pool.collection import Epochs
from strongroom.pool.errors import FrameMissingError, LockedError, LocksUnreadError
from strongroom.pool.immutable import set_immutable
from strongroom.pool.locks import FILE_NAME
from strongroom.pool.reader import PageReader
from strongroom.pool.writer import WriterLimits
from tests.support.locking import pass_time, removable_again
from tests.support.vault import Vault
from tests.unit.images.test_collect import FIRST, SECOND, back_up, containers, expire, is_whole, run

DAYS = 86_400


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    with removable_again(tmp_path):
        vault = Vault(tmp_path / "vault")
        vault.pool.locks.strengthen(LockMode.GOVERNANCE, 7)
        yield vault
        vault.pool.close()


def lifted(vault: Vault, epoch: int) -> Collected:
    epochs = Epochs(epoch, epoch, None)
    return collect(vault.pool, epochs=epochs, committing=[], dry_run=False, check=lambda *_: None, lift=True)


def objects(vault: Vault) -> set[str]:
    """Everything in the pool that an image may need."""
    kinds = (names.CONTAINERS, names.ENVELOPES, names.IMAGES)
    return {stored.key for kind in kinds for stored in vault.pool.store.list(kind)}


def locked(vault: Vault) -> set[str]:
    kinds = (names.CONTAINERS, names.ENVELOPES, names.IMAGES)
    return {key for kind in kinds for key in vault.pool.locks.locked(kind)}


@pytest.mark.parametrize("small", [False, True], ids=["one container", "many containers"])
def test_all_that_an_image_needs_is_locked_and_nothing_else_p2(vault: Vault, small: bool) -> None:
    before = objects(vault)
    assert before == set()
    limits = WriterLimits(frame_bytes=1, container_bytes=1) if small else None
    image = back_up(vault, "image", FIRST, limits=limits)
    needed = objects(vault) - {key for key in objects(vault) if is_naming_envelope(vault, key)}
    back_up(vault, "other", SECOND)
    end_ns = ImageLocker(vault.pool).lock(image)
    assert locked(vault) == needed
    assert {vault.pool.locks.until_ns(key) for key in needed} == {end_ns}
    if small:
        assert len([key for key in needed if key.startswith(names.CONTAINERS)]) > 3


def is_naming_envelope(vault: Vault, key: str) -> bool:
    """Tell the envelope with the naming key, which no restore reads."""
    naming = vault.pool.envelopes.naming(origin=vault.id, group=vault.group, medium=vault.medium)
    return names.envelope_of(key) in naming


def test_an_image_that_shares_frames_locks_the_containers_of_others_as_long_as_itself_p2(vault: Vault) -> None:
    locker = ImageLocker(vault.pool)
    first = back_up(vault, "first", FIRST)
    first_end = locker.lock(first)
    second = back_up(vault, "second", FIRST, SECOND)
    second_end = locker.lock_for(second, 30 * DAYS)
    assert second_end > first_end
    shared = {key for key in vault.pool.locks.locked(names.CONTAINERS) if vault.pool.locks.until_ns(key) == second_end}
    assert len(shared) >= 3  # the frames of the first, those of the second, and pages
    assert vault.pool.locks.until_ns(names.image_key(ImageId(first.image.payload.image), 1)) == first_end


def test_locking_is_repeated_without_harm_and_after_a_crash_p2(vault: Vault) -> None:
    image = back_up(vault, "image", FIRST)
    end_ns = ImageLocker(vault.pool).lock(image)
    records = len(list(vault.pool.store.list(names.LOCK_RECORDS)))
    assert ImageLocker(vault.pool).lock(image) == end_ns
    vault.clock.advance(timedelta(days=1))
    vault.reopen()
    assert ImageLocker(vault.pool).lock(image) == end_ns
    assert len(list(vault.pool.store.list(names.LOCK_RECORDS))) == records


def test_an_unchanged_image_reads_only_pages_that_are_new_p2(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    locker = ImageLocker(vault.pool)
    locker.lock(back_up(vault, "first", FIRST, SECOND))
    second = back_up(vault, "second", FIRST, SECOND)
    read: list[PageId] = []
    page_of = PageReader.page

    def page(self: PageReader, wanted: PageId) -> bytes:
        read.append(wanted)
        return page_of(self, wanted)

    monkeypatch.setattr(PageReader, "page", page)
    locker.lock(second)
    # the roots are those of the first, so nothing below them is looked at
    assert sorted(read) == sorted(PageId(one) for one in second.copy.payload.key_pages)


def test_a_lock_is_made_longer_and_never_shorter_p2(vault: Vault) -> None:
    locker = ImageLocker(vault.pool)
    image = back_up(vault, "image", FIRST)
    end_ns = locker.lock(image)
    longer = locker.lock_for(image, 400 * DAYS)
    assert longer > end_ns
    assert locker.lock_for(image, 1) == longer
    assert {vault.pool.locks.until_ns(key) for key in locked(vault)} == {longer}


def test_an_image_that_is_not_whole_is_not_locked_p2(vault: Vault) -> None:
    image = back_up(vault, "image", FIRST)
    for path in (vault.path / "containers").glob("*/*"):
        if path.stat().st_size > 300_000:
            path.unlink()
    vault.reopen()
    with pytest.raises(FrameMissingError):
        ImageLocker(vault.pool).lock(image)
    assert locked(vault) == set()


def test_a_pool_that_locks_nothing_locks_nothing_p2(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "plain")
    image = back_up(vault, "image", FIRST)
    assert ImageLocker(vault.pool).lock(image) == 0
    assert list(vault.pool.store.list(names.LOCKS)) == []
    expire(vault, image)


def test_collection_frees_nothing_that_is_locked_and_all_of_it_afterwards_p2(vault: Vault) -> None:
    image = back_up(vault, "image", FIRST)
    end_ns = ImageLocker(vault.pool).lock(image)
    with pytest.raises(LockedError):
        expire(vault, image)
    file = vault.path / names.image_key(ImageId(image.image.payload.image), 1)
    set_immutable(file, immutable=False)
    file.unlink()  # as root may
    before = containers(vault)
    for epoch in (1, 2, 3):
        told = run(vault, epoch)
        assert (told.locked.containers, told.condemned.containers, told.removed.containers) == (2, 0, 0)
        assert told.envelopes == told.envelopes_waiting == told.unneeded.containers == 0
    for file in vault.pool.store.index_path.glob(f"{FILE_NAME}*"):
        file.unlink()
    vault.reopen()
    told = run(vault, 4)
    assert (told.locked.containers, told.removed.containers) == (2, 0)
    assert containers(vault) == before
    ahead = timedelta(microseconds=(end_ns - vault.pool.locks.now_ns()) // 1_000 + 1)
    pass_time(vault.clock, vault.pool.locks, ahead)
    assert run(vault, 5).condemned.containers == 2
    told = run(vault, 6)
    assert (told.removed.containers, told.envelopes) == (2, 1)
    assert containers(vault) == set()


def test_what_was_condemned_before_it_was_locked_is_reprieved_p2(vault: Vault) -> None:
    image = back_up(vault, "image", FIRST)
    vault.pool.index.condemn([c for c, *_ in vault.pool.index.containers()], 1)
    ImageLocker(vault.pool).lock(image)
    told = run(vault, 5)
    assert (told.reprieved, told.removed.containers) == (2, 0)
    assert is_whole(vault, image)


def test_a_governance_lock_is_lifted_for_what_no_image_needs_and_a_compliance_lock_is_not_p2(vault: Vault) -> None:
    locker = ImageLocker(vault.pool)
    kept, gone = back_up(vault, "kept", FIRST), back_up(vault, "gone", SECOND)
    locker.lock(kept)
    locker.lock(gone)
    vault.pool.fragments.remove(ImageId(gone.image.payload.image), 1, lift=True)
    assert run(vault, 1).locked.containers == 2
    assert lifted(vault, 2).condemned.containers == 2
    assert lifted(vault, 3).removed.containers == 2
    assert is_whole(vault, kept)
    other = back_up(vault, "other", SECOND)
    locker.lock(other)
    vault.pool.locks.strengthen(LockMode.COMPLIANCE, 7)
    with pytest.raises(LockedError):
        vault.pool.fragments.remove(ImageId(other.image.payload.image), 1, lift=True)
    for epoch in (4, 5):
        told = lifted(vault, epoch)
        assert (told.condemned.containers, told.removed.containers) == (0, 0)


def test_collection_stops_when_it_cannot_be_told_what_is_locked_p2(vault: Vault) -> None:
    ImageLocker(vault.pool).lock(back_up(vault, "image", FIRST))
    for stored in vault.pool.store.list(names.LOCK_RECORDS):
        set_immutable(vault.path / stored.key, immutable=False)
        (vault.path / stored.key).write_bytes(b"damage")
    for file in vault.pool.store.index_path.glob(f"{FILE_NAME}*"):
        file.unlink()
    vault.reopen()
    with pytest.raises(LocksUnreadError, match="everything is kept until"):
        run(vault, 1)


def test_repair_leaves_a_damaged_container_that_is_locked_and_locks_what_it_saves_p2(vault: Vault) -> None:
    image = back_up(vault, "image", FIRST)
    end_ns = ImageLocker(vault.pool).lock(image)
    damaged = next(path for path in (vault.path / "containers").glob("*/*") if path.stat().st_size > 300_000)
    set_immutable(damaged, immutable=False)
    damaged.write_bytes(damaged.read_bytes()[:-1])  # its tail: all its frames are whole
    vault.reopen()
    vault.clock.advance(timedelta(seconds=1))  # what is newer is looked at first
    report = repair_pool(vault.pool, dry_run=False)
    (mended,) = report.containers
    assert mended.aside == ""
    assert mended.why_kept.startswith("it is locked until ")
    assert mended.copied > 0
    assert damaged.exists()
    assert is_whole(vault, image)
    assert len(containers(vault)) == 3
    assert {vault.pool.locks.until_ns(f"containers/{name[:2]}/{name}") for name in containers(vault)} == {end_ns}


def test_a_damaged_header_is_written_again_and_a_whole_one_that_is_locked_is_not_replaced_p2(vault: Vault) -> None:
    image = back_up(vault, "image", FIRST)
    other = vault.domain.copy(image.image, medium=vault.medium, journal_medium=vault.medium)  # with no key page
    locker = ImageLocker(vault.pool)
    end_ns = locker.lock(image)
    identity = ImageId(image.image.payload.image)
    key = names.image_key(identity, 1)
    data = image.copy.data + image.trailer.data
    with pytest.raises(LockedError):
        vault.pool.fragments.restore(identity, 1, other.copy.data + other.trailer.data)
    set_immutable(vault.path / key, immutable=False)
    (vault.path / key).write_bytes(b"damage")
    vault.pool.locks.fix(key)
    vault.pool.fragments.restore(identity, 1, data)
    assert vault.pool.store.read(key) == data
    assert (vault.path / "damaged" / key).read_bytes() == b"damage"
    assert vault.pool.locks.until_ns(key) == end_ns
    with pytest.raises(LockedError):
        expire(vault, image)


def test_a_copy_is_locked_as_long_as_it_was_to_be_kept_when_it_was_written_p2(vault: Vault) -> None:
    image = back_up(vault, "image", FIRST)
    retention = retention_of(image)
    assert retention == image.image.payload.retention == 3_600
    now_ns = vault.pool.locks.now_ns()
    end_ns = ImageLocker(vault.pool).lock(image)
    assert DAYS * 10**9 <= end_ns - now_ns - retention * 10**9 < 8 * DAYS * 10**9
    assert end_ns < LAST_NS
