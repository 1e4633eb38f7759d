"""The most memory that this process had at once.

``getrusage`` does not tell it: a process that is started anew keeps, as its own peak, what the process had that started
it, so a test worker that has grown large would make every child look large, or hide that it grew.
"""

from __future__ import annotations

import re
from pathlib import Path


def peak_kib() -> int:
    """The high-water mark of this process's own memory, in KiB (``VmHWM`` in proc(5))."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise LookupError("this system does not tell the peak of a process's memory")
    return int(found[1])
