"""P1, P2: a repair saves what is whole, says what is lost, deletes nothing, and a look changes nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from strongroom.formats import container as container_format
from strongroom.images.open_pool import OpenPool
from strongroom.images.repair import RepairReport, repair_pool
from strongroom.pool import names
from strongroom.pool.errors import PoolFullError
from strongroom.pool.verify import verify_container
from tests.fault.test_damage import (
    ENDS,
    FRAMES,
    HEADERS,
    Damage,
    emptied,
    fragment_file,
    half,
    outcomes,
    removed,
)
from tests.support.damaged_pool import NAMES, Layout, Outcome, SmallPool


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallPool:
    return SmallPool(tmp_path_factory.mktemp("small"))


def files(path: Path) -> dict[str, tuple[int, int]]:
    """Tell the files of a pool but its caches, with their inodes and lengths."""
    return {
        str(one.relative_to(path)): (one.stat().st_ino, one.stat().st_size)
        for one in path.rglob("*")
        if one.is_file() and one.relative_to(path).parts[0] != "index"
    }


def swap(layout: Layout, name: str) -> None:
    mine, other = (layout.payload_file(one) for one in (name, "second"))
    mine.rename(mine.with_name("aside"))
    other.rename(mine)
    mine.with_name("aside").rename(other)


def double(layout: Layout, name: str) -> None:
    path = layout.payload_file(name)
    (path.parents[1] / "00").mkdir(exist_ok=True)
    shutil.copyfile(path, path.parents[1] / "00" / ("00" * 16))


SAVED: dict[str, Damage] = {
    **{f"end: {name}": damage for name, damage in ENDS.items() if name != "mark"},
    **{f"header: {name}": damage for name, damage in HEADERS.items() if name != "origin"},
    "swapped": swap,
    "doubled": double,
}


def repaired(
    small: SmallPool, tmp_path: Path, damage: Damage, *, index: bool
) -> tuple[RepairReport, RepairReport, dict[str, Outcome]]:
    """Damage a copy, look, repair, repair again, and see what became of all images."""
    with small.copied(tmp_path / "pool", lambda layout: damage(layout, "first"), index=index) as pool:
        before = files(Path(pool.store.place))
        look = repair_pool(pool, dry_run=True)
        assert files(Path(pool.store.place)) == before, "a look changed something"
        done = repair_pool(pool, dry_run=False)
        kept = {inode for inode, _ in files(Path(pool.store.place)).values()}
        assert {inode for inode, _ in before.values()} <= kept, "something was deleted"
        for container, *_ in pool.index.containers():
            assert list(verify_container(pool.store, container, pool.medium)) == []
        again = repair_pool(pool, dry_run=False)
        assert (again.containers, again.indexed) == ([], 0), "a second repair had something to do"
        assert [one.image for one in again.images] == [one.image for one in done.images]
        assert [one.image for one in look.images] == [one.image for one in done.images]
        pool.index.rebuild(pool.store)
        return look, done, {name: small.outcome(pool, name, tmp_path / name) for name in NAMES}


@pytest.mark.parametrize("index", [True, False], ids=["index kept", "index made anew"])
@pytest.mark.parametrize("damage", SAVED.values(), ids=SAVED)
def test_a_repair_saves_everything_when_all_items_are_whole(
    small: SmallPool, tmp_path: Path, damage: Damage, index: bool
) -> None:
    look, done, found = repaired(small, tmp_path, damage, index=index)
    assert done.images == []
    assert [one.copied for one in look.containers] == [one.copied for one in done.containers]
    assert all(one.aside for one in done.containers)
    assert all(outcome.is_whole and outcome.problems == [] for outcome in found.values())


@pytest.mark.parametrize("damage", [FRAMES["body"], FRAMES["magic"], FRAMES["zeros"], half])
def test_a_repair_saves_the_other_items_and_names_the_image(small: SmallPool, tmp_path: Path, damage: Damage) -> None:
    before = outcomes(small, tmp_path / "before", "first", damage, index=True)["first"]
    _, done, found = repaired(small, tmp_path, damage, index=True)
    assert [one.image for one in done.images] == [small.ids["first"]]
    assert any("frames are lost" in text for text in done.images[0].problems)
    assert found["first"].whole == before.whole
    assert all(found[name].is_whole and found[name].problems == [] for name in NAMES[1:])


@pytest.mark.parametrize("damage", [removed, emptied])
def test_what_is_gone_is_said_and_not_made_up(small: SmallPool, tmp_path: Path, damage: Damage) -> None:
    _, done, found = repaired(small, tmp_path, damage, index=True)
    assert [one.image for one in done.images] == [small.ids["first"]]
    assert found["first"].lost


def test_a_header_whose_origin_is_damaged_is_not_believed(small: SmallPool, tmp_path: Path) -> None:
    _, done, found = repaired(small, tmp_path, HEADERS["origin"], index=True)
    assert [one.whole for one in done.containers] == [0]
    assert found["first"].lost
    assert found["second"].is_whole


def test_a_lost_frame_is_found_again_in_a_second_container(small: SmallPool, tmp_path: Path) -> None:
    def damage(layout: Layout, name: str) -> None:
        double(layout, name)
        twin = layout.payload_file(name).parents[1] / "00" / ("00" * 16)
        contents = bytearray(twin.read_bytes())
        header = container_format.decode_header(contents[: container_format.HEADER_BYTES])
        assert header.container.hex() == layout.payload_file(name).name
        layout.flip(layout.payload_file(name), 200)

    look, done, found = repaired(small, tmp_path, damage, index=True)
    assert len(look.containers) == 2
    assert done.images == []
    assert all(outcome.is_whole for outcome in found.values())


def test_a_container_of_another_pool_or_a_later_release_is_left_alone(small: SmallPool, tmp_path: Path) -> None:
    def damage(layout: Layout) -> None:
        path = layout.payload_file("first")
        contents = bytearray(path.read_bytes())
        contents[:8] = b"SRCONT02"
        path.write_bytes(contents)

    with small.copied(tmp_path / "pool", damage, index=True) as pool:
        before = files(Path(pool.store.place))
        (kept,) = repair_pool(pool, dry_run=False).containers
        assert "later release" in kept.why_kept
        assert files(Path(pool.store.place)) == before


def test_a_container_that_cannot_be_read_now_keeps_its_name(
    small: SmallPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its disk may be back tomorrow. What can be read is saved all the same."""
    places: list[tuple[Path, int]] = []

    def damage(layout: Layout) -> None:
        place = layout.frames["first"][1]
        places.append((layout.file(place.container), place.offset + 100))

    pread = os.pread

    def failing(handle: int, length: int, offset: int) -> bytes:
        path, at = places[0]
        if offset <= at < offset + length and Path(f"/proc/self/fd/{handle}").readlink() == path:
            raise OSError(5, "input/output error")
        return pread(handle, length, offset)

    with small.copied(tmp_path / "pool", damage, index=True) as pool:
        with monkeypatch.context() as patched:
            patched.setattr(os, "pread", failing)
            done = repair_pool(pool, dry_run=False)
        (kept,) = done.containers
        assert "look at the disk" in kept.why_kept
        assert kept.copied > 0
        assert [one.image for one in done.images] == [small.ids["first"]]
        assert repair_pool(pool, dry_run=False).images == []


