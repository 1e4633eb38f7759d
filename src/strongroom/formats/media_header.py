"""Media header: what a medium is, and whose. The first object of every medium, never encrypted.

Source: ``docs/reference/formats/media-header.md``.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from strongroom.formats.records import Bytes16, Features, Moment, Word, check_word
from strongroom.formats.signed import Kind, Payload

POOL: Final = "pool"
TAPE: Final = "tape"
_KINDS: Final = frozenset({POOL, TAPE})


class MediaHeader(Payload, frozen=True, kw_only=True):
    """Identity of a medium, and the domain that owns it."""

    medium: Bytes16
    kind: Word
    label: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    created: Moment
    features: Features

    def __post_init__(self) -> None:
        check_word(self.kind, _KINDS, "kind of medium")


MEDIA_HEADER: Final = Kind(b"SRMEDH01", MediaHeader, 16 << 10, "media header")
