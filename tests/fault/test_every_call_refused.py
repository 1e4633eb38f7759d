"""P1, P2: whichever write finds no room, and whichever read fails, it is said so, and the next try succeeds."""

from __future__ import annotations

import errno
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from strongroom.core.errors import StrongroomError
from strongroom.core.ids import ImageId
from strongroom.formats.fragment import Fragment
from strongroom.images.verify import verify_image
from strongroom.kms.errors import KeystoreWriteError
from strongroom.pool.errors import CannotMarkError, PoolFullError, PoolReadError, PoolWriteError
from strongroom.pool.incoming import INCOMING
from strongroom.pool.receiver import FrameReceiver
from strongroom.pool.verify import verify_container
from strongroom.pool.writer import WriterLimits
from tests.support.kms import KmsHome
from tests.support.pool import DOMAIN, MEDIUM, Pool
from tests.support.refusing import READS, WRITES, Refusing
from tests.support.vault import Vault, random_bytes
from tests.unit.images.test_collect import back_up, containers, expire, run

LIMITS = WriterLimits(frame_bytes=60_000, container_bytes=150_000, in_flight_bytes=1 << 20)
STREAM = [random.Random(n).randbytes(30_000) for n in range(12)]  # noqa: S311 - test data
STAYS = pytest.mark.parametrize("stays", [False, True], ids=["once", "until there is room"])
LEAST = 5
"""A piece of work with fewer calls than this is not what it is meant to be."""


def each(*, stays: bool, error: int = errno.ENOSPC) -> Iterator[Refusing]:
    """Refuse the first call, then the second one, and so on, until one is not reached."""
    number = 1
    while True:
        refusing = Refusing(number, stays=stays, error=error)
        yield refusing
        if not refusing.has_refused:
            assert number > LEAST
            return
        number += 1


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Vault, Fragment, Fragment]:
    """A pool with an image that stays, and one that may be expired."""
    vault = Vault(tmp_path_factory.mktemp("made"))
    kept = back_up(vault, "kept", random_bytes("kept", 200_000), limits=LIMITS)
    other = back_up(vault, "other", random_bytes("other", 200_000), limits=LIMITS)
    vault.pool.close()
    return vault, kept, other


@contextmanager
def in_words(*kinds: type[StrongroomError], where: Path) -> Iterator[None]:
    """Let an error of one of these kinds be; it names the file or its folder, and what to do."""
    told: StrongroomError | None = None
    try:
        yield
    except kinds as error:
        told = error
    assert told is None or (str(where) in told.message and told.hint)


def copied(vault: Vault, original: Path, to: Path) -> None:
    """Let the vault have a fresh copy of its pool."""
    shutil.rmtree(to, ignore_errors=True)
    vault.path = shutil.copytree(original, to)
    vault.reopen()


def check_whole(vault: Vault, *images: Fragment) -> None:
    """Nothing is half-made, also after the next start; these images are whole."""
    assert list((vault.path / INCOMING).iterdir()) == []
    vault.reopen()
    assert vault.pool.refreshed.problems == []
    for image in images:
        assert list(verify_image(vault.pool, image, vault)) == []


@STAYS
def test_backup_in_which_any_write_finds_no_room_p1(
    made: tuple[Vault, Fragment, Fragment], tmp_path: Path, stays: bool
) -> None:
    vault, kept, other = made
    original, new = vault.path, random_bytes("new", 200_000)
    try:
        for refusing in each(stays=stays):
            copied(vault, original, tmp_path / "pool")
            with refusing.at(WRITES), in_words(PoolFullError, where=vault.path):
                back_up(vault, "new", new, limits=LIMITS)
            again = back_up(vault, "again", new, limits=LIMITS)
            check_whole(vault, kept, other, again)
            vault.pool.close()
    finally:
        vault.path = original


