"""What goes wrong is told by code, exit code and hint; nothing half-made is left, nothing is written unencrypted."""

from __future__ import annotations

import ctypes
import os
import resource
import secrets
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from strongroom.cli.demonstration.domains import free_ports
from tests.support import trusting
from tests.support.live_domain import LiveDomain
from tests.support.trees import rsync_differences
from tests.support.trusting import Pair, incoming, is_writing, refusal, rows, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

MIB = 1 << 20
WRONG_PHRASE = "kettle orchard bramble sextant walnut barge"
IN_ACCESS_OR_OPEN = 0x01 | 0x20
MADE = ("trusts", "slps", "slp_versions", "media", "images", "copies", "storage_targets", "storage_credentials")


def made(domain: LiveDomain) -> list[Any]:
    """Everything that a command may have made."""
    known = {name for (name,) in rows(domain, "SELECT name FROM sqlite_master WHERE type = 'table'")}
    counts = [rows(domain, f"SELECT count(*) FROM {table}") for table in MADE if table in known]  # noqa: S608
    return [*counts, domain.home.keystore.read_bytes() if domain.home.keystore.exists() else b""]


@contextmanager
def nothing_made(pair: Pair) -> Iterator[None]:
    before = [made(domain) for domain in (pair.source, pair.target)]
    yield
    assert [made(domain) for domain in (pair.source, pair.target)] == before


# ---------------------------------------------------------------- other domains


def test_a_domain_that_nobody_knows(pair: Pair) -> None:
    with nothing_made(pair):
        shown = refusal(pair.source, "trust", "show", "nowhere")
        words = ("--peer", "nowhere", "--pool", "main", "--token-file", "-")
        added = refusal(pair.source, "storage", "target", "add", "x", *words, secret="0" * 64)
        policy = ("--backup", "main", "--retention", "30d", "--key-group", trusting.GROUP)
        saved = refusal(pair.source, "slp", "create", "x", *policy, "--replicate-to", "nowhere:from-alpha")
    for told in (shown, added, saved):
        assert (told.exit_code, told.code) == (3, "trust.not-found"), told


def test_a_host_that_does_not_answer(pair: Pair) -> None:
    words = ("--fingerprint", pair.target.fingerprint(), "--token-file", "-")
    with nothing_made(pair):
        told = refusal(pair.source, "trust", "add", f"localhost:{free_ports()}", *words, secret="nothing")
    assert (told.exit_code, told.code) == (8, "pki.unreachable")


def test_a_wrong_fingerprint(pair: Pair) -> None:
    wrong = ("--fingerprint", "0" * 64, "--token-file", "-")
    with nothing_made(pair):
        for command in (("trust", "add"), ("cert", "issue", "--to")):
            told = refusal(pair.source, *command, f"localhost:{pair.target.port}", *wrong, secret="nothing")
            assert (told.exit_code, told.code) == (5, "pki.wrong-fingerprint")


def test_tokens_that_are_not_good(pair: Pair, tmp_path: Path) -> None:
    """Unknown, expired, for another purpose, for another domain, used up: each by its name."""
    media = ("--purpose", "enrol-foreign-media")
    own, other = ("--for-domain", pair.id_of(pair.source)), ("--for-domain", pair.id_of(pair.target))
    good = trusting.token(pair.target, tmp_path, "good", *media, *own)
    late = trusting.token(pair.target, tmp_path, "late", *media, *own, "--valid", "1s")
    expired = time.monotonic() + 1.5
    purpose = trusting.token(pair.target, tmp_path, "purpose", "--purpose", "trust")
    bound = trusting.token(pair.target, tmp_path, "bound", *media, *other)
    unknown = tmp_path / "unknown"
    unknown.write_text(good.read_text()[:-6] + "234567")
    words = ("cert", "issue", "--to", f"localhost:{pair.target.port}", "--fingerprint", pair.target.fingerprint())
    wanted = {
        pair.folder / "beta-media": "token.used-up",
        late: "token.expired",
        purpose: "token.wrong-purpose",
        bound: "token.wrong-binding",
        unknown: "token.unknown",
    }
    time.sleep(max(0.0, expired - time.monotonic()))
    with nothing_made(pair):
        for path, code in wanted.items():
            told = refusal(pair.source, *words, "--token-file", str(path))
            assert told.code == code, (path.name, told)
            assert told.exit_code == 5


