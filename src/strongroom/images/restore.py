"""A stored image as an image stream, for a client that restores it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from strongroom.core.errors import IntegrityError, NotFoundError, StrongroomError
from strongroom.core.ids import FrameId
from strongroom.formats import entries, image_stream
from strongroom.images.errors import EnvelopeMissingError
from strongroom.images.holes import Holes
from strongroom.images.selection import Selection
from strongroom.images.stored_files import LostSegment, Source, StoredFile
from strongroom.images.stored_image import StoredImage
from strongroom.pool.errors import PoolReadError
from strongroom.pool.references import Reference

_BATCH_BYTES: Final = 32 << 20
_BATCH_ITEMS: Final = 16_384
_PIECE_BYTES: Final = 256 << 10
_HOLE_BYTES: Final = 128
"""What a row of two numbers takes in memory."""

_Piece: TypeAlias = tuple[Source, int, int]


@dataclass
class _Batch:
    """What is read together: records, and the pieces of their contents in order."""

    items: list[bytes | _Piece | image_stream.Holes] = field(default_factory=list)
    references: list[Reference] = field(default_factory=list)
    held_bytes: int = 0

    @property
    def is_full(self) -> bool:
        return self.held_bytes >= _BATCH_BYTES or len(self.items) >= _BATCH_ITEMS

    def add_records(self, records: list[bytes]) -> None:
        self.items += records
        self.held_bytes += sum(map(len, records))

    def add_holes(self, found: list[tuple[int, int]]) -> None:
        self.items.append(image_stream.Holes(found))
        self.held_bytes += _HOLE_BYTES * len(found)

    def add_piece(self, piece: _Piece) -> None:
        self.items.append(piece)
        reference = piece[0]
        if isinstance(reference, Reference) and (not self.references or self.references[-1] is not reference):
            self.references.append(reference)
            self.held_bytes += reference.length


class _Blocks:
    """Gathers records, and the contents that belong to them, so that small files do not leave in crumbs.

    Records of many files come in one block before the contents of all of them. But none comes before the rest of
    contents whose record has left already, nor between a file's record and its holes.
    """

    def __init__(self) -> None:
        self._ready: list[bytes | memoryview] = [image_stream.MAGIC]
        self._records: list[bytes] = []
        self._record_bytes = 0
        self._contents: list[bytes | memoryview] = []  # blocks of contents, but for those of data at the end
        self._data: list[memoryview] = []
        self._data_bytes = 0
        self._content_bytes = 0
        self._is_full = False  # no other record may come before these contents

    def record(self, record: bytes) -> Iterator[bytes]:
        """Add a record."""
        is_behind = self._is_full or (self._content_bytes and not self._records)
        if is_behind or self._record_bytes + len(record) > _PIECE_BYTES:
            yield from self.flush()
        self._records.append(record)
        self._record_bytes += len(record)

    def data(self, data: memoryview) -> Iterator[bytes]:
        """Add contents, at most one segment."""
        if self._data_bytes + len(data) > image_stream.MAX_BLOCK_BYTES:
            self._end_data()
        self._data.append(data)
        self._data_bytes += len(data)
        self._content_bytes += len(data)
        if self._content_bytes >= _PIECE_BYTES:
            yield from self.flush()

    def block(self, block: bytes) -> None:
        """Add a small block of another type."""
        self._end_data()
        self._contents.append(block)
        self._content_bytes += len(block)

    def holes(self, found: list[tuple[int, int]]) -> None:
        """Tell the holes of the file whose record came last."""
        self.block(image_stream.holes(found))
        self._is_full = True

    def flush(self) -> Iterator[bytes]:
        """Give all that waits."""
        if self._records:
            self._ready += (image_stream.head(image_stream.ENTRIES, self._record_bytes), *self._records)
            self._records.clear()
            self._record_bytes = 0
        self._end_data()
        self._ready += self._contents
        self._contents.clear()
        self._content_bytes = 0
        self._is_full = False
        if self._ready:
            yield b"".join(self._ready)
            self._ready.clear()

    def _end_data(self) -> None:
        if self._data:
            self._contents += (image_stream.head(image_stream.DATA, self._data_bytes), *self._data)
            self._data.clear()
            self._data_bytes = 0


def restore_stream(
    image: StoredImage, selection: Selection | None = None, holes: Holes | None = None
) -> Iterator[bytes]:
    """Give an image as the blocks of an image stream: a record, then its contents.

    In place of contents that cannot be read stands a block that says so; all other files are given.

    When the first name of a file is not selected, the first of its other names that is becomes the file, and the links
    behind it name that one.

    Args:
        image: open for reading.
        selection: which files; all by default.
        holes: of the image's files, told in front of each file's contents.

    Yields:
        Pieces of at most some MiB.

    Raises:
        KeyUnavailableError: the KMS has no usable key.
        IntegrityError, NotFoundError, PoolReadError: the entries cannot be read whole; what came before is right.
    """
    blocks = _Blocks()
    files = content = 0
    batch = _Batch()
    for file in _selected(image, selection or Selection()):
        files += 1
        content += file.entry.size
        batch.add_records(_records_of(file))
        if holes is not None and (found := holes.of(file.number)):
            batch.add_holes(found)
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
        yield from image.readable_files()
        return
    heirs = _heirs(image, wanted)
    kept: dict[bytes, StoredFile] = {}
    for file in image.readable_files():
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
    for file in image.readable_files():
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
    try:
        image.need_keys_of(batch.references)
    except EnvelopeMissingError:
        pass  # it is told of each frame that needs it
    segments = _segments(image, batch.references)
    current: Source = None
    segment: memoryview | StrongroomError = memoryview(b"")
    for item in batch.items:
        if isinstance(item, bytes):
            yield from blocks.record(item)
            continue
        if isinstance(item, image_stream.Holes):
            blocks.holes(item.holes)
            continue
        source, offset, length = item
        if source is None:
            blocks.block(image_stream.hole(length))
            continue
        if isinstance(source, LostSegment):
            blocks.block(image_stream.lost(length, source.error.code, source.error.message))
            continue
        if source is not current:
            current, segment = source, next(segments)
        if isinstance(segment, StrongroomError):
            blocks.block(image_stream.lost(length, segment.code, segment.message))
        else:
            yield from blocks.data(segment[offset : offset + length])


def _segments(image: StoredImage, references: list[Reference]) -> Iterator[memoryview | StrongroomError]:
    """Give the segment of each reference, or why it cannot be read."""
    bad: dict[FrameId, StrongroomError] = {}
    done = 0
    while done < len(references):
        known = bad.get(references[done].frame_id)
        if known is not None:
            yield known
            done += 1
            continue
        try:
            for segment in image.frames.read(references[done:]):
                yield segment
                done += 1
        except (IntegrityError, NotFoundError, PoolReadError) as error:
            bad[references[done].frame_id] = error
