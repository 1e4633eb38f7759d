"""Segments: pieces of a stream, named by a keyed hash.

Source: ``docs/reference/formats/segment.md``. Names are made by writers only: a reader trusts the frame that
holds a segment and the manifest that names the frame.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple, TypeAlias

from blake3 import blake3

from strongroom.core.ids import MediumId, SegmentName
from strongroom.core.secret import Secret
from strongroom.formats.algorithms import derive, label

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Contiguous bytes, read only for whoever receives them."""

MAX_SEGMENT_BYTES: Final = 4 << 20
NAME_BYTES: Final = 32

CHUNK_NORMALIZATION: Final = 2


class ChunkSizes(NamedTuple):
    """Lengths of a stream's segments, in bytes."""

    minimum: int
    average: int
    maximum: int


PAYLOAD_CHUNKS: Final = ChunkSizes(32 << 10, 128 << 10, 512 << 10)
ENTRIES_CHUNKS: Final = ChunkSizes(1 << 10, 4 << 10, 32 << 10)
"""Small, so that a changed file makes only the records around it new."""


class SegmentNamer:
    """Names segments under one naming key; may be shared by threads.

    Args:
        key: naming key of the key group and pool, 32 bytes, or that of :func:`clear_naming_key`.
    """

    def __init__(self, key: Secret) -> None:
        self._keyed = blake3(key=key.reveal())
        self._marking = blake3(key=derive(key, label("container-mark")).reveal())

    def name(self, segment: Buffer) -> SegmentName:
        """Compute the name of a segment; releases the interpreter lock for all but small ones."""
        hasher = self._keyed.copy()
        hasher.update(segment)
        return SegmentName(hasher.digest())

    def mark(self, digest: bytes) -> bytes:
        """Compute the mark of a container from the digest of its header and footer (``container.md``)."""
        hasher = self._marking.copy()
        hasher.update(digest)
        return hasher.digest()


def clear_naming_key(medium: MediumId) -> Secret:
    """Derive the naming key of images that are not encrypted: no secret, anyone can compute it."""
    return Secret(hashlib.sha256(label("clear-names") + medium).digest())
