"""What is in a file list: Parquet, encrypted as a whole, names of columns and statistics too.

Names are bytes, as in the file system. The rows stand in the order of the image's walk, which puts a folder's contents
together, so that statistics of the row groups tell where a folder is.

Whoever needs this loads it when a list is first written or read: Arrow takes a fifth of a second of a primary's start.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pyarrow as pa  # type: ignore[import-untyped]  # it carries no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it carries no types
import pyarrow.parquet.encryption as pe  # type: ignore[import-untyped]  # it carries no types
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import Connection, select

from strongroom.catalog.errors import FileListDamagedError, NoFileListError
from strongroom.catalog.file_list import FileEntry, FileLists, WrittenList, storage, sync_folder
from strongroom.catalog.tables import file_lists
from strongroom.core.entropy import Entropy
from strongroom.core.ids import UUID_BYTES, ImageId, to_text

ROWS_IN_GROUP = 8_192
BYTES_IN_GROUP = 4 << 20
"""A row group is closed at whichever comes first, because a path can have 64 KiB."""
_ROW_BYTES = 128
_INFO = b"strongroom/file-list/v1\0"

# Almost every value differs from its neighbours: a dictionary would only be built and thrown away.
_DICTIONARY = ["parent", "type", "mode", "uid", "gid", "owner", "group"]


FILE_LIST_SCHEMA: Final = pa.schema(
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
    salt = entropy.bytes(UUID_BYTES)
    path = lists.path(image, salt)
    unfinished = path.with_suffix(".part")
    count = 0
    with storage():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file, _writer(file, lists, image, salt) as writer:
            # Errors of whoever gives the entries are theirs, even if a broken connection is an OSError too.
            for group in _groups(entries):
                with storage():
                    writer.write_table(pa.table(_columns(group), schema=FILE_LIST_SCHEMA))
                count += len(group)
            with storage():
                writer.close()
                file.flush()
                os.fsync(file.fileno())
                size = file.tell()
        with storage():
            unfinished.rename(path)
            sync_folder(path.parent)
            sync_folder(lists.folder)  # the entry of a new subfolder
    finally:
        unfinished.unlink(missing_ok=True)  # after the rename there is none
        _release()
    return WrittenList(image, salt, count, size)


@contextmanager
def open_file_list(connection: Connection, lists: FileLists, image: ImageId) -> Iterator[pq.ParquetFile]:
    """Open the list of an image.

    Raises:
        NoFileListError: there is none yet.
        FileListDamagedError: the file is missing, changed, or of another key.
    """
    salt = connection.execute(select(file_lists.c.salt).where(file_lists.c.image == image)).scalar_one_or_none()
    if salt is None:
        raise NoFileListError(f"the image '{to_text(image)}' has no file list yet")
    with reading(image):
        properties = pe.create_decryption_properties(_key(lists, image, salt), aad_prefix=image + salt)
        file = pq.ParquetFile(lists.path(image, salt), decryption_properties=properties)
        if file.schema_arrow.names != FILE_LIST_SCHEMA.names:
            file.close()
            raise FileListDamagedError(f"the file list of the image '{to_text(image)}' has other columns")
    try:
        with file:
            yield file
    finally:
        _release()


@contextmanager
def reading(image: bytes) -> Iterator[None]:
    """Translate what pyarrow says of a file that is not what was written.

    Raises:
        FileListDamagedError: the file is missing, changed, or of another key.
    """
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise FileListDamagedError(f"the file list of the image '{to_text(image)}' cannot be read") from error


def _writer(file: Any, lists: FileLists, image: ImageId, salt: bytes) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        file,
        FILE_LIST_SCHEMA,
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
    columns: dict[str, Any] = {
        "parent": [entry.parent for entry in group],
        "name": [entry.name for entry in group],
    }
    columns.update(zip(FileEntry._fields, zip(*group, strict=True), strict=True))
    return {field.name: pa.array(columns[field.name], field.type) for field in FILE_LIST_SCHEMA}


def _release() -> None:
    """Give memory back: Arrow keeps what it freed for its next list, which may come tomorrow."""
    pa.default_memory_pool().release_unused()
