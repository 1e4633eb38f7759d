"""Trailer: what is known only at the end of a fragment. Without it the fragment is incomplete.

Source: ``docs/reference/formats/trailer.md``.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from strongroom.formats.algorithms import digest
from strongroom.formats.copy_header import MAX_FRAGMENTS, CopyHeader
from strongroom.formats.errors import DamagedError
from strongroom.formats.image_header import Stream
from strongroom.formats.records import Bytes16, Bytes32, CopyNumber, Count, Features, StreamBytes
from strongroom.formats.signed import Kind, Payload, Verified


class Trailer(Payload, frozen=True, kw_only=True):
    """End of one fragment. ``domain`` wrote the copy."""

    medium: Bytes16
    image: Bytes16
    copy: CopyNumber
    fragment: Annotated[int, msgspec.Meta(ge=1, le=MAX_FRAGMENTS)]
    copy_header: Bytes32
    bytes: StreamBytes
    digest: Bytes32
    files: Count
    last: bool
    features: Features


TRAILER: Final = Kind(b"SRTRLR01", Trailer, 16 << 10, "trailer")


def check_belongs(trailer: Trailer, header: Verified[CopyHeader]) -> None:
    """Check that a trailer ends the fragment that a copy header began.

    Raises:
        DamagedError: it is of another fragment, copy, image, medium or domain, or of another attempt.
    """
    for field in ("domain", "medium", "image", "copy", "fragment"):
        if getattr(trailer, field) != getattr(header.payload, field):
            raise DamagedError(f"the trailer has another '{field}' than the copy header")
    if trailer.copy_header != digest(header.data):
        raise DamagedError("the trailer names another 'copy_header' than the one before it")


def pool_digest(entries: Stream, payload: Stream) -> bytes:
    """Compute the digest that the trailer of a pool copy carries: over both root page ids, 32 bytes."""
    return digest(entries.root + payload.root)


def pool_bytes(entries: Stream, payload: Stream) -> int:
    """Compute the length that the trailer of a pool copy carries: both streams together."""
    return entries.bytes + payload.bytes
