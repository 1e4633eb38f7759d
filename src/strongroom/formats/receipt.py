"""Receipt: the word of a target domain that it holds an image.

Source: ``docs/reference/formats/receipt.md``.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from strongroom.formats.copy_header import MAX_TAGS
from strongroom.formats.errors import ForeignError
from strongroom.formats.hop import Hop
from strongroom.formats.records import (
    Bytes16,
    Bytes32,
    CopyNumber,
    Features,
    GivenPolicyName,
    Moment,
    Word,
    check_ascending,
    check_word,
)
from strongroom.formats.signed import Kind, Payload

SEALED: Final = "sealed"
READABLE: Final = "readable"
_STATES: Final = frozenset({SEALED, READABLE})


class Receipt(Payload, frozen=True, kw_only=True):
    """What the target holds. ``domain`` is the target."""

    receipt: Bytes16
    source: Bytes32
    sending: Bytes16
    origin: Bytes32
    image: Bytes16
    header: Bytes32
    medium: Bytes16
    copy: CopyNumber
    slp: GivenPolicyName
    received: Moment
    expires: Moment | None
    state: Word
    tags: Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=MAX_TAGS)]
    features: Features

    def __post_init__(self) -> None:
        check_word(self.state, _STATES, "state of a receipt")
        check_ascending(self.tags, "tags")


RECEIPT: Final = Kind(b"SRRCPT01", Receipt, 64 << 10, "receipt")


class ReceiptMismatchError(ForeignError):
    """An authentic receipt that does not answer the sending at hand."""

    code = "receipt.not-for-this-sending"
    default_hint = "the copy is not confirmed by it; look at both domains' jobs of this image"


def check_answers(receipt: Receipt, hop: Hop) -> None:
    """Check that a receipt answers a sending of ours.

    Args:
        receipt: the payload of a verified receipt.
        hop: our own hop, from our own catalog, never from the target.

    Raises:
        ReceiptMismatchError: it is of another target, source, sending or image; the message names the field.
    """
    pairs = {
        "domain": (receipt.domain, hop.to),
        "source": (receipt.source, hop.domain),
        "sending": (receipt.sending, hop.sending),
        "image": (receipt.image, hop.image),
        "origin": (receipt.origin, hop.origin),
        "header": (receipt.header, hop.header),
    }
    for name, (said, ours) in pairs.items():
        if said != ours:
            raise ReceiptMismatchError(f"the receipt says '{said.hex()}' as '{name}', and the sending '{ours.hex()}'")
