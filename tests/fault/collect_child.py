"""A process that collects a pool and kills itself at a named step. Run by ``test_collection_killed.py``.

Usage: collect_child.py FOLDER EPOCH FUNCTION before|after COUNT [NAMING_KEY]

With a naming key (hexadecimal), of a test's vault, it rewrites what is not needed whole.
"""

from __future__ import annotations

import sys
from pathlib import Path

from strongroom.core.secret import Secret
from strongroom.images.collect import Rewriting, collect
from strongroom.images.open_pool import OpenPool
from strongroom.pool.collection import Epochs
from strongroom.pool.rewriting import Limits
from strongroom.settings.system import SystemClock, SystemEntropy
from tests.fault.pool_child import kill_at


def main() -> None:
    folder, epoch, function, when, count, *naming = sys.argv[1:]
    pool = OpenPool.open(Path(folder), SystemClock(), SystemEntropy())
    kill_at(function, when, int(count))
    epochs = Epochs(int(epoch), int(epoch), None)
    rewriting = None
    if naming:
        key = Secret(bytes.fromhex(naming[0]))
        rewriting = Rewriting(Limits(100, 1 << 40), lambda *_: key, lambda _: None)
    collect(pool, epochs=epochs, committing=[], rewriting=rewriting, dry_run=False, check=lambda *_: None)


if __name__ == "__main__":
    main()
