"""P2: all of a pool is read and checked without a key; what is damaged is named, with the images that need it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from strongroom.core.clock import to_ns
from strongroom.core.ids import ImageId
from strongroom.formats.fragment import Fragment
from strongroom.formats.lock_record import LockMode
from strongroom.images.collect import Check
from strongroom.images.locking import ImageLocker
from strongroom.images.repair import repair_pool
from strongroom.images.scrub import Scrubbed, scrub
from strongroom.pool import names
from strongroom.pool.checks import FILE_NAME
from strongroom.pool.folder import Folder
from strongroom.pool.immutable import set_immutable
from tests.support.locking import removable_again
from tests.support.vault import Vault, random_bytes
from tests.unit.images.test_collect import back_up, expire, run
from tests.unit.images.test_rewriting import flip, place_of


class Stopped(Exception):
    """The process is gone."""


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    vault = Vault(tmp_path / "vault")
    yield vault
    vault.pool.close()


def now_ns(vault: Vault) -> int:
    vault.clock.advance(timedelta(seconds=1))
    return to_ns(vault.clock.now())


def scrub_all(
    vault: Vault,
    *,
    since_ns: int | None = None,
    pace: Callable[[int], None] = lambda _: None,
    check: Check = lambda message, done=0, total=0: None,  # noqa: ARG005 - as it is called
) -> Scrubbed:
    return scrub(vault.pool, since_ns=now_ns(vault) if since_ns is None else since_ns, pace=pace, check=check)


def files(vault: Vault) -> dict[str, int]:
    """Every object of the pool, and its length."""
    kinds = ("medium", "containers", "envelopes", "images", "journal", "revocations")
    found = [path for path in vault.path.rglob("*") if path.is_file()]
    keys = {path.relative_to(vault.path).as_posix(): path.stat().st_size for path in found}
    return {key: size for key, size in keys.items() if key.split("/")[0] in kinds}


def image_key(image: Fragment) -> str:
    return names.image_key(ImageId(image.image.payload.image), 1)


def test_every_byte_of_a_whole_pool_is_counted_and_nothing_is_damaged_p2(vault: Vault) -> None:
    back_up(vault, "image", random_bytes("one", 400_000))
    paced: list[int] = []
    seen: list[tuple[int, int]] = []

    def check(message: str, done: int = 0, total: int = 0) -> None:
        assert message
        seen.append((done, total))

    began = now_ns(vault)
    told = scrub_all(vault, since_ns=began, pace=paced.append, check=check)
    there = files(vault)
    assert (told.objects, told.bytes) == (len(there), sum(there.values()))
    assert (told.damaged, told.images) == ([], [])
    assert sum(there.values()) - 4_000 < sum(paced) <= sum(there.values())
    assert seen[-1] == (told.bytes, told.bytes)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    state = vault.pool.checks.state()
    assert (state.containers, state.damaged) == (2, 0)
    assert state.oldest_ns is not None and state.oldest_ns >= began  # noqa: PT018 - one fact


@pytest.mark.parametrize("kind", ["containers", "envelopes", "images", "medium"])
def test_one_flipped_byte_anywhere_is_found_and_named_p2(vault: Vault, kind: str) -> None:
    back_up(vault, "image", random_bytes("one", 200_000))
    for key, size in sorted(files(vault).items()):
        if key.split("/")[0] != kind:
            continue
        flip(vault.path / key, size // 2)
        told = scrub_all(vault)
        assert [one.key for one in told.damaged] == [key]
        assert told.damaged[0].problem
        flip(vault.path / key, size // 2)
        assert scrub_all(vault).damaged == []


def test_only_images_that_need_what_is_damaged_are_named_p2(vault: Vault) -> None:
    hurt = back_up(vault, "hurt", random_bytes("one", 200_000))
    back_up(vault, "whole", random_bytes("two", 200_000))
    path, offset, frame = place_of(vault, hurt)
    flip(path, offset + 300)
    told = scrub_all(vault)
    assert [one.key.rpartition("/")[2] for one in told.damaged] == [path.name]
    assert [image.name for image in told.images] == [image_key(hurt)]
    assert frame.hex() in told.images[0].problems[0]


def test_damage_to_what_no_image_needs_names_no_image(vault: Vault) -> None:
    gone = back_up(vault, "gone", random_bytes("one", 200_000))
    back_up(vault, "kept", random_bytes("two", 200_000))
    path, offset, _ = place_of(vault, gone)
    expire(vault, gone)
    flip(path, offset + 300)
    told = scrub_all(vault)
    assert (len(told.damaged), told.images) == (1, [])
    run(vault, 1)
    run(vault, 2)
    assert vault.pool.checks.damaged() == []  # what is collected is not damaged any more


def test_scrub_that_was_stopped_goes_on_where_it_was_p2(vault: Vault) -> None:
    for name in ("one", "two", "three"):
        back_up(vault, name, random_bytes(name, 200_000))
    since = now_ns(vault)
    read: list[int] = []

    def stop(message: str, done: int = 0, total: int = 0) -> None:
        if message == "checking" and done > total // 2:
            raise Stopped

    with pytest.raises(Stopped):
        scrub_all(vault, since_ns=since, pace=read.append, check=stop)
    half = sum(read)
    vault.reopen()
    vault.clock.advance(timedelta(days=1))
    read.clear()
    told = scrub_all(vault, since_ns=since, pace=read.append)
    assert told.bytes == sum(files(vault).values())
    assert sum(read) < told.bytes - half + 300_000  # one container again at most
    read.clear()
    scrub_all(vault, since_ns=since, pace=read.append)
    assert read == []


def test_lost_or_damaged_state_means_that_all_is_checked_again(vault: Vault) -> None:
    back_up(vault, "one", random_bytes("one", 200_000))
    since = now_ns(vault)
    scrub_all(vault, since_ns=since)
    vault.pool.close()
    (vault.path / "index" / FILE_NAME).write_bytes(b"no database" * 1_000)
    vault.reopen()
    assert vault.pool.checks.state() == (0, None, 0)
    assert scrub_all(vault, since_ns=since).objects == len(files(vault))


def test_what_goes_while_it_is_read_is_not_damaged_p2(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = back_up(vault, "gone", random_bytes("one", 200_000))
    kept = back_up(vault, "kept", random_bytes("two", 200_000))
    expire(vault, gone)
    run(vault, 1)
    size = Folder.size

    def then_collect(folder: Folder, key: str) -> int:
        found = size(folder, key)
        if key.startswith(names.CONTAINERS):
            monkeypatch.setattr(Folder, "size", size)
            run(vault, 2)
        return found

    monkeypatch.setattr(Folder, "size", then_collect)
    told = scrub_all(vault)
    assert (told.damaged, told.images) == ([], [])
    assert image_key(kept) in files(vault)


def test_repair_takes_a_container_off_the_list_of_what_is_damaged(vault: Vault) -> None:
    hurt = back_up(vault, "hurt", random_bytes("one", 200_000))
    path, offset, _ = place_of(vault, hurt)
    flip(path, offset + 300)
    scrub_all(vault)
    assert vault.pool.checks.state().damaged == 1
    repair_pool(vault.pool, dry_run=True)
    assert vault.pool.checks.state().damaged == 1
    repair_pool(vault.pool, dry_run=False)
    assert vault.pool.checks.state().damaged == 0


@pytest.mark.parametrize("kind", [names.LOCK_MODES, names.LOCK_CLOCKS, names.LOCK_RECORDS])
def test_damaged_word_of_a_lock_is_found_p2(vault: Vault, kind: str) -> None:
    with removable_again(vault.path):
        vault.pool.locks.strengthen(LockMode.GOVERNANCE, 7)
        ImageLocker(vault.pool).lock(back_up(vault, "image", random_bytes("one", 100_000)))
        assert scrub_all(vault).damaged == []
        key = next(stored.key for stored in vault.pool.store.list(kind))
        set_immutable(vault.path / key, immutable=False)
        flip(vault.path / key, 40)
        (damaged,) = scrub_all(vault).damaged
        assert (damaged.key, damaged.problem.split(":")[0]) == (key, "format.damaged")
