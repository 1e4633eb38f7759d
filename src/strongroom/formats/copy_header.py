"""Copy header: where one fragment of one copy lies, how long it is kept, and which keys it needs.

Source: ``docs/reference/formats/copy-header.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from strongroom.core.ids import DIGEST_BYTES, DomainId
from strongroom.formats import signed
from strongroom.formats.algorithms import Cipher, known
from strongroom.formats.errors import DamagedError
from strongroom.formats.hop import HOP, MAX_HOPS, Hop, verify_chain
from strongroom.formats.image_header import IMAGE_HEADER, ImageHeader, Stream
from strongroom.formats.records import (
    Bytes16,
    Bytes32,
    CopyNumber,
    Count,
    Features,
    Incarnation,
    Moment,
    check_ascending,
)
from strongroom.formats.signed import Kind, Payload, Verified

MAX_TAGS: Final = 1_024
MAX_KEY_PAGES: Final = 64
MAX_FRAGMENTS: Final = 4_097
NO_TRAILER: Final = bytes(DIGEST_BYTES)
"""``previous`` of fragment 1."""


class CopyHeader(Payload, frozen=True, kw_only=True):
    """The backup header of one fragment. ``domain`` wrote the copy, and need not be the origin."""

    medium: Bytes16
    image: Bytes16
    copy: CopyNumber
    fragment: Annotated[int, msgspec.Meta(ge=1, le=MAX_FRAGMENTS)]
    written: Moment
    expires: Moment | None
    encrypted: bool
    cipher: int
    incarnation: Incarnation
    slp: Annotated[str, msgspec.Meta(max_length=448)]
    slp_version: Count
    from_copy: Annotated[int, msgspec.Meta(ge=0, lt=1 << 16)]
    tags: Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=MAX_TAGS)]
    key_pages: Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=MAX_KEY_PAGES)]
    entries: Stream | None
    payload: Stream | None
    journal: Count
    journal_medium: Bytes16
    previous: Bytes32
    earlier: Annotated[tuple[Bytes16, ...], msgspec.Meta(max_length=MAX_FRAGMENTS - 1)]
    hops: Annotated[
        tuple[Annotated[bytes, msgspec.Meta(max_length=HOP.max_bytes)], ...],
        msgspec.Meta(max_length=MAX_HOPS),
    ]
    header: Annotated[bytes, msgspec.Meta(max_length=67_600)]
    features: Features

    def __post_init__(self) -> None:
        if self.encrypted != (known(Cipher, self.cipher, "cipher") is not Cipher.NONE):
            raise ValueError("a copy has a cipher exactly when it is encrypted")
        if self.encrypted != bool(self.tags) or (self.key_pages and not self.encrypted):
            raise ValueError("a copy names key tags exactly when it is encrypted, and key pages only then")
        if (self.entries is None) != (self.payload is None):
            raise ValueError("a copy has both streams of its own or none")
        if len(self.earlier) != self.fragment - 1:
            raise ValueError("a fragment names the media of exactly the fragments before it")
        if (self.fragment == 1) != (self.previous == NO_TRAILER):
            raise ValueError("a fragment names the trailer before it exactly when it is not the first")
        check_ascending(self.tags, "tags")


COPY_HEADER: Final = Kind(b"SRCPYH01", CopyHeader, 512 << 10, "copy header")


@dataclass(frozen=True)
class CheckedCopy:
    """A copy header that was checked through and through, with what it embeds."""

    copy: Verified[CopyHeader]
    image: Verified[ImageHeader]
    hops: tuple[Verified[Hop], ...]

    @property
    def streams(self) -> tuple[Stream, Stream]:
        """The streams *entries* and *payload* that apply to this copy.

        Raises:
            DamagedError: no header names any, so this cannot be a copy in a pool.
        """
        for header in (self.copy.payload, self.image.payload):
            if header.entries is not None and header.payload is not None:
                return header.entries, header.payload
        raise DamagedError("neither the copy header nor the image header names streams")


def verify(data: bytes, *, pinned: DomainId | None = None) -> CheckedCopy:
    """Check a copy header, the image header in it, and how the image came to the domain that wrote the copy.

    Args:
        data: the whole object and nothing behind it.
        pinned: the domain that must have written the copy; ``None`` accepts any.

    Raises:
        DamagedError: cut, changed, malformed, or the parts do not belong together.
        SignatureError: a signature or a certificate does not hold.
        NewerFormatError: something in it is of a later version.
        ForeignError: authentic, and written by another domain than the pinned one.
    """
    copy = signed.verify(COPY_HEADER, data, pinned=pinned)
    image = signed.verify(IMAGE_HEADER, copy.payload.header)
    if image.payload.image != copy.payload.image:
        raise DamagedError("the copy header embeds the header of another image")
    return CheckedCopy(copy, image, verify_chain(copy.payload.hops, image, copy.signer))
