"""A stored image as an image stream, for a client that restores it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from strongroom.formats import entries, image_stream
from strongroom.images.selection import Selection
from strongroom.images.stored_files import StoredFile
from strongroom.images.stored_image import StoredImage
from strongroom.pool.references import Reference

_BATCH_BYTES: Final = 32 << 20
_BATCH_RECORDS: Final = 2_048


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

    When the first name of a file is not selected, the first of its other names that is becomes the file, and the links
    behind it name that one.

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
    yield image_stream.MAGIC
    files = content = 0
    batch = _Batch()
    for file in _selected(image, wanted):
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


def _selected(image: StoredImage, wanted: Selection) -> Iterator[StoredFile]:
    """Give the selected files, hard links made fit for what is selected."""
    if wanted.everything:
        yield from image.files()
        return
    heirs = _heirs(image, wanted)
    kept: dict[bytes, StoredFile] = {}
    for file in image.files():
        path, target = file.entry.path, file.entry.target
        if path in heirs:
            # not selected by this name: its contents are wanted when its heir comes
            kept[path] = StoredFile(file.number, file.entry, file.attributes, iter(list(file.extents)))
        elif path not in wanted:
            continue
        elif file.entry.type == entries.HARD_LINK and target in heirs:
            if heirs[target] == path:
                first = kept.pop(target)
                first.entry = copy.copy(first.entry)
                first.entry.path = path
                yield first
            else:
                file.entry.target = heirs[target]
                yield file
        else:
            yield file


def _heirs(image: StoredImage, wanted: Selection) -> dict[bytes, bytes]:
    """Tell, for each file whose first name is not selected, the first of its other names that is."""
    heirs: dict[bytes, bytes] = {}
    for file in image.files():
        entry = file.entry
        if entry.type == entries.HARD_LINK and entry.target is not None and entry.path in wanted:
            if entry.target not in wanted:
                heirs.setdefault(entry.target, entry.path)
    return heirs


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
