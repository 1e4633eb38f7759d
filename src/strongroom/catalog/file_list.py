"""File lists: one encrypted Parquet file for each image, beside the database.

Names are bytes, as in the file system. The rows stand in the order of the image's walk, which puts a folder's contents
together, so that statistics of the row groups tell where a folder is.

A list is written under a key of its own: HKDF of the catalog key with the file's salt, bound to the image. The salt is
in the file's name and in the row of ``file_lists`` that makes the list valid: a file without its row is left over from
a crash, and :func:`sweep` removes it. Parquet's own encryption covers everything, names of columns and statistics too.

    FOLDER/xx/IMAGE-SALT.f        xx: first two digits of IMAGE; all in hexadecimal
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import Connection, delete, insert, select

from strongroom.catalog.errors import FileListDamagedError, FileListStorageError, NoFileListError
from strongroom.catalog.tables import file_lists
from strongroom.core.entropy import Entropy
from strongroom.core.ids import UUID_BYTES, ImageId, to_text
from strongroom.core.secret import Secret

# Loaded when a list is first written or read: Arrow takes a fifth of a second, and every primary starts with this.
if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]  # it carries no types
    import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it carries no types

ROWS_IN_GROUP = 8_192
BYTES_IN_GROUP = 4 << 20
"""A row group is closed at whichever comes first, because a path can have 64 KiB."""
_ROW_BYTES = 128
_INFO = b"strongroom/file-list/v1\0"

# Almost every value differs from its neighbours: a dictionary would only be built and thrown away.
_DICTIONARY = ["parent", "type", "mode", "uid", "gid", "owner", "group"]


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


@cache
def file_list_schema() -> pa.Schema:
    """Give the columns of a file list."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("parent", pa.binary(), nullable=False),
            pa.field("name", pa.binary(), nullable=False),
            pa.field("path", pa.binary(), nullable=False),
            pa.field("type", pa.uint8(), nullable=False),
            pa.field("mode", pa.uint16(), nullable=False),
            pa.field("uid", pa.uint64(), nullable=False),
            pa.field("gid", pa.uint64(), nullable=False),
            pa.field("owner", pa.binary(), nullable=False),
            pa.field("group", pa.binary(), nullable=False),
            pa.field("mtime_ns", pa.int64(), nullable=False),
            pa.field("ctime_ns", pa.int64(), nullable=False),
            pa.field("size", pa.uint64(), nullable=False),
            pa.field("link", pa.binary()),
            pa.field("entry_at", pa.uint64(), nullable=False),
            pa.field("reference", pa.uint64()),
        ]
    )


def write_file_list(lists: FileLists, image: ImageId, entries: Iterable[FileEntry], entropy: Entropy) -> WrittenList:
    """Write the list of an image; memory is bounded by one row group, whatever the number of files.

    Args:
        lists: where to.
        image: whose list it is.
        entries: in the order of the image's walk.
        entropy: for the salt.

    Returns:
        The list, durable. :func:`adopt_file_list` makes it the image's, in a transaction.

    Raises:
        FileListStorageError: the disk is full, or refused.
    """
    import pyarrow as pa

    salt = entropy.bytes(UUID_BYTES)
    path = lists.path(image, salt)
    unfinished = path.with_suffix(".part")
    count = 0
    with _storage():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file, _writer(file, lists, image, salt) as writer:
            # Errors of whoever gives the entries are theirs, even if a broken connection is an OSError too.
            for group in _groups(entries):
                with _storage():
                    writer.write_table(pa.table(_columns(group), schema=file_list_schema()))
                count += len(group)
            with _storage():
                writer.close()
                file.flush()
                os.fsync(file.fileno())
                size = file.tell()
        with _storage():
            unfinished.rename(path)
            _sync(path.parent)
            _sync(lists.folder)  # the entry of a new subfolder
    finally:
        unfinished.unlink(missing_ok=True)  # after the rename there is none
        _release()
    return WrittenList(image, salt, count, size)


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
    with _storage():
        path.unlink(missing_ok=True)
        if path.parent.exists():
            _sync(path.parent)


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
                with _storage():
                    file.unlink()
                removed += 1
    return removed


@contextmanager
def open_file_list(connection: Connection, lists: FileLists, image: ImageId) -> Iterator[pq.ParquetFile]:
    """Open the list of an image.

    Raises:
        NoFileListError: there is none yet.
        FileListDamagedError: the file is missing, changed, or of another key.
    """
    import pyarrow.parquet as pq
    import pyarrow.parquet.encryption as pe  # type: ignore[import-untyped]  # it carries no types

    salt = connection.execute(select(file_lists.c.salt).where(file_lists.c.image == image)).scalar_one_or_none()
    if salt is None:
        raise NoFileListError(f"the image '{to_text(image)}' has no file list yet")
    with reading(image):
        properties = pe.create_decryption_properties(_key(lists, image, salt), aad_prefix=image + salt)
        file = pq.ParquetFile(lists.path(image, salt), decryption_properties=properties)
        if file.schema_arrow.names != file_list_schema().names:
            file.close()
            raise FileListDamagedError(f"the file list of the image '{to_text(image)}' has other columns")
    try:
        with file:
            yield file
    finally:
        _release()


@contextmanager
def _storage() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FileListStorageError(f"a file list cannot be written: {error.strerror or error}") from error


@contextmanager
def reading(image: bytes) -> Iterator[None]:
    """Translate what pyarrow says of a file that is not what was written.

    Raises:
        FileListDamagedError: the file is missing, changed, or of another key.
    """
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise FileListDamagedError(f"the file list of the image '{to_text(image)}' cannot be read") from error


def _writer(file: Any, lists: FileLists, image: ImageId, salt: bytes) -> pq.ParquetWriter:
    import pyarrow.parquet as pq
    import pyarrow.parquet.encryption as pe

    return pq.ParquetWriter(
        file,
        file_list_schema(),
        compression="zstd",
        use_dictionary=_DICTIONARY,
        write_statistics=["parent"],
        encryption_properties=pe.create_encryption_properties(
            _key(lists, image, salt), aad_prefix=image + salt, store_aad_prefix=False
        ),
    )


def _key(lists: FileLists, image: ImageId, salt: bytes) -> bytes:
    derivation = HKDF(algorithm=SHA256(), length=32, salt=salt, info=_INFO + image)
    return derivation.derive(lists.key.reveal())


def _groups(entries: Iterable[FileEntry]) -> Iterator[list[FileEntry]]:
    group: list[FileEntry] = []
    size = 0
    for entry in entries:
        group.append(entry)
        size += _ROW_BYTES + 2 * len(entry.path) + len(entry.link or b"")
        if len(group) >= ROWS_IN_GROUP or size >= BYTES_IN_GROUP:
            yield group
            group, size = [], 0
    if group:
        yield group


def _columns(group: list[FileEntry]) -> dict[str, Any]:
    import pyarrow as pa

    columns: dict[str, Any] = {
        "parent": [entry.parent for entry in group],
        "name": [entry.name for entry in group],
    }
    columns.update(zip(FileEntry._fields, zip(*group, strict=True), strict=True))
    return {field.name: pa.array(columns[field.name], field.type) for field in file_list_schema()}


def _release() -> None:
    """Give memory back: Arrow keeps what it freed for its next list, which may come tomorrow."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
