"""File lists on a real disk: what is written is found, what was tampered with is refused, memory stays bounded."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from strongroom.catalog import file_list_parquet
from strongroom.catalog.copies import begin_copy, commit_copy, mark_written
from strongroom.catalog.errors import FileListDamagedError, NoFileListError, PatternError
from strongroom.catalog.expiry import expire_copy, forget_copy
from strongroom.catalog.file_list import (
    FileEntry,
    FileLists,
    adopt_file_list,
    remove_file_list,
    sweep,
)
from strongroom.catalog.file_list_parquet import write_file_list
from strongroom.catalog.file_search import PAGE_BYTES, Found, find_files, list_folder, list_tops
from strongroom.catalog.media import add_medium
from strongroom.catalog.model import CameBy
from strongroom.catalog.patterns import parse_glob
from strongroom.core.clock import from_ns
from strongroom.core.ids import ImageId
from strongroom.core.secret import Secret
from strongroom.database import open_engine, read, write
from tests.support.databases import copy_tables
from tests.support.images import NS, ORIGIN, T0, FixedEntropy, fixed, image_id

NOW, LATER = from_ns(T0 + 120 * NS), from_ns(T0 + 7200 * NS)
PATHS = (
    b"/", b"/etc", b"/etc/hosts", b"/home", b"/home/a", b"/home/a/\xff\xfe.bin", b"/home/a/x.txt", b"/home/a/y\nz.txt",
    b"/home/b", b"/home/b/x.txt",
)  # fmt: skip


def entries(paths: tuple[bytes, ...] = PATHS) -> Iterator[FileEntry]:
    for number, path in enumerate(paths):
        file = b"." in path
        yield FileEntry(
            path, 1 if file else 2, 0o644, 0, 1 << 40, b"root", b"", -5, T0, number, None, 100 * number, number or None
        )


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    copy_tables(tmp_path / "strongroom.db")
    engine = open_engine(f"sqlite:///{tmp_path / 'strongroom.db'}")
    yield engine
    engine.dispose()


@pytest.fixture
def lists(tmp_path: Path) -> FileLists:
    return FileLists(tmp_path / "files", Secret(fixed("catalog key")))


def stored(engine: Engine, lists: FileLists, name: str = "image", paths: tuple[bytes, ...] = PATHS) -> ImageId:
    """An image with its list."""
    image = ORIGIN.image(name)
    with write(engine) as db:
        add_medium(db, ORIGIN.pool, kind="pool", label="p", domain=ORIGIN.id, location="", host=None)
        key = begin_copy(
            db,
            image_id(image),
            session=fixed(name, 16),
            domain=ORIGIN.id,
            medium=ORIGIN.pool,
            came_by=CameBy.BACKUP,
            now=NOW,
            deadline=LATER,
        )
        commit_copy(db, fixed(name, 16), [ORIGIN.copy(image)], now=NOW, known=None)
        mark_written(db, key)
    written = write_file_list(lists, key.image, entries(paths), FixedEntropy(name))
    with write(engine) as db:
        assert adopt_file_list(db, written, now=NOW) is None
    return key.image


def paths_of(found: list[Found]) -> list[bytes]:
    return [one.entry.path for one in found]


@pytest.mark.parametrize("rows_in_group", [1, 3, 32_768])
def test_folder_lists_what_is_in_it_and_nothing_below(
    engine: Engine, lists: FileLists, monkeypatch: pytest.MonkeyPatch, rows_in_group: int
) -> None:
    monkeypatch.setattr(file_list_parquet, "ROWS_IN_GROUP", rows_in_group)
    image = stored(engine, lists)
    with read(engine) as db:
        assert paths_of(list_folder(db, lists, image, b"/")) == [b"/etc", b"/home"]
        inside = list_folder(db, lists, image, b"/home/a")
        assert paths_of(inside) == [b"/home/a/\xff\xfe.bin", b"/home/a/x.txt", b"/home/a/y\nz.txt"]
        assert list_folder(db, lists, image, b"/home/c") == []
        assert inside[0].entry == list(entries())[inside[0].row]
        rest = list_folder(db, lists, image, b"/home/a", after=inside[0].row, limit=1)
        assert paths_of(rest) == [b"/home/a/x.txt"]


@pytest.mark.parametrize("rows_in_group", [1, 3, 32_768])
def test_the_topmost_of_an_image_is_what_was_named_however_deep_it_lay(
    engine: Engine, lists: FileLists, monkeypatch: pytest.MonkeyPatch, rows_in_group: int
) -> None:
    monkeypatch.setattr(file_list_parquet, "ROWS_IN_GROUP", rows_in_group)
    inside = (b"/srv/data", b"/srv/data/a", b"/srv/data/a/x.txt", b"/srv/data/b.txt")
    image = stored(engine, lists, paths=(b"/opt/one.txt", *inside, b"/srv/data-2", b"/var/x.txt"))
    root = stored(engine, lists, "whole", paths=(b"/", b"/a", b"/a/x.txt", b"/b.txt"))
    with read(engine) as db:
        assert paths_of(list_tops(db, lists, root)) == [b"/"]
        tops = list_tops(db, lists, image)
        assert paths_of(tops) == [b"/opt/one.txt", b"/srv/data", b"/srv/data-2", b"/var/x.txt"]
        assert list_tops(db, lists, image, limit=2) == tops[:2]
        assert list_tops(db, lists, image, after=tops[1].row, limit=1) == tops[2:3]
        assert list_tops(db, lists, image, after=tops[3].row) == []


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (b"*.txt", [b"/home/a/x.txt", b"/home/a/y\nz.txt", b"/home/b/x.txt"]),
        (b"?.txt", [b"/home/a/x.txt", b"/home/b/x.txt"]),
        (b"[!x]*.txt", [b"/home/a/y\nz.txt"]),
        (b"[w-y].txt", [b"/home/a/x.txt", b"/home/b/x.txt"]),
        (b"\xff\xfe.bin", [b"/home/a/\xff\xfe.bin"]),
        (b"[\xfe-\xff]?.bin", [b"/home/a/\xff\xfe.bin"]),
        (b"/home/*", [b"/home/a", b"/home/b"]),
        (b"/home/*/x.txt", [b"/home/a/x.txt", b"/home/b/x.txt"]),
        (b"/**/x.txt", [b"/home/a/x.txt", b"/home/b/x.txt"]),
        (b"\\*.txt", []),
        (b".", []),
    ],
)
def test_patterns_find_names_or_whole_paths(
    engine: Engine, lists: FileLists, pattern: bytes, expected: list[bytes]
) -> None:
    image = stored(engine, lists)
    with read(engine) as db:
        assert paths_of(find_files(db, lists, pattern, images=[image])) == expected


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.binary(min_size=1, max_size=20))
def test_escaped_name_matches_itself_only(name: bytes) -> None:
    import pyarrow as pa  # type: ignore[import-untyped]  # it carries no types
    import pyarrow.compute as pc  # type: ignore[import-untyped]  # as above

    glob = parse_glob(b"".join(b"\\" + bytes([value]) for value in name))
    column = pa.array([name, name + b"x", b"x" + name, name + b"\n"], pa.binary())
    assert pc.match_substring_regex(column, glob.expression).to_pylist() == [True, False, False, False]


@pytest.mark.parametrize("pattern", [b"", b"[", b"[]", b"a\\", b"[z-a]", b"x" * 4_097])
def test_pattern_that_cannot_be_read_is_refused(pattern: bytes) -> None:
    with pytest.raises(PatternError):
        parse_glob(pattern)


def test_search_over_all_images_comes_in_pages(engine: Engine, lists: FileLists) -> None:
    for name in "abc":
        stored(engine, lists, name)
    seen: list[tuple[ImageId, int]] = []
    with read(engine) as db:
        while True:
            page = find_files(db, lists, b"*.txt", after=seen[-1] if seen else None, limit=2)
            if not page:
                break
            seen += [(found.image, found.row) for found in page]
        assert len(seen) == len(set(seen)) == 9


def test_nothing_of_the_names_can_be_read_in_the_file(engine: Engine, lists: FileLists) -> None:
    stored(engine, lists)
    (file,) = lists.folder.rglob("*.f")
    data = file.read_bytes()
    for clear in (b"x.txt", b"hosts", b"mtime_ns", b"root"):
        assert clear not in data
    assert file.stat().st_mode & 0o777 == 0o600


def test_changed_file_is_refused_wherever_it_was_changed(engine: Engine, lists: FileLists) -> None:
    image = stored(engine, lists)
    (file,) = lists.folder.rglob("*.f")
    original = file.read_bytes()
    for at in range(0, len(original), 97):
        changed = bytearray(original)
        changed[at] ^= 1
        file.write_bytes(changed)
        with read(engine) as db:
            try:
                assert find_files(db, lists, b"*", images=[image]) == _all(image), "a byte that nobody reads"
            except FileListDamagedError:
                continue


def test_other_key_and_other_image_open_nothing(engine: Engine, lists: FileLists) -> None:
    one, other = stored(engine, lists, "one"), stored(engine, lists, "other")
    first, second = (next(lists.folder.rglob(f"{image.hex()}-*.f")) for image in (one, other))
    with read(engine) as db:
        with pytest.raises(FileListDamagedError):
            find_files(db, FileLists(lists.folder, Secret(bytes(32))), b"*", images=[one])
        first.write_bytes(second.read_bytes())
        with pytest.raises(FileListDamagedError):
            find_files(db, lists, b"*", images=[one])
        first.unlink()
        with pytest.raises(FileListDamagedError):
            find_files(db, lists, b"*", images=[one])
        with pytest.raises(NoFileListError):
            find_files(db, lists, b"*", images=[ImageId(bytes(16))])


def test_list_goes_with_its_image(engine: Engine, lists: FileLists) -> None:
    image = stored(engine, lists)
    with write(engine) as db:
        from strongroom.catalog.images import get_image

        key = get_image(db, image).copies[0].key
        expire_copy(db, key, own=ORIGIN.id, now=LATER, reason="over")
        gone = forget_copy(db, key)
    assert gone.file_list is not None
    remove_file_list(lists, image, gone.file_list)
    remove_file_list(lists, image, gone.file_list)
    assert list(lists.folder.rglob("*.f")) == []


def test_writing_that_breaks_off_leaves_nothing_and_a_crash_is_swept(engine: Engine, lists: FileLists) -> None:
    image = stored(engine, lists)

    def broken() -> Iterator[FileEntry]:
        yield from entries()
        raise ConnectionError

    with pytest.raises(ConnectionError):
        write_file_list(lists, image, broken(), FixedEntropy("broken"))
    assert len(list(lists.folder.rglob("*-*"))) == 1
    orphan = write_file_list(lists, image, entries(), FixedEntropy("nobody adopts it"))
    lists.path(image, orphan.salt).with_suffix(".part").write_bytes(b"half")
    with read(engine) as db:
        assert sweep(db, lists) == 2
        assert sweep(db, lists) == 0
        assert len(find_files(db, lists, b"*", images=[image])) == len(PATHS)


def test_image_without_files_has_an_empty_list(engine: Engine, lists: FileLists) -> None:
    image = stored(engine, lists, paths=())
    with read(engine) as db:
        assert list_folder(db, lists, image, b"/") == []
        assert find_files(db, lists, b"*", images=[image]) == []


MEASURE = """
import sys
from pathlib import Path
from strongroom.catalog.file_list import FileEntry, FileLists
from strongroom.catalog.file_list_parquet import write_file_list
from strongroom.core.secret import Secret
from strongroom.settings.system import SystemEntropy
from tests.support.memory import peak_kib

