"""Ed25519 public keys, read strictly.

Source: RFC 8032 section 5.1.3; ``docs/reference/formats/signed-object.md``, step 6. The library below takes
    encodings that are not canonical, and points of small order: under the latter, signatures that hold for
    any message can be made without a private key.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_FIELD: Final = 2**255 - 19
_ORDER_8_Y: Final = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
# The five y coordinates of the eight points whose order divides 8; the sign of x does not matter here. An
# encoding with x = 0 and its sign set, the only other one that is not canonical, has one of these too (1 or
# -1).
_SMALL_ORDER_Y: Final = frozenset({0, 1, _FIELD - 1, _ORDER_8_Y, _FIELD - _ORDER_8_Y})


def public_key(data: bytes) -> Ed25519PublicKey:
    """Read a public key.

    Raises:
        ValueError: not 32 bytes, not canonical, or of small order.
    """
    y = int.from_bytes(data, "little") & ((1 << 255) - 1)
    if y >= _FIELD or y in _SMALL_ORDER_Y:
        raise ValueError("the Ed25519 public key is not canonical or of small order")
    return Ed25519PublicKey.from_public_bytes(data)
