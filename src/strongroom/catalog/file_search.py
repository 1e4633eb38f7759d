"""Questions to file lists: what is in a folder, which files match a pattern, in one image or in all.

Only the columns of the question are decrypted and decoded; the rest is, for the rows that are shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # it carries no types
import pyarrow.compute as pc  # type: ignore[import-untyped]  # it carries no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it carries no types
from sqlalchemy import Connection, select

from strongroom.catalog.file_list import FileEntry, FileLists
from strongroom.catalog.file_list_parquet import open_file_list, reading
from strongroom.catalog.patterns import parse_glob
from strongroom.catalog.tables import file_lists
from strongroom.core.ids import ImageId

LARGEST_PAGE = 10_000
PAGE_BYTES = 1 << 20
"""An answer goes little beyond so many bytes of paths, because each can have 64 KiB."""


@dataclass(frozen=True)
class Found:
    """A file in an image; ``row`` is its place in the list, and where the next page begins behind."""

    image: ImageId
    row: int
    entry: FileEntry

    @property
    def bytes(self) -> int:
        """Bytes of its paths."""
        return len(self.entry.path) + len(self.entry.link or b"")


def list_folder(
    connection: Connection,
    lists: FileLists,
    image: ImageId,
    folder: bytes,
    *,
    after: int = -1,
    limit: int = 1_000,
) -> list[Found]:
    """Give what is in a folder, in the order of the walk, from behind row ``after``.

    The answer is shorter than ``limit`` when there is no more, or when its paths have more than :data:`PAGE_BYTES`.

    Raises:
        NoFileListError, FileListDamagedError: as for :func:`~strongroom.catalog.file_list_parquet.open_file_list`.
    """

    def matches(table: pa.Table) -> Any:
        inside = pc.equal(table["parent"], pa.scalar(folder, pa.binary()))
        return pc.and_(inside, pc.not_equal(table["name"], pa.scalar(b"", pa.binary())))

    with open_file_list(connection, lists, image) as file:
        question = _Question(["parent", "name"], matches, folder)
        return list(_rows(file, image, question, after, _bounded(limit)))


def list_tops(
    connection: Connection, lists: FileLists, image: ImageId, *, after: int = -1, limit: int = 1_000
) -> list[Found]:
    """Give the topmost of an image: what is not below another of its files, such as the folders that were named.

    Raises:
        NoFileListError, FileListDamagedError: as for :func:`~strongroom.catalog.file_list_parquet.open_file_list`.
    """
    with open_file_list(connection, lists, image) as file:
        # From the first row, whatever the page: a row's place below a top is known from the rows before it.
        tops = _rows(file, image, _Question(["path"], _Tops()), -1, file.metadata.num_rows, most_bytes=None)
        return list(islice((top for top in tops if top.row > after), _bounded(limit)))


def find_files(
    connection: Connection,
    lists: FileLists,
    pattern: bytes,
    *,
    images: Sequence[ImageId] | None = None,
    after: tuple[ImageId, int] | None = None,
    limit: int = 1_000,
) -> list[Found]:
    """Give the files that match a pattern, by image and row; bounded as for :func:`list_folder`.

    Args:
        connection: in the caller's transaction.
        lists: where the lists are.
        pattern: see above.
        images: where to look, any order; ``None`` looks in every image that has a list.
        after: the last one of the page before.
        limit: at most :data:`LARGEST_PAGE`.

    Raises:
        PatternError: the pattern cannot be read.
        NoFileListError: an image that was named has no list yet.
        FileListDamagedError: a list is not what was written.
    """
    question = _pattern_question(pattern)
    limit = _bounded(limit)
    found: list[Found] = []
    for image in _images(connection, images, after):
        behind = after[1] if after is not None and after[0] == image else -1
        with open_file_list(connection, lists, image) as file:
            found.extend(_rows(file, image, question, behind, limit - len(found)))
        if len(found) >= limit or sum(one.bytes for one in found) > PAGE_BYTES:
            break
    return found


@dataclass(frozen=True)
class _Question:
    columns: list[str]
    matches: Any
    parent: bytes | None = None


class _Tops:
    """Marks the rows that are below no row before them; asked for one table after the other, in the walk's order."""

    def __init__(self) -> None:
        self._below: bytes | None = None

    def __call__(self, table: pa.Table) -> Any:
        return pa.array(map(self._is_top, table["path"].to_pylist()), pa.bool_())

    def _is_top(self, path: bytes) -> bool:
        if self._below is not None and path.startswith(self._below):
            return False
        self._below = path.rstrip(b"/") + b"/"
        return True


def _pattern_question(pattern: bytes) -> _Question:
    glob = parse_glob(pattern)
    column = "path" if glob.whole_path else "name"
    return _Question([column], lambda table: pc.match_substring_regex(table[column], glob.expression))


def _images(
    connection: Connection, images: Sequence[ImageId] | None, after: tuple[ImageId, int] | None
) -> list[ImageId]:
    if images is None:
        images = [ImageId(image) for image in connection.execute(select(file_lists.c.image)).scalars()]
    return [image for image in sorted(set(images)) if after is None or image >= after[0]]


def _rows(
    file: pq.ParquetFile,
    image: ImageId,
    question: _Question,
    after: int,
    limit: int,
    most_bytes: int | None = PAGE_BYTES,
) -> Iterator[Found]:
    start = size = 0
    for group in range(file.num_row_groups):
        about = file.metadata.row_group(group)
        first, start = start, start + about.num_rows
        if start <= after + 1 or (question.parent is not None and not _may_hold(about, question.parent)):
            continue
        hits = pc.indices_nonzero(question.matches(_read(file, image, group, question.columns)))
        wanted = [hit for hit in hits.to_pylist() if first + hit > after][:limit]
        if not wanted:
            continue
        shown = _read(file, image, group, list(FileEntry._fields)).take(pa.array(wanted))
        columns = [shown[name].to_pylist() for name in FileEntry._fields]
        for hit, values in zip(wanted, zip(*columns, strict=True), strict=True):
            found = Found(image, first + hit, FileEntry(*values))
            size += found.bytes
            yield found
        limit -= len(wanted)
        if limit <= 0 or (most_bytes is not None and size > most_bytes):
            return


def _may_hold(about: Any, parent: bytes) -> bool:
    """Tell from a row group's statistics whether a folder's files can be in it."""
    for number in range(about.num_columns):
        column = about.column(number)
        if column.path_in_schema == "parent":
            known = column.statistics
            if known is None or not known.has_min_max:
                return True
            return bool(known.min <= parent <= known.max)
    return True


def _read(file: pq.ParquetFile, image: ImageId, group: int, columns: list[str]) -> pa.Table:
    with reading(image):
        return file.read_row_group(group, columns=columns, use_threads=False)


def _bounded(limit: int) -> int:
    return max(1, min(limit, LARGEST_PAGE))
