"""The folders of a restore's target: each name is looked up in an open folder, and no link is followed."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from strongroom.client.folders import OPEN_LEVELS, Folder, open_root
from strongroom.client.problems import TargetChangedError, reason
from strongroom.formats.entries import Entry


class UnsafePathError(OSError):
    """Something that is not a folder stands on the way."""


class Given(NamedTuple):
    """What a file has from the moment it is made in a folder.

    Attributes:
        uid: user id.
        gid: group id; a folder may pass on its own.
        as_asked: it got the mode that was asked for, and no access list.
    """

    uid: int
    gid: int
    as_asked: bool


@dataclass(slots=True)
class Level:
    """A folder of the target, open.

    Attributes:
        folder: for looking up names.
        name: its name in the folder above; empty for the target.
        is_new: made by this restore, so that nothing can be in it but what was restored.
        entry: its record, to be applied when its contents are there; ``None`` when nothing is to be set.
        is_private: only its owner, who restores, can enter it until then.
        given: what files get that are made in it, as the first of them showed; ``None`` before, and elsewhere.
    """

    folder: Folder
    name: bytes
    is_new: bool
    entry: Entry | None = None
    is_private: bool = False
    given: Given | None = None

    def status(self) -> os.stat_result:
        """Give the folder's status now."""
        return os.fstat(self.folder.fd)


class Target:
    """The chain of folders from the target down to where files are restored now.

    Args:
        path: the target; made when it is missing, its parents too.
        on_leave: called with each level whose contents are complete, before it is closed.
        folder_mode: of folders that are on the way and that no record has told of.
    """

    def __init__(self, path: bytes, on_leave: Callable[[Level], None], *, folder_mode: int) -> None:
        is_new = not os.path.isdir(path)  # noqa: PTH112 - the path is bytes
        os.makedirs(path, exist_ok=True)  # noqa: PTH103 - the path is bytes
        self._levels = [Level(open_root(path), b"", is_new)]
        self._on_leave = on_leave
        self._folder_mode = folder_mode

    @property
    def top(self) -> Level:
        """The target itself."""
        return self._levels[0]

    def reach(self, parts: list[bytes]) -> Level:
        """Go to a folder, making what is missing, and leaving folders that are not on the way.

        Raises:
            UnsafePathError: a link, or anything else that is not a folder, stands on the way.
            OSError: the system refuses.
            TargetChangedError: somebody moved a folder in which files are restored.
        """
        common = self._common(parts)
        while len(self._levels) > common + 1:
            self._leave()
        for name in parts[common:]:
            is_new = self._make(self._levels[-1], name)
            self._push(self._levels[-1], name, is_new=is_new)
        return self._levels[-1]

    def make(self, above: Level, name: bytes, *, replace: bool) -> Level | None:
        """Make a folder for a record, or enter the one that is there.

        Args:
            above: the last level, as :meth:`reach` gave it.
            name: name of the folder.
            replace: remove a file or link of this name.

        Returns:
            The folder's level; ``None`` when something that is not a folder stays in its place.

        Raises:
            OSError: the system refuses.
        """
        is_new = True
        try:
            os.mkdir(name, 0o700, dir_fd=above.folder.fd)
        except FileExistsError:
            if stat.S_ISDIR(os.stat(name, dir_fd=above.folder.fd, follow_symlinks=False).st_mode):
                is_new = False
            elif replace:
                os.unlink(name, dir_fd=above.folder.fd)
                os.mkdir(name, 0o700, dir_fd=above.folder.fd)
            else:
                return None
        level = self._push(above, name, is_new=is_new)
        level.is_private = is_new
        return level

    def look_up(self, parts: list[bytes]) -> tuple[Folder, Callable[[], None]]:
        """Open a folder of an earlier file, without leaving the present one.

        Returns:
            The folder, and what closes it.

        Raises:
            OSError: it is not there, or a link stands on the way.
        """
        common = self._common(parts)
        while common and self._levels[common].folder.fd < 0:
            common -= 1
        folder = self._levels[common].folder
        opened: Folder | None = None
        for name in parts[common:]:
            try:
                below = folder.child(name)
            finally:
                if opened is not None:
                    opened.leave()
            folder = opened = below
        return folder, opened.leave if opened is not None else _keep_open

    def finish(self) -> None:
        """Leave all folders, the target last."""
        while len(self._levels) > 1:
            self._leave()
        self._on_leave(self.top)
        self.top.folder.leave()

    def close(self) -> None:
        """Close all folders without another look at them."""
        for level in self._levels:
            level.folder.leave()

    def _common(self, parts: list[bytes]) -> int:
        """Tell how many of the parts the chain has already."""
        count = 0
        for level, name in zip(self._levels[1:], parts, strict=False):
            if level.name != name:
                break
            count += 1
        return count

    def _make(self, above: Level, name: bytes) -> bool:
        try:
            os.mkdir(name, self._folder_mode, dir_fd=above.folder.fd)
        except FileExistsError:
            return False
        return True

    def _push(self, above: Level, name: bytes, *, is_new: bool) -> Level:
        try:
            folder = above.folder.child(name)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise UnsafePathError(error.errno, reason(error)) from error
            raise
        level = Level(folder, name, is_new)
        self._levels.append(level)
        # The target itself stays open: earlier files are looked up from there.
        if len(self._levels) > OPEN_LEVELS + 1:
            self._levels[-1 - OPEN_LEVELS].folder.park()
        return level

    def _leave(self) -> None:
        level = self._levels[-1]
        above = self._levels[-2]
        try:
            above.folder.revive(level.folder)
        except OSError as error:
            raise TargetChangedError(f"a folder was moved away during the restore: {reason(error)}") from error
        self._on_leave(level)
        self._levels.pop()
        level.folder.leave()


def _keep_open() -> None:
    """Close nothing: the folder belongs to the chain."""