@STAYS
def test_collection_in_which_any_write_finds_no_room_p2(
    made: tuple[Vault, Fragment, Fragment], tmp_path: Path, stays: bool
) -> None:
    vault, kept, other = made
    original = vault.path
    try:
        for refusing in each(stays=stays, error=errno.EIO):
            copied(vault, original, tmp_path / "pool")
            expire(vault, other)
            run(vault, 1)
            with refusing.at((*WRITES, "unlink")), in_words(PoolWriteError, where=vault.path):
                run(vault, 2)
            for later in (3, 4, 5):
                told = run(vault, later)
            assert (told.unneeded.containers, told.envelopes_waiting) == (0, 0)
            assert len(vault.pool.envelopes.for_frames()) == 1
            assert 0 < len(containers(vault)) < len(list((original / "containers").glob("*/*")))
            check_whole(vault, kept)
            vault.pool.close()
    finally:
        vault.path = original


@STAYS
def test_receiver_in_which_any_write_finds_no_room_p1(tmp_path: Path, stays: bool) -> None:
    source = Pool.create(tmp_path / "source")
    ids = list(dict.fromkeys(reference.frame_id for reference in source.write(STREAM, LIMITS)))
    with source.reader() as reader:
        frames = {frame_id: reader.stored(frame_id).data for frame_id in ids}
    for number, refusing in enumerate(each(stays=stays)):
        target = Pool.create(tmp_path / f"target{number}")
        receiver = FrameReceiver(
            target.store, target.index, medium=MEDIUM, origin=DOMAIN, clock=target.clock, entropy=target.entropy
        )
        with refusing.at(WRITES), in_words(PoolFullError, where=target.folder.path):
            for frame_id in ids:
                receiver.add_frame(frame_id, frames[frame_id])
            receiver.flush()
        for frame_id in receiver.lacking_frames(ids):
            receiver.add_frame(frame_id, frames[frame_id])
        receiver.flush()
        assert target.index.lacking(ids, DOMAIN) == []
        assert list((target.folder.path / INCOMING).iterdir()) == []
        for container, *_ in target.index.containers():
            assert list(verify_container(target.store, container, MEDIUM)) == []


@STAYS
def test_keystore_in_which_any_write_finds_no_room_c1(tmp_path: Path, stays: bool) -> None:
    for number, refusing in enumerate(each(stays=stays)):
        home = KmsHome(tmp_path / str(number))
        home.keys.create_group("old")
        written = {"old"}
        with refusing.at(WRITES), in_words(KeystoreWriteError, where=home.keystore):
            home.keys.create_group("new")
            written.add("new")
        found = {group.name for group in home.service(home.reopened()).groups()}
        assert written <= found <= {"old", "new"}
        home.keys.create_group("after")
        assert "after" in {group.name for group in home.service(home.reopened()).groups()}
        assert not (home.keystore.parent / "keystore.new").exists()


@STAYS
def test_verify_and_collection_in_which_any_read_fails_p1(
    made: tuple[Vault, Fragment, Fragment], tmp_path: Path, stays: bool
) -> None:
    """What cannot be read is named, and nothing goes because of it."""
    vault, kept, other = made
    original = vault.path
    try:
        copied(vault, original, tmp_path / "pool")
        before = containers(vault)
        for refusing in each(stays=stays, error=errno.EIO):
            problems = []
            with refusing.at(READS), in_words(PoolReadError, where=vault.path):
                image = vault.pool.fragments.read(ImageId(kept.image.payload.image), 1)
                problems = list(verify_image(vault.pool, image, None))
                assert bool(problems) == refusing.has_refused
            assert all(str(vault.path) in problem.message for problem in problems)
        for refusing in each(stays=stays, error=errno.EIO):
            with refusing.at(READS), in_words(CannotMarkError, PoolReadError, where=vault.path):
                run(vault, 1)
                run(vault, 2)
            assert containers(vault) == before
        check_whole(vault, kept, other)
    finally:
        vault.path = original