# ---------------------------------------------------------------- names and keys


def test_a_name_of_113_characters(pair: Pair) -> None:
    with nothing_made(pair):
        policy = ("--backup", "main", "--retention", "30d", "--key-group", trusting.GROUP)
        told = refusal(pair.source, "slp", "create", "x" * 113, *policy)
    assert (told.exit_code, told.code) == (2, "slp.bad-name")
    pair.source.cli("slp", "create", "x" * 112, *policy)


def test_pass_phrases_wrong_and_weak(pair: Pair) -> None:
    target = pair.target
    if not target.cli("kms", "group", "list"):
        target.cli("kms", "group", "create", trusting.GROUP)
    with nothing_made(pair):
        words = ("--group", trusting.GROUP, "--name", "one", "--passphrase-file", "-")
        told = refusal(target, "kms", "key", "recover", pair.tag, *words, secret=WRONG_PHRASE)
        assert (told.exit_code, told.code) == (2, "kms.wrong-pass-phrase")
        words = ("--group", trusting.GROUP, "--source", "passphrase", "--passphrase-file", "-")
        told = refusal(target, "kms", "key", "create", "weak", *words, secret="password1")
        assert (told.exit_code, told.code) == (2, "kms.weak-pass-phrase")


def test_a_key_that_is_not_here(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(1000))
    image = pair.send(tmp_path)
    told = refusal(pair.target, "restore", image, "--to", str(tmp_path / "out"))
    assert (told.exit_code, told.code) == (7, "image.waiting-for-key")
    assert pair.tag in told.value["detail"]
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


