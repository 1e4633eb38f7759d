from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "check-tree"


def check(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, path], check=False, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("index = 'https://" + "pypi" + ".org/simple'\n", "registry"),
        ("path = '/" + "work/main'\n", "path of one machine"),
        ("pass  # TO" + "DO: later\n", "unfinished work"),
        ("try:\n    pass\nexcept Exception:\n    pass\n", "3: catches everything"),
        ("try:\n    pass\nexcept (OSError, Exception):  # noqa: BLE001\n    pass\n", "3: catches everything"),
        ("pass\n" * 701, "over 700 lines"),
    ],
    ids=["registry", "machine", "unfinished", "catches all", "no reason", "long"],
)
def test_fault_is_found(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "module.py").write_text(text)
    result = check(tmp_path / "module.py")
    assert result.returncode == 1
    assert fault in result.stdout


@pytest.mark.parametrize(
    "text",
    [
        "pass\n" * 700,
        "url = 'https://example.org/work/x'\n",
        "try:\n    pass\nexcept Exception:  # noqa: BLE001 - a plug-in may raise anything\n    pass\n",
    ],
    ids=["700 lines", "path in a URL", "catches all with a reason"],
)
def test_what_is_right_passes(tmp_path: Path, text: str) -> None:
    (tmp_path / "module.py").write_text(text)
    assert check(tmp_path / "module.py").returncode == 0


def test_many_lines_are_a_warning(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("pass\n" * 501)
    result = check(tmp_path / "module.py")
    assert result.returncode == 0
    assert "over 500 lines" in result.stderr
