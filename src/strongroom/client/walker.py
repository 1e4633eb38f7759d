"""Finds files, in the order of a walk: a folder before what is in it, names by their bytes.

Source of the order: ``docs/reference/formats/entries.md``.
"""

from __future__ import annotations

import os
import posixpath
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from strongroom.client.exclude import Exclude
from strongroom.client.flags import flags_not_kept
from strongroom.client.folders import OPEN_LEVELS, Folder, open_root
from strongroom.client.problems import BAD_PATH, VANISHED, BadRootError, Report, Trouble, reading_failed, reason
from strongroom.formats.entries import MAX_PATH_BYTES, walk_key

_ENCODING: Final = sys.getfilesystemencoding()
_ERRORS: Final = sys.getfilesystemencodeerrors()


@dataclass(slots=True)
class Found:
    """A file of any type, as the walk saw it.

    Attributes:
        folder: where ``name`` is looked up; whoever looks after the walk went on must hold it.
        name: last part of the path; ``.`` for the root folder.
        path: absolute path.
        status: of the file itself, symbolic links not followed.
    """

    folder: Folder
    name: bytes
    path: bytes
    status: os.stat_result


@dataclass(slots=True)
class _Level:
    """A folder in the walk, and the names in it still to be visited, last first."""

    folder: Folder
    names: list[bytes]


class Walker:
    """Walks over folders.

    The names of a folder are listed and sorted before the first is visited: 1 million names of 20 bytes take about
    70 MiB while their folder is walked. Folders above stay open, so that a rename or a symbolic link on the way cannot
    lead elsewhere; of very deep paths only the lowest levels.

    Args:
        report: told of every problem.
        exclude: what to leave out.
        one_file_system: do not enter folders on which another file system is mounted.
    """

    def __init__(self, report: Report, *, exclude: Exclude | None = None, one_file_system: bool = False) -> None:
        self._report = report
        self._exclude = exclude or Exclude()
        self._one_file_system = one_file_system

    def walk(self, roots: Iterable[bytes]) -> Iterator[Found]:
        """Give each file once, in the order of a walk.

        Args:
            roots: absolute paths of files or folders; one inside another is walked once.

        Raises:
            BadRootError: a root is not an absolute path.
        """
        for root in outer_roots(roots):
            try:
                above = open_root(posixpath.dirname(root))
            except OSError as error:
                self._report(reading_failed(root, error))
                continue
            try:
                yield from self._walk_root(above, posixpath.basename(root) or b".", root)
            finally:
                above.leave()

    def _walk_root(self, above: Folder, name: bytes, path: bytes) -> Iterator[Found]:
        found = self._look(above, name, path)
        if found is None:
            return
        yield found
        device = found.status.st_dev
        levels: list[_Level] = []
        self._enter(found, device, levels)
        try:
            # The calls for a file are what a backup takes in which nothing changed: none is made that need not be.
            look, is_folder, leaves_out = os.stat, stat.S_ISDIR, self._exclude.matcher
            while levels:
                level = levels[-1]
                folder, names = level.folder, level.names
                prefix, fd = folder.prefix, folder.fd
                while names:
                    name = names.pop()
                    path = prefix + name
                    if leaves_out is not None and leaves_out(path):
                        continue
                    try:
                        status = look(name, dir_fd=fd, follow_symlinks=False)
                    except OSError as error:
                        self._report(reading_failed(path, error))
                        continue
                    if len(path) > MAX_PATH_BYTES:
                        self._report(_too_long(path))
                        continue
                    found = Found(folder, name, path, status)
                    yield found
                    if is_folder(status.st_mode):
                        self._enter(found, device, levels)
                        if levels[-1] is not level:
                            break
                else:
                    self._leave(levels)
        finally:
            for level in levels:
                level.folder.leave()

    def _look(self, folder: Folder, name: bytes, path: bytes) -> Found | None:
        if len(path) > MAX_PATH_BYTES:
            self._report(_too_long(path))
            return None
        try:
            return Found(folder, name, path, os.stat(name, dir_fd=folder.fd, follow_symlinks=False))
        except OSError as error:
            self._report(reading_failed(path, error))
            return None

    def _enter(self, found: Found, device: int, levels: list[_Level]) -> None:
        """Open a folder and list it; a problem leaves its record without contents."""
        status = found.status
        if not stat.S_ISDIR(status.st_mode) or (self._one_file_system and status.st_dev != device):
            return
        try:
            folder = open_root(found.path) if found.name == b"." else found.folder.child(found.name)
        except OSError as error:
            self._report(reading_failed(found.path, error))
            return
        try:
            if folder.device != status.st_dev:
                # Opening it mounted something there.
                entered = not self._one_file_system
            else:
                entered = folder.inode == status.st_ino
                if not entered:
                    self._report(Trouble(found.path, VANISHED, "it was replaced by another folder"))
            if not entered:
                folder.leave()
                return
            not_kept = flags_not_kept(found.path, folder.fd)
            if not_kept is not None:
                self._report(not_kept)
            with os.scandir(folder.fd) as listing:
                names = [item.name.encode(_ENCODING, _ERRORS) for item in listing]
        except OSError as error:
            self._report(reading_failed(found.path, error))
            folder.leave()
            return
        names.sort(reverse=True)
        levels.append(_Level(folder, names))
        if len(levels) > OPEN_LEVELS:
            levels[-1 - OPEN_LEVELS].folder.park()

    def _leave(self, levels: list[_Level]) -> None:
        """Go back up; when the way up is gone, what is left above cannot be found any more."""
        left = levels.pop().folder
        if levels:
            above = levels[-1]
            try:
                above.folder.revive(left)
            except OSError as error:
                while levels:
                    lost = levels.pop()
                    lost.folder.leave()
                    if lost.names:
                        message = f"{len(lost.names)} names in it were not visited: {reason(error)}"
                        self._report(Trouble(lost.folder.path, VANISHED, message))
        left.leave()


def outer_roots(roots: Iterable[bytes]) -> list[bytes]:
    """Put roots into the order of a walk, and drop those that lie in another.

    Raises:
        BadRootError: one is not an absolute path, or is longer than records allow.
    """
    plain = set[bytes]()
    for root in roots:
        if not root.startswith(b"/") or b"\0" in root or len(root) > MAX_PATH_BYTES:
            raise BadRootError(f"{os.fsdecode(root[:200])!r} is not an absolute path")
        plain.add(b"/" + posixpath.normpath(root).lstrip(b"/"))
    found: list[bytes] = []
    for root in sorted(plain, key=walk_key):
        if not found or (found[-1] != b"/" and not root.startswith(found[-1] + b"/")):
            found.append(root)
    return found


def _too_long(path: bytes) -> Trouble:
    return Trouble(path[:MAX_PATH_BYTES], BAD_PATH, f"the path has {len(path)} bytes")
