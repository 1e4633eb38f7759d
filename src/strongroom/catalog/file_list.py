"""File lists: one encrypted Parquet file for each image, beside the database.

A list is written under a key of its own: HKDF of the catalog key with the file's salt, bound to the image. The salt is
in the file's name and in the row of ``file_lists`` that makes the list valid: a file without its row is left over from
a crash, and :func:`sweep` removes it. What is in a file says :mod:`strongroom.catalog.file_list_parquet`.

    FOLDER/xx/IMAGE-SALT.f        xx: first two digits of IMAGE; all in hexadecimal
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection, delete, insert, select

from strongroom.catalog.errors import FileListStorageError
from strongroom.catalog.tables import file_lists
from strongroom.core.ids import ImageId
from strongroom.core.secret import Secret


class FileEntry(NamedTuple):
    """One file of an image.

    ``type`` is that of the format's entries. ``entry_at`` is the offset of the file's record in the stream that it was
    read from (of a pool the entries, of a tape the tar), ``reference`` the number of the payload reference in which its
    contents begin, ``None`` without contents: a restore of this file alone begins at these.
    """

    path: bytes
    type: int
    mode: int
    uid: int
    gid: int
    owner: bytes
    group: bytes
    mtime_ns: int
    ctime_ns: int
    size: int
    link: bytes | None
    entry_at: int
    reference: int | None

    @property
    def name(self) -> bytes:
        """Last part of the path; of the root folder, the empty one."""
        return self.path.rpartition(b"/")[2]

    @property
    def parent(self) -> bytes:
        """The folder that the file is in; the root folder is in itself."""
        return self.path.rpartition(b"/")[0] or b"/"


@dataclass(frozen=True)
class FileLists:
    """Where file lists are, and the key that they are written under.

    Args:
        folder: beside the database, readable by its owner only.
        key: the catalog key, 32 bytes.
    """

    folder: Path
    key: Secret

    def path(self, image: ImageId, salt: bytes) -> Path:
        """Give the place of one file."""
        return self.folder / image.hex()[:2] / f"{image.hex()}-{salt.hex()}.f"


@dataclass(frozen=True)
class WrittenList:
    """A file list on stable storage that no row names yet."""

    image: ImageId
    salt: bytes
    entries: int
    bytes: int


def adopt_file_list(connection: Connection, written: WrittenList, *, now: datetime) -> bytes | None:
    """Make a written list the image's.

    Returns:
        The salt of the list that it takes the place of, to be removed after the transaction; ``None`` without one.
    """
    image = file_lists.c.image == written.image
    former = connection.execute(delete(file_lists).where(image).returning(file_lists.c.salt)).scalar_one_or_none()
    connection.execute(
        insert(file_lists).values(
            image=written.image, salt=written.salt, entries=written.entries, bytes=written.bytes, made=now
        )
    )
    return former


def remove_file_list(lists: FileLists, image: ImageId, salt: bytes) -> None:
    """Remove a list that no row names any more; one that is gone already is no error.

    Raises:
        FileListStorageError: the file cannot be removed.
    """
    path = lists.path(image, salt)
    with storage():
        path.unlink(missing_ok=True)
        if path.parent.exists():
            sync_folder(path.parent)


def sweep(connection: Connection, lists: FileLists) -> int:
    """Remove what crashes left behind: files that no row names. Run it at start, before lists are written.

    Returns:
        How many files were removed.

    Raises:
        FileListStorageError: a file cannot be removed.
    """
    removed = 0
    for folder in sorted(lists.folder.glob("??")):
        prefix = folder.name
        if len(prefix) != 2 or not set(prefix) <= set("0123456789abcdef"):
            continue
        low, high = bytes.fromhex(prefix) + bytes(15), bytes.fromhex(prefix) + b"\xff" * 15
        rows = connection.execute(
            select(file_lists.c.image, file_lists.c.salt).where(file_lists.c.image.between(low, high))
        )
        named = {lists.path(ImageId(row.image), row.salt).name for row in rows}
        for file in folder.iterdir():
            if file.name not in named and file.suffix in (".f", ".part"):
                with storage():
                    file.unlink()
                removed += 1
    return removed


@contextmanager
def storage() -> Iterator[None]:
    """Translate what the system says of a file that cannot be written or removed.

    Raises:
        FileListStorageError: the disk is full, or refused.
    """
    try:
        yield
    except OSError as error:
        raise FileListStorageError(f"a file list cannot be written: {error.strerror or error}") from error


def sync_folder(folder: Path) -> None:
    """Have a folder's entries on stable storage."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
