"""C3, P3: two media servers of one domain write, read, send and collect in one bucket at the same time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.processes import peak_bytes
from strongroom.pool.place import BucketPlace
from strongroom.settings.home import Home
from tests.support.seaweed import Seaweed
from tests.support.trusting import LOCAL, SLP, begin, end, until, write_random
from tests.support.two_media import TwoMedia

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

MB = 1_000_000
BOUND = 300 * MB


@pytest.fixture(scope="module")
def place(seaweed: Seaweed) -> BucketPlace:
    return seaweed.place()


@pytest.fixture(scope="module")
def two(seaweed: Seaweed, place: BucketPlace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoMedia]:
    folder = tmp_path_factory.mktemp("two")
    secret = seaweed.key.secret.reveal().decode()
    key_file = folder / "bucket-key"
    key_file.write_text(f"[default]\naws_access_key_id = {seaweed.key.access_key}\naws_secret_access_key = {secret}\n")
    made = TwoMedia(folder, place, key_file)
    yield made
    made.stop()


def make_tree(path: Path, seed: int, size: int = 12 << 20) -> dict[str, bytes]:
    """Make a tree of which a third is what every tree here has."""
    path.mkdir()
    write_random(path / "own", seed, size)
    write_random(path / "common", 1, size // 2)
    (path / "small").write_text(f"tree {seed}")
    return {file.name: file.read_bytes() for file in path.iterdir()}


def restored(two: TwoMedia, image: str, to: Path) -> dict[str, bytes]:
    two.source.cli("restore", image, "--to", str(to))
    return {path.name: path.read_bytes() for path in to.rglob("*") if path.is_file()}


def told(home: Home, event: str) -> list[dict[str, Any]]:
    """Give what a media server said of an event in its log."""
    lines = (json.loads(line) for line in (home.logs / "media.log").read_text().splitlines())
    return [line for line in lines if line.get("event") == event]


def backed_up_by(two: TwoMedia, image: str) -> str:
    for name, home in (("first", two.source.home), ("second", two.second.home)):
        if any(line["image"] == image for line in told(home, "backup-ended")):
            return name
    raise AssertionError(f"nobody backed up '{image}'")


def test_all_at_once_is_correct_and_bounded_c3(two: TwoMedia, place: BucketPlace, tmp_path: Path) -> None:
    source = two.source
    trees = {name: make_tree(tmp_path / name, seed) for seed, name in enumerate(("old", "one", "two", "sent"), 2)}
    old = source.cli("backup", str(tmp_path / "old"), "--slp", LOCAL)["image"]
    gone = source.cli("backup", str(tmp_path / "sent"), "--slp", LOCAL, "--client", "gone")["image"]
    source.cli("image", "expire", gone, "--reason", "a test", "--yes")

    work = {
        "one": begin(source, "backup", str(tmp_path / "one"), "--slp", LOCAL, "--client", "c-one"),
        "two": begin(source, "backup", str(tmp_path / "two"), "--slp", LOCAL, "--client", "c-two"),
        "sent": begin(source, "backup", str(tmp_path / "sent"), "--slp", SLP, "--client", "c-sent"),
        "restore": begin(source, "restore", old, "--to", str(tmp_path / "old-again")),
        "verify": begin(source, "image", "verify", old, "--wait"),
        "collect": begin(source, "pool", "collect", "main", "--wait"),
    }
    done = {name: end(process) for name, process in work.items()}
    assert {name: one.exit_code for name, one in done.items()} == dict.fromkeys(work, 0), done
    images = {name: str(done[name].value["image"]) for name in ("one", "two", "sent")} | {"old": old}
    assert {backed_up_by(two, images[name]) for name in ("one", "two", "sent")} == {"first", "second"}
    until(lambda: two.pair.confirmed(images["sent"]), "no receipt")

    # each image is read through both media servers, and nothing that one needs has gone
    source.cli("pool", "collect", "main", "--wait")
    for name, image in images.items():
        for again in ("a", "b"):
            assert restored(two, image, tmp_path / f"{name}-{again}") == trees[name]
            source.cli("image", "verify", image, "--wait")
    assert source.cli("pool", "collect", "main", "--dry-run")["result"]["unneeded_containers"] == 0

    peaks = {f"alpha {name}": peak_bytes(role.process.pid) for name, role in source.roles.items()}
    assert two.second.role is not None
    peaks["second media"] = peak_bytes(two.second.role.process.pid)
    print({name: peak // MB for name, peak in peaks.items()})  # noqa: T201 - what a run with -s is for
    assert max(peaks.values()) < BOUND
