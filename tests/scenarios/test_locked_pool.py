"""P2: a pool that locks keeps its images, whoever asks, whatever the clock says, and whatever is lost or killed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from strongroom.core.ids import from_text, to_text
from strongroom.pool import names
from strongroom.pool.immutable import is_immutable
from tests.support.live_domain import LiveDomain
from tests.support.locking import removable_again
from tests.support.trusting import (
    GROUP,
    LOCAL,
    SELDOM,
    SLP,
    Pair,
    changing,
    containers,
    key_of,
    refusal,
    rows,
    until,
    wait_until_listed,
    write_random,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

MIB = 1 << 20


@pytest.fixture(scope="module", autouse=True)
def _removable(pair: Pair) -> Iterator[None]:
    with removable_again(pair.source.home.path), removable_again(pair.target.home.path):
        yield


def tree(folder: Path, name: str, seed: int) -> Path:
    (folder / name).mkdir(exist_ok=True)
    write_random(folder / name / "data", seed, MIB)
    return folder / name


def pool_folder(domain: LiveDomain) -> Path:
    return Path(domain.cli("pool", "show", "main")["path"])


def image_file(domain: LiveDomain, image: str) -> Path:
    return pool_folder(domain) / names.image_key(from_text(image), 1)  # type: ignore[arg-type]


def locked_until(domain: LiveDomain, image: str) -> int:
    ((until_ns,),) = rows(domain, "SELECT locked_until_ns FROM copies WHERE image = ?", key_of(image))
    return int(until_ns)


def locked_objects(domain: LiveDomain) -> int:
    return int(domain.cli("pool", "show", "main")["lock"]["objects"])


def lock_mode(domain: LiveDomain) -> str:
    return str(domain.cli("pool", "show", "main")["lock"]["mode"])


def collect(domain: LiveDomain, *words: str) -> dict[str, Any]:
    result: dict[str, Any] = domain.cli("pool", "collect", "main", "--wait", *words)["result"]
    return result


def is_restored(domain: LiveDomain, image: str, source: Path, to: Path) -> bool:
    domain.cli("restore", image, "--to", str(to))
    (found,) = to.rglob("data")
    return found.read_bytes() == (source / "data").read_bytes()


def test_a_governance_lock_refuses_until_an_administrator_lifts_it_with_a_reason_p2(pair: Pair, tmp_path: Path) -> None:
    source = pair.source
    free = str(source.cli("backup", str(tree(tmp_path, "free", 1)), "--slp", LOCAL)["image"])
    shown = source.cli("pool", "lock", "main", "--mode", "governance", "--rounding", "3", "--yes")
    assert (shown["lock"]["mode"], shown["lock"]["rounding_days"], shown["lock"]["objects"]) == ("governance", 3, 0)
    kept = str(source.cli("backup", str(tree(tmp_path, "kept", 2)), "--slp", LOCAL)["image"])
    assert locked_until(source, free) == 0
    assert locked_until(source, kept) > 0
    for image in (free, kept):
        wait_until_listed(source, image)
    source.cli("image", "expire", free, "--reason", "no use", "--yes")
    refused = refusal(source, "image", "expire", kept, "--reason", "no use", "--yes")
    assert (refused.exit_code, refused.code) == (4, "catalog.expiry-refused")
    assert "of the pool's lock clock" in refused.value["detail"]
    # header, envelope, frames, pages; they are told with the media server's next beat
    until(lambda: locked_objects(source) >= 4, "nothing is told to be locked", every=SELDOM)
    source.cli("image", "expire", kept, "--reason", "a mistake", "--lift-lock", "--yes")
    until(lambda: not rows(source, "SELECT 1 FROM copies WHERE image = ?", key_of(kept)), "the image stays")
    assert collect(source)["locked_containers"] == 2
    told = collect(source, "--lift-lock", "--reason", "a mistake")
    assert (told["removed_containers"], told["locked_containers"]) == (2, 0)
    found = source.cli("audit", "list")
    assert any("a mistake" in str(row) and "lift_lock" in str(row) for row in found)


def test_a_compliance_lock_is_lifted_by_nobody_and_outlives_catalog_index_and_kills_p2(
    pair: Pair, tmp_path: Path
) -> None:
    source = pair.source
    source.cli("pool", "lock", "main", "--mode", "compliance", "--yes")
    weaker = refusal(source, "pool", "lock", "main", "--mode", "governance", "--yes")
    assert (weaker.exit_code, weaker.code) == (4, "pool.weaker-lock")
    place = tree(tmp_path, "kept", 11)
    kept = str(source.cli("backup", str(place), "--slp", LOCAL)["image"])
    end_ns = locked_until(source, kept)
    wait_until_listed(source, kept)
    for words in ((), ("--lift-lock",)):
        refused = refusal(source, "image", "expire", kept, "--reason", "no use", "--yes", *words)
        assert refused.code == "catalog.expiry-refused"
    held = containers(source)

    # the catalog forgets that anything is locked, and calls the copy expired: the pool does not let it go
    source.stop()
    with changing(source) as catalog:
        catalog.execute("UPDATE copies SET locked_until_ns = 0, expires_ns = 1")
        catalog.execute("UPDATE copy_facts SET locked_until_ns = 0")
        catalog.execute("UPDATE media SET lock_mode = 'none', lock_clock_ns = 0")
    shutil.rmtree(pool_folder_of(source) / "index")
    source.start()
    source.cli("status", "--wait", "30s")
    until(lambda: locked_until(source, kept) == end_ns, "the primary does not hear that it is locked")
    until(lambda: lock_mode(source) == "compliance", "it does not hear that the pool locks", every=SELDOM)
    assert image_file(source, kept).exists()
    told = collect(source, "--lift-lock", "--reason", "try")
    assert told["removed_containers"] == 0
    assert containers(source) == held
    later = str(source.cli("backup", str(place), "--slp", LOCAL)["image"])
    assert is_restored(source, later, place, tmp_path / "out")
    assert locked_until(source, later) > 0


def pool_folder_of(domain: LiveDomain) -> Path:
    """Give the pool's folder while nothing runs."""
    return domain.home.pool("main")