def entries():
    for number in range(int(sys.argv[2])):
        path = b"/home/user%03d/project%04d/file-%08d.dat" % (number // 50_000, number // 500, number)
        yield FileEntry(path, 1, 0o644, 1000, 1000, b"user", b"users", number, number, number, None, number, number)

write_file_list(FileLists(Path(sys.argv[1]), Secret(bytes(32))), bytes(16), entries(), SystemEntropy())
print(peak_kib() // 1024)
"""


@pytest.mark.slow
def test_a_million_files_need_less_than_300_mib_x1(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path), "1000000"], check=True, capture_output=True, text=True
    )
    assert int(done.stdout) < 300


def _all(image: ImageId) -> list[Found]:
    return [Found(image, row, entry) for row, entry in enumerate(entries())]


def test_a_page_of_long_paths_ends_by_its_bytes_and_all_pages_have_all_files_p1(
    engine: Engine, lists: FileLists
) -> None:
    """A thousand paths of 60,000 bytes in one answer would take the primary hundreds of MB."""
    deep = b"/" + b"d" * 59_000
    paths = (b"/", deep, *(deep + b"/file %03d.txt" % number for number in range(150)))
    image = stored(engine, lists, paths=paths)
    seen: list[Found] = []
    with read(engine) as db:
        while page := find_files(db, lists, b"**", images=[image], after=(image, seen[-1].row if seen else -1)):
            assert len(page) == len(paths) - len(seen) or sum(one.bytes for one in page) > PAGE_BYTES
            assert sum(one.bytes for one in page) < 4 * PAGE_BYTES
            seen += page
        assert paths_of(seen) == list(paths)
        inside = list_folder(db, lists, image, deep)
        assert 0 < len(inside) < 150
        assert len(list_folder(db, lists, image, deep, after=inside[-1].row)) > 0
