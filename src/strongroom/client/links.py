"""Files with several names: which was the first of them, until all names were seen."""

from __future__ import annotations

import os
import stat
import struct
from typing import Final

_PLACE: Final = struct.Struct("=IH")
_UNSEEN_BITS: Final = 32
_MOST_UNSEEN: Final = (1 << _UNSEEN_BITS) - 1
_MARK_BITS: Final = 61
_PLACE_AT: Final = _UNSEEN_BITS + _MARK_BITS
_MOST_MARK: Final = (1 << _MARK_BITS) - 1


class Links:
    """Remembers the first path in the stream of each file that has more names.

    While a backup runs, a file may be removed and its i-node be given to another; so type, size and times must be the
    same too. A file that changes between two of its names is kept twice: better than a name with wrong contents.

    A tree may have nothing but such files, with their other names far away or nowhere in the backup. So numbers and
    one array stand for them, not objects: a million take about 150 MB, whatever the depth of their folders.
    """

    def __init__(self) -> None:
        # device, i-node -> place of the path (0: none yet), mark, and how many names were not seen yet
        self._files: dict[int, dict[int, int]] = {}
        self._folders: list[bytes] = []
        self._paths = bytearray(1)

    def knows(self, status: os.stat_result) -> bool:
        """Tell whether another name of this file was seen, and more are to come."""
        return self._noted(status) is not None

    def begin(self, status: os.stat_result) -> None:
        """Note a file whose first name is seen now; another file that had its i-node is forgotten."""
        noted = _mark(status) << _UNSEEN_BITS | min(status.st_nlink, _MOST_UNSEEN)
        self._files.setdefault(status.st_dev, {})[status.st_ino] = noted

    def first(self, status: os.stat_result) -> bytes | None:
        """Give the path to which a further name is linked; ``None`` when there is none."""
        place = (self._noted(status) or 0) >> _PLACE_AT
        if not place:
            return None
        folder: int
        length: int
        folder, length = _PLACE.unpack_from(self._paths, place)
        at = place + _PLACE.size
        return self._folders[folder] + self._paths[at : at + length]

    def recorded(self, status: os.stat_result, path: bytes) -> None:
        """Note that the stream has the file under this path; the first path counts.

        Args:
            status: of what was read, which may be another file than the one that was listed.
            path: of the record.
        """
        noted = self._noted(status)
        if noted is None or noted >> _PLACE_AT:
            return
        split = path.rfind(b"/") + 1
        folder, name = path[:split], path[split:]
        if not self._folders or self._folders[-1] != folder:
            self._folders.append(folder)
        self._files[status.st_dev][status.st_ino] = noted | len(self._paths) << _PLACE_AT
        self._paths += _PLACE.pack(len(self._folders) - 1, len(name)) + name

    def seen(self, status: os.stat_result) -> None:
        """Count a name, and forget the file after the last one."""
        noted = self._noted(status)
        if noted is None:
            return
        files = self._files[status.st_dev]
        if noted & _MOST_UNSEEN > 1:
            files[status.st_ino] = noted - 1
            return
        del files[status.st_ino]
        if not any(self._files.values()):
            self._folders.clear()
            del self._paths[1:]

    def _noted(self, status: os.stat_result) -> int | None:
        """Give what is noted of a file; ``None`` too when it is noted of another that had its i-node."""
        noted = self._files.get(status.st_dev, {}).get(status.st_ino)
        if noted is None or noted >> _UNSEEN_BITS & _MOST_MARK != _mark(status):
            return None
        return noted


def _mark(status: os.stat_result) -> int:
    """Give a number that another file of the same i-node does not have."""
    marked = stat.S_IFMT(status.st_mode), status.st_size, status.st_mtime_ns, status.st_ctime_ns
    return hash(marked) & _MOST_MARK
