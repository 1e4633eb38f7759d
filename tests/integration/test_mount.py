"""C3: an image as a file system: every file as it was, any range, read-only, and evidence of who mounted it."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.live_domain import LiveDomain
from tests.support.torture import make_torture
from tests.support.trees import IS_ROOT
from tests.support.vault import random_bytes

pytestmark = pytest.mark.skipif(not IS_ROOT or not Path("/dev/fuse").exists(), reason="nothing can be mounted here")
try:
    import mfusepy  # type: ignore[import-untyped]  # noqa: F401 - it looks for libfuse when it is imported
except (ImportError, OSError):
    pytest.skip("libfuse is not here", allow_module_level=True)

WAIT_SECONDS = 30


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveDomain]:
    domain = LiveDomain(tmp_path_factory.mktemp("live"), "alpha")
    domain.start()
    domain.cli("pool", "create", "main")
    domain.cli("kms", "group", "create", "homes")
    domain.cli("kms", "key", "create", "one", "--group", "homes", "--source", "random", "--activate")
    domain.cli("slp", "create", "gold", "--backup", "main", "--retention", "30d", "--key-group", "homes")
    domain.cli("slp", "activate", "gold")
    yield domain
    domain.stop()


@contextmanager
def mounted(domain: LiveDomain, image: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    folder.mkdir()
    process = subprocess.Popen(
        [Path(sys.executable).with_name("strongroom"), "image", "mount", image, str(folder)],
        env={**os.environ, "STRONGROOM_HOME": str(domain.home.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        until(lambda: os.path.ismount(folder) or process.poll() is not None)
        assert process.poll() is None, process.communicate()
        yield process
    finally:
        if os.path.ismount(folder):
            subprocess.run(["umount", folder], check=True)
        try:
            process.communicate(timeout=WAIT_SECONDS)
        finally:
            process.kill()


def until(true: Any) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def mount_job(domain: LiveDomain) -> dict[str, Any]:
    jobs = domain.cli("job", "list")
    found: dict[str, Any] = next(job for job in jobs if job["kind"] == "mount")
    return found


def test_c3_a_mounted_image_has_every_file_as_it_was(domain: LiveDomain, tmp_path: Path) -> None:
    source = tmp_path / "s"
    make_torture(os.fsencode(source), as_root=True)
    (source / "large").write_bytes(random_bytes("large", 30 << 20))
    image = domain.cli("backup", str(source), "--slp", "gold")["image"]
    with mounted(domain, image, tmp_path / "m") as process:
        there = tmp_path / "m" / str(source)[1:]
        # Not compared: names of one file are several files here, and access lists are not FUSE's to show.
        changes = subprocess.run(
            ["rsync", "-naXcDi", "--delete", "--filter=-x system.*", f"{source}/", f"{there}/"],
            check=True,
            capture_output=True,
        )
        assert changes.stdout == b""
        draw = random.Random(1)  # noqa: S311 - places to look at
        with (source / "large").open("rb") as one, (there / "large").open("rb") as other:
            for _ in range(20):
                at, length = draw.randrange(30 << 20), draw.randrange(1, 3 << 20)
                assert os.pread(one.fileno(), length, at) == os.pread(other.fileno(), length, at)
        for words in (["touch", "new"], ["rm", "large"], ["chmod", "777", "large"]):
            assert b"Read-only" in subprocess.run(words, cwd=there, check=False, capture_output=True).stderr
        assert mount_job(domain)["state"] == "running"
    assert process.returncode == 0
    assert mount_job(domain)["state"] == "done"
    evidence = domain.cli("audit", "list")
    assert any(row["action"] == "image.restore" and row["facts"].get("mount") for row in evidence)


def test_c3_a_mount_ends_with_its_job_and_its_client(domain: LiveDomain, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    for number in range(3):
        (tmp_path / "s" / f"f{number}").write_bytes(random_bytes(f"{number}", 3 << 20))
    image = domain.cli("backup", str(tmp_path / "s"), "--slp", "gold")["image"]
    with mounted(domain, image, tmp_path / "m") as process:
        there = tmp_path / "m" / str(tmp_path / "s")[1:]
        assert (there / "f0").read_bytes() == (tmp_path / "s" / "f0").read_bytes()
        domain.cli("job", "cancel", str(mount_job(domain)["job"]))
        until(lambda: cannot_read(there))
    assert process.returncode != 0
    with mounted(domain, image, tmp_path / "n") as process:
        job = mount_job(domain)
        assert job["state"] == "running"
        process.kill()
        process.wait()
        until(lambda: mount_job(domain)["state"] == "failed")
        assert mount_job(domain)["error"]["code"] == "media.client-gone"
        subprocess.run(["umount", "-l", tmp_path / "n"], check=True)


def cannot_read(folder: Path) -> bool:
    """Read what nobody has read yet, each time another file, until one gives an error."""
    try:
        subprocess.run(["cat", *folder.iterdir()], check=True, capture_output=True)
        os.stat(folder / f"none-{time.monotonic_ns()}")  # noqa: PTH116 - the error is what is looked at
    except FileNotFoundError:
        return False
    except (OSError, subprocess.CalledProcessError):
        return True
    return False
