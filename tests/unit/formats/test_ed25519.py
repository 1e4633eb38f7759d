"""The table of small points is right by arithmetic, not by belief."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from strongroom.formats import ed25519

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int]


def add(a: Point, b: Point) -> Point:
    """Addition on the curve -x² + y² = 1 + d x² y² (RFC 8032 section 5.1.4, affine)."""
    (x1, y1), (x2, y2) = a, b
    product = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, P) % P
    y = (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P
    return x, y


def point_at(y: int) -> Point | None:
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    for root in (x, x * pow(2, (P - 1) // 4, P) % P):
        if root * root % P == square:
            return root, y
    return None


def encodings(y: int) -> list[bytes]:
    return [(y | sign << 255).to_bytes(32, "little") for sign in (0, 1)]


def test_every_point_of_small_order_is_refused() -> None:
    small = set()
    for y in ed25519._SMALL_ORDER_Y:
        point = point_at(y)
        assert point is not None
        eightfold = point
        for _ in range(3):
            eightfold = add(eightfold, eightfold)
        assert eightfold == (0, 1)
        small |= {point, (-point[0] % P, y)}
        for data in encodings(y):
            with pytest.raises(ValueError, match="small order"):
                ed25519.public_key(data)
    assert len(small) == 8  # the curve has cofactor 8, so these are all


def test_the_library_below_takes_what_is_refused_here() -> None:
    # If this ever fails, the library has become strict, and the module under test may go.
    anyones = (1).to_bytes(32, "little") + bytes(32)
    Ed25519PublicKey.from_public_bytes((P + 1).to_bytes(32, "little")).verify(anyones, b"any message")


@pytest.mark.parametrize("y", [P, P + 1, P + 18, 2**255 - 1])
def test_a_key_that_is_not_canonical_is_refused(y: int) -> None:
    for data in encodings(y):
        with pytest.raises(ValueError, match="not canonical"):
            ed25519.public_key(data)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # whose words they are does not matter
        ed25519.public_key(b"\x05" * length)


def test_an_ordinary_key_is_read() -> None:
    data = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")  # RFC 8032, 7.1
    assert ed25519.public_key(data).public_bytes_raw() == data