@contextmanager
def watched(folder: Path) -> Iterator[list[bytes]]:
    """Watch whether anything in a folder is opened or read; what happened is in the list afterwards."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert descriptor >= 0
    assert libc.inotify_add_watch(descriptor, os.fsencode(folder), IN_ACCESS_OR_OPEN) >= 0
    events: list[bytes] = []
    try:
        yield events
        while select.select([descriptor], [], [], 0)[0]:
            events.append(os.read(descriptor, 65_536))
    finally:
        os.close(descriptor)


@contextmanager
def nothing_read(folder: Path) -> Iterator[None]:
    """Have nothing in a folder opened or read."""
    with watched(folder) as seen:
        yield
    assert not seen


def test_without_an_active_key_no_byte_is_read(pair: Pair, tmp_path: Path) -> None:
    """Fail closed: encryption asked for and no key to be had means no backup, and nothing is opened for it."""
    source = pair.source
    source.cli("kms", "group", "create", "empty")
    source.cli("slp", "create", "empty", "--backup", "main", "--retention", "30d", "--key-group", "empty",
               codes=(0, 7))  # fmt: skip
    (tmp_path / "file").write_bytes(b"to be read by nobody")
    with nothing_made(pair), watched(tmp_path) as seen:
        told = refusal(source, "backup", str(tmp_path), "--slp", "empty")
    assert (told.exit_code, told.code) == (7, "kms.no-active-key"), told
    assert not seen
    source.cli("kms", "key", "create", "one", "--group", "empty", "--source", "random", "--activate")
    source.cli("slp", "create", "empty-no-more", "--backup", "main", "--retention", "30d", "--key-group", "empty")
    source.cli("kms", "key", "deactivate", source.cli("kms", "key", "list", "--group", "empty")[0]["tag"])
    with watched(tmp_path) as seen:
        told = refusal(source, "backup", str(tmp_path), "--slp", "empty-no-more")
    assert (told.exit_code, told.code) == (7, "kms.no-active-key")
    assert not seen
    with watched(tmp_path) as seen:
        source.cli("backup", str(tmp_path), "--slp", trusting.LOCAL)
    assert seen


def test_a_wrong_host_master_key_locks_the_keystore_and_nothing_else(pair: Pair, tmp_path: Path) -> None:
    """R2, R11: with no key on either side no byte is read for a backup, and what is encrypted already is replicated.

    Sealed sending and receiving need no key: headers, receipts and imports go on as well, and so do backups in clear.
    """
    (tmp_path / "file").write_bytes(os.urandom(1000))
    source, target = pair.source, pair.target
    kept = {domain: (domain.home.keys / "hmk").read_bytes() for domain in (source, target)}
    target.stop()
    encrypted = source.cli("backup", str(tmp_path), "--slp", trusting.SLP)["image"]
    source.stop()
    for domain, other in ((source, target), (target, source)):
        (domain.home.keys / "hmk").write_bytes(kept[other])
    assert not pair.confirmed(encrypted)
    for domain in (source, target):
        domain.start()
    try:
        with nothing_read(tmp_path):
            told = refusal(source, "backup", str(tmp_path), "--slp", trusting.LOCAL)
        assert (told.exit_code, told.code) == (7, "kms.locked"), told
        for domain in (source, target):
            told = refusal(domain, "kms", "key", "list")
            assert (told.exit_code, told.code) == (7, "kms.locked"), told
            assert "HMK" in told.value["detail"]
            assert "put back the key file" in told.value["hint"]
        until(lambda: pair.confirmed(encrypted), "what is encrypted was not sent")
        clear = pair.send(tmp_path, trusting.CLEAR)
        assert {encrypted, clear} <= {row["image"] for row in target.cli("image", "list")}
        target.cli("import", "phase1", "main", "--wait")
        for domain in (source, target):
            domain.cli("image", "verify", encrypted, "--wait")
            assert not {"asyncio", "request-failed"} & {line["event"] for line in domain.log("primary")}
    finally:
        for domain in (source, target):
            domain.stop("primary")
            (domain.home.keys / "hmk").write_bytes(kept[domain])
            domain.start("primary")
    assert source.cli("backup", str(tmp_path), "--slp", trusting.LOCAL)["acknowledged"] is True
    source.cli("restore", encrypted, "--to", str(tmp_path / "out"))


def test_a_missing_keystore_stops_a_backup_before_the_first_byte(pair: Pair, tmp_path: Path) -> None:
    """Fail closed: no new keystore is made in its place."""
    (tmp_path / "file").write_bytes(b"to be read by nobody")
    source, keystore = pair.source, pair.source.home.keystore
    source.stop("primary")  # which alone has it
    keystore.rename(tmp_path / "keystore")
    source.start("primary")
    try:
        with nothing_read(tmp_path):
            told = refusal(source, "backup", str(tmp_path), "--slp", trusting.LOCAL)
        assert (told.exit_code, told.code) == (7, "kms.locked"), told
        assert "restore the keystore from its copy" in told.value["hint"]
        assert not keystore.exists()
    finally:
        source.stop("primary")
        (tmp_path / "keystore").rename(keystore)
        source.start("primary")


# ---------------------------------------------------------------- files and disks


def test_files_that_shrink_and_vanish_while_they_are_read(pair: Pair, tmp_path: Path) -> None:
    """Exit code 10: the image is there, and says which file had a problem."""
    source, seed = pair.source, secrets.randbits(64)
    large = trusting.write_random(tmp_path / "a-large", seed, 72 * MIB)
    vanishing = trusting.write_random(tmp_path / "b-large", seed + 1, 4 * MIB)  # too large to be read ahead
    client = trusting.begin(source, "backup", str(tmp_path), "--slp", trusting.LOCAL)
    until(lambda: is_writing(source), "nothing is written", every=0.005)
    client.send_signal(signal.SIGSTOP)
    os.truncate(large, MIB)
    vanishing.unlink()
    client.send_signal(signal.SIGCONT)
    done = trusting.end(client)
    assert done.exit_code == 10, done
    assert done.value["acknowledged"] is True
    told = {row["path"]: row["code"] for row in done.value["problem_files"]}
    assert told == {str(large): "client.shrank", str(vanishing): "client.vanished"}
    source.cli("image", "verify", done.value["image"], "--wait")


def test_a_full_disk(pair: Pair, tmp_path: Path) -> None:
    """Exit code 9, in words; the next backup succeeds when there is room."""
    source = pair.source
    before = {row["image"] for row in source.cli("image", "list")}
    trusting.write_random(tmp_path / "large", secrets.randbits(64), 24 * MIB)
    process = source.roles["media"].process
    # a limit of the process refuses its writes as a full disk does, on any machine and for any user
    _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (8 * MIB, hard))
    try:
        told = refusal(source, "backup", str(tmp_path), "--slp", trusting.LOCAL)
    finally:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    assert (told.exit_code, told.code) == (9, "pool.full"), told
    assert {row["image"] for row in source.cli("image", "list")} == before
    until(lambda: not incoming(source), "something half-made is left in the pool")
    assert source.cli("backup", str(tmp_path), "--slp", trusting.LOCAL)["acknowledged"] is True


def test_a_file_that_was_listed_and_is_gone_before_it_is_opened(pair: Pair, tmp_path: Path) -> None:
    """Exit code 10 and the file's name; all others are in the image, whole."""
    source, tree = pair.source, tmp_path / "tree"
    tree.mkdir()
    for number in range(192):  # three times as much as a client reads ahead
        trusting.write_random(tree / f"a-{number:03}", secrets.randbits(64), MIB // 2)
    gone = tree / "z-gone"
    gone.write_bytes(b"listed with the others")
    client = trusting.begin(source, "backup", str(tree), "--slp", trusting.LOCAL)
    until(lambda: is_writing(source), "nothing is written", every=0.005)
    client.send_signal(signal.SIGSTOP)
    assert sum(path.stat().st_size for path in incoming(source)) < 48 * MIB, "the client may have read it already"
    before = tree.stat()
    gone.unlink()
    os.utime(tree, ns=(before.st_atime_ns, before.st_mtime_ns))  # the folder may have been read, or not yet
    client.send_signal(signal.SIGCONT)
    done = trusting.end(client)
    assert done.exit_code == 10, done
    assert done.value["acknowledged"] is True
    assert done.value["problems"] == 1
    assert "client.vanished" in str(done.value)
    assert str(gone) in str(done.value)
    assert "it was listed, and is gone or replaced now" in str(done.value)
    source.cli("restore", done.value["image"], "--to", str(tmp_path / "out"))
    assert rsync_differences(tree, tmp_path / "out" / str(tree).lstrip("/")) == ""


@pytest.fixture
def small_disk(pair: Pair, tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB with a pool of the source."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a file system of its own needs the right to mount")
    pair.source.cli("pool", "create", "small", "--path", str(disk / "pool"))
    pair.source.cli("slp", "create", "to-small", "--backup", "small", "--retention", "30d", "--unencrypted")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=False, capture_output=True)


