"""Which files of an image are wanted."""

from __future__ import annotations

from collections.abc import Iterable

from strongroom.client.walker import outer_roots
from strongroom.formats import entries
from strongroom.formats.entries import Entry


class Selection:
    """Paths, each with all below it, and the folders on the way to them.

    Args:
        paths: absolute paths; none means everything.

    Raises:
        BadRootError: one is not an absolute path.
    """

    def __init__(self, paths: Iterable[bytes] = ()) -> None:
        self._exact = frozenset(outer_roots(paths))
        self._below = tuple(path if path == b"/" else path + b"/" for path in self._exact)

    def __contains__(self, entry: Entry) -> bool:
        """Tell whether the file is wanted."""
        path = entry.path
        if self.has_path(path):
            return True
        if entry.type != entries.FOLDER:
            return False
        prefix = path if path == b"/" else path + b"/"
        return any(wanted.startswith(prefix) for wanted in self._exact)

    def has_path(self, path: bytes) -> bool:
        """Tell whether a path is wanted for itself, not only as a folder on the way."""
        return not self._exact or path in self._exact or path.startswith(self._below)
