"""A pool in a folder of a local file system.

Source: ``docs/reference/formats/pool-folder.md``. What is being written lies in ``incoming`` under a name
that tells nothing, with an exclusive lock that lives as long as its writer; whoever can take that lock knows
that the writer is gone, and what it left is a leftover.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from strongroom.core.entropy import Entropy
from strongroom.core.errors import StrongroomError
from strongroom.formats.segment import Buffer
from strongroom.pool import names
from strongroom.pool.errors import (
    NotAPoolError,
    ObjectExistsError,
    ObjectMissingError,
    PoolExistsError,
    PoolFullError,
    PoolReadError,
    PoolWriteError,
)
from strongroom.pool.store import StoredObject

FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600
INCOMING: Final = "incoming"
INDEX: Final = "index"
_TOP: Final = ("images", "envelopes", "containers", "journal", "revocations", INCOMING, INDEX)
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Folder:
    """Storage adapter for a folder.

    Args:
        path: the pool's folder, made by :meth:`create`.
        entropy: gives the names in ``incoming``.
    """

    def __init__(self, path: Path, entropy: Entropy) -> None:
        self.path = path
        self._entropy = entropy

    @classmethod
    def create(cls, path: Path, medium_header: bytes, entropy: Entropy) -> Folder:
        """Make a pool in a folder that is empty or does not exist.

        Args:
            path: the folder; its parent exists.
            medium_header: the signed media header, stored as it is.
            entropy: gives the names in ``incoming``.

        Raises:
            PoolExistsError: something is in the folder already.
            PoolFullError, PoolWriteError: the file system refused.
        """
        with _writing(path):
            path.mkdir(mode=FOLDER_MODE, exist_ok=True)
            if any(path.iterdir()):
                raise PoolExistsError(f"the folder '{path}' is not empty")
            path.chmod(FOLDER_MODE)
            for name in _TOP:
                (path / name).mkdir(mode=FOLDER_MODE)
            _sync_folder(path)
            _sync_folder(path.parent)
        folder = cls(path, entropy)
        folder.put(names.MEDIUM, medium_header)  # last: a folder with this file is a whole pool
        return folder

    @classmethod
    def open(cls, path: Path, entropy: Entropy) -> Folder:
        """Open a pool. Leave what lies in ``incoming`` to :func:`strongroom.pool.salvage.salvage`.

        Raises:
            NotAPoolError: there is no pool here.
            PoolReadError, PoolWriteError: the file system refused.
        """
        folder = cls(path, entropy)
        try:
            folder.size(names.MEDIUM)
        except ObjectMissingError as error:
            raise NotAPoolError(f"there is no pool in '{path}'") from error
        # Programs that copy a pool may leave empty folders out, and people the index, which is only a cache.
        with _writing(path):
            for name in _TOP:
                (path / name).mkdir(mode=FOLDER_MODE, exist_ok=True)
        return folder

    @property
    def index_path(self) -> Path:
        """The folder for the index, which is a cache."""
        return self.path / INDEX

    def leftovers(self) -> Iterator[FolderLeftover]:
        """Give what dead writers left in ``incoming`` (see :class:`~strongroom.pool.store.Leftovers`)."""
        with _writing(self.path / INCOMING), os.scandir(self.path / INCOMING) as scan:
            paths = [Path(entry.path) for entry in scan if entry.is_file(follow_symlinks=False)]
        for path in paths:
            with _writing(path):
                try:
                    handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
                except FileNotFoundError:
                    continue  # its writer finished between the listing and now
            try:
                if _lock(path, handle):
                    yield FolderLeftover(self.path, path, handle)
            finally:
                os.close(handle)

    def put(self, key: str, data: Buffer) -> None:
        """Store a small object whole (see :class:`~strongroom.pool.store.Store`)."""
        upload = self.upload()
        try:
            upload.append(data)
            upload.finish(key)
        except ObjectExistsError:
            if self.read(key) != data:
                raise
        finally:
            upload.abort()

    def upload(self) -> FolderUpload:
        """Begin an object that comes in parts."""
        return FolderUpload(self.path, self._entropy)

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Read a range, or from an offset to the end."""
        with _reading(key, self.path / key) as handle:
            if length is None:
                length = max(0, os.fstat(handle).st_size - offset)
            data = os.pread(handle, length, offset)
            if len(data) in (0, length):
                return data
            parts = [data]
            got = len(data)
            while got < length and (data := os.pread(handle, length - got, offset + got)):
                parts.append(data)
                got += len(data)
            return b"".join(parts)

    def size(self, key: str) -> int:
        """Tell an object's length in bytes."""
        with _reading(key, self.path / key) as handle:
            return os.fstat(handle).st_size

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """List the objects below a folder, in order of key."""
        if not prefix.endswith("/"):
            raise ValueError("a prefix ends with a slash")
        try:
            with os.scandir(self.path / prefix) as scan:
                entries = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in scan)
        except FileNotFoundError:
            return
        except OSError as error:
            raise PoolReadError(f"cannot list '{self.path / prefix}': {error.strerror}") from error
        for name, is_folder in entries:
            if is_folder:
                yield from self.list(f"{prefix}{name}/")
                continue
            try:
                size = self.size(prefix + name)
            except ObjectMissingError:
                continue  # removed since it was listed
            yield StoredObject(prefix + name, size)

    def remove(self, key: str) -> None:
        """Remove an object, if it is there."""
        path = self.path / key
        with _writing(path):
            try:
                path.unlink()
            except FileNotFoundError:
                return
            _sync_folder(path.parent)


