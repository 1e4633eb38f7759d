"""What the processes of a domain load when they start, a hundred times in a run of these tests, and after a crash."""

from __future__ import annotations

import subprocess
import sys

SELDOM = ("pyarrow", "numpy", "psycopg")
"""For the lists of files, for the runs of an index, for PostgreSQL: each is loaded with its first use."""


def test_a_primary_starts_without_what_it_may_never_use() -> None:
    program = f"""
import sys
import strongroom.services.primary.serving
print(*[name for name in {SELDOM!r} if name in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
