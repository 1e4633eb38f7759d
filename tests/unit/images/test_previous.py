"""C2: files of the previous image are referred to in runs, whatever lies between them and however their records lie."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from strongroom.core.ids import SegmentName
from strongroom.formats import entries
from strongroom.images import stored_files
from strongroom.images.errors import NotSameError
from strongroom.images.previous import PreviousFiles
from strongroom.pool.chunker import Chunker
from tests.support.trees import rsync_differences
from tests.support.vault import Vault, random_bytes


def make(tree: Path) -> list[Path]:
    """Make small files, some without contents, some of several segments, and some whose holes need many extents."""
    tree.mkdir()
    for number in range(40):
        path = tree / f"folder{number % 3}" / f"f{number:02}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(random_bytes(f"{number}", (0, 700, 40_000, 300_000)[number % 4]))
        if number % 10 == 5:
            with path.open("r+b") as file:
                for place in range(1, 9):
                    file.seek(place * 65_536)
                    file.write(random_bytes(f"{number}-{place}", 4_096))
    return sorted(path for path in tree.rglob("*") if path.is_file())


@pytest.mark.parametrize("seed", range(8))
def test_any_files_may_have_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - which files
    monkeypatch.setattr(entries, "MAX_EXTENTS", 3)
    monkeypatch.setattr(stored_files, "_TOGETHER_BYTES", rng.choice((1, 300, 2_000, 1 << 18)))
    vault = Vault(tmp_path / "vault")
    files = make(tmp_path / "tree")
    first, _, _ = vault.back_up(tmp_path / "tree", name="first")
    changed = rng.sample(files, rng.randrange(len(files)))
    for number, path in enumerate(changed):
        match rng.randrange(3):
            case 0:
                path.unlink()
            case 1:
                path.rename(path.with_name(f"{path.name}-{number}"))
            case _:
                path.write_bytes(random_bytes(f"changed {number}", rng.randrange(50_000)))
    second, result, totals = vault.back_up(tmp_path / "tree", previous=first, name="second")
    assert result.same_bytes == totals.same_bytes
    assert totals.same_files >= len(files) - len(changed)
    _, problems = vault.restore(second, tmp_path / "target")
    assert problems == []
    restored = tmp_path / "target" / os.fspath(tmp_path / "tree").lstrip("/")
    assert rsync_differences(tmp_path / "tree", restored) == ""


def test_runs_rise_and_end_with_the_image(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "vault")
    count = len(make(tmp_path / "tree")) + 4  # folders
    image, _, _ = vault.back_up(tmp_path / "tree")
    with vault.reading(image) as stored:
        files = PreviousFiles(stored, vault.pool, vault.usable())
        found = [*files.run(2, 3), *files.run(7, count - 7)]
        assert sum(part.files for part in found) == count - 4
        with pytest.raises(NotSameError, match="passed before"):
            list(files.run(6, 1))
        with pytest.raises(NotSameError, match=f"no file {count}"):
            list(files.run(count, 1))


def test_a_long_file_that_changed_in_places_is_searched_for_cuts_only_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[int] = []
    by_content = Chunker._cut_by_content

    def search(self: Chunker, at: int, keep_bytes: int, most: int | None) -> list[tuple[SegmentName, int]]:
        found = by_content(self, at, keep_bytes, most)
        if self._is_long:
            searched.append(len(found))
        return found

    monkeypatch.setattr(Chunker, "_cut_by_content", search)
    vault = Vault(tmp_path / "vault")
    tree = tmp_path / "tree"
    make(tree)
    for name in ("a-long", "folder0-long", "z-long"):
        (tree / name).write_bytes(random_bytes(name, 12 << 20))
    first, _, _ = vault.back_up(tree, name="first")
    at_first = sum(searched)
    searched.clear()
    for name in ("folder0-long", "z-long"):
        with (tree / name).open("r+b") as file:
            file.seek(7 << 20)
            file.write(b"changed")
    second, result, _ = vault.back_up(tree, previous=first, name="second")
    assert at_first > 150
    assert sum(searched) <= 8  # in each of the two: one where it changed, and what lies behind its last whole block
    assert result.read_bytes == 24 << 20
    assert result.added_bytes < 2 << 20
    _, problems = vault.restore(second, tmp_path / "target")
    assert problems == []
    restored = tmp_path / "target" / os.fspath(tree).lstrip("/")
    assert rsync_differences(tree, restored) == ""