class FolderUpload:
    """A file in ``incoming``, locked by this process."""

    def __init__(self, root: Path, entropy: Entropy) -> None:
        self._root = root
        with _writing(root / INCOMING):
            self._path, self._handle = _new_incoming(root / INCOMING, entropy)
        self._open = True

    def append(self, data: Buffer) -> None:
        """Add bytes behind those that came before."""
        with _writing(self._path):
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._handle, rest) :]

    def finish(self, key: str) -> None:
        """Make it durable and give it its name."""
        _give_name(self._root, self._path, self._handle, key)
        self._close()

    def abort(self) -> None:
        """Drop what was appended."""
        if self._open:
            try:
                with _writing(self._path):
                    self._path.unlink(missing_ok=True)
            finally:
                self._close()

    def _close(self) -> None:
        self._open = False
        os.close(self._handle)


class FolderLeftover:
    """A file in ``incoming`` whose writer is gone, locked by this process."""

    def __init__(self, root: Path, path: Path, handle: int) -> None:
        self._root = root
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
        with _writing(self._path):
            os.ftruncate(self._handle, length)
            os.lseek(self._handle, length, os.SEEK_SET)
            rest = memoryview(end)
            while rest:
                rest = rest[os.write(self._handle, rest) :]
        try:
            _give_name(self._root, self._path, self._handle, key)
        except ObjectExistsError:
            self.remove()

    def remove(self) -> None:
        """Remove it."""
        with _writing(self._path):
            self._path.unlink(missing_ok=True)


def _lock(path: Path, handle: int) -> bool:
    """Lock a file of ``incoming`` that no living writer owns; tell whether it is a leftover.

    One that has its name in the pool already is the very file that lies there, and only loses the other name.
    """
    with _writing(path):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if os.fstat(handle).st_nlink == 1:
            return True
        path.unlink(missing_ok=True)
        return False


def _give_name(root: Path, path: Path, handle: int, key: str) -> None:
    """Make a file of ``incoming`` durable, and only then give it its name in the pool."""
    target = root / key
    with _writing(target):
        os.fsync(handle)
        _make_folders(root, target.parent)
        try:
            # a link, because a rename would replace what is there
            os.link(path, target)
        except FileExistsError as error:
            raise ObjectExistsError(f"the pool already holds '{key}'") from error
        path.unlink()
        _sync_folder(target.parent)


def _new_incoming(folder: Path, entropy: Entropy) -> tuple[Path, int]:
    """Make a locked file. One that :meth:`Folder.leftovers` took before it was locked is made again."""
    while True:
        path = folder / entropy.bytes(16).hex()
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return path, handle
        os.close(handle)


def _make_folders(root: Path, folder: Path) -> None:
    """Make the folders between the root and a file, each durable in its parent."""
    if folder == root or folder.is_dir():
        return
    _make_folders(root, folder.parent)
    folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn what the system says about a write into the pool's words."""
    try:
        yield
    except OSError as error:
        raise _write_error(path, error) from error


def _write_error(path: Path, error: OSError) -> StrongroomError:
    if error.errno in _NO_ROOM:
        return PoolFullError(f"no room for '{path}': {error.strerror}")
    return PoolWriteError(f"cannot write '{path}': {error.strerror}")


@contextmanager
def _reading(key: str, path: Path) -> Iterator[int]:
    """Open a file to read, and turn what the system says into the pool's words."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ObjectMissingError(f"the pool has no '{key}'") from error
    except OSError as error:
        raise PoolReadError(f"cannot read '{path}': {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ObjectMissingError(f"'{key}' in the pool is not a file")
        yield handle
    except OSError as error:
        raise PoolReadError(f"cannot read '{path}': {error.strerror}") from error
    finally:
        os.close(handle)
