"""P1: paths of 4,096 bytes, which is more than a call of the system takes, and far longer ones."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bench.memory_compare import deep_differences
from bench.memory_input import PATH_MAX, make_deep
from bench.memory_steps import remove_tree
from strongroom.client.tar import write_tar
from strongroom.images.restore import restore_stream
from tests.support.vault import Vault


def test_a_chain_of_folders_far_beyond_path_max_comes_back_p1(tmp_path: Path) -> None:
    """Walked and restored folder by folder; a tar of it is unpacked by GNU tar."""
    count = make_deep(tmp_path / "tree", 20_000)
    vault = Vault(tmp_path / "vault")
    image, result, totals = vault.back_up(tmp_path / "tree")
    assert (result.files, totals.problems) == (count, 0)
    with vault.reading(image) as stored:
        lengths = {len(file.entry.path) for file in stored.files()}
        assert {PATH_MAX - 1, PATH_MAX, PATH_MAX + 1} < lengths
        assert max(lengths) > 19_000
    _, problems = vault.restore(image, tmp_path / "target")
    assert problems == []
    below = str(tmp_path / "tree").lstrip("/")
    assert list(deep_differences(tmp_path / "tree", tmp_path / "target" / below)) == []

    with vault.reading(image) as stored, (tmp_path / "out.tar").open("wb") as out:
        write_tar(restore_stream(stored), out, lambda _: None)
    listing = subprocess.run(["tar", "--list", "--file", tmp_path / "out.tar"], check=True, capture_output=True)
    assert len(listing.stdout.splitlines()) == count
    vault.pool.close()
    for tree in ("tree", "target"):
        remove_tree(tmp_path / tree)  # what others remove temporary folders with does not get so far
