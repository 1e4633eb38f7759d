"""A mounted image as a file system of this host, through FUSE.

``mfusepy`` and the system's libfuse are wanted here and nowhere else; both are optional.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

from strongroom.client.mounted import MountedImage
from strongroom.core.errors import ResourceError, StrongroomError
from strongroom.formats import entries
from strongroom.formats.entries import Entry

_KINDS: Final = {
    entries.REGULAR: stat.S_IFREG,
    entries.FOLDER: stat.S_IFDIR,
    entries.SYMLINK: stat.S_IFLNK,
    entries.FIFO: stat.S_IFIFO,
    entries.SOCKET: stat.S_IFSOCK,
    entries.CHARACTER_DEVICE: stat.S_IFCHR,
    entries.BLOCK_DEVICE: stat.S_IFBLK,
}
_BLOCK: Final = 512
# Nothing in an image changes: the kernel may keep what it learned.
_KEEP_SECONDS: Final = 3_600

T = TypeVar("T")


class NoFuseError(ResourceError):
    """This host cannot mount images."""

    code = "cli.no-fuse"
    default_hint = "install the package fuse3 of the system and the extra 'mount' of strongroom: mfusepy"


class MountFailedError(ResourceError):
    """The system did not mount the image."""

    code = "cli.mount-failed"
    default_hint = "give an empty folder of your own; whoever is not root needs fusermount3 and /dev/fuse"


def mount_at(folder: Path, image: MountedImage, name: str, on_error: Callable[[StrongroomError], None]) -> None:
    """Show an image below a folder, read-only, for the caller's own user, until it is unmounted.

    Args:
        folder: an empty one.
        image: what is shown.
        name: of the file system, for ``mount`` and ``df``.
        on_error: told of what cannot be read; whoever reads it gets an error of input and output.

    Raises:
        NoFuseError: a library is missing.
        MountFailedError: the system refused.
    """
    try:
        import mfusepy  # type: ignore[import-untyped]  # it carries no types, and may be missing
    except (ImportError, OSError) as error:
        raise NoFuseError(f"FUSE is not here: {error}") from error

    class Files(_Files, mfusepy.Operations):  # type: ignore[misc]  # of no known type
        """What FUSE asks for."""

    try:
        mfusepy.FUSE(
            Files(image, on_error),
            str(folder),
            foreground=True,
            ro=True,
            nosuid=True,
            nodev=True,
            fsname=name,
            subtype="strongroom",
            kernel_cache=True,
            attr_timeout=_KEEP_SECONDS,
            entry_timeout=_KEEP_SECONDS,
            negative_timeout=_KEEP_SECONDS,
        )
    except RuntimeError as error:
        raise MountFailedError(f"the image was not mounted at '{folder}': FUSE ended with {error}") from error


class _Files:
    """Answers for one image; paths come as text with what is no UTF-8 escaped."""

    use_ns = True

    def __init__(self, image: MountedImage, on_error: Callable[[StrongroomError], None]) -> None:
        self._image = image
        self._on_error = on_error

    def getattr(self, path: str, _handle: int | None = None) -> dict[str, Any]:
        """Give the status of a file."""
        entry = self._ask(lambda: self._image.file(_bytes(path)))
        if entry is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return _status(entry)

    def readdir(self, path: str, _handle: int) -> Iterator[str]:
        """Give the names in a folder."""
        names = self._image.names(_bytes(path))
        yield "."
        yield ".."
        while (name := self._ask(lambda: next(names, None))) is not None:
            yield _text(name)

    def readlink(self, path: str) -> str:
        """Give the target of a symbolic link."""
        entry = self._ask(lambda: self._image.file(_bytes(path)))
        if entry is None or entry.type != entries.SYMLINK or entry.target is None:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return _text(entry.target)

    def read(self, path: str, size: int, offset: int, _handle: int) -> bytes:
        """Give bytes of a file."""
        return self._ask(lambda: self._image.read(_bytes(path), offset, size))

    def listxattr(self, path: str) -> list[str]:
        """Give the names of a file's attributes."""
        return [_text(name) for name, _ in self._ask(lambda: self._image.attributes(_bytes(path)))]

    def getxattr(self, path: str, name: str, _position: int = 0) -> bytes:
        """Give the value of an attribute."""
        wanted = _bytes(name)
        for found, value in self._ask(lambda: self._image.attributes(_bytes(path))):
            if found == wanted:
                return value
        raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))

    def _ask(self, question: Callable[[], T]) -> T:
        try:
            return question()
        except StrongroomError as error:
            self._on_error(error)
            raise OSError(errno.EIO, os.strerror(errno.EIO)) from error


def _status(entry: Entry) -> dict[str, Any]:
    return {
        "st_mode": _KINDS[entry.type] | entry.mode,
        "st_nlink": 1,
        "st_uid": entry.uid,
        "st_gid": entry.gid,
        "st_size": entry.size if entry.type != entries.SYMLINK else len(entry.target or b""),
        "st_blocks": -(-entry.size // _BLOCK),
        "st_mtime": entry.mtime,
        "st_ctime": entry.ctime,
        "st_atime": entry.mtime,
        "st_rdev": os.makedev(entry.major, entry.minor),
    }


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
