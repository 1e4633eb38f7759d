"""P3: two domains whose pools are in object storage do everything that they do with folders.

The storage of the source fails for a while in a backup; what its bucket holds is then read as a pool folder is.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from strongroom.pool.place import BucketPlace
from tests.support.faulty_http import Fault, FaultyProxy, faulty
from tests.support.live_domain import LiveDomain
from tests.support.seaweed import Seaweed
from tests.support.trusting import (
    GROUP,
    LOCAL,
    SELDOM,
    Pair,
    files_of,
    refusal,
    until,
    write_random,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def proxy(seaweed: Seaweed) -> Iterator[FaultyProxy]:
    with faulty(seaweed.port) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def places(seaweed: Seaweed, proxy: FaultyProxy) -> dict[str, BucketPlace]:
    return {"alpha": seaweed.place(proxy.port), "beta": seaweed.place()}


@pytest.fixture(scope="module")
def key_file(seaweed: Seaweed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "credentials"
    secret = seaweed.key.secret.reveal().decode()
    path.write_text(f"[default]\naws_access_key_id = {seaweed.key.access_key}\naws_secret_access_key = {secret}\n")
    return path


def bucket_words(place: BucketPlace, key_file: Path) -> list[str]:
    bucket = f"s3://{place.bucket}/{place.prefix}"
    return ["--bucket", bucket, "--endpoint", place.endpoint, "--credentials-file", str(key_file)]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, places: dict[str, BucketPlace], key_file: Path) -> Iterator[Pair]:
    """A source and a target that trust each other, whose pools are in one bucket."""
    made = Pair(tmp_path_factory.mktemp("domains"), lambda domain: bucket_words(places[domain], key_file))
    yield made
    made.stop()


def restored(domain: LiveDomain, image: str, to: Path) -> dict[str, bytes]:
    domain.cli("restore", image, "--to", str(to))
    return {path.name: path.read_bytes() for path in to.rglob("*") if path.is_file()}


@pytest.mark.timeout(180)
def test_an_image_lives_in_buckets_from_backup_to_restore_elsewhere(
    pair: Pair, places: dict[str, BucketPlace], proxy: FaultyProxy, seaweed: Seaweed, key_file: Path, tmp_path: Path
) -> None:
    source, target = pair.source, pair.target
    tree = tmp_path / "tree"
    tree.mkdir()
    write_random(tree / "large", 1, 20 << 20)
    (tree / "small").write_bytes(b"small")
    files = {path.name: path.read_bytes() for path in tree.iterdir()}

    proxy.fail(Fault.UNAVAILABLE, "PUT", "partNumber", 4)
    proxy.fail(Fault.CUT, "PUT", "partNumber=2", 1)
    image = pair.send(tree)
    assert sorted(set(proxy.met)) == ["CUT", "UNAVAILABLE"]
    source.cli("image", "verify", image, "--wait")
    assert restored(source, image, tmp_path / "there") == files

    # the target has no key yet: phase one reads headers alone; then phase two, and a restore, with the key
    target.cli("import", "phase1", "main", "--wait")
    listed = next(row for row in target.cli("image", "list") if row["image"] == image)
    assert listed["state"] == "waiting-for-key"
    target.cli("kms", "group", "create", GROUP)
    words = ("--group", GROUP, "--name", "one", "--passphrase-file", str(pair.phrase))
    target.cli("kms", "key", "recover", pair.tag, *words)
    until(lambda: target.cli("image", "files", image, codes=(0, 3, 4, 7, 8)), "no list of files", every=SELDOM)
    assert restored(target, image, tmp_path / "elsewhere") == files

    # a media server that begins again opens the pool by its header, and asks the primary for the key
    source.kill("media")
    source.start("media")
    assert until(lambda: attempt(source, image, tmp_path / "again"), "the pool does not open") == files
    again = source.cli("backup", str(tree), "--slp", LOCAL)
    assert again["added_bytes"] < 1 << 20

    shown = until(lambda: source.cli("pool", "show", "main")["requests"], "no counts", every=SELDOM)
    assert shown["multipart"] > 4
    assert shown["put"] > 2
    assert shown["get"] > 10
    assert shown["sent_bytes"] > 20 << 20
    assert shown["received_bytes"] > 20 << 20
    assert seaweed.unfinished(places["alpha"]) == seaweed.unfinished(places["beta"]) == []

    # what lies in the bucket is a pool folder, for everything that reads one
    folder = tmp_path / "copied"
    for key, data in seaweed.objects(places["alpha"]).items():
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(data)
    source.cli("inspect", "--recursive", str(folder))
    reader = Path(__file__).parents[2] / "contrib" / "read_image.py"
    how = ("--key", pair.tag, "--passphrase-file", str(pair.phrase), "--to", str(tmp_path / "read"))
    read = subprocess.run([sys.executable, reader, "restore", folder, image, *how], capture_output=True, check=False)
    assert read.returncode == 0, read.stderr
    assert {path.name: path.read_bytes() for path in (tmp_path / "read").rglob("*") if path.is_file()} == files

    secret = seaweed.key.secret.reveal()
    for path, data in chain(files_of(source), files_of(target)):
        assert secret not in data, path


def attempt(domain: LiveDomain, image: str, to: Path) -> dict[str, bytes] | None:
    """Restore, or give nothing while the pool is not open yet."""
    domain.cli("restore", image, "--to", str(to), codes=(0, 8))
    return {path.name: path.read_bytes() for path in to.rglob("*") if path.is_file()} if to.exists() else None


def test_an_access_key_is_replaced_while_the_pool_is_served(pair: Pair, key_file: Path) -> None:
    source = pair.source
    wrong = key_file.read_text().replace("aws_secret_access_key = ", "aws_secret_access_key = x")
    assert (
        refusal(source, "pool", "rekey", "main", "--credentials-file", "-", secret=wrong).code == "pool.bucket-denied"
    )
    source.cli("pool", "rekey", "main", "--credentials-file", str(key_file))
    assert source.cli("backup", str(pair.phrase), "--slp", LOCAL)["image"]


@pytest.mark.timeout(120)
def test_what_is_wrong_with_a_bucket_is_said_at_once(pair: Pair, seaweed: Seaweed, key_file: Path) -> None:
    source, place = pair.source, seaweed.place()
    good = bucket_words(place, key_file)
    for at, wrong, code in (
        (1, "s3://no-such-bucket/p", "pool.bucket-missing"),
        (1, "s3://Not_A_Bucket", "pool.bad-place"),
        (3, "http://127.0.0.1:9", "pool.bucket-unreachable"),
    ):
        told = refusal(source, "pool", "create", "other", *good[:at], wrong, *good[at + 1 :])
        assert told.code == code
    keys = "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n"
    wrong = keys.format(seaweed.key.access_key, "not-the-secret")
    told = refusal(source, "pool", "create", "other", *good[:-1], "-", secret=wrong)
    assert told.code == "pool.bucket-denied"
    assert "not-the-secret" not in told.errors + str(told.value)
    told = refusal(source, "pool", "create", "other", *good[:-1], "-", secret="my-secret-words")
    assert told.code == "cli.secret-not-given"
    assert "my-secret-words" not in told.errors + str(told.value)
    assert seaweed.objects(place) == {}


def test_no_defect_shows_in_the_logs(pair: Pair) -> None:
    for domain in (pair.source, pair.target):
        events = {line["event"] for line in domain.log("media")}
        assert not {"request-failed", "asyncio"} & events
