"""Fragment file of a pool: copy header, then trailer, with nothing between or behind.

Source: ``docs/reference/formats/trailer.md``, ``pool-folder.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from strongroom.core.ids import DomainId
from strongroom.formats import copy_header, signed, trailer
from strongroom.formats.algorithms import digest
from strongroom.formats.copy_header import COPY_HEADER, CheckedCopy
from strongroom.formats.errors import DamagedError
from strongroom.formats.signed import Signer, Verified
from strongroom.formats.trailer import TRAILER, Trailer

MAX_BYTES: Final = COPY_HEADER.max_bytes + TRAILER.max_bytes


@dataclass(frozen=True)
class Fragment(CheckedCopy):
    """A complete, checked fragment of a pool copy."""

    trailer: Verified[Trailer]


def encode(copy: bytes, signer: Signer) -> bytes:
    """Make the file of a pool copy: sign the trailer that follows from its copy header.

    Args:
        copy: the whole copy header, signed by the same domain.
        signer: an archive key of that domain.

    Raises:
        DamagedError: the copy header does not hold.
    """
    checked = copy_header.verify(copy)
    header = checked.copy.payload
    total, roots = _streams(checked)
    end = Trailer(
        domain=header.domain,
        medium=header.medium,
        image=header.image,
        copy=header.copy,
        fragment=header.fragment,
        copy_header=digest(copy),
        bytes=total,
        digest=roots,
        files=checked.image.payload.files,
        last=True,
        features=(),
    )
    return copy + signed.sign(TRAILER, end, signer)


def verify(data: bytes, *, pinned: DomainId | None = None) -> Fragment:
    """Check a fragment file.

    Args:
        data: the whole file; the caller reads no more than :data:`MAX_BYTES` and one byte.
        pinned: the domain that must have written it; ``None`` accepts any.

    Raises:
        DamagedError: cut, changed, malformed, or the parts do not belong together.
        SignatureError: a signature or a certificate does not hold.
        NewerFormatError: something in it is of a later version.
        ForeignError: authentic, and written by another domain than the pinned one.
    """
    cut = signed.length_at(COPY_HEADER, data)
    checked = copy_header.verify(data[:cut], pinned=pinned)
    end = signed.verify(TRAILER, data[cut:], pinned=checked.copy.signer)
    trailer.check_belongs(end.payload, checked.copy)
    said = end.payload
    if said.fragment != 1 or not said.last:
        raise DamagedError("a copy in a pool is one fragment, and this is not the first and last")
    if checked.copy.payload.journal_medium != said.medium:
        raise DamagedError("a copy in a pool names the journal of another medium")
    if checked.copy.payload.cipher != checked.image.payload.cipher:
        raise DamagedError("a copy in a pool has another cipher than its image")
    if (said.bytes, said.digest, said.files) != (*_streams(checked), checked.image.payload.files):
        raise DamagedError("the trailer does not say of the image what the headers say")
    return Fragment(checked.copy, checked.image, checked.hops, end)


def _streams(checked: CheckedCopy) -> tuple[int, bytes]:
    """Give length and digest of the streams that apply to a pool copy."""
    entries, payload = checked.streams
    return trailer.pool_bytes(entries, payload), trailer.pool_digest(entries, payload)
