"""Any range of a file's contents, from a stored image: only what holds it is read and decrypted."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from typing import Final, NamedTuple

from strongroom.formats import entries
from strongroom.formats.entries import Extent, MoreExtents
from strongroom.images.errors import BrokenImageError
from strongroom.images.stored_image import StoredImage
from strongroom.images.tree import ImageTree, Node, Used
from strongroom.pool.references import Reference
from strongroom.pool.seek import SeekableStream

_MAPS: Final = 64
_PARTS: Final = 8


class _Part(NamedTuple):
    """The extents of one record: where in the file they begin, where the record stands, references used before it.

    ``at`` is ``None`` for those in the record of the file itself.
    """

    offset: int
    at: int | None
    used: Used


class _Piece(NamedTuple):
    """An extent with its reference, and where in the file it begins."""

    offset: int
    reference: Reference | None
    begin: int
    length: int


class Ranges:
    """Reads ranges; may be shared by threads. Of a file, one place in 4,096 extents is remembered.

    Args:
        image: open for reading.
        tree: of the same image.
    """

    def __init__(self, image: StoredImage, tree: ImageTree) -> None:
        self._image = image
        self._tree = tree
        self._payload = SeekableStream(image.roots.payload, image.pages.page, is_encrypted=image.is_encrypted)
        self._maps: OrderedDict[bytes, list[_Part]] = OrderedDict()
        self._resolved: OrderedDict[tuple[bytes, int], list[_Piece]] = OrderedDict()

    def read(self, node: Node, offset: int, length: int) -> bytes:
        """Give bytes of a file.

        Args:
            node: a regular file.
            offset: of the first.
            length: how many; fewer come at the end of the file.

        Raises:
            KeyUnavailableError: the KMS has no usable key.
            IntegrityError, NotFoundError, PoolReadError: that part of the image cannot be read.
        """
        end = min(offset + length, node.entry.size)
        if offset >= end:
            return b""
        with self._tree.lock:
            wanted = self._pieces(node, offset, end)
        references = [piece.reference for piece in wanted if piece.reference is not None]
        self._image.need_keys_of(references)
        segments = self._image.frames.read(references)
        found: list[bytes | memoryview] = []
        for piece in wanted:
            first, last = max(offset - piece.offset, 0), min(end - piece.offset, piece.length)
            if piece.reference is None:
                found.append(bytes(last - first))
            else:
                found.append(next(segments)[piece.begin + first : piece.begin + last])
        return b"".join(found)

    def _pieces(self, node: Node, offset: int, end: int) -> list[_Piece]:
        parts = self._map(node)
        number = bisect_right(parts, offset, key=lambda part: part.offset) - 1
        found: list[_Piece] = []
        while number < len(parts) and parts[number].offset < end:
            pieces = self._resolve(node, parts[number])
            first = bisect_right(pieces, offset, key=lambda piece: piece.offset) - 1
            for piece in pieces[max(first, 0) :]:
                if piece.offset >= end:
                    break
                if piece.offset + piece.length > offset:
                    found.append(piece)
            number += 1
        return found

    def _map(self, node: Node) -> list[_Part]:
        """Tell where the extents of a file stand."""
        path = node.entry.path
        parts = self._maps.get(path)
        if parts is not None:
            self._maps.move_to_end(path)
            return parts
        parts = [_Part(0, None, node.used)]
        used, offset = node.used.with_extents(node.entry.extents), _length(node.entry.extents)
        if node.entry.flags & entries.EXTENTS_FOLLOW:
            for at, _, record in self._tree.records(node.behind):
                if isinstance(record, MoreExtents):
                    parts.append(_Part(offset, at, used))
                    used, offset = used.with_extents(record.extents), offset + _length(record.extents)
                elif not isinstance(record, entries.MoreAttributes):
                    break
        if offset != node.entry.size:
            raise BrokenImageError(f"extents of {offset} bytes stand for the {node.entry.size} bytes of a file")
        self._maps[path] = parts
        if len(self._maps) > _MAPS:
            self._maps.popitem(last=False)
        return parts

    def _resolve(self, node: Node, part: _Part) -> list[_Piece]:
        """Find the references of the extents of one record."""
        key = node.entry.path, part.offset
        found = self._resolved.get(key)
        if found is not None:
            self._resolved.move_to_end(key)
            return found
        extents = node.entry.extents
        if part.at is not None:
            _, _, record = next(self._tree.records(part.at))
            extents = record.extents if isinstance(record, MoreExtents) else []
        first = next((name for name, _, _ in extents if name is not None), None)
        goes_on = first is not None and first == part.used.last
        references = self._payload.from_number(part.used.references - goes_on)
        found = []
        current: Reference | None = None
        offset = part.offset
        for name, begin, length in extents:
            if name is not None and (current is None or current.name != name):
                current = next(references, None)
            if name is not None and (current is None or current.name != name or begin + length > current.length):
                raise BrokenImageError("an extent is not in the next segment of the payload")
            found.append(_Piece(offset, current if name is not None else None, begin, length))
            offset += length
        self._resolved[key] = found
        if len(self._resolved) > _PARTS:
            self._resolved.popitem(last=False)
        return found


def _length(extents: list[Extent]) -> int:
    return sum(length for _, _, length in extents)
