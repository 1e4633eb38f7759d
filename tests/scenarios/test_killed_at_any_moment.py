"""L5, R10: whatever process is killed in the middle of whatever work: it goes on, loses nothing, repeats nothing."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from strongroom.formats import container
from strongroom.formats.frame import frame_id
from strongroom.pki.channel import Address
from strongroom.pki.tls import client_context
from strongroom.services import messages, sending_messages
from strongroom.services.primary.opening import open_primary
from strongroom.services.record_http import RecordClient
from strongroom.settings.domain import DomainSettings
from strongroom.settings.system import SystemClock, SystemEntropy
from tests.support import trusting
from tests.support.live_domain import LiveDomain
from tests.support.trusting import Pair, containers, incoming, is_writing, key_of, rows, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

MIB = 1 << 20
LARGE_BYTES = 96 * MIB
SLOW = 40 * MIB
WHO = [("source", "media"), ("source", "primary"), ("target", "media"), ("target", "primary")]
FILES = 4_000
TRIES = 10
"""A moment of milliseconds may be missed; then it is waited for once more."""
SEEDS = itertools.count()
"""Other contents each time: what is in a pool already is not written again."""


@pytest.fixture(scope="module")
def sending(pair: Pair) -> Iterator[RecordClient]:
    """The source's media server, asked with the certificate of its primary: limits what leaves."""
    home = pair.source.home
    primary = open_primary(home, DomainSettings.load(home), SystemClock(), SystemEntropy())
    context = client_context([primary.root], primary.own_identity().credential)
    primary.engine.dispose()
    client = RecordClient(Address("localhost", pair.source.port + 2), context, primary.domain, primary=False)
    yield client
    client.close()


def limit(sending: RecordClient, bytes_per_second: int | None) -> None:
    sending.ask(
        "/v1/work/limit-sending", sending_messages.LimitSending(bytes_per_second=bytes_per_second), messages.Nothing
    )


def domain_of(pair: Pair, which: str) -> LiveDomain:
    return pair.source if which == "source" else pair.target


def restart(domain: LiveDomain, role: str) -> None:
    domain.start(role)
    domain.cli("status", "--wait", "30s")


@contextmanager
def frozen(domain: LiveDomain, role: str) -> Iterator[None]:
    """Stop a process where it is, and let it go on."""
    process = domain.roles[role].process
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)


def killed_while(domain: LiveDomain, role: str, unfinished: Callable[[], bool]) -> bool:
    """Kill a process if the work is unfinished at this very moment, in which nothing goes on; tell whether it was."""
    with frozen(domain, role):
        if not unfinished():
            return False
        domain.kill(role)
    return True


def assert_whole(domain: LiveDomain, image: str) -> None:
    """One copy, complete, and each of its bytes as it was signed."""
    states = rows(domain, "SELECT state FROM copies WHERE image = ?", key_of(image))
    assert states == [("complete",)]
    domain.cli("image", "verify", image, "--wait")


def assert_confirmed_once(pair: Pair, image: str) -> None:
    assert_whole(pair.target, image)
    (kept,) = rows(pair.source, "SELECT count(*) FROM receipts WHERE image = ?", key_of(image))
    assert kept == (1,)
    until(lambda: not open_jobs(pair.source, "replicate"), "a replication still runs")
    open_sessions = rows(pair.target, "SELECT 1 FROM receiving_sessions WHERE image = ?", key_of(image))
    assert open_sessions == []
    until(lambda: not incoming(pair.target), "something half-made is left in the pool")


def open_jobs(domain: LiveDomain, kind: str) -> list[tuple[Any, ...]]:
    return rows(domain, "SELECT id, state FROM jobs WHERE kind = ? AND state IN ('queued', 'waiting', 'running')", kind)


# ---------------------------------------------------------------- replication


@pytest.mark.parametrize(("which", "role"), WHO)
def test_a_replication(pair: Pair, tmp_path: Path, sending: RecordClient, which: str, role: str) -> None:
    """It goes on by itself, and sends again what was on the line, and nothing else (R10)."""
    source, target = pair.source, pair.target
    trusting.write_random(tmp_path / "large", next(SEEDS), LARGE_BYTES)
    sealed_before = containers(target)
    limit(sending, 0)
    image = source.cli("backup", str(tmp_path), "--slp", trusting.SLP)["image"]
    logged = len(target.log("media"))
    limit(sending, SLOW)
    until(lambda: containers(target).keys() - sealed_before.keys(), "no container was sealed", every=0.02)
    until(lambda: is_writing(target), "nothing more comes", every=0.005)
    limit(sending, 0)
    sealed = containers(target)
    assert not pair.confirmed(image)
    domain_of(pair, which).kill(role)
    if (which, role) == ("source", "media"):
        assert rows(target, "SELECT state FROM copies WHERE image = ?", key_of(image)) == [("writing",)]
    else:
        limit(sending, None)
    kept = frames_kept(target, sealed_before.keys()) if (which, role) == ("target", "media") else None
    restart(domain_of(pair, which), role)
    until(lambda: pair.confirmed(image), "no receipt")
    assert sealed.items() <= containers(target).items()
    assert_sent_once(pair, sealed_before.keys(), logged, kept)
    assert_confirmed_once(pair, image)


def assert_sent_once(pair: Pair, sealed_before: Collection[str], logged: int, kept: int | None) -> None:
    """What the receiver took in all its sessions is the image, each frame once."""
    ends = [line for line in pair.target.log("media")[logged:] if line["event"] in ("received", "not-received")]
    taken = sum(line["frames"] for line in ends)
    if kept is not None:  # a killed receiver tells nothing; its pool does
        assert kept > 0
        taken += kept
    assert taken == frames_kept(pair.target, sealed_before)


