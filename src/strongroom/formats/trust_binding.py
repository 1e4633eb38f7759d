"""Trust binding: a domain signs that this certificate request, to that domain, is its own.

The statement of a domain is public, so a token and a statement alone would let whoever found the token pass for any
domain. Source: ``docs/reference/protocols/peer.md``, section *Trust binding*.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from strongroom.formats.records import Bytes16, Bytes32, Features, Moment
from strongroom.formats.signed import Kind, Payload


class TrustBinding(Payload, frozen=True, kw_only=True):
    """What a request for trust is bound to; ``domain`` is the one that asks."""

    to: Bytes32
    nonce: Bytes16
    host: Bytes16
    number: Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]
    request: Bytes32
    issued: Moment
    features: Features


TRUST_BINDING: Final = Kind(b"SRTRSB01", TrustBinding, 2 << 10, "trust binding")
