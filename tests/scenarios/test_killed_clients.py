"""L5: what becomes of a client's job when the client, its media server or the primary is killed in the middle."""

from __future__ import annotations

import itertools
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.services.primary.attendance import SILENT_ROUNDS
from strongroom.services.primary.running import HOUSEKEEPING_SECONDS
from tests.support import trusting
from tests.support.live_domain import LiveDomain
from tests.support.trusting import incoming, is_writing, key_of, rows, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

MIB = 1 << 20
LARGE_BYTES = 64 * MIB
SOON_SECONDS = 10.0
"""Far below the time after which a silent job is given up: these ends are told, not waited for."""
SILENT_SECONDS = HOUSEKEEPING_SECONDS * (SILENT_ROUNDS + 2)
SEEDS = itertools.count()
"""Other contents each time: what is in a pool already is not written again."""


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


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    trusting.write_random(tmp_path / "tree" / "large", next(SEEDS), LARGE_BYTES)
    return tmp_path / "tree"


def in_the_middle(domain: LiveDomain, tree: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Begin a backup, and stop its client when something is written; give both."""
    (newest,) = rows(domain, "SELECT coalesce(max(id), 0) FROM jobs")[0]
    client = trusting.begin(domain, "backup", str(tree), "--slp", trusting.LOCAL)
    until(lambda: is_writing(domain), "nothing is written", every=0.005)
    client.send_signal(signal.SIGSTOP)
    ((job,),) = rows(domain, "SELECT id FROM jobs WHERE kind = 'backup' AND id > ?", newest)
    assert rows(domain, "SELECT state FROM jobs WHERE id = ?", job) == [("running",)]
    return client, job


def assert_interrupted(domain: LiveDomain, job: int, code: str) -> None:
    """The job has failed soon, in words; nothing of it is in the way."""
    failed = "SELECT error FROM jobs WHERE id = ? AND state = 'failed'"
    ((error,),) = until(lambda: rows(domain, failed, job), "the job goes on", SOON_SECONDS)
    assert code in error
    shown = domain.cli("job", "show", str(job))
    assert shown["error"]["hint"]
    assert rows(domain, "SELECT 1 FROM copies WHERE state = 'writing'") == []
    assert rows(domain, "SELECT 1 FROM copy_leases") == []
    assert rows(domain, "SELECT 1 FROM client_work") == []
    until(lambda: not incoming(domain), "something half-made is left in the pool", SOON_SECONDS)


def listed(domain: LiveDomain) -> set[str]:
    return {row["image"] for row in domain.cli("image", "list")}


def assert_backs_up(domain: LiveDomain, tree: Path) -> str:
    done = domain.cli("backup", str(tree), "--slp", trusting.LOCAL)
    assert done["acknowledged"] is True
    assert rows(domain, "SELECT state FROM copies WHERE image = ?", key_of(done["image"])) == [("complete",)]
    return str(done["image"])


def test_a_killed_client_of_a_backup(domain: LiveDomain, tree: Path) -> None:
    client, job = in_the_middle(domain, tree)
    client.kill()
    assert_interrupted(domain, job, "media.client-gone")
    assert_backs_up(domain, tree)
    client.communicate()


def test_a_killed_client_of_a_restore(domain: LiveDomain, tree: Path, tmp_path: Path) -> None:
    image = assert_backs_up(domain, tree)
    (newest,) = rows(domain, "SELECT max(id) FROM jobs")[0]
    client = trusting.begin(domain, "restore", image, "--to", str(tmp_path / "out"))
    out = tmp_path / "out"  # the file has its name only when it is whole
    until(lambda: any(path.is_file() for path in out.rglob("*")), "nothing is restored", every=0.001)
    client.send_signal(signal.SIGSTOP)
    ((job,),) = rows(domain, "SELECT id FROM jobs WHERE kind = 'restore' AND id > ?", newest)
    assert rows(domain, "SELECT state FROM jobs WHERE id = ?", job) == [("running",)]
    client.kill()
    assert_interrupted(domain, job, "media.client-gone")
    domain.cli("restore", image, "--to", str(tmp_path / "again"))
    client.communicate()


def test_a_killed_media_server(domain: LiveDomain, tree: Path) -> None:
    """Its job ends with the first word of the next process; the command says so and how to go on."""
    before = listed(domain)
    client, job = in_the_middle(domain, tree)
    domain.kill("media")
    domain.start("media")
    assert_interrupted(domain, job, "work.interrupted")
    client.send_signal(signal.SIGCONT)
    done = trusting.end(client)
    assert (done.exit_code, done.code) == (11, "cli.job-failed"), done
    assert "the media server was started again" in done.errors
    assert done.value["hint"], done
    assert listed(domain) == before
    again = assert_backs_up(domain, tree)
    assert listed(domain) == before | {again}


def test_a_killed_primary_is_waited_for(domain: LiveDomain, tree: Path) -> None:
    """The session goes on; what needs the primary waits until it is back, and the image is acknowledged."""
    client, job = in_the_middle(domain, tree)
    domain.kill("primary")
    client.send_signal(signal.SIGCONT)
    away = {"primary-away", "progress-not-told"}
    until(lambda: away & {line["event"] for line in domain.log("media")}, "nothing waits", every=0.05)
    assert client.poll() is None
    domain.start("primary")
    done = trusting.end(client)
    assert done.exit_code == 0, done
    assert done.value["acknowledged"] is True
    until(lambda: rows(domain, "SELECT 1 FROM jobs WHERE id = ? AND state = 'done'", job), "the job goes on")
    domain.cli("image", "verify", done.value["image"], "--wait")


def test_both_servers_killed_at_once(domain: LiveDomain, tree: Path) -> None:
    """As after a power cut."""
    client, job = in_the_middle(domain, tree)
    domain.kill("primary")
    domain.kill("media")
    domain.start("primary", "media")
    assert_interrupted(domain, job, "work.interrupted")
    client.send_signal(signal.SIGCONT)
    done = trusting.end(client)
    assert done.exit_code in (8, 11), done  # the job tells why, if the primary answers the client's old session
    assert done.value["hint"], done
    assert_backs_up(domain, tree)


def test_an_idle_client_is_attended_to(domain: LiveDomain, tree: Path) -> None:
    """Longer than the primary waits for a word of the session; its media server says that word."""
    client, job = in_the_middle(domain, tree)
    time.sleep(SILENT_SECONDS)
    assert rows(domain, "SELECT state FROM jobs WHERE id = ?", job) == [("running",)]
    client.send_signal(signal.SIGCONT)
    assert trusting.end(client).exit_code == 0
