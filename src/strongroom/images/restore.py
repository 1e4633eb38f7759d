"""A stored image as an image stream, for a client that restores it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from strongroom.formats import entries, image_stream
from strongroom.images.selection import Selection
from strongroom.images.stored_files import StoredFile
from strongroom.images.stored_image import StoredImage
from strongroom.pool.references import Reference

_BATCH_BYTES: Final = 32 << 20
_BATCH_ITEMS: Final = 16_384
_PIECE_BYTES: Final = 256 << 10

_Piece: TypeAlias = tuple[Reference | None, int, int]


@dataclass
class _Batch:
    """What is read together: records, and the pieces of their contents in order."""

    items: list[bytes | _Piece] = field(default_factory=list)
    references: list[Reference] = field(default_factory=list)
    held_bytes: int = 0

    @property
    def is_full(self) -> bool:
        return self.held_bytes >= _BATCH_BYTES or len(self.items) >= _BATCH_ITEMS

    def add_records(self, records: list[bytes]) -> None:
        self.items += records
        self.held_bytes += sum(map(len, records))

    def add_piece(self, piece: _Piece) -> None:
        self.items.append(piece)
        reference = piece[0]
        if reference is not None and (not self.references or self.references[-1] is not reference):
            self.references.append(reference)
            self.held_bytes += reference.length


class _Blocks:
    """Gathers small blocks, so that a stream of small files does not leave in crumbs."""

    def __init__(self) -> None:
        self._ready: list[bytes | memoryview] = [image_stream.MAGIC]
        self._ready_bytes = 0
        self._records: list[bytes] = []
        self._record_bytes = 0

    def record(self, record: bytes) -> Iterator[bytes]:
        """Add a record; nothing but records has come since those that wait."""
        if self._record_bytes + len(record) > _PIECE_BYTES:
            yield from self.flush()
        self._records.append(record)
        self._record_bytes += len(record)

    def data(self, data: memoryview) -> Iterator[bytes]:
        """Add contents, at most one segment."""
        self._end_records()
        self._add(image_stream.head(image_stream.DATA, len(data)), data)
        if self._ready_bytes >= _PIECE_BYTES:
            yield self._take()

    def block(self, block: bytes) -> None:
        """Add a small block of another type."""
        self._end_records()
        self._add(block)

    def flush(self) -> Iterator[bytes]:
        """Give all that waits."""
        self._end_records()
        if self._ready:
            yield self._take()

    def _end_records(self) -> None:
        if self._records:
            self._add(image_stream.head(image_stream.ENTRIES, self._record_bytes), *self._records)
            self._records.clear()
            self._record_bytes = 0

    def _add(self, *parts: bytes | memoryview) -> None:
        self._ready += parts
        self._ready_bytes += sum(map(len, parts))

    def _take(self) -> bytes:
        joined = b"".join(self._ready)
        self._ready.clear()
        self._ready_bytes = 0
        return joined


def restore_stream(image: StoredImage, selection: Selection | None = None) -> Iterator[bytes]:
    """Give an image as the blocks of an image stream: a record, then its contents.

    When the first name of a file is not selected, the first of its other names that is becomes the file, and the links
    behind it name that one.

    Args:
        image: open for reading.
        selection: which files; all by default.

    Yields:
        Pieces of at most some MiB.

    Raises:
        KeyUnavailableError: the KMS has no usable key.
        IntegrityError, NotFoundError, PoolReadError: the image cannot be read whole; what came before is right.
    """
    blocks = _Blocks()
    files = content = 0
    batch = _Batch()
    for file in _selected(image, selection or Selection()):
        files += 1
        content += file.entry.size
        batch.add_records(_records_of(file))
        for piece in file.extents:
            batch.add_piece(piece)
            if batch.is_full:
                yield from _send(image, batch, blocks)
                batch = _Batch()
        if batch.is_full:
            yield from _send(image, batch, blocks)
            batch = _Batch()
    yield from _send(image, batch, blocks)
    blocks.block(image_stream.end(files, content, 0))
    yield from blocks.flush()


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
        if entry.type != entries.HARD_LINK or entry.target is None:
            continue
        if entry.path in wanted and entry.target not in wanted:
            heirs.setdefault(entry.target, entry.path)
    return heirs


def _records_of(file: StoredFile) -> list[bytes]:
    """Write a file's record without extents, and its further attributes, each for a block of its own."""
    plain = copy.copy(file.entry)
    plain.extents = []
    plain.flags &= ~entries.EXTENTS_FOLLOW
    return [entries.encode(plain), *(entries.encode(more) for more in file.attributes)]


def _send(image: StoredImage, batch: _Batch, blocks: _Blocks) -> Iterator[bytes]:
    image.need_keys_of(batch.references)
    segments = image.frames.read(batch.references)
    current: Reference | None = None
    segment = memoryview(b"")
    for item in batch.items:
        if isinstance(item, bytes):
            yield from blocks.record(item)
            continue
        reference, offset, length = item
        if reference is None:
            blocks.block(image_stream.hole(length))
            continue
        if reference is not current:
            current, segment = reference, next(segments)
        yield from blocks.data(segment[offset : offset + length])
