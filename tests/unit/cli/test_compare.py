"""The demonstration's own comparison finds every kind of difference."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from strongroom.cli.demonstration.compare import differences


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    one = tmp_path / "one"
    (one / "folder").mkdir(parents=True)
    (one / "file").write_text("contents")
    (one / "folder" / "linked").hardlink_to(one / "file")
    (one / "link").symlink_to("file")
    other = tmp_path / "other"
    subprocess.run(["cp", "-a", one, other], check=True)
    return one, other


def _write(tree: Path) -> None:
    status = (tree / "file").stat()
    (tree / "file").write_text("CONTENTS")
    os.utime(tree / "file", ns=(status.st_atime_ns, status.st_mtime_ns))


def _part_names(tree: Path) -> None:
    copy = tree / "folder" / "copy"
    shutil.copy2(tree / "file", copy)
    folder = copy.parent.stat()
    copy.replace(tree / "folder" / "linked")
    os.utime(copy.parent, ns=(folder.st_atime_ns, folder.st_mtime_ns))


def _point_elsewhere(tree: Path) -> None:
    status, top = (tree / "link").lstat(), tree.stat()
    (tree / "link").unlink()
    (tree / "link").symlink_to("elsewhere")
    os.utime(tree / "link", ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)
    os.utime(tree, ns=(top.st_atime_ns, top.st_mtime_ns))


def test_copies_that_are_whole_do_not_differ(trees: tuple[Path, Path]) -> None:
    assert list(differences(*trees)) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_write, "the contents differ"),
        (lambda tree: (tree / "file").chmod(0o600), "st_mode"),
        (lambda tree: os.utime(tree / "folder", ns=(0, 1)), "st_mtime_ns"),
        (lambda tree: (tree / "new").touch(), "./new: No such file"),
        (lambda tree: (tree / "link").unlink(), "./link: No such file"),
        (lambda tree: os.setxattr(tree / "file", "user.note", b"new"), "extended attributes"),
        (_point_elsewhere, "the link points elsewhere"),
        (_part_names, "a hard link became a file of its own"),
    ],
    ids=["contents", "mode", "time", "more", "less", "attribute", "link", "hard link"],
)
def test_each_kind_of_difference_is_found(
    trees: tuple[Path, Path], change: Callable[[Path], object], told: str
) -> None:
    change(trees[1])
    found = list(differences(*trees))
    assert any(told in line for line in found), found