def test_an_image_is_locked_before_it_is_acknowledged_also_after_a_kill_p2(pair: Pair, tmp_path: Path) -> None:
    source = pair.source
    place = tree(tmp_path, "killed", 21)
    # a file stands where lock records are to lie: nothing can be locked, as on a full disk
    records = pool_folder(source) / "locks" / "until"
    aside = records.with_name("until-aside")
    records.rename(aside)
    records.write_text("in the way")
    try:
        assert refusal(source, "backup", str(place), "--slp", LOCAL).code == "cli.not-acknowledged"
        ((image_id,),) = rows(source, "SELECT image FROM copies WHERE state = 'committing'")
        image = to_text(image_id)
        assert image_file(source, image).exists()
        source.kill("media")
    finally:
        records.unlink()
        aside.rename(records)
    assert locked_until(source, image) == 0
    source.start("media")
    until(lambda: locked_until(source, image) > 0, "the image is not acknowledged after the kill")
    assert not is_locked_file_unprotected(source, image)
    assert is_restored(source, image, place, tmp_path / "out")


def is_locked_file_unprotected(domain: LiveDomain, image: str) -> bool:
    """Tell whether the file system would let the header go, though it lets others not."""
    medium = pool_folder(domain) / "medium"
    return is_immutable(medium) and not is_immutable(image_file(domain, image))


def test_what_another_domain_sends_is_locked_at_the_target_p2(pair: Pair, tmp_path: Path) -> None:
    target = pair.target
    target.cli("pool", "lock", "main", "--mode", "compliance", "--rounding", "1", "--yes")
    image = pair.send(tree(tmp_path, "sent", 31), SLP)
    until(lambda: locked_until(target, image) > 0, "the image is not locked at the target")
    refused = refusal(target, "image", "expire", image, "--reason", "no use", "--yes")
    assert refused.code == "catalog.expiry-refused"
    # counts come with the media server's next beat
    until(lambda: locked_objects(target) >= 4, "nothing is told to be locked", every=SELDOM)
    assert collect(target)["removed_containers"] == 0


def test_a_lock_is_made_longer_and_a_policy_without_an_end_is_refused_p2(pair: Pair, tmp_path: Path) -> None:
    source = pair.source
    place = tree(tmp_path, "longer", 41)
    image = str(source.cli("backup", str(place), "--slp", LOCAL)["image"])
    before = locked_until(source, image)
    source.cli("image", "lock", image, "--days", "400", "--reason", "a case", "--yes")
    longer = locked_until(source, image)
    assert longer > before
    source.cli("image", "lock", image, "--days", "1", "--reason", "a case", "--yes")
    assert locked_until(source, image) == longer
    source.cli("slp", "create", "endless", "--backup", "main", "--retention", "forever", "--key-group", GROUP)
    assert refusal(source, "backup", str(place), "--slp", "endless").code == "backup.endless-lock"
