"""C2: what makes a file the same as in the previous image."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from strongroom.client.owners import Owners
from strongroom.client.previous import Previous, previous_files
from strongroom.client.problems import READ_ANEW, Trouble
from strongroom.core.errors import IntegrityError
from strongroom.formats import entries, image_stream
from strongroom.formats.image_stream import Known
from tests.formats.make_stream_vectors import block


def record_of(file: Path) -> Known:
    found = file.lstat()
    kinds = {stat.S_IFREG: entries.REGULAR, stat.S_IFDIR: entries.FOLDER, stat.S_IFLNK: entries.SYMLINK}
    kind = kinds[stat.S_IFMT(found.st_mode)]
    return Known(
        kind,
        bytes(file),
        stat.S_IMODE(found.st_mode),
        found.st_uid,
        found.st_gid,
        Owners().user(found.st_uid),
        Owners().group(found.st_gid),
        found.st_mtime_ns,
        found.st_ctime_ns,
        found.st_dev,
        found.st_ino,
        found.st_size if kind == entries.REGULAR else 0,
        None,
        0,
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"contents")
    return path


def test_c2_equal_file_is_the_same_and_has_its_number(file: Path) -> None:
    previous = Previous([[record_of(file.parent), record_of(file)]], None)
    assert previous.find(bytes(file), file.stat()) == (1, record_of(file))


def test_c2_equal_folders_and_links_are_the_same_too(file: Path) -> None:
    link = file.with_name("link")
    link.symlink_to("elsewhere")
    previous = Previous([[record_of(file.parent), record_of(link)]], None)
    assert previous.find(bytes(file.parent), file.parent.stat()) == (0, record_of(file.parent))
    assert previous.find(bytes(link), link.lstat()) == (1, record_of(link))


@pytest.mark.parametrize("field", ["mtime", "ctime", "device", "inode", "size", "mode", "uid", "gid"])
def test_c2_each_difference_counts(file: Path, field: str) -> None:
    known = record_of(file)
    setattr(known, field, getattr(known, field) ^ 1)
    assert Previous([[known]], None).find(bytes(file), file.stat()) is None


@pytest.mark.parametrize("field", ["user", "group"])
def test_c2_owner_with_another_name_counts(file: Path, field: str) -> None:
    known = record_of(file)
    setattr(known, field, b"another")
    assert Previous([[known]], None).find(bytes(file), file.stat()) is None


@pytest.mark.parametrize("flag", [entries.CHANGED, entries.SHRANK])
def test_c2_record_that_is_not_the_whole_truth_does_not_count(file: Path, flag: int) -> None:
    known = record_of(file)
    known.flags = flag
    assert Previous([[known]], None).find(bytes(file), file.stat()) is None


def test_unchanged_file_whose_contents_the_pool_lost_is_told_and_read_anew_p1(file: Path) -> None:
    known, told = record_of(file), list[Trouble]()
    known.flags = image_stream.CONTENTS_LOST
    assert Previous([[known]], None, told.append).find(bytes(file), file.stat()) is None
    assert [(one.path, one.code) for one in told] == [(bytes(file), READ_ANEW)]


def test_changed_file_whose_contents_the_pool_lost_is_not_told_p1(file: Path) -> None:
    known, told = record_of(file), list[Trouble]()
    known.flags, known.size = image_stream.CONTENTS_LOST, known.size + 1
    assert Previous([[known]], None, told.append).find(bytes(file), file.stat()) is None
    assert told == []


def test_c2_previous_files_say_why_they_end_early_p1(file: Path) -> None:
    told: list[Trouble] = []
    why = image_stream.problem(bytes(file), "pool.frame-missing", "gone")
    pieces = [image_stream.MAGIC, image_stream.known([record_of(file)]), why, image_stream.end(1, 8, 1)]
    assert [len(found) for found in previous_files(pieces, told.append)] == [1]
    assert [(one.code, one.message) for one in told] == [(READ_ANEW, "gone [pool.frame-missing]")]


def test_c2_previous_files_out_of_order_are_refused(file: Path) -> None:
    twice = image_stream.known([record_of(file)]) * 2
    previous = previous_files([image_stream.MAGIC + twice + image_stream.end(2, 16, 0)])
    with pytest.raises(IntegrityError):
        Previous(previous, None).find(b"/zzz", file.stat())


@pytest.mark.parametrize("said", [(0, 8), (1, 7)])
def test_c2_previous_files_that_are_not_all_are_refused(file: Path, said: tuple[int, int]) -> None:
    with pytest.raises(IntegrityError):
        list(previous_files([image_stream.MAGIC + image_stream.known([record_of(file)]) + image_stream.end(*said, 0)]))


def test_c2_previous_files_with_contents_are_refused() -> None:
    with pytest.raises(IntegrityError):
        list(previous_files([image_stream.MAGIC + block(1, b"x") + image_stream.end(0, 0, 0)]))
