"""Tutorials are run as they are written: every command in them, in order, by a shell (U5, T1 to T6, R2 to R8, K3)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TUTORIALS = Path(__file__).parents[2] / "docs" / "tutorials"
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def script_of(page: Path) -> str:
    """Join the commands of a page into one script that ends at the first one that fails."""
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    assert blocks, f"{page.name} has no commands"
    return "set -e\n" + "\n".join(blocks)


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("page", sorted(TUTORIALS.glob("*.md")), ids=lambda page: page.stem)
def test_a_tutorial_can_be_followed_as_written(page: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(
            ["bash", "-x"],
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=said,
            cwd=tmp_path,
            env=environment,
            start_new_session=True,
        )
        try:
            process.communicate(script_of(page).encode(), timeout=200)
        finally:
            # whatever it left running belongs to its session
            subprocess.run(["pkill", "-KILL", "--session", str(process.pid)], check=False)
            process.kill()
    text = (tmp_path / "said").read_text(errors="replace")
    assert process.returncode == 0, f"ended with {process.returncode}:\n{text[-4_000:]}"
