"""Files in ``incoming``: being written by a living writer, or left by a dead one.

Source: ``docs/reference/formats/pool-folder.md``. The folder is a pool's own, or one on the media server for a pool
that is elsewhere; what makes an object of a file is handed in. Each has a name that tells nothing, and an exclusive
lock that lives as long as its writer; whoever can take it knows that the writer is gone: what it left is a leftover.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from strongroom.core.entropy import Entropy
from strongroom.core.errors import StrongroomError
from strongroom.formats.segment import Buffer
from strongroom.pool.errors import ObjectExistsError, PoolFullError, PoolReadError, PoolWriteError

INCOMING: Final = "incoming"
FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


GiveName = Callable[[Path, int, str], None]
"""Makes an object of a file in ``incoming``, given by path and handle, under a key; then the path is free."""


class FolderUpload:
    """A file in ``incoming``, locked by this process."""

    def __init__(self, root: Path, entropy: Entropy, give_name: GiveName) -> None:
        self._give_name = give_name
        with writing(root / INCOMING):
            self._path, self._handle = _new_incoming(root / INCOMING, entropy)
        self._open = True

    def append(self, data: Buffer) -> None:
        """Add bytes behind those that came before."""
        with writing(self._path):
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._handle, rest) :]

    def finish(self, key: str) -> None:
        """Make it durable and give it its name."""
        self._give_name(self._path, self._handle, key)
        self._close()

    def abort(self) -> None:
        """Drop what was appended."""
        if self._open:
            try:
                with writing(self._path):
                    self._path.unlink(missing_ok=True)
            finally:
                self._close()

    def _close(self) -> None:
        self._open = False
        os.close(self._handle)


class FolderLeftover:
    """A file in ``incoming`` whose writer is gone, locked by this process."""

    def __init__(self, path: Path, handle: int, give_name: GiveName) -> None:
        self._give_name = give_name
        self._path = path
        self._handle = handle

    def read(self, offset: int, length: int) -> bytes:
        """Read a range."""
        try:
            parts = [b""]
            while length > 0 and (data := os.pread(self._handle, length, offset)):
                parts.append(data)
                offset, length = offset + len(data), length - len(data)
        except OSError as error:
            raise PoolReadError(f"cannot read '{self._path}': {error.strerror}") from error
        return b"".join(parts)

    def keep(self, key: str, length: int, end: Buffer) -> None:
        """Cut it, append the end, make it durable and give it its name."""
        with writing(self._path):
            os.ftruncate(self._handle, length)
            os.lseek(self._handle, length, os.SEEK_SET)
            rest = memoryview(end)
            while rest:
                rest = rest[os.write(self._handle, rest) :]
        try:
            self._give_name(self._path, self._handle, key)
        except ObjectExistsError:
            self.remove()

    def remove(self) -> None:
        """Remove it."""
        with writing(self._path):
            self._path.unlink(missing_ok=True)


def leftovers(root: Path, give_name: GiveName) -> Iterator[FolderLeftover]:
    """Give what no living writer owns in the ``incoming`` of a folder, each locked until the next one is asked for.

    Raises:
        PoolReadError, PoolWriteError: the file system refused.
    """
    with writing(root / INCOMING), os.scandir(root / INCOMING) as scan:
        paths = [Path(entry.path) for entry in scan if entry.is_file(follow_symlinks=False)]
    for path in paths:
        with writing(path):
            try:
                handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # its writer finished between the listing and now
        try:
            if _lock(path, handle):
                yield FolderLeftover(path, handle, give_name)
        finally:
            os.close(handle)


def _lock(path: Path, handle: int) -> bool:
    """Lock a file of ``incoming`` that no living writer owns; tell whether it is a leftover.

    One that has its name in the pool already is the very file that lies there, and only loses the other name.
    """
    with writing(path):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if os.fstat(handle).st_nlink == 1:
            return True
        path.unlink(missing_ok=True)
        return False


def is_owned(path: Path) -> bool:
    """Tell whether a living writer owns a file of ``incoming``; one that is gone has no owner.

    Raises:
        PoolWriteError: the file system refused.
    """
    with writing(path):
        try:
            handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False


def link_into(root: Path, path: Path, handle: int, key: str) -> None:
    """Make a file of ``incoming`` durable, and only then give it its name in the same folder's pool."""
    target = root / key
    with writing(target):
        os.fsync(handle)
        _make_folders(root, target.parent)
        try:
            # a link, because a rename would replace what is there
            os.link(path, target)
        except FileExistsError as error:
            raise ObjectExistsError(f"the pool already holds '{key}'") from error
        path.unlink()
        sync_name(root, target)


def _new_incoming(folder: Path, entropy: Entropy) -> tuple[Path, int]:
    """Make a locked file. One that :meth:`Folder.leftovers` took before it was locked is made again."""
    while True:
        path = folder / entropy.bytes(16).hex()
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return path, handle
        os.close(handle)


def _make_folders(root: Path, folder: Path) -> None:
    """Make the folders between the root and a file."""
    if folder != root and not folder.is_dir():
        _make_folders(root, folder.parent)
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder with what is missing above it, each with a durable name.

    Folders above that were there count as durable if they are another user's; our own may be new.
    """
    ground = next(folder for folder in path.absolute().parents if folder.is_dir())
    path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    path.mkdir(mode=FOLDER_MODE, exist_ok=True)
    for folder in path.absolute().parents:
        if folder in ground.parents and folder.stat().st_uid != os.geteuid():
            return
        sync_folder(folder)


def sync_name(root: Path, path: Path) -> None:
    """Make a name durable, and the names of the folders on the way to it.

    That a folder is there does not say that its name is stable: another thread may be about to make it so, or whoever
    made it was killed. Those directly below the root are as old as the pool.
    """
    for folder in path.parents:
        sync_folder(folder)
        if root in (folder, folder.parent):
            return


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system says about a write into the pool's words."""
    try:
        yield
    except OSError as error:
        raise _write_error(path, error) from error


def _write_error(path: Path, error: OSError) -> StrongroomError:
    if error.errno in _NO_ROOM:
        return PoolFullError(f"no room for '{path}': {error.strerror}")
    return PoolWriteError(f"cannot write '{path}': {error.strerror}")
