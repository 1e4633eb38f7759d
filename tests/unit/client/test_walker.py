"""C1: which files the walk finds, and in which order."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from strongroom.client.exclude import Exclude
from strongroom.client.problems import BadPatternError, BadRootError, Trouble
from strongroom.client.walker import Walker, outer_roots
from tests.support.trees import make_tree

ROOT_DEVICE = Path("/").stat().st_dev


def walk(*roots: Path | str, **options: object) -> list[bytes]:
    troubles: list[Trouble] = []
    found = [f.path for f in Walker(troubles.append, **options).walk([os.fsencode(root) for root in roots])]  # type: ignore[arg-type]
    assert troubles == []
    return found


def test_c1_finds_what_find_finds(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    listing = subprocess.run(["find", tree, "-print0"], check=True, capture_output=True).stdout
    assert sorted(walk(tree)) == sorted(listing.split(b"\0")[:-1])


def test_c1_order_is_parts_not_bytes(tmp_path: Path) -> None:
    for name in ("a", "a-b", "a.b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "x").touch()
    names = [os.fsdecode(path)[len(str(tmp_path)) :] for path in walk(tmp_path)]
    assert names == ["", "/a", "/a/x", "/a-b", "/a.b"]


def test_c1_roots_inside_roots_are_walked_once(tmp_path: Path) -> None:
    (tmp_path / "b" / "c").mkdir(parents=True)
    (tmp_path / "a").mkdir()
    roots = (tmp_path / "b" / "c", tmp_path / "b", str(tmp_path / "b") + "//.", tmp_path / "a")
    assert walk(*roots) == [os.fsencode(tmp_path / name) for name in ("a", "b", "b/c")]


def test_c1_root_can_be_a_file_or_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    assert walk(tmp_path / "link", tmp_path / "file") == [os.fsencode(tmp_path / n) for n in ("file", "link")]


def test_c1_the_root_folder_is_walked() -> None:
    walker = Walker(lambda _: None).walk([b"/"])
    first, second = next(walker), next(walker)
    walker.close()  # type: ignore[attr-defined]
    assert first.path == b"/"
    assert second.path == b"/" + min(os.listdir(b"/"))  # noqa: PTH208 - names are bytes


def test_c1_missing_root_is_a_problem(tmp_path: Path) -> None:
    troubles: list[Trouble] = []
    assert list(Walker(troubles.append).walk([os.fsencode(tmp_path / "no"), b"/no/such"])) == []
    assert [trouble.code for trouble in troubles] == ["client.vanished"] * 2


@pytest.mark.parametrize("root", [b"relative", b"", b"/zero\0byte"])
def test_c1_root_that_is_no_absolute_path_is_refused(root: bytes) -> None:
    with pytest.raises(BadRootError):
        outer_roots([root])


@pytest.mark.skipif(Path("/proc").stat().st_dev == ROOT_DEVICE, reason="needs a second file system")
def test_c1_other_file_systems_are_left_out_on_request() -> None:
    walker = Walker(lambda _: None, exclude=Exclude([b"/[!p]*", b"/pr?[!c]*"]), one_file_system=True)
    found = [item.path for item in walker.walk([b"/"])]
    assert b"/proc" in found
    assert not [path for path in found if path.startswith(b"/proc/")]


@pytest.mark.parametrize(
    ("pattern", "path", "left_out"),
    [
        (b"*.o", b"/a/b.o", True),
        (b"*.o", b"/a.o/b", False),
        (b"*.o", b"/b.oo", False),
        (b"/a/*", b"/a/b", True),
        (b"/a/*", b"/a/b/c", False),
        (b"/a/**", b"/a/b/c", True),
        (b"/a", b"/b/a", False),
        (b"build/tmp", b"/x/build/tmp", True),
        (b"build/tmp/", b"/x/build/tmp", True),
        (b"tmp", b"/xtmp", False),
        (b"?", b"/\n", True),
        (b"[!a-c]x", b"/dx", True),
        (b"[!a-c]x", b"/bx", False),
        (b"[]a]", b"/]", True),
        (b"[a^]", b"/^", True),
        (b"a.b", b"/aXb", False),
        (b"\xff*", b"/\xff\xfe", True),
    ],
)
def test_c1_patterns_leave_out(pattern: bytes, path: bytes, left_out: bool) -> None:
    assert Exclude([b"no-such", pattern])(path) is left_out


@pytest.mark.parametrize("pattern", [b"", b"/", b"[a", b"[c-a]"])
def test_c1_bad_patterns_are_refused(pattern: bytes) -> None:
    with pytest.raises(BadPatternError):
        Exclude([pattern])


def test_c1_excluded_folder_is_not_entered(tmp_path: Path) -> None:
    (tmp_path / "cache" / "x").mkdir(parents=True)
    (tmp_path / "kept").mkdir()
    assert walk(tmp_path, exclude=Exclude([b"cache"])) == [os.fsencode(tmp_path), os.fsencode(tmp_path / "kept")]


def test_c1_folder_moved_away_during_the_walk_does_not_lead_elsewhere(tmp_path: Path) -> None:
    base, elsewhere = tmp_path / "base", tmp_path / "elsewhere"
    base.joinpath(*["a"] * 80).mkdir(parents=True)
    base.joinpath(*["a"] * 80, "bottom").touch()
    base.joinpath(*["a"] * 5, "z").touch()
    elsewhere.mkdir()
    (elsewhere / "zz").touch()
    troubles: list[Trouble] = []
    found = []
    for item in Walker(troubles.append).walk([os.fsencode(base)]):
        found.append(item.path)
        if item.name == b"bottom":
            base.joinpath(*["a"] * 11).rename(elsewhere / "moved")
    assert [(trouble.code, trouble.path) for trouble in troubles] == [
        ("client.vanished", os.fsencode(base.joinpath(*["a"] * 5)))
    ]
    assert found[-1].endswith(b"/bottom")
