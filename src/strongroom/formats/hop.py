"""Hop: one sending of an image from one domain to another, signed by the sender.

Source: ``docs/reference/formats/hop.md``; the chain: ``copy-header.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from strongroom.core.ids import DIGEST_BYTES, DomainId, to_text
from strongroom.formats import signed
from strongroom.formats.algorithms import digest
from strongroom.formats.errors import DamagedError
from strongroom.formats.image_header import ImageHeader, header_digest
from strongroom.formats.records import Bytes16, Bytes32, Features, GivenPolicyName, Moment, RetentionSeconds
from strongroom.formats.signed import Kind, Payload, Verified

MAX_HOPS: Final = 16
NO_HOP: Final = bytes(DIGEST_BYTES)
"""``previous`` of the first hop."""


class Hop(Payload, frozen=True, kw_only=True):
    """One sending. ``domain`` is the sender."""

    to: Bytes32
    image: Bytes16
    origin: Bytes32
    header: Bytes32
    sending: Bytes16
    slp: GivenPolicyName
    retention: RetentionSeconds | None
    at: Moment
    previous: Bytes32
    features: Features


HOP: Final = Kind(b"SRHOPR01", Hop, 2 << 10, "hop")


def hop_digest(data: bytes) -> bytes:
    """Compute what the next hop names as ``previous``, 32 bytes; :data:`NO_HOP` stands before the first."""
    return digest(data)


def verify_chain(hops: Sequence[bytes], image: Verified[ImageHeader], holder: DomainId) -> tuple[Verified[Hop], ...]:
    """Check that hops lead one image from its origin to the domain that holds it.

    Args:
        hops: whole hop objects, oldest first; none when the holder is the origin.
        image: the image header that the holder has.
        holder: where the last hop must lead.

    Raises:
        DamagedError: a hop is not valid by itself, is of another image, or does not follow the one before it.
        NewerFormatError: a hop is of a later version.
    """
    if holder == image.signer:
        if hops:
            raise DamagedError("a copy in the domain that made the image has hops")
        return ()
    chain = tuple(signed.verify(HOP, data) for data in hops)
    expected = header_digest(image.data)
    sender, previous = image.signer, NO_HOP
    senders: set[bytes] = set()
    for number, hop in enumerate(chain, start=1):
        said = hop.payload
        if (said.image, said.origin, said.header) != (image.payload.image, image.signer, expected):
            raise DamagedError(f"hop {number} is of another image than the header beside it")
        if said.domain != sender:
            raise DamagedError(f"hop {number} was sent by {to_text(said.domain)}, not by {to_text(sender)}")
        if said.previous != previous:
            raise DamagedError(f"hop {number} does not name the hop before it")
        if said.domain in senders:
            raise DamagedError(f"the domain {to_text(said.domain)} sent the image twice")
        senders.add(said.domain)
        sender, previous = DomainId(said.to), hop_digest(hop.data)
    if holder in senders:
        raise DamagedError("the image returned to the domain that holds it, and the hops before that are not cut")
    if sender != holder:
        raise DamagedError(f"the hops lead to the domain {to_text(sender)}, not to {to_text(holder)}")
    return chain
