"""P1, C1: memory is bounded, however large a file and however many files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MOST_MIB = 300


def run(folder: Path, what: str, count: int) -> tuple[int, int, int, int]:
    """Store and restore in a process of its own; give bytes stored, bytes restored, peaks in MiB."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fault.images_child", str(folder), what, str(count)],
        capture_output=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    content, restored, stored_peak, peak = map(int, done.stdout.split())
    return content, restored, stored_peak, peak


@pytest.mark.slow
def test_a_file_of_five_gibibytes_fits_into_bounded_memory(tmp_path: Path) -> None:
    content, restored, _, peak = run(tmp_path, "large", 5)
    assert content == restored == 5 << 30
    assert peak < MOST_MIB


@pytest.mark.slow
def test_a_hundred_thousand_files_fit_into_bounded_memory(tmp_path: Path) -> None:
    content, restored, _, peak = run(tmp_path, "tiny", 100_000)
    assert content == restored == 100_000
    assert peak < MOST_MIB
