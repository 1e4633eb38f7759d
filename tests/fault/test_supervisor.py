"""``strongroom serve``: roles come back, end with their supervisor, and a home is served once and where it was (L5)."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from strongroom.cli.demonstration.domains import free_ports

STRONGROOM = str(Path(sys.executable).with_name("strongroom"))


def roles_of(home: Path) -> dict[str, int]:
    """Find the processes that serve a home, by their own command lines."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(home).encode() in words and b"-m" in words:
                found[words[words.index(b"-m") + 1].decode().rpartition(".")[2]] = int(folder.name)
    return found


def wait_until(what: Callable[[], object], seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home for all tests here: each leaves it as one that can be served."""
    path = tmp_path_factory.mktemp("served") / "home"
    words = ["init", str(path), "--domain", "d", "--host", "localhost", "--listen", f"127.0.0.1:{free_ports()}"]
    subprocess.run([STRONGROOM, *words], check=True, capture_output=True)
    return path


@pytest.fixture
def server(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([STRONGROOM, "serve", str(home)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    assert b"serves" in process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()
    wait_until(lambda: not roles_of(home))


@pytest.mark.slow
def test_a_killed_role_comes_back_and_roles_end_with_a_killed_supervisor(
    home: Path, server: subprocess.Popen[bytes]
) -> None:
    before = roles_of(home)
    assert set(before) == {"primary", "media"}
    os.kill(before["primary"], signal.SIGKILL)
    wait_until(lambda: roles_of(home).get("primary") not in (None, before["primary"]))
    assert roles_of(home)["media"] == before["media"]
    second = subprocess.run([STRONGROOM, "serve", str(home)], capture_output=True, check=False)
    assert second.returncode == 4
    assert b"[serve.home-in-use]" in second.stderr
    server.kill()
    wait_until(lambda: not roles_of(home))


@pytest.mark.slow
def test_a_copied_home_is_not_served_and_says_why(home: Path, server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    assert server.wait(40) == 0
    copy = home.with_name("copy")
    shutil.copytree(home, copy, symlinks=True)
    shutil.copytree(home.with_name("home.keys"), home.with_name("copy.keys"))
    refused = subprocess.run([STRONGROOM, "serve", str(copy)], capture_output=True, check=False)
    assert refused.returncode == 4
    assert b"[serve.home-moved]" in refused.stderr
    assert b"--moved" in refused.stderr
    assert b"Traceback" not in refused.stderr
    assert not roles_of(copy)


PAUSING = """
import sys
from pathlib import Path
from strongroom.services import supervisor
from strongroom.settings.home import Home
supervisor.FIRST_PAUSE_SECONDS = supervisor.LONGEST_PAUSE_SECONDS = float(sys.argv[2])
supervisor.Supervisor(
    Home(Path(sys.argv[1])), ["primary"], moved=False, announce=lambda: print("serves", flush=True)
).run()
"""


@contextmanager
def pausing(home: Path, seconds: float) -> Iterator[subprocess.Popen[bytes]]:
    """A supervisor of the primary alone, which waits so long before it starts it again."""
    words = [sys.executable, "-c", PAUSING, str(home), str(seconds)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"serves\n"
        yield process
        process.kill()
    wait_until(lambda: not roles_of(home))


@pytest.mark.slow
def test_stopping_does_not_wait_for_a_pause(home: Path) -> None:
    with pausing(home, 50.0) as process:
        os.kill(roles_of(home)["primary"], signal.SIGKILL)
        assert process.stderr is not None
        assert b"started again" in process.stderr.readline()
        process.terminate()
        assert process.wait(10) == 0


@pytest.mark.slow
def test_role_that_cannot_start_costs_the_supervisor_nothing(home: Path) -> None:
    with pausing(home, 0.01) as process:
        open_files = Path(f"/proc/{process.pid}/fd")
        before = len(list(open_files.iterdir()))
        (home / "strongroom.toml").rename(home / "elsewhere")
        os.kill(roles_of(home)["primary"], signal.SIGKILL)
        assert process.stderr is not None
        failed = 0
        for line in process.stderr:
            failed += b"exit code 2" in line
            if failed == 2:
                break
        wait_until(lambda: len(list(open_files.iterdir())) <= before, 10.0)
    (home / "elsewhere").rename(home / "strongroom.toml")


def test_damaged_note_of_the_place_is_a_refusal(home: Path) -> None:
    note = home / "instance"
    honest = note.read_bytes()
    note.write_bytes(b"")
    refused = subprocess.run([STRONGROOM, "serve", str(home)], capture_output=True, check=False)
    note.write_bytes(honest)
    assert refused.returncode == 4
    assert b"[serve.home-moved]" in refused.stderr
    assert b"Traceback" not in refused.stderr


@pytest.mark.slow
@pytest.mark.parametrize("listener", ["primary.listen_peer", "primary.listen_people"])
def test_address_in_use_is_told_without_a_traceback(home: Path, listener: str) -> None:
    section, _, key = listener.partition(".")
    address = tomllib.loads((home / "strongroom.toml").read_text())[section][key]
    with socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))):
        refused = subprocess.run([STRONGROOM, "serve", str(home)], capture_output=True, check=False, timeout=30)
    assert refused.returncode != 0
    assert b"[serve.cannot-listen]" in refused.stderr
    assert b"Traceback" not in refused.stderr
    assert not roles_of(home)
