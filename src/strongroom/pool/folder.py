"""A pool in a folder of a local file system.

Source: ``docs/reference/formats/pool-folder.md``. What is being written is the business of
:mod:`strongroom.pool.incoming`; everything else has its name, is complete, and never changes.
"""

from __future__ import annotations

import logging
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from strongroom.core.entropy import Entropy
from strongroom.formats.segment import Buffer
from strongroom.pool import names
from strongroom.pool.errors import (
    NotAPoolError,
    ObjectExistsError,
    ObjectMissingError,
    PoolExistsError,
    PoolReadError,
    PoolWriteError,
)
from strongroom.pool.immutable import is_immutable, set_immutable
from strongroom.pool.incoming import (
    FOLDER_MODE,
    INCOMING,
    FolderLeftover,
    FolderUpload,
    leftovers,
    link_into,
    make_folder,
    sync_folder,
    sync_name,
    writing,
)
from strongroom.pool.store import MayRemove, StoredObject, Term

logger = logging.getLogger(__name__)

INDEX: Final = "index"
DAMAGED: Final = "damaged"
_MOST_ASIDE: Final = 1_000
_TOP: Final = ("images", "envelopes", "containers", "journal", "revocations", INCOMING, INDEX)


class Folder:
    """Storage adapter for a folder.

    Args:
        path: the pool's folder, made by :meth:`create`.
        entropy: gives the names in ``incoming``.
    """

    def __init__(self, path: Path, entropy: Entropy) -> None:
        self.path = path
        self._entropy = entropy
        self._may_remove: MayRemove | None = None
        self._fixes = True

    @classmethod
    def create(cls, path: Path, medium_header: bytes, entropy: Entropy) -> Folder:
        """Make a pool in a folder that is empty, does not exist, or holds what :meth:`create` left when it was killed.

        Args:
            path: the folder; what is missing above it is made too.
            medium_header: the signed media header, stored as it is.
            entropy: gives the names in ``incoming``.

        Raises:
            PoolExistsError: something is in the folder already.
            PoolFullError, PoolWriteError: the file system refused.
        """
        with writing(path):
            make_folder(path)
            if not all(map(_is_beginning, path.iterdir())):
                raise PoolExistsError(f"the folder '{path}' is not empty")
            path.chmod(FOLDER_MODE)
            for name in _TOP:
                (path / name).mkdir(mode=FOLDER_MODE, exist_ok=True)
            sync_folder(path)
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
        with writing(path):
            for name in _TOP:
                (path / name).mkdir(mode=FOLDER_MODE, exist_ok=True)
            sync_folder(path)
        return folder

    @property
    def place(self) -> str:
        """The folder."""
        return str(self.path)

    @property
    def index_path(self) -> Path:
        """The folder for the caches."""
        return self.path / INDEX

    def free_bytes(self) -> int:
        """Tell how much room its file system has."""
        try:
            return shutil.disk_usage(self.path).free
        except OSError as error:
            raise PoolReadError(f"cannot read '{self.path}': {error.strerror}") from error

    def requests(self) -> Mapping[str, int]:
        """Nothing: no other machine is asked."""
        return {}

    def close(self) -> None:
        """Nothing is held."""

    def leftovers(self) -> Iterator[FolderLeftover]:
        """Give what dead writers left in ``incoming`` (see :class:`~strongroom.pool.store.Leftovers`)."""
        return leftovers(self.path, partial(link_into, self.path))

    def put(self, key: str, data: Buffer) -> None:
        """Store a small object whole (see :class:`~strongroom.pool.store.Store`)."""
        upload = self.upload()
        try:
            upload.append(data)
            upload.finish(key)
        except ObjectExistsError:
            if self.read(key) != data:
                raise
            # Whoever gave the name may have been killed before it was stable.
            with writing(self.path / key):
                sync_name(self.path, self.path / key)
        finally:
            upload.abort()

    def upload(self) -> FolderUpload:
        """Begin an object that comes in parts."""
        return FolderUpload(self.path, self._entropy, partial(link_into, self.path))

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

    def list(self, prefix: str, after: str = "") -> Iterator[StoredObject]:
        """List the objects below a folder, in order of key."""
        if not prefix.endswith("/"):
            raise ValueError("a prefix ends with a slash")
        try:
            with os.scandir(self.path / prefix) as scan:
                found = sorted(scan, key=lambda entry: entry.name)
        except FileNotFoundError:
            return
        except OSError as error:
            raise PoolReadError(f"cannot list '{self.path / prefix}': {error.strerror}") from error
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                yield from self.list(f"{prefix}{entry.name}/", after)
            elif prefix + entry.name > after and entry.is_file(
                follow_symlinks=False
            ):  # what else is planted there is no object, and ends nothing
                try:
                    size = entry.stat(follow_symlinks=False).st_size
                except FileNotFoundError:
                    continue  # removed since it was listed
                except OSError as error:
                    raise PoolReadError(f"cannot read '{entry.path}': {error.strerror}") from error
                yield StoredObject(prefix + entry.name, size)

    def guard(self, may_remove: MayRemove) -> None:
        """Ask this before every removal from now on."""
        self._may_remove = may_remove

    def fix(self, keys: Sequence[str], term: Term) -> None:  # noqa: ARG002 - a flag knows no end
        """Make files immutable, where that is permitted."""
        for key in keys if self._fixes else ():
            with writing(self.path / key):
                self._fixes = set_immutable(self.path / key, immutable=True)
            if not self._fixes:
                logger.warning(
                    "files of this pool cannot be made immutable: its file system or our privileges do not allow it",
                    extra={"event": "not-immutable", "path": str(self.path)},
                )
                return

    def remove(self, key: str, *, lift: bool = False) -> None:
        """Remove an object, if it is there (see :class:`~strongroom.pool.store.Store`)."""
        if self._may_remove is not None:
            self._may_remove(key, lift)
        path = self.path / key
        with writing(path):
            try:
                path.unlink(missing_ok=True)
            except PermissionError:
                if not is_immutable(path):
                    raise
                set_immutable(path, immutable=False)
                path.unlink(missing_ok=True)
            if path.parent.is_dir():  # also when it was gone: whoever removed it may have been killed before this
                sync_folder(path.parent)

    def set_aside(self, key: str) -> str:
        """Take an object out of the pool (see :class:`~strongroom.pool.store.Aside`): it goes to ``damaged``."""
        path = self.path / key
        with writing(path):
            if not path.is_file() or path.is_symlink():
                raise ObjectMissingError(f"the pool has no '{key}'")
            if is_immutable(path):
                set_immutable(path, immutable=False)  # its bytes stay, but no name can be given to it before
            target = self._linked_aside(path, key)
            sync_name(self.path, target)
            sync_folder(self.path)
            path.unlink()  # only now: after a crash before this it has both names, and is put aside again
            sync_folder(path.parent)
        return str(target)

    def _linked_aside(self, path: Path, key: str) -> Path:
        """Give a file a name in ``damaged``: its own, or its own with a number behind it."""
        for number in range(_MOST_ASIDE):
            target = self.path / DAMAGED / (key if number == 0 else f"{key}.{number}")
            target.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            try:
                os.link(path, target)
            except FileExistsError:
                if target.samefile(path):
                    return target
                continue
            return target
        raise PoolWriteError(f"'{path}' was put aside {_MOST_ASIDE} times already")


def _is_beginning(path: Path) -> bool:
    """Tell whether something in a folder is no more than what making a pool begins with."""
    if path.name not in _TOP or path.is_symlink() or not path.is_dir():
        return False
    return path.name == INCOMING or not any(path.iterdir())


@contextmanager
def _reading(key: str, path: Path) -> Iterator[int]:
    """Open a file to read, and turn what the system says into the pool's words."""
    try:
        # not waiting: a pipe that was planted in the pool would hold whoever opens it
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
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