def test_a_file_system_that_is_really_full(pair: Pair, small_disk: Path, tmp_path: Path) -> None:
    """Exit code 9, in words; nothing half-made keeps room, and the next backup succeeds when there is some."""
    source, tree = pair.source, tmp_path / "tree"
    tree.mkdir()
    trusting.write_random(tree / "large", secrets.randbits(64), 32 * MIB)
    before = {row["image"] for row in source.cli("image", "list")}
    told = refusal(source, "backup", str(tree), "--slp", "to-small")
    assert told.exit_code == 9, told
    assert "pool.full" in str(told)
    assert {row["image"] for row in source.cli("image", "list")} == before
    until(lambda: not list((small_disk / "pool" / "incoming").iterdir()), "something half-made is left in the pool")
    assert shutil.disk_usage(small_disk).used < 2 * MIB
    os.truncate(tree / "large", 8 * MIB)
    done = source.cli("backup", str(tree), "--slp", "to-small")
    assert done["acknowledged"] is True
    source.cli("image", "verify", done["image"], "--wait")
    subprocess.run(["umount", "--lazy", str(small_disk)], check=True)
    (before_beat,) = rows(source, "SELECT at FROM media_beats")
    until(lambda: rows(source, "SELECT at FROM media_beats") != [before_beat], "a lost disk silences the media server")


def test_a_damaged_header_is_shown_as_damaged(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"anything")
    image = pair.source.cli("backup", str(tmp_path), "--slp", trusting.LOCAL)["image"]
    (path,) = (pair.source.home.pool("main") / "images").glob(f"*/{image.replace('-', '')}-*")
    copy = tmp_path / "header"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1  # in the copy header, which is the longer part
    copy.write_bytes(data)
    done = trusting.run(pair.source, "inspect", str(copy))
    assert done.exit_code == 6, done
    header, trailer = done.value["parts"]
    assert header["signature"]["outcome"] == "invalid"
    assert header["problems"] == ["the signature of the copy header does not hold"]
    assert trailer["problems"] == []
