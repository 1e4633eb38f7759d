"""A process that takes containers into an index, and may kill itself at a named step.

Usage: index_child.py POOL [FUNCTION before|after COUNT]

Run by ``test_index_killed.py``, and by ``test_index_power_cut.py``, for which it makes the pool.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

from strongroom.pool.containers import read_contents
from strongroom.pool.folder import Folder
from strongroom.pool.index import open_index
from strongroom.pool.names import container_key
from strongroom.pool.places import IndexLimits
from tests.fault.pool_child import kill_at, tell
from tests.support import footers
from tests.support.pool import MEDIUM, CountedEntropy

LIMITS = IndexLimits(table_entries=100)
CONTAINERS = 60


def make_stable(container: Path) -> None:
    """Make a container and its name stable, as the product does before the index hears of it."""
    for path in (container, container.parent, container.parent.parent):
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


def main() -> None:
    folder, *step = sys.argv[1:]
    path = Path(folder)
    if not path.exists():
        Folder.create(path, b"medium header", CountedEntropy())
    store = Folder.open(path, CountedEntropy("child"))
    index, _ = open_index(store.index_path, store, CountedEntropy("child"), medium=MEDIUM, limits=LIMITS)
    if step:
        function, when, count = step
        kill_at(function, when, int(count))
    draw = random.Random(1)  # noqa: S311 - test data
    for number in range(CONTAINERS):
        container = footers.seal(store.path, draw.randbytes(16), footers.random_frames(draw, 5, 8))
        if not step:
            make_stable(store.path / container_key(container))
        index.add(read_contents(store, container, MEDIUM))
        tell(container.hex())
        if number % 10 == 9:
            index.remove(container)
            store.remove(container_key(container))


if __name__ == "__main__":
    main()
