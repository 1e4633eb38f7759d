"""P2, L5: room is freed beside backups, restores and replications, whatever is killed; and nothing else goes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.live_domain import LiveDomain
from tests.support.trusting import (
    GROUP,
    LOCAL,
    SELDOM,
    SLP,
    Pair,
    containers,
    key_of,
    refusal,
    rows,
    run,
    until,
    wait_until_listed,
    write_random,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

MIB = 1 << 20
ROUNDS = 2
SHORT = "short"


@pytest.fixture(scope="module", autouse=True)
def _short(pair: Pair) -> None:
    """A policy whose images expire at once."""
    words = ("--retention", "1s", "--key-group", GROUP)
    pair.source.cli("slp", "create", SHORT, "--backup", "main", *words)


def tree(folder: Path, name: str, seed: int, size: int = 2 * MIB) -> Path:
    (folder / name).mkdir(exist_ok=True)
    write_random(folder / name / "data", seed, size)
    return folder / name


def collect(domain: LiveDomain, *words: str) -> dict[str, Any]:
    result: dict[str, Any] = domain.cli("pool", "collect", "main", *words)["result"]
    return result


def expire(domain: LiveDomain, image: str) -> None:
    """Expire an image by hand, as soon as no job reads it: its list of files is made behind the backup."""
    wait_until_listed(domain, image)

    def is_expired() -> bool:
        done = run(domain, "image", "expire", image, "--reason", "no use", "--yes")
        assert done.code in ("", "image.in-use"), done
        return done.exit_code == 0

    until(is_expired, "a job reads the image for ever", every=SELDOM)


def is_gone(domain: LiveDomain, image: str) -> bool:
    return not rows(domain, "SELECT 1 FROM copies WHERE image = ?", key_of(image))


def is_restored(domain: LiveDomain, image: str, source: Path, to: Path) -> bool:
    domain.cli("restore", image, "--to", str(to))
    (found,) = to.rglob("data")
    return found.read_bytes() == (source / "data").read_bytes()


def test_room_is_freed_beside_backups_restores_and_replications_p2(pair: Pair, tmp_path: Path) -> None:
    source, target = pair.source, pair.target
    kept = tree(tmp_path, "kept", 1)
    image = str(source.cli("backup", str(kept), "--slp", LOCAL)["image"])
    short: list[str] = []
    made: list[tuple[str, Path]] = []
    failures: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001, RUF100 - told by the test's own thread
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def back_up() -> None:
        for number in range(ROUNDS):
            short.append(
                str(source.cli("backup", str(tree(tmp_path, f"s{number}", 10 + number)), "--slp", SHORT)["image"])
            )
            made.append(
                (
                    str(source.cli("backup", str(tmp_path / f"s{number}"), "--slp", LOCAL)["image"]),
                    tmp_path / f"s{number}",
                )
            )

    def send() -> None:
        for number in range(ROUNDS):
            place = tree(tmp_path, f"r{number}", 20 + number)
            made.append((pair.send(place, SLP), place))

    def restore() -> None:
        for number in range(ROUNDS):
            assert is_restored(source, image, kept, tmp_path / f"out{number}")

    def free() -> None:
        for _ in range(ROUNDS):
            collect(source, "--wait")
            collect(target, "--wait")

    for thread in [guarded(work) for work in (back_up, send, restore, free)]:
        thread.join()
    assert failures == []
    until(lambda: all(is_gone(source, one) for one in short), "the short images stay")
    collect(source, "--wait")
    assert collect(source, "--dry-run")["unneeded_containers"] == 0
    assert collect(target, "--dry-run")["unneeded_containers"] == 0
    for number, (one, place) in enumerate(made):
        assert is_restored(source, one, place, tmp_path / f"again{number}")


def test_room_in_containers_of_which_a_part_is_needed_comes_back_p2(pair: Pair, tmp_path: Path) -> None:
    source = pair.source
    collect(source, "--wait")
    both = tree(tmp_path, "both", 51)
    tree(both, "large", 52, 8 * MIB)
    gone = str(source.cli("backup", str(both), "--slp", LOCAL)["image"])
    small = tmp_path / "small"
    (both / "large").rename(tmp_path / "large")
    both.rename(small)
    kept = str(source.cli("backup", str(small), "--slp", LOCAL)["image"])
    expire(source, gone)
    until(lambda: is_gone(source, gone), "the image stays")
    plan = collect(source, "--dry-run")
    assert (plan["rewritten_containers"], plan["removed_containers"]) == (1, 0)
    assert plan["rewritten_bytes"] - plan["copied_bytes"] > 7 * MIB
    failures: list[BaseException] = []

    def restore() -> None:
        try:
            for number in range(ROUNDS):
                assert is_restored(source, kept, small, tmp_path / f"out{number}")
        except BaseException as error:  # noqa: BLE001, RUF100 - told by the test's own thread
            failures.append(error)

    reading = threading.Thread(target=restore)
    reading.start()
    done = collect(source, "--wait")
    reading.join()
    assert failures == []
    assert (done["rewritten_containers"], done["copied_bytes"]) == (1, plan["copied_bytes"])
    until(lambda: collect(source, "--wait")["waiting_containers"] == 0, "containers wait", every=SELDOM)
    assert collect(source, "--dry-run")["sparse_bytes"] < MIB
    assert is_restored(source, kept, small, tmp_path / "after")
    source.cli("image", "verify", kept)
    again = source.cli("backup", str(small), "--slp", LOCAL, "--full-read")
    assert int(again["added_bytes"]) < MIB


def test_image_goes_by_hand_with_a_reason_and_its_room_with_the_next_collection_p2(pair: Pair, tmp_path: Path) -> None:
    source = pair.source
    collect(source, "--wait")
    before = containers(source)
    image = str(source.cli("backup", str(tree(tmp_path, "one", 31)), "--slp", LOCAL)["image"])
    wait_until_listed(source, image)
    hold = source.cli("image", "hold", image, "--reason", "a case")
    assert hold
    refused = refusal(source, "image", "expire", image, "--reason", "no use", "--yes")
    assert (refused.exit_code, refused.code) == (4, "catalog.expiry-refused")
    source.cli("image", "release", image)
    expire(source, image)
    until(lambda: is_gone(source, image), "the image stays")
    plan = collect(source, "--dry-run")
    assert (plan["unneeded_containers"], plan["removed_containers"]) == (2, 0)
    assert collect(source, "--wait")["removed_containers"] == 2
    assert containers(source) == before


def test_expiry_and_collection_go_on_after_kills_p2(pair: Pair, tmp_path: Path) -> None:
    source = pair.source
    place = tree(tmp_path, "kept", 41)
    kept = str(source.cli("backup", str(place), "--slp", LOCAL)["image"])
    gone = str(source.cli("backup", str(tree(tmp_path, "gone", 42)), "--slp", LOCAL)["image"])
    expire(source, gone)
    source.cli("pool", "collect", "main")
    for role in ("media", "primary"):
        source.kill(role)
        source.start(role)
    source.cli("status", "--wait", "30s")
    until(lambda: is_gone(source, gone), "the image stays")
    until(lambda: collect(source, "--wait")["unneeded_containers"] == 0, "containers stay", every=SELDOM)
    assert is_restored(source, kept, place, tmp_path / "out")