def reading(data: bytes) -> container.ReadRange:
    return lambda offset, length: data[offset : offset + length]


def frames_kept(domain: LiveDomain, but: Collection[str]) -> int:
    """Count the frames that lie whole in a pool, in some containers and in what was never sealed."""
    paths = [path for path in (domain.home.pool("main") / "containers").glob("*/*") if path.name not in but]
    ids: set[bytes] = set()
    for path in (*paths, *incoming(domain)):
        if container.decode_header(path.read_bytes()).content is container.Content.FRAMES:
            ids.update(frame_id(item) for _, item in container.scan(reading(path.read_bytes())))
    return len(ids)


# ---------------------------------------------------------------- import


@pytest.mark.parametrize("role", ["media", "primary"])
def test_the_import_of_what_arrives(pair: Pair, tmp_path: Path, role: str) -> None:
    """Killed when the headers are signed and the catalog does not know yet that they are on the storage."""
    source, target = pair.source, pair.target
    committing = "SELECT 1 FROM copies WHERE image = ? AND state = 'committing'"
    importing = "SELECT 1 FROM jobs WHERE kind = 'import' AND params LIKE ? AND state IN ('queued', 'running')"

    def unfinished(image: str) -> bool:
        return bool(rows(target, committing, key_of(image)) or rows(target, importing, f"%{image}%"))

    def has_come(image: str) -> bool:
        return unfinished(image) or pair.confirmed(image)

    for _ in range(TRIES):
        (tmp_path / "small").write_bytes(os.urandom(1000))
        image = source.cli("backup", str(tmp_path), "--slp", trusting.SLP)["image"]
        until(partial(has_come, image), "nothing arrives", every=0.001)
        if killed_while(target, role, partial(unfinished, image)):
            break
    else:
        pytest.fail("the import was over each time")
    restart(target, role)
    until(lambda: pair.confirmed(image), "no receipt")
    assert_confirmed_once(pair, image)
    assert rows(target, "SELECT came_by FROM copies WHERE image = ?", key_of(image)) == [("replication",)]


@pytest.mark.parametrize("role", ["media", "primary"])
def test_phase_one_of_a_pool(pair: Pair, role: str) -> None:
    """It runs again from the beginning, and changes nothing that was right."""
    target = pair.target
    query = "SELECT image, number, state, came_by, expires_ns FROM copies ORDER BY image, number"
    before = rows(target, query)
    with frozen(target, "media"):
        job = target.cli("import", "phase1", "main")["job"]
        state = "SELECT 1 FROM jobs WHERE id = ? AND state = 'running'"
        until(lambda: rows(target, state, int(job)), "the job does not begin", every=0.02)
        target.kill(role)
    restart(target, role)
    ended = "SELECT state FROM jobs WHERE id = ? AND state IN ('done', 'failed')"
    assert until(lambda: rows(target, ended, int(job)), "the job does not end") == [("done",)]
    assert rows(target, query) == before


# ---------------------------------------------------------------- phase two


@pytest.mark.parametrize("role", ["media", "primary"])
def test_phase_two(pair: Pair, tmp_path: Path, role: str) -> None:
    """The list of an image's files is made once, and is whole."""
    target = pair.target
    for number in range(FILES):
        (tmp_path / f"file-{role}-{number}").write_bytes(b"contents")
    image = pair.send(tmp_path)
    if not target.cli("kms", "group", "list"):
        target.cli("kms", "group", "create", trusting.GROUP)
    running = "SELECT 1 FROM jobs WHERE kind = 'list-files' AND state = 'running'"
    made = "SELECT entries FROM file_lists WHERE image = ?"

    def unfinished() -> bool:
        return bool(half_lists(target) and rows(target, running) and not rows(target, made, key_of(image)))

    for _ in range(TRIES):
        with frozen(target, "media"):
            recover_or_list(pair, image)
            until(lambda: rows(target, running), "phase two does not begin", every=0.02)
        until(lambda: unfinished() or rows(target, made, key_of(image)), "phase two does nothing", every=0.001)
        if killed_while(target, role, unfinished):
            break
        until(lambda: not open_jobs(target, "list-files"), "phase two still runs")
    else:
        pytest.fail("phase two was over each time")
    restart(target, role)
    until(lambda: rows(target, made, key_of(image)), "no list of files")
    (entries,) = rows(target, made, key_of(image))
    assert entries[0] >= FILES
    until(lambda: not open_jobs(target, "list-files"), "phase two still runs")
    found = target.cli("image", "find", image, f"file-{role}-*")
    assert len(found) == len({row["path"] for row in found}) == FILES
    assert half_lists(target) == []
    if role == "primary":  # which removed at its start what no image has
        lists = [path for path in target.home.file_lists.rglob("*") if path.is_file()]
        assert len(lists) == len(rows(target, "SELECT 1 FROM file_lists"))


def half_lists(domain: LiveDomain) -> list[Path]:
    """Give the lists of files that are being written."""
    return list(domain.home.file_lists.rglob("*.part"))


def recover_or_list(pair: Pair, image: str) -> None:
    """Bring the key to the target, or forget the list that is made at once because the key is there."""
    target = pair.target
    if not rows(target, "SELECT 1 FROM jobs WHERE kind = 'list-files'"):
        target.cli("kms", "key", "recover", pair.tag, "--group", trusting.GROUP, "--name", "one",
                   "--passphrase-file", str(pair.phrase))  # fmt: skip
        return
    with trusting.changing(target) as connection:
        connection.execute("DELETE FROM file_lists WHERE image = ?", (key_of(image),))
    target.cli("import", "phase2", image)
