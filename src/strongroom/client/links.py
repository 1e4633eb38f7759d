"""Files with several names: which was the first of them, until all names were seen."""

from __future__ import annotations

import os
import struct
from typing import Final

_PLACE: Final = struct.Struct("=IH")
_UNSEEN_BITS: Final = 32
_MOST_UNSEEN: Final = (1 << _UNSEEN_BITS) - 1


class Links:
    """Remembers the first path in the stream of each file that has more names.

    A tree may have nothing but such files, with their other names far away or nowhere in the backup. So numbers and
    one array stand for them, not objects: a million take about 150 MB, whatever the depth of their folders.
    """

    def __init__(self) -> None:
        # device, i-node -> place of the path (0: none yet), and how many names were not seen yet
        self._files: dict[int, dict[int, int]] = {}
        self._folders: list[bytes] = []
        self._paths = bytearray(1)

    def knows(self, status: os.stat_result) -> bool:
        """Tell whether another name of this file was seen, and more are to come."""
        return status.st_ino in self._files.get(status.st_dev, ())

    def begin(self, status: os.stat_result) -> None:
        """Note a file whose first name is seen now."""
        self._files.setdefault(status.st_dev, {})[status.st_ino] = min(status.st_nlink, _MOST_UNSEEN)

    def first(self, status: os.stat_result) -> bytes | None:
        """Give the path to which a further name is linked; ``None`` when there is none."""
        place = self._files.get(status.st_dev, {}).get(status.st_ino, 0) >> _UNSEEN_BITS
        if not place:
            return None
        folder: int
        length: int
        folder, length = _PLACE.unpack_from(self._paths, place)
        at = place + _PLACE.size
        return self._folders[folder] + self._paths[at : at + length]

    def recorded(self, status: os.stat_result, path: bytes) -> None:
        """Note that the stream has the file under this path; the first path counts."""
        files = self._files.get(status.st_dev, {})
        noted = files.get(status.st_ino)
        if noted is None or noted >> _UNSEEN_BITS:
            return
        split = path.rfind(b"/") + 1
        folder, name = path[:split], path[split:]
        if not self._folders or self._folders[-1] != folder:
            self._folders.append(folder)
        files[status.st_ino] = noted | len(self._paths) << _UNSEEN_BITS
        self._paths += _PLACE.pack(len(self._folders) - 1, len(name)) + name

    def seen(self, status: os.stat_result) -> None:
        """Count a name, and forget the file after the last one."""
        files = self._files.get(status.st_dev, {})
        noted = files.get(status.st_ino)
        if noted is None:
            return
        if noted & _MOST_UNSEEN > 1:
            files[status.st_ino] = noted - 1
            return
        del files[status.st_ino]
        if not any(self._files.values()):
            self._folders.clear()
            del self._paths[1:]
