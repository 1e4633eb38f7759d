"""P1: the model of a file system that loses power allows what a disk may do, and nothing else."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from durability.model import EXTREMES, Disk, Draw, FileSystem, Node

DRAWS = [*EXTREMES, *map(str, range(200))]


def file() -> Node:
    return Node(stat.S_IFREG, 0o600)


def found(disk: Disk, at: int, draw: str) -> dict[str, bytes]:
    """Give the names below the top with their contents; folders end with a slash."""
    after = disk.after_cut(at, Draw(draw))
    listed: dict[str, bytes] = {}

    def walk(node: Node, path: str) -> None:
        for name, child in after.names.get(node, {}).items():
            shown = path + name.decode()
            listed[shown + "/" * child.is_folder] = bytes(after.contents.get(child, b""))
            walk(child, f"{shown}/")

    walk(disk.root, "")
    return listed


def outcomes(disk: Disk, at: int) -> list[dict[str, bytes]]:
    return [found(disk, at, draw) for draw in DRAWS]


def test_what_was_not_made_stable_may_be_there_or_not_in_any_selection() -> None:
    disk, one, other = Disk(FileSystem.POSIX), file(), file()
    disk.named(1, (disk.root, b"one", one))
    disk.wrote(2, one, 0, b"1")
    disk.named(3, (disk.root, b"other", other))
    seen = outcomes(disk, 9)
    assert {} in seen
    assert {"one": b"1", "other": b""} in seen
    assert {"one": b""} in seen
    assert {"other": b""} in seen, "names need not be kept in order"


def test_a_stable_file_has_no_stable_name_yet() -> None:
    disk, node = Disk(FileSystem.POSIX), file()
    disk.named(1, (disk.root, b"name", node))
    disk.wrote(2, node, 0, b"contents")
    disk.synced(3, 4, node)
    seen = outcomes(disk, 9)
    assert {} in seen
    assert all(each == {"name": b"contents"} for each in seen if each)


def test_what_was_made_stable_is_always_there() -> None:
    disk, folder, node = Disk(FileSystem.POSIX), Node(stat.S_IFDIR, 0o700), file()
    disk.named(1, (disk.root, b"folder", folder))
    disk.named(2, (folder, b"name", node))
    disk.wrote(3, node, 0, b"contents")
    for at, one in enumerate((node, folder, disk.root), start=4):
        disk.synced(at, at, one)
    assert all(each == {"folder/": b"", "folder/name": b"contents"} for each in outcomes(disk, 9))
    assert {} in outcomes(disk, 5), "before the last of them it was not"


def test_a_deed_that_was_not_over_when_the_sync_began_is_not_covered() -> None:
    disk, node = Disk(FileSystem.POSIX), file()
    disk.named(1, (disk.root, b"name", node))
    disk.synced(2, 3, disk.root)
    disk.wrote(5, node, 0, b"late")
    disk.synced(4, 6, node)
    assert {"name": b""} in outcomes(disk, 9)


def test_a_rename_is_not_seen_half_done() -> None:
    disk, old, new = Disk(FileSystem.POSIX), file(), file()
    disk.named(1, (disk.root, b"name", old))
    disk.wrote(2, old, 0, b"old")
    disk.named(3, (disk.root, b"name.new", new))
    disk.wrote(4, new, 0, b"new")
    for node in (old, new, disk.root):
        disk.synced(5, 5, node)
    disk.named(6, (disk.root, b"name", new), (disk.root, b"name.new", None))
    seen = outcomes(disk, 9)
    assert all(each in ({"name": b"old", "name.new": b"new"}, {"name": b"new"}) for each in seen)
    assert {"name": b"new"} in seen


def test_a_write_may_be_torn_between_sectors_and_leave_zeros() -> None:
    disk, node = Disk(FileSystem.POSIX), file()
    disk.named(1, (disk.root, b"name", node))
    disk.synced(1, 2, disk.root)
    disk.synced_all(2, 2)
    disk.wrote(3, node, 0, b"a" * 512 + b"b" * 512 + b"c" * 100)
    seen = [each["name"] for each in outcomes(disk, 9)]
    assert bytes(1124) in seen
    assert any(b"a" * 512 + bytes(512) + b"c" * 100 == each for each in seen)
    for each in seen:
        for start in range(0, len(each), 512):
            assert len(set(each[start : start + 512])) <= 1, "a sector is whole"


@pytest.mark.parametrize("draw", DRAWS[:60])
def test_a_journal_keeps_names_in_order(draw: str) -> None:
    disk = Disk(FileSystem.JOURNAL)
    for at, name in enumerate((b"a", b"b", b"c", b"d"), start=1):
        disk.named(at, (disk.root, name, file()))
    names = "".join(found(disk, 9, draw))
    assert "abcd".startswith(names)


def test_with_a_journal_any_sync_makes_the_names_before_it_stable() -> None:
    disk, node = Disk(FileSystem.JOURNAL), file()
    disk.named(1, (disk.root, b"name", node))
    disk.synced(2, 3, node)
    assert all("name" in each for each in outcomes(disk, 9))


def test_files_are_written_as_they_were_found(tmp_path: Path) -> None:
    disk, folder, node = Disk(FileSystem.POSIX), Node(stat.S_IFDIR, 0o750), file()
    disk.named(1, (disk.root, b"folder", folder))
    disk.named(2, (folder, b"name", node), (folder, b"name-shm", file()))
    disk.named(3, (folder, b"link", Node(stat.S_IFLNK, 0o777, b"name")))
    disk.named(4, (folder, b"socket", Node(stat.S_IFSOCK, 0o600)))
    disk.wrote(5, node, 3, b"x")
    disk.moded(6, node, 0o640)
    disk.after_cut(9, Draw("all")).write(tmp_path / "top", without=("-shm",))
    made = tmp_path / "top" / "folder"
    assert sorted(path.name for path in made.iterdir()) == ["link", "name", "socket"]
    assert (made / "name").read_bytes() == b"\0\0\0x"
    assert stat.S_IMODE((made / "name").stat().st_mode) == 0o640
    assert stat.S_IMODE(made.stat().st_mode) == 0o750
    assert (made / "socket").is_socket()
