"""A stored image as an image stream, for a client that restores it."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from strongroom.formats import entries, image_stream
from strongroom.formats.entries import Entry
from strongroom.images.entry_stream import StoredFile
from strongroom.images.stored_image import StoredImage
from strongroom.pool.references import Reference

_BATCH_BYTES: Final = 32 << 20
_BATCH_RECORDS: Final = 2_048


class Selection:
    """Which files of an image are wanted: all, or those at or below some paths, with the folders above them.

    Args:
        paths: absolute paths; none selects everything.
    """

    def __init__(self, paths: Iterable[bytes] = ()) -> None:
        self._roots: set[bytes] = set()
        self._above = {b"/"}
        for path in paths:
            self.add(path)

    @property
    def everything(self) -> bool:
        """Whether no path was named."""
        return not self._roots

    def add(self, path: bytes) -> None:
        """Want one more path, with the folders above it."""
        entries.path_parts(path)  # refuses what is no plain absolute path
        self._roots.add(path)
        self._above.update(path[:at] for at in range(1, len(path)) if path[at : at + 1] == b"/")

    def __contains__(self, path: bytes) -> bool:
        if not self._roots or b"/" in self._roots:
            return True
        if path in self._above or path in self._roots:
            return True
        at = path.rfind(b"/")
        while at > 0:
            if path[:at] in self._roots:
                return True
            at = path.rfind(b"/", 0, at)
        return False


@dataclass
class _Batch:
    """What is read together: records, and the pieces of their contents in order."""

    items: list[bytes | tuple[Reference | None, int, int]] = field(default_factory=list)
    references: list[Reference] = field(default_factory=list)
    bytes: int = 0
    records: int = 0

    @property
    def full(self) -> bool:
        return self.bytes >= _BATCH_BYTES or self.records >= _BATCH_RECORDS

    def add_extent(self, reference: Reference | None, offset: int, length: int) -> None:
        self.items.append((reference, offset, length))
        if reference is not None:
            if not self.references or self.references[-1] is not reference:
                self.references.append(reference)
                self.bytes += reference.length


def restore_stream(image: StoredImage, selection: Selection | None = None) -> Iterator[bytes]:
    """Give an image as the blocks of an image stream: a record, then its contents.

    The file that a selected hard link names is given too, wherever it lies, because the link is made to it.

    Args:
        image: open for reading.
        selection: which files; all by default.

    Yields:
        Pieces of at most about 1 MiB.

    Raises:
        KeyUnavailableError: the KMS has no usable key.
        IntegrityError, NotFoundError, PoolReadError: the image cannot be read whole; what came before is right.
    """
    wanted = selection or Selection()
    if not wanted.everything:
        _add_link_targets(image, wanted)
    yield image_stream.MAGIC
    files = content = 0
    batch = _Batch()
    for file in image.files():
        if file.entry.path not in wanted:
            continue
        files += 1
        content += file.entry.size
        batch.items.extend(_records_of(file))
        batch.records += 1
        for reference, offset, length in file.extents:
            batch.add_extent(reference, offset, length)
            if batch.full:
                yield from _send(image, batch)
                batch = _Batch()
        if batch.full:
            yield from _send(image, batch)
            batch = _Batch()
    yield from _send(image, batch)
    yield image_stream.end(files, content, 0)


def entry_stream(image: StoredImage) -> Iterator[bytes]:
    """Give the records of an image without contents: what a client compares its files with."""
    yield image_stream.MAGIC
    files = content = 0
    for file in image.files():
        files += 1
        content += file.entry.size
        for record in _records_of(file):
            yield from _entries_block(record)
    yield image_stream.end(files, content, 0)


def _add_link_targets(image: StoredImage, wanted: Selection) -> None:
    targets = [
        file.entry.target
        for file in image.files()
        if file.entry.type == entries.HARD_LINK and file.entry.target is not None and file.entry.path in wanted
    ]
    for target in targets:
        wanted.add(target)


def _records_of(file: StoredFile) -> list[bytes]:
    """Write a file's record without extents, and its further attributes, each for a block of its own."""
    plain = copy.copy(file.entry)
    plain.extents = []
    plain.flags &= ~entries.EXTENTS_FOLLOW
    return [entries.encode(plain), *(entries.encode(more) for more in file.attributes)]


def _send(image: StoredImage, batch: _Batch) -> Iterator[bytes]:
    image.need_keys_of(batch.references)
    segments = image.frames.read(batch.references)
    current: Reference | None = None
    segment = memoryview(b"")
    for item in batch.items:
        if isinstance(item, bytes):
            yield from _entries_block(item)
            continue
        reference, offset, length = item
        if reference is None:
            yield image_stream.hole(length)
            continue
        if reference is not current:
            current, segment = reference, next(segments)
        yield image_stream.head(image_stream.DATA, length)
        yield bytes(segment[offset : offset + length])


def _entries_block(records: bytes) -> Iterator[bytes]:
    yield image_stream.head(image_stream.ENTRIES, len(records))
    yield records
