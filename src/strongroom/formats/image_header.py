"""Image header: what an image is, said once by the domain that made the backup, and never changed.

Source: ``docs/reference/formats/image-header.md``.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Final

import msgspec

from strongroom.core.ids import UUID_BYTES, DomainId, ImageId
from strongroom.formats.algorithms import Cipher, Digest, digest, known, label
from strongroom.formats.records import (
    Bytes16,
    Bytes32,
    Count,
    Features,
    Moment,
    PolicyName,
    RetentionSeconds,
    StreamBytes,
    Word,
    check_word,
)
from strongroom.formats.signed import Kind, Payload

FULL: Final = "full"
_KINDS: Final = frozenset({FULL})
NO_KEY_GROUP: Final = bytes(UUID_BYTES)
_ID_LABEL: Final = label("image-id")


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two streams of an image: the root of its manifest, and what is below.

    ``chunker`` is id, minimum, average and maximum length of a segment; readers do not need it.
    """

    root: Bytes32
    segments: Count
    bytes: StreamBytes
    chunker: tuple[Count, Count, Count, Count]


class ImageHeader(Payload, frozen=True, kw_only=True):
    """One backup, as its origin made it. ``domain`` is the origin."""

    image: Bytes16
    salt: Bytes16
    backup_id: Annotated[str, msgspec.Meta(max_length=300)]
    client: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    client_host: Bytes16
    policy: Annotated[str, msgspec.Meta(max_length=128)]
    schedule: Annotated[str, msgspec.Meta(max_length=128)]
    kind: Word
    started: Moment
    ended: Moment
    slp: PolicyName
    slp_version: Count
    data_class: Annotated[str, msgspec.Meta(max_length=64)]
    retention: RetentionSeconds | None
    key_group: Bytes16
    cipher: int
    digest: int
    entries: Stream | None
    payload: Stream | None
    files: Count
    content: Count
    problems: Count
    features: Features

    def __post_init__(self) -> None:
        check_word(self.kind, _KINDS, "kind of backup")
        encrypted = known(Cipher, self.cipher, "cipher") is not Cipher.NONE
        if encrypted != (self.key_group != NO_KEY_GROUP):
            raise ValueError("an image has a key group exactly when it is encrypted")
        known(Digest, self.digest, "digest algorithm")
        if (self.entries is None) != (self.payload is None):
            raise ValueError("an image has both streams or none")
        if self.image != image_id_of(DomainId(self.domain), self.salt):
            raise ValueError("the identity of the image does not follow from domain and salt")


IMAGE_HEADER: Final = Kind(b"SRIMGH01", ImageHeader, 64 << 10, "image header")


def image_id_of(domain: DomainId, salt: bytes) -> ImageId:
    """Compute the identity of an image from its origin and 16 random bytes.

    So no domain can make an image that has the identity of another domain's.
    """
    return ImageId(hashlib.sha256(_ID_LABEL + domain + salt).digest()[:UUID_BYTES])


def header_digest(data: bytes) -> bytes:
    """Compute the digest of an image header: of the whole signed object, 32 bytes."""
    return digest(data)
