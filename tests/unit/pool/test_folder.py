"""P3: the pool folder: modes, names, and what is left behind."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path

import pytest

from strongroom.pool.errors import (
    NotAPoolError,
    ObjectMissingError,
    PoolExistsError,
    PoolFullError,
    PoolReadError,
    PoolWriteError,
)
from strongroom.pool.folder import Folder
from strongroom.pool.incoming import INCOMING
from strongroom.pool.salvage import salvage
from tests.support.pool import DOMAIN, MEDIUM, CountedEntropy, Pool


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder.create(tmp_path / "pool", b"medium header", CountedEntropy())


def incoming(folder: Folder) -> list[Path]:
    return list((folder.path / INCOMING).iterdir())


def test_a_new_pool_has_its_folders_and_its_medium_header(folder: Folder) -> None:
    assert folder.read("medium") == b"medium header"
    names = sorted(path.name for path in folder.path.iterdir())
    assert names == ["containers", "envelopes", "images", "incoming", "index", "journal", "medium", "revocations"]


def test_a_new_pool_and_the_folders_above_it_have_stable_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stable: set[Path] = set()
    fsync = os.fsync

    def note_fsync(handle: int) -> None:
        stable.add(Path(f"/proc/self/fd/{handle}").readlink())
        fsync(handle)

    monkeypatch.setattr("os.fsync", note_fsync)
    path = tmp_path / "pools" / "far" / "main"
    Folder.create(path, b"medium header", CountedEntropy())
    assert {path, path.parent, path.parent.parent, tmp_path} <= stable


def test_nobody_else_can_look_into_a_pool(folder: Folder) -> None:
    old = os.umask(0)
    try:
        folder.put("containers/ab/abcd", b"x")
    finally:
        os.umask(old)
    for path in [folder.path, *folder.path.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_a_pool_is_not_made_over_something_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(PoolExistsError):
        Folder.create(tmp_path, b"medium header", CountedEntropy())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_making_a_pool_goes_on_where_it_was_cut_short(tmp_path: Path) -> None:
    """The power went before the medium header had its name."""
    for name in ("images", "containers", INCOMING):
        (tmp_path / "pool" / name).mkdir(parents=True)
    (tmp_path / "pool" / INCOMING / "left").write_bytes(b"medium he")
    assert Folder.create(tmp_path / "pool", b"medium header", CountedEntropy()).read("medium") == b"medium header"


@pytest.mark.parametrize("name", ["images/ab", "incoming.txt", "mine"])
def test_a_folder_with_more_than_the_beginning_of_a_pool_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / "pool" / name).mkdir(parents=True)
    with pytest.raises(PoolExistsError):
        Folder.create(tmp_path / "pool", b"medium header", CountedEntropy())


def test_a_folder_without_a_medium_header_is_no_pool(tmp_path: Path) -> None:
    with pytest.raises(NotAPoolError):
        Folder.open(tmp_path, CountedEntropy())


def test_opening_removes_what_a_dead_writer_left_and_not_what_a_living_one_has(folder: Folder) -> None:
    (folder.path / INCOMING / "left").write_bytes(b"half")
    upload = folder.upload()
    upload.append(b"first half, ")
    salvage(Folder.open(folder.path, CountedEntropy("other")), medium=MEDIUM, own=DOMAIN)
    assert [path.name == "left" for path in incoming(folder)] == [False]
    upload.append(b"second half")
    upload.finish("containers/ab/abcd")
    assert folder.read("containers/ab/abcd") == b"first half, second half"
    assert incoming(folder) == []


def test_a_name_that_a_dead_writer_could_not_take_back_is_taken_back_and_the_object_stays(folder: Folder) -> None:
    """It was killed between giving the file its name and removing the one in incoming."""
    folder.put("containers/ab/abcd", b"sealed")
    os.link(folder.path / "containers/ab/abcd", folder.path / INCOMING / "left")
    assert list(folder.leftovers()) == []
    assert incoming(folder) == []
    assert folder.read("containers/ab/abcd") == b"sealed"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (errno.ENOSPC, PoolFullError),
        (errno.EDQUOT, PoolFullError),
        (errno.EIO, PoolWriteError),
        (errno.EROFS, PoolWriteError),
    ],
)
@pytest.mark.parametrize("call", ["os.write", "os.fsync", "os.link"])
def test_a_write_that_fails_names_the_file_and_leaves_nothing(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, code: int, error: type[Exception], call: str
) -> None:
    def fail(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(call, fail)
        with pytest.raises(error, match=str(folder.path)):
            folder.put("containers/ab/abcd", b"x")
    assert incoming(folder) == []
    with pytest.raises(ObjectMissingError):
        folder.read("containers/ab/abcd")


def test_a_short_write_is_continued(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    with monkeypatch.context() as patched:
        patched.setattr("os.write", lambda handle, data: write(handle, bytes(data[:3])))
        folder.put("journal/1", b"0123456789")
    assert folder.read("journal/1") == b"0123456789"


def test_a_short_read_is_continued(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.put("journal/1", b"0123456789")
    pread = os.pread
    monkeypatch.setattr("os.pread", lambda handle, length, at: pread(handle, min(length, 3), at))
    assert folder.read("journal/1", 1, 8) == b"12345678"


def test_a_refused_read_is_no_missing_object(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.put("journal/1", b"x")

    def fail(*_: object, **__: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("os.open", fail)
    with pytest.raises(PoolReadError, match="journal/1"):
        folder.read("journal/1")


def test_a_link_planted_in_a_pool_is_not_followed(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("not in the pool")
    (folder.path / "journal" / "1").symlink_to(tmp_path / "secret")
    with pytest.raises(PoolReadError):
        folder.read("journal/1")


@pytest.fixture
def steps(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was made stable, and when a name was given."""
    noted: list[str] = []
    fsync, link = os.fsync, os.link

    def note_fsync(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink().relative_to(folder.path)
        noted.append(f"fsync {'incoming' if path.parts[0] == INCOMING else path}")
        fsync(handle)

    def note_link(source: Path, target: Path) -> None:
        noted.append("link")
        link(source, target)

    monkeypatch.setattr("os.fsync", note_fsync)
    monkeypatch.setattr("os.link", note_link)
    return noted


def test_bytes_are_stable_before_they_have_a_name_and_the_name_after(folder: Folder, steps: list[str]) -> None:
    folder.put("containers/ab/abcd", b"x")
    assert steps == ["fsync incoming", "link", "fsync containers/ab", "fsync containers"]


def test_a_folder_that_is_there_may_not_be_stable_yet(folder: Folder, steps: list[str]) -> None:
    (folder.path / "containers" / "ab").mkdir()  # by a writer that was killed, or a thread that is not done
    folder.put("containers/ab/abcd", b"x")
    assert steps[2:] == ["fsync containers/ab", "fsync containers"]


def test_a_name_that_is_there_may_not_be_stable_yet(folder: Folder, steps: list[str]) -> None:
    """Its writer may have been killed behind the link: whoever stores the same bytes again acknowledges them."""
    folder.put("images/ab/abcd", b"x")
    steps.clear()
    folder.put("images/ab/abcd", b"x")
    assert steps == ["fsync incoming", "link", "fsync images/ab", "fsync images"]


def test_a_name_that_is_gone_may_not_be_gone_for_good_yet(folder: Folder, steps: list[str]) -> None:
    folder.put("images/ab/abcd", b"x")
    (folder.path / "images" / "ab" / "abcd").unlink()
    steps.clear()
    folder.remove("images/ab/abcd")
    assert steps == ["fsync images/ab"]
    folder.remove("images/no/folder")


def test_what_is_planted_in_a_pool_holds_nobody(folder: Folder) -> None:
    folder.put("containers/ab/abcd", b"x")
    os.mkfifo(folder.path / "containers" / "ab" / "pipe")
    (folder.path / "containers" / "ab" / "link").symlink_to("abcd")
    assert [item.key for item in folder.list("containers/")] == ["containers/ab/abcd"]
    with pytest.raises(ObjectMissingError):
        folder.read("containers/ab/pipe")


def test_a_pool_without_its_empty_folders_and_index_is_whole(tmp_path: Path) -> None:
    pool = Pool.create(tmp_path / "pool")
    references = pool.write([b"x" * 100_000])
    pool.index.close()
    shutil.rmtree(pool.folder.index_path)
    for name in ("incoming", "journal", "revocations", "images"):
        (tmp_path / "pool" / name).rmdir()
    again = Pool.open(tmp_path / "pool", keys=pool.keys)
    assert again.write([b"x" * 100_000])[0].frame_id == references[0].frame_id
