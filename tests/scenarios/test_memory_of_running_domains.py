"""C1, P1: what a domain's processes hold at once does not grow with the size of a file, nor with the number of files.

``make bench-memory`` measures the same, and more, with the full sizes.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bench.memory_compare import deep_differences, sparse_differences
from bench.memory_input import make_deep, make_large, make_many, make_sparse
from bench.memory_steps import remove_tree
from bench.processes import peak_bytes, reset_peak, run
from tests.support.trusting import SLP, Pair, key_of, rows, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

MB = 1_000_000
BOUND = 300 * MB


def listed(pair: Pair, image: str) -> bool:
    return bool(rows(pair.source, "SELECT 1 FROM file_lists WHERE image = ?", key_of(image)))


def peaks_of(pair: Pair, data: Path) -> dict[str, int]:
    """Back up, replicate, list, search and restore; give each process's peak, and that of each command."""
    roles = {
        f"{domain.name} {name}": role.process.pid
        for domain in (pair.source, pair.target)
        for name, role in domain.roles.items()
    }
    for pid in roles.values():
        reset_peak(pid)
    home, notes = pair.source.home.path, data.with_name(f"{data.name}-notes")
    backup = run(home, ("backup", str(data), "--slp", SLP, "--json"), notes, notes)
    image = str(backup.value()["image"])
    until(lambda: pair.confirmed(image) and listed(pair, image), "no receipt, or no list of files")
    restore = run(home, ("restore", image, "--to", str(data) + "-restored", "--json"), notes, notes)
    find = run(home, ("image", "find", image, "**", "--json"), notes, notes)
    return {role: peak_bytes(pid) for role, pid in roles.items()} | {
        "backup": backup.peak_bytes,
        "restore": restore.peak_bytes,
        "find": find.peak_bytes,
    }


def assert_flat(small: dict[str, int], large: dict[str, int], most: int) -> None:
    assert max(large.values()) < BOUND
    grown = {name: (large[name] - small[name]) // MB for name in large if large[name] > small[name] + most}
    assert not grown, f"grown, MB: {grown}"


def test_more_files_need_no_more_memory_even_in_one_folder(pair: Pair, tmp_path: Path) -> None:
    make_many(tmp_path / "first", 5_000, 5)
    make_many(tmp_path / "small", 10_000, 10)
    make_many(tmp_path / "large", 50_000, 1)
    peaks_of(pair, tmp_path / "first")  # a process that has just begun still grows
    small = peaks_of(pair, tmp_path / "small")
    # The client holds the names of a folder, 70 bytes each; whoever kept 1 kB for each of the 40,000 would pass this.
    assert_flat(small, peaks_of(pair, tmp_path / "large"), 40 * MB)


def test_five_terabytes_of_holes_need_no_more_memory_and_no_room_in_a_tar(pair: Pair, tmp_path: Path) -> None:
    make_sparse(tmp_path / "sparse", 5_000_000_000_000)
    assert max(peaks_of(pair, tmp_path / "sparse").values()) < BOUND
    restored = tmp_path / "sparse-restored" / str(tmp_path / "sparse").lstrip("/")
    assert list(sparse_differences(tmp_path / "sparse", restored)) == []
    home, notes, out = pair.source.home.path, tmp_path / "notes", tmp_path / "out.tar"
    image = str(run(home, ("image", "list", "--json"), notes, notes).value()[0]["image"])
    tar = run(home, ("restore", image, "--tar", str(out), "--json"), notes, notes)
    assert tar.peak_bytes < BOUND
    assert out.stat().st_size < 30 * MB
    (tmp_path / "unpacked").mkdir()
    subprocess.run(["tar", "--extract", "--file", out, "--directory", tmp_path / "unpacked"], check=True)
    unpacked = tmp_path / "unpacked" / str(tmp_path / "sparse").lstrip("/")
    assert list(sparse_differences(tmp_path / "sparse", unpacked)) == []


def test_paths_beyond_what_a_call_takes_are_backed_up_and_found(pair: Pair, tmp_path: Path) -> None:
    count = make_deep(tmp_path / "deep", 65_000)
    assert max(peaks_of(pair, tmp_path / "deep").values()) < BOUND
    restored = tmp_path / "deep-restored" / str(tmp_path / "deep").lstrip("/")
    assert list(deep_differences(tmp_path / "deep", restored)) == []
    home, notes = pair.source.home.path, tmp_path / "notes"
    image = str(run(home, ("image", "list", "--json"), notes, notes).value()[0]["image"])
    assert run(home, ("image", "find", image, "**", "--json"), notes, notes).lines() == count
    for tree in ("deep", "deep-restored"):
        remove_tree(tmp_path / tree)  # what others remove temporary folders with does not get so far


def test_a_larger_file_needs_no_more_memory(pair: Pair, tmp_path: Path) -> None:
    make_large(tmp_path / "small", 32 << 20, seed=1)
    make_large(tmp_path / "large", 160 << 20, seed=2)
    small = peaks_of(pair, tmp_path / "small")
    # What is under way between two processes is bounded, and may be more or less of it; contents held would be 134 MB.
    assert_flat(small, peaks_of(pair, tmp_path / "large"), 100 * MB)
