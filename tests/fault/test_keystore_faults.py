"""The keystore survives a kill at every step of its writing, and a full disk: old or new, never damaged."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.kms.errors import KeystoreWriteError
from tests.support.kms import KmsHome

ROOT = Path(__file__).parents[2]

# Kills itself, without a chance to clean up, at the N-th call of one system function.
DIE = """
import os, signal, sys
from pathlib import Path
from strongroom.formats import key_file
from strongroom.kms.keyfolder import KeyFolder
from strongroom.kms.store import KeystoreFile
from tests.support.kms import KmsHome, SeededEntropy, Needed
from strongroom.core.clock import ManualClock
from strongroom.kms.service import KeyManagement

home, step, when, count = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
entropy = SeededEntropy(f"{step}{when}{count}")
folder = KeyFolder(home / "a.keys", entropy)
store = KeystoreFile(home / "a" / "kms" / "keystore", folder.load("hmk"), folder.load("kpk"), entropy)
keys = KeyManagement(store, Needed(), clock=ManualClock(), entropy=entropy)
owner, name = (Path, "replace") if step == "replace" else (os, step)
real = getattr(owner, name)
calls = 0

def deadly(*args, **kwargs):
    global calls
    calls += 1
    if calls == count and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = real(*args, **kwargs)
    if calls == count and when == "after":
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(owner, name, deadly)
keys.create_group("new")
"""

# Says each generation only when it is on stable storage.
WRITE = """
import sys
from pathlib import Path
from strongroom.core.clock import ManualClock
from strongroom.kms.keyfolder import KeyFolder
from strongroom.kms.service import KeyManagement
from strongroom.kms.store import KeystoreFile
from tests.support.kms import Needed, SeededEntropy

home = Path(sys.argv[1])
entropy = SeededEntropy(sys.argv[2])
folder = KeyFolder(home / "a.keys", entropy)
store = KeystoreFile(home / "a" / "kms" / "keystore", folder.load("hmk"), folder.load("kpk"), entropy)
keys = KeyManagement(store, Needed(), clock=ManualClock(), entropy=entropy)
while True:
    keys.create_group(f"{sys.argv[2]}-{store.head().generation}")
    print(store.head().generation, flush=True)
"""


def start(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("step", "when", "count", "written"),
    [
        ("open", "after", 3, False),  # the lock, the keystore, the new file
        ("fsync", "before", 1, False),
        ("fsync", "after", 1, False),
        ("replace", "before", 1, False),
        ("replace", "after", 1, True),
        ("fsync", "before", 2, True),
        ("fsync", "after", 2, True),
    ],
)
def test_killed_at_a_step_the_keystore_is_old_or_new(
    tmp_path: Path, step: str, when: str, count: int, written: bool
) -> None:
    home = KmsHome(tmp_path)
    home.keys.create_group("old")
    with start(DIE, str(tmp_path), step, when, str(count)) as process:
        assert process.wait() == -signal.SIGKILL
    names = {"old", "new"} if written else {"old"}
    assert {group.name for group in home.service(home.reopened()).groups()} == names
    # The lock died with its holder, and what was left lying about is in nobody's way.
    home.keys.create_group("after")
    assert not (home.keystore.parent / "keystore.new").exists()


def test_what_was_acknowledged_survives_a_kill_at_any_moment(tmp_path: Path) -> None:
    home = KmsHome(tmp_path)
    for run in range(3):
        with start(WRITE, str(tmp_path), f"run{run}") as process:
            assert process.stdout is not None
            acknowledged = [int(process.stdout.readline()) for _ in range(5 + run)][-1]
            process.kill()
            acknowledged = max([acknowledged, *(int(line) for line in process.stdout.read().split())])
        assert home.reopened().head().generation >= acknowledged
        assert len(home.reopened().read().groups) == home.reopened().head().generation - 1


@pytest.fixture
def little_space() -> Iterator[int]:
    """Let no file of this process grow beyond a few bytes: the kernel refuses the write as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    yield 100
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, former)


def test_a_write_that_finds_no_space_leaves_the_old_keystore(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    home = KmsHome(tmp_path)
    home.keys.create_group("old")
    before = home.keystore.read_bytes()
    request.getfixturevalue("little_space")
    with pytest.raises(KeystoreWriteError, match="could not be written") as caught:
        home.keys.create_group("new")
    assert caught.value.retry == "later"
    assert home.keystore.read_bytes() == before
    assert sorted(path.name for path in home.keystore.parent.iterdir()) == ["keystore", "keystore.lock"]
    assert [group.name for group in home.keys.groups()] == ["old"]


def test_a_folder_that_cannot_be_synced_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = KmsHome(tmp_path)

    def fails(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(KeystoreWriteError, match="Input/output error"):
        home.keys.create_group("new")
    monkeypatch.undo()
    assert home.keys.groups() == []