def test_a_full_disk_ends_a_repair_and_the_damaged_container_stays(
    small: SmallPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "no space left on device")

    with small.copied(tmp_path / "pool", lambda layout: ENDS["tail"](layout, "first"), index=True) as pool:
        before = files(Path(pool.store.place))
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", full)
            with pytest.raises(PoolFullError):
                repair_pool(pool, dry_run=False)
        assert files(Path(pool.store.place)) == before
        assert repair_pool(pool, dry_run=False).images == []


@pytest.mark.parametrize("damage", ["flipped", "removed", "swapped"])
def test_headers_are_written_again_and_the_damaged_ones_kept(small: SmallPool, tmp_path: Path, damage: str) -> None:
    signed: dict[str, bytes] = {}

    def deed(layout: Layout) -> None:
        paths = {name: fragment_file(layout, small.ids[name]) for name in ("first", "second")}
        signed.update({name: path.read_bytes() for name, path in paths.items()})
        if damage == "flipped":
            layout.flip(paths["first"], 300)
        elif damage == "removed":
            paths["first"].unlink()
        else:
            paths["first"].write_bytes(signed["second"])

    with small.copied(tmp_path / "pool", deed, index=True) as pool:
        pool.fragments.restore(small.ids["first"], 1, signed["first"])
        assert pool.fragments.read(small.ids["first"], 1).image.payload.image == small.ids["first"]
        put_aside = Path(pool.store.place) / "damaged" / names.image_key(small.ids["first"], 1)
        assert put_aside.exists() == (damage != "removed")
        with pytest.raises(Exception, match="not of copy"):
            pool.fragments.restore(small.ids["first"], 1, signed["second"])


def test_nothing_put_aside_replaces_what_was_put_aside_before(small: SmallPool, tmp_path: Path) -> None:
    def nothing(_: Layout) -> None:
        pass

    with small.copied(tmp_path / "pool", nothing, index=True) as pool:
        for contents in (b"one", b"two", b"three"):
            pool.store.put("containers/ab/x", contents)
            place = Path(pool.store.set_aside("containers/ab/x"))
            assert place.read_bytes() == contents
        assert len(list((Path(pool.store.place) / "damaged").rglob("x*"))) == 3


def opened(path: Path, small: SmallPool) -> OpenPool:
    return OpenPool.open(path, small.vault.clock, small.vault.entropy)


@pytest.mark.parametrize("step", ["fsync", "link", "unlink"])
def test_a_repair_that_is_stopped_at_any_step_is_done_by_the_next(
    small: SmallPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Stops at the first, second, third... call of a kind, until one run passes without it."""
    for count in range(1, 100):
        path = tmp_path / f"pool {count}"
        calls = 0
        real = getattr(os, step)

        def stopping(*args: object, limit: int = count, real: Callable[..., object] = real, **more: object) -> object:
            nonlocal calls
            calls += 1
            if calls == limit:
                raise KeyboardInterrupt
            return real(*args, **more)

        with (
            small.copied(path, lambda layout: HEADERS["id"](layout, "first"), index=True) as pool,
            monkeypatch.context() as patched,
        ):
            patched.setattr(os, step, stopping)
            try:
                repair_pool(pool, dry_run=False)
            except KeyboardInterrupt:
                pass
        stopped = calls >= count
        pool = opened(path, small)
        try:
            assert [one.image for one in repair_pool(pool, dry_run=False).images] == []
            if not stopped or count % 3 == 1:
                assert small.outcome(pool, "first", tmp_path / f"restored {count}").is_whole
        finally:
            pool.close()
        if not stopped:
            return
    raise AssertionError("no end of steps")
