"""A process that takes containers into an index and kills itself at a named step. Run by ``test_index_killed.py``.

Usage: index_child.py POOL FUNCTION before|after COUNT
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from strongroom.pool.containers import read_contents
from strongroom.pool.folder import Folder
from strongroom.pool.index import open_index
from strongroom.pool.places import IndexLimits
from tests.fault.pool_child import kill_at, tell
from tests.support import footers
from tests.support.pool import MEDIUM, CountedEntropy

LIMITS = IndexLimits(table_entries=100)
CONTAINERS = 60


def main() -> None:
    folder, function, when, count = sys.argv[1:]
    store = Folder.open(Path(folder), CountedEntropy("child"))
    index, _ = open_index(store.index_path, store, CountedEntropy("child"), medium=MEDIUM, limits=LIMITS)
    kill_at(function, when, int(count))
    draw = random.Random(1)  # noqa: S311 - test data
    for number in range(CONTAINERS):
        container = footers.seal(store.path, draw.randbytes(16), footers.random_frames(draw, 5, 8))
        index.add(read_contents(store, container, MEDIUM))
        tell(container.hex())
        if number % 10 == 9:
            index.remove(container)
            store.remove(f"containers/{container.hex()[:2]}/{container.hex()}")


if __name__ == "__main__":
    main()
