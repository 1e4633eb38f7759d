"""P1, P2: an operator meets a disk that cannot be read, and a pool that is damaged."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import trusting
from tests.support.live_domain import LiveDomain
from tests.support.trees import let_age
from tests.support.trusting import SELDOM

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

FILES, FILE_BYTES = 12, 400_000


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveDomain]:
    made = LiveDomain(tmp_path_factory.mktemp("live"), "alpha")
    trusting.hurry(made)
    made.start()
    made.cli("pool", "create", "main")
    made.cli("kms", "group", "create", trusting.GROUP)
    made.cli("kms", "key", "create", "one", "--group", trusting.GROUP, "--source", "random", "--activate")
    made.cli("slp", "create", trusting.LOCAL, "--backup", "main", "--retention", "30d", "--key-group", trusting.GROUP)
    yield made
    made.stop()


class Backup:
    """A tree that was backed up, and the containers that hold it."""

    def __init__(self, domain: LiveDomain, path: Path) -> None:
        self.domain = domain
        self.tree = path
        path.mkdir()
        for number in range(FILES):
            seed = f"{path} {number}".encode()
            (path / f"file {number:02}").write_bytes(hashlib.shake_256(seed).digest(FILE_BYTES))
        let_age(path)
        before = containers(domain)
        self.image = self.back_up()["image"]
        self.containers = containers(domain) - before

    def back_up(self) -> dict[str, Any]:
        """Back the tree up, as a client that has nothing else."""
        words = ("backup", str(self.tree), "--slp", trusting.LOCAL, "--client", self.tree.name)
        answer: dict[str, Any] = self.domain.cli(*words)
        return answer

    def largest(self) -> Path:
        return max(self.containers & containers(self.domain), key=lambda path: path.stat().st_size)

    def restore(self, target: Path, codes: tuple[int, ...] = (0,)) -> tuple[set[str], dict[str, object]]:
        """Restore; give the names of the files that are there, each as it was, and the answer."""
        shutil.rmtree(target, ignore_errors=True)
        answer = self.domain.cli("restore", self.image, "--to", str(target), codes=codes)
        below = target / str(self.tree).lstrip("/")
        found = {path.name for path in below.glob("file *")}
        for name in found:
            assert (below / name).read_bytes() == (self.tree / name).read_bytes(), name
        return found, answer


def containers(domain: LiveDomain) -> set[Path]:
    return {path for path in (domain.home.pool("main") / "containers").rglob("*") if path.is_file()}


def flip(path: Path, at: int) -> None:
    contents = bytearray(path.read_bytes())
    contents[at] ^= 1
    path.write_bytes(contents)


@contextmanager
def refused(domain: LiveDomain, *words: str) -> Iterator[None]:
    """Let the system refuse calls of the media server: ``words`` of strace say which, and with what."""
    strace = shutil.which("strace")
    if strace is None or os.getuid() != 0:
        pytest.skip("refusing calls needs strace, and the right to trace")
    process = domain.roles["media"].process
    tracer = subprocess.Popen(
        [strace, "-f", *words, "-p", str(process.pid)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert tracer.stderr is not None
    assert "attached" in tracer.stderr.readline()
    time.sleep(0.2)  # for the other threads
    try:
        yield
    finally:
        tracer.terminate()
        tracer.communicate()


@pytest.fixture(scope="module")
def first(domain: LiveDomain, tmp_path_factory: pytest.TempPathFactory) -> Backup:
    return Backup(domain, tmp_path_factory.mktemp("trees") / "first")


@pytest.fixture(scope="module")
def second(domain: LiveDomain, tmp_path_factory: pytest.TempPathFactory) -> Backup:
    return Backup(domain, tmp_path_factory.mktemp("trees") / "second")


def test_a_disk_that_cannot_be_read_is_told_and_other_images_come_back(
    domain: LiveDomain, first: Backup, second: Backup, tmp_path: Path
) -> None:
    dying = ("-P", str(first.largest()), "-e", "trace=pread64", "-e", "inject=pread64:error=EIO")
    with refused(domain, *dying):
        found, answer = first.restore(tmp_path / "first", codes=(9, 10, 11))
        assert "pool.read-error" in str(answer)
        assert len(found) < FILES
        told = domain.cli("image", "verify", first.image, "--wait", codes=(6, 11))
        assert first.image in str(told)
        assert "pool.read-error" in str(told)
        whole, _ = second.restore(tmp_path / "second")
        assert len(whole) == FILES
        domain.cli("image", "verify", second.image, "--wait")
    found, _ = first.restore(tmp_path / "first")
    assert len(found) == FILES


def test_a_damaged_pool_is_looked_at_repaired_and_what_is_lost_is_named(
    domain: LiveDomain, first: Backup, second: Backup, tmp_path: Path
) -> None:
    flip(first.largest(), -1)
    (headers,) = (domain.home.pool("main") / "images").rglob(f"{second.image.replace('-', '')}-*")
    flip(headers, 200)
    damaged = headers.read_bytes()
    before = containers(domain)

    look = domain.cli("pool", "repair", "main", "--dry-run")
    assert (look["containers"], look["headers"], look["images_damaged"]) == (1, 1, 0)
    assert (containers(domain), headers.read_bytes()) == (before, damaged)

    done = domain.cli("pool", "repair", "main")
    assert (done["containers"], done["headers"], done["images_damaged"]) == (1, 1, 0)
    for backup in (first, second):
        domain.cli("image", "verify", backup.image, "--wait")
        assert len(backup.restore(tmp_path / "target")[0]) == FILES

    first.containers |= containers(domain) - before
    flip(first.largest(), 1_000_000)
    lost = domain.cli("pool", "repair", "main", codes=(10,))
    assert lost["images"] == [first.image]
    (job,) = lost["verify_jobs"]
    named = domain.cli("job", "watch", str(job), codes=(11,))
    found, answer = first.restore(tmp_path / "target", codes=(10,))
    assert 0 < len(found) < FILES
    assert answer["problems"] == FILES - len(found)
    log = str(named) + str(domain.cli("job", "show", str(job)))
    for missing in {path.name for path in first.tree.iterdir()} - found:
        assert missing in log
    assert len(second.restore(tmp_path / "target")[0]) == FILES

    again = first.back_up()
    assert 0 < again["read_bytes"] < FILES * FILE_BYTES
    assert again["problems"] == 0
    ((told, code),) = [(one["message"], one["code"]) for one in again["read_anew"]]
    assert code == "client.read-anew"
    assert f"{FILES - len(found)} files" in told
    assert told in str(domain.cli("job", "show", str(again["job"]))["log"])
    domain.cli("image", "verify", again["image"], "--wait")
    first.image = again["image"]
    assert len(first.restore(tmp_path / "target")[0]) == FILES
    clean = domain.cli("pool", "repair", "main", "--dry-run", codes=(10,))
    assert clean["containers"] == 0


def test_what_a_verification_found_damaged_is_stored_anew_before_any_repair(
    domain: LiveDomain, second: Backup, tmp_path: Path
) -> None:
    flip(second.largest(), 1_000_000)
    domain.cli("image", "verify", second.image, "--wait", codes=(11,))
    domain.stop()  # it is known after a restart too
    domain.start()
    again = second.back_up()
    assert again["read_bytes"] > 0
    domain.cli("image", "verify", again["image"], "--wait")
    second.image = again["image"]
    assert len(second.restore(tmp_path / "target")[0]) == FILES
    domain.cli("pool", "repair", "main", codes=(10,))
    domain.cli("image", "verify", again["image"], "--wait")


@pytest.mark.parametrize(("call", "number"), [("link", 1), ("fsync", 3), ("fsync", 6)])
def test_a_disk_that_fills_up_at_any_step_ends_the_backup_and_nothing_is_half_made(
    domain: LiveDomain, tmp_path: Path, call: str, number: int
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in range(3):
        (tree / f"file {name}").write_bytes(hashlib.shake_256(f"{tmp_path} {name}".encode()).digest(FILE_BYTES))
    incoming = domain.home.pool("main") / "incoming"
    images = {row["image"] for row in domain.cli("image", "list")}
    with refused(domain, "-e", f"trace={call}", "-e", f"inject={call}:error=ENOSPC:when={number}"):
        done = trusting.run(domain, "backup", str(tree), "--slp", trusting.LOCAL)
    assert "pool.full" in str(done)
    # 8: everything is stored but the headers, which the primary has signed, and which follow when there is room
    assert done.exit_code in (8, 9)
    if done.exit_code == 9:
        assert {row["image"] for row in domain.cli("image", "list")} == images
    trusting.until(lambda: not list(incoming.iterdir()), "something half-made is left")
    again = domain.cli("backup", str(tree), "--slp", trusting.LOCAL)
    domain.cli("image", "verify", again["image"], "--wait")
    assert domain.cli("pool", "repair", "main", "--dry-run", codes=(0, 10))["containers"] == 0


def test_scrub_names_container_and_image_and_the_alarm_stands_until_the_damage_is_gone_p2(
    domain: LiveDomain, tmp_path: Path
) -> None:
    held = Backup(domain, tmp_path / "tree")
    before = domain.cli("pool", "scrub", "main", "--wait", codes=(0, 10))["result"]["damaged"]
    path = held.largest()
    middle = path.stat().st_size // 2
    flip(path, middle)
    found = domain.cli("pool", "scrub", "main", "--wait", "--rate", "1G", codes=(10,))["result"]
    assert found["damaged"] == before + 1
    assert held.image in found["images"]
    assert [line for line in found["lines"] if path.name in line]

    def damaged() -> int:
        checks = domain.cli("pool", "show", "main")["checks"]
        return int(checks["damaged"]) if checks else -1

    trusting.until(lambda: damaged() == before + 1, "the pool does not tell of the damage", every=SELDOM)
    assert "pool.damaged" in [one["code"] for one in domain.cli("status")["alarms"]]
    flip(path, middle)
    assert domain.cli("pool", "scrub", "main", "--wait", codes=(0, 10))["result"]["damaged"] == before
    trusting.until(lambda: damaged() == before, "the pool tells of damage that is gone", every=SELDOM)
    assert domain.cli("pool", "show", "main")["next_scrub"]
