"""C3, P3: two media servers of one domain write, read, send and collect in one bucket at the same time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.processes import peak_bytes
from strongroom.core.ids import MediumId
from strongroom.pool.bucket import BucketStore
from strongroom.pool.index import Index
from strongroom.pool.place import BucketPlace
from strongroom.settings.home import Home
from strongroom.settings.system import SystemEntropy
from tests.support.seaweed import Seaweed
from tests.support.trusting import LOCAL, SLP, begin, end, refusal, rows, until, wait_until_listed, write_random
from tests.support.two_media import OTHER, TwoMedia

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

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
    return contents(to)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def told(home: Home, event: str) -> list[dict[str, Any]]:
    """Give what a media server said of an event in its log."""
    lines = (json.loads(line) for line in (home.logs / "media.log").read_text().splitlines())
    return [line for line in lines if line.get("event") == event]


def both_did(two: TwoMedia, event: str) -> bool:
    return all(told(home, event) for home in (two.source.home, two.second.home))


def back_up_two(two: TwoMedia, trees: Path) -> bool:
    """Begin two backups at once, and wait for both; tell whether each media server has done one by now."""
    words = [("backup", str(trees / name), "--slp", LOCAL, "--client", f"again-{name}") for name in ("one", "two")]
    assert [end(one).exit_code for one in [begin(two.source, *some) for some in words]] == [0, 0]
    return both_did(two, "backup-ended")


def test_all_at_once_is_correct_and_bounded_c3(two: TwoMedia, place: BucketPlace, tmp_path: Path) -> None:
    source = two.source
    trees = {name: make_tree(tmp_path / name, seed) for seed, name in enumerate(("old", "one", "two", "sent"), 2)}
    old = source.cli("backup", str(tmp_path / "old"), "--slp", LOCAL)["image"]
    gone = source.cli("backup", str(tmp_path / "sent"), "--slp", LOCAL, "--client", "gone")["image"]
    wait_until_listed(source, gone)
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
    assert not [(name, one.exit_code, one.errors) for name, one in done.items() if one.exit_code]
    images = {name: str(done[name].value["image"]) for name in ("one", "two", "sent")} | {"old": old}
    until(lambda: two.pair.confirmed(images["sent"]), "no receipt")

    # nothing that an image needs has gone; of two restores at once each media server does one
    source.cli("pool", "collect", "main", "--wait")
    for name, image in images.items():
        to = [tmp_path / f"{name}-{again}" for again in range(2)]
        assert [end(one).exit_code for one in [begin(source, "restore", image, "--to", str(at)) for at in to]] == [0, 0]
        assert [contents(at) for at in to] == [trees[name]] * 2
        source.cli("image", "verify", image, "--wait")
    assert both_did(two, "restore-ended")
    # backups beside other work may all be one's; of two alone each does one, if both are at it at once
    until(lambda: both_did(two, "backup-ended") or back_up_two(two, tmp_path), "one media server did all backups")
    assert source.cli("pool", "collect", "main", "--dry-run")["result"]["unneeded_containers"] == 0

    peaks = {f"alpha {name}": peak_bytes(role.process.pid) for name, role in source.roles.items()}
    assert two.second.role is not None
    peaks["second media"] = peak_bytes(two.second.role.process.pid)
    print({name: peak // MB for name, peak in peaks.items()})  # noqa: T201 - what a run with -s is for
    assert max(peaks.values()) < BOUND


def test_what_cannot_be_joined_or_attached_is_refused_and_leaves_nothing(two: TwoMedia, tmp_path: Path) -> None:
    source = two.source
    used = tmp_path.parent / "used"
    used.write_text("strongroom-token-of-nobody")
    where = ("--to", f"localhost:{source.port}", "--token-file", str(used), "--host", "127.0.0.3")
    new = tmp_path / "new"
    assert refusal(source, "join", str(new), *where, "--fingerprint", source.fingerprint()).code == "token.unknown"
    wrong = refusal(source, "join", str(new), *where, "--fingerprint", two.target.fingerprint())
    assert wrong.code == "pki.wrong-fingerprint"
    assert not new.exists()
    second = str(two.second.home.path)
    assert refusal(source, "join", second, *where, "--fingerprint", source.fingerprint()).code == "join.home-exists"
    assert refusal(source, "pool", "attach", "main", "--host", OTHER).code == "pool.servers"
    assert refusal(source, "pool", "repair", "main").code == "pool.servers"
    source.cli("pool", "repair", "main", "--dry-run")
    # its home holds a certificate and its key, and nothing with which a primary works
    files = {path.name for path in two.second.home.path.rglob("*") if path.is_file()}
    assert {"key", "certificate", "strongroom.toml"} <= files
    assert not files & {"catalog.db", "keystore", "service-keys"}


def test_one_is_killed_and_work_goes_on_with_the_other_c3(
    two: TwoMedia, seaweed: Seaweed, place: BucketPlace, tmp_path: Path
) -> None:
    source = two.source
    tree = make_tree(tmp_path / "tree", 77)
    image = source.cli("backup", str(tmp_path / "tree"), "--slp", LOCAL, "--client", "before")["image"]
    large = make_tree(tmp_path / "large", 78, 20 << 20)
    begun = [
        begin(source, "backup", str(tmp_path / "large"), "--slp", LOCAL, "--client", f"c-{number}")
        for number in range(2)
    ]
    until(lambda: len(rows(source, "SELECT DISTINCT host FROM client_work")) == 2, "both have work")
    two.second.kill()
    done = [end(process) for process in begun]
    kept = [one.value["image"] for one in done if one.exit_code == 0]
    assert kept, done  # that of the killed one is lost, unless it was that quick

    # nobody has to wait until the dead one is taken for silent
    kept.append(source.cli("backup", str(tmp_path / "large"), "--slp", LOCAL, "--client", "after")["image"])
    source.cli("image", "verify", image, "--wait")
    source.cli("pool", "collect", "main", "--wait")

    two.second.start()
    two.second.wait_for_pool(two.medium)
    source.kill("media")
    for number, one in enumerate([image, *kept]):
        assert restored(two, one, tmp_path / f"through-the-second-{number}") == (tree if one == image else large)
        source.cli("image", "verify", one, "--wait")
    source.start("media")
    source.cli("pool", "collect", "main", "--wait")
    assert_indexes_are_true(two, seaweed, place, tmp_path)


def assert_indexes_are_true(two: TwoMedia, seaweed: Seaweed, place: BucketPlace, folder: Path) -> None:
    """Compare what both media servers' indexes have, once they follow, with one made anew from the bucket."""
    medium = MediumId(bytes.fromhex(two.medium.replace("-", "")))
    image = two.source.cli("image", "list")[0]["image"]
    for number in range(2):  # at rest each of the two has nothing to do, so both are asked in turn
        two.source.cli("image", "verify", image, "--wait")
        until(lambda: rows(two.source, "SELECT 1 FROM pool_objects WHERE state <> 'condemned'") == [], f"log {number}")
    two.second.stop()
    two.source.roles.pop("media").stop()
    store = BucketStore.open(place, seaweed.key, folder / "anew", SystemEntropy())
    anew = Index(folder, SystemEntropy(), medium=medium)
    anew.rebuild(store)
    for home in (two.source.home, two.second.home):
        kept = Index(home.media / "buckets" / medium.hex() / "index", SystemEntropy(), medium=medium)
        assert list(kept.containers()) == list(anew.containers())
        kept.close()
    anew.close()
    store.close()
    two.source.start("media")
    two.second.start()
