"""Identities: fixed-length byte strings that are never reused. Names are labels and may repeat or change.

Each is a ``NewType`` of ``bytes``, so that a segment's name cannot be passed for a frame's id. The text form
of all of them is lower-case hexadecimal, except the 16-byte ones, which are written as UUIDs.
"""

from __future__ import annotations

import uuid
from typing import NewType

DomainId = NewType("DomainId", bytes)
"""32 bytes: hash of the domain's root public key."""
HostId = NewType("HostId", bytes)
"""16 bytes, given by the primary at enrolment."""
ImageId = NewType("ImageId", bytes)
"""16 bytes: hash of the origin's domain id and a random salt; one backup, whatever its copies."""
MediumId = NewType("MediumId", bytes)
"""16 bytes, random; a pool or a tape."""
ContainerId = NewType("ContainerId", bytes)
"""16 bytes, random."""
DataKeyId = NewType("DataKeyId", bytes)
"""16 bytes, derived from the data key, which it names for ever."""
EnvelopeId = NewType("EnvelopeId", bytes)
"""16 bytes, random; names a batch of data keys through all its generations."""
KeyGroupId = NewType("KeyGroupId", bytes)
"""16 bytes, random."""
SegmentName = NewType("SegmentName", bytes)
"""32 bytes: keyed hash of a segment's content."""
FrameId = NewType("FrameId", bytes)
"""32 bytes: digest of a frame's whole stored form."""
PageId = NewType("PageId", bytes)
"""32 bytes: digest of a manifest page's whole stored form."""
KeyTag = NewType("KeyTag", bytes)
"""32 bytes: what an LTO drive stores as U-KAD; names one KMS key."""

UUID_BYTES = 16
DIGEST_BYTES = 32


def to_text(identity: bytes) -> str:
    """Write an identity for people: a UUID when it has 16 bytes, hexadecimal otherwise."""
    if len(identity) == UUID_BYTES:
        return str(uuid.UUID(bytes=identity))
    return identity.hex()


def from_text(text: str) -> bytes:
    """Read what :func:`to_text` wrote.

    Raises:
        ValueError: neither a UUID nor hexadecimal of 32 bytes.
    """
    compact = text.replace("-", "")
    value = bytes.fromhex(compact)
    if len(value) not in (UUID_BYTES, DIGEST_BYTES):
        raise ValueError(f"{text!r} is not an identity")
    return value
