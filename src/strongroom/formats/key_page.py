"""Key pages: which key envelopes a copy needs, content-addressed like manifest pages.

Source: ``docs/reference/formats/key-page.md``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from strongroom.core.ids import UUID_BYTES, EnvelopeId, PageId
from strongroom.formats.algorithms import Digest, digest, known
from strongroom.formats.errors import DamagedError
from strongroom.formats.magic import check_magic
from strongroom.formats.segment import Buffer

MAGIC: Final = b"SRK1"
FIXED_BYTES: Final = 16
MAX_ENVELOPES: Final = 16_000
MAX_PAGE_BYTES: Final = FIXED_BYTES + UUID_BYTES * MAX_ENVELOPES

_FIXED: Final = struct.Struct(">4sBB2sII")


def encode(envelopes: Sequence[EnvelopeId]) -> bytes:
    """Write a key page of 1 to 16,000 envelope ids, ascending."""
    return _FIXED.pack(MAGIC, 0, Digest.BLAKE3, bytes(2), len(envelopes), 0) + b"".join(envelopes)


def length_at(fixed: Buffer, what: str = "key page") -> int:
    """Tell a key page's whole length from its first 16 bytes, bounds checked.

    Raises:
        DamagedError: not a key page, or a count over its bound.
        NewerFormatError: a later version or an unknown algorithm.
    """
    if len(fixed) < FIXED_BYTES:
        raise DamagedError(f"{what} is cut short")
    magic, zero, digest_id, zeros, count, last = _FIXED.unpack_from(fixed)
    check_magic(magic, MAGIC, what)
    known(Digest, digest_id, f"digest algorithm of {what}")
    if zero or zeros != bytes(2) or last or not 1 <= count <= MAX_ENVELOPES:
        raise DamagedError(f"{what} has a reserved byte that is not zero, or claims {count} envelopes")
    return FIXED_BYTES + UUID_BYTES * int(count)


def decode(page: Buffer, expected: PageId) -> tuple[EnvelopeId, ...]:
    """Verify a key page by its id and give its envelope ids.

    Raises:
        DamagedError: the digest is not the id, or a rule of the page is broken.
        NewerFormatError: a later version or an unknown algorithm.
    """
    what = f"key page '{expected.hex()}'"
    if len(page) > MAX_PAGE_BYTES:
        raise DamagedError(f"{what} has {len(page)} bytes, more than the {MAX_PAGE_BYTES} that are allowed")
    if digest(memoryview(page)) != expected:
        raise DamagedError(f"{what} has another digest")
    if length_at(page, what) != len(page):
        raise DamagedError(f"{what} has not the length that its count says")
    data = bytes(page)
    envelopes = tuple(EnvelopeId(data[at : at + UUID_BYTES]) for at in range(FIXED_BYTES, len(data), UUID_BYTES))
    if any(one >= following for one, following in pairwise(envelopes)):
        raise DamagedError(f"{what} has ids that do not ascend")
    return envelopes
