"""Which files of an image a restore gives."""

from __future__ import annotations

from collections.abc import Iterable

from strongroom.formats import entries


class Selection:
    """Which files of an image are wanted: all, or those at or below some paths, with the folders above them.

    Args:
        paths: absolute paths; none selects everything.
    """

    def __init__(self, paths: Iterable[bytes] = ()) -> None:
        self._roots: set[bytes] = set()
        self._above = {b"/"}
        for path in paths:
            self.add(path)

    @property
    def everything(self) -> bool:
        """Whether no path was named."""
        return not self._roots

    def add(self, path: bytes) -> None:
        """Want one more path, with the folders above it."""
        entries.path_parts(path)  # refuses what is no plain absolute path
        self._roots.add(path)
        self._above.update(path[:at] for at in range(1, len(path)) if path[at : at + 1] == b"/")

    def __contains__(self, path: bytes) -> bool:
        if not self._roots or b"/" in self._roots:
            return True
        if path in self._above or path in self._roots:
            return True
        at = path.rfind(b"/")
        while at > 0:
            if path[:at] in self._roots:
                return True
            at = path.rfind(b"/", 0, at)
        return False
