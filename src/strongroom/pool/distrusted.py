"""Containers in which something damaged was read: nothing that begins from now on refers to them.

They stay, and what is whole in them is still read, until a repair saves it. A cache like the index: when it is lost,
the next reading finds the damage again. A storage that merely refuses a read is not taken for damage.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Final

from strongroom.core.ids import ContainerId

if TYPE_CHECKING:
    from strongroom.pool.index import Location

logger = logging.getLogger(__name__)

FILE_NAME: Final = "distrusted"
_LINE: Final = re.compile(rb"[0-9a-f]{32}")


class Distrusted:
    """The distrusted containers of one pool; may be shared by threads.

    Args:
        folder: where the index lies.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        self._lock = threading.Lock()
        self._containers: set[ContainerId] = set()
        if self._path.exists():
            # a line that a crash tore says nothing
            lines = filter(_LINE.fullmatch, self._path.read_bytes().splitlines())
            self._containers = {ContainerId(bytes.fromhex(line.decode())) for line in lines}

    def __bool__(self) -> bool:
        return bool(self._containers)

    def holds(self, container: ContainerId) -> bool:
        """Tell whether a container is distrusted."""
        return container in self._containers

    def has_all(self, places: Collection[Location]) -> bool:
        """Tell whether none of these places may be relied on: all are in distrusted containers, or there is none."""
        return all(place.container in self._containers for place in places)

    def add(self, container: ContainerId) -> None:
        """Distrust a container, also after a restart."""
        with self._lock:
            if container in self._containers:
                return
            self._containers.add(container)
            self._write(os.O_APPEND, [container])
        logger.warning(
            "a damaged container is not referred to any more: repair the pool",
            extra={"event": "container-distrusted", "container": container.hex()},
        )

    def replace(self, containers: Collection[ContainerId]) -> None:
        """Distrust these alone, after every container was looked at."""
        with self._lock:
            if self._containers != set(containers):
                self._containers = set(containers)
                self._write(os.O_TRUNC, containers)

    def _write(self, how: int, containers: Collection[ContainerId]) -> None:
        """Write it down; where that fails, it holds until the process ends."""
        text = b"".join(b"\n%b\n" % container.hex().encode() for container in containers)
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | how, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(text)
                file.flush()
                os.fsync(fd)
        except OSError as error:
            logger.warning(
                "distrusted containers cannot be written down: %s",
                error.strerror,
                extra={"event": "distrusted-not-written", "path": str(self._path)},
            )
