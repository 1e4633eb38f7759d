"""Algorithm ids: what a number in a format stands for.

Source: ``docs/reference/formats/conventions.md``. An id never gets a second meaning.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, TypeVar

from blake3 import blake3
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from strongroom.core.secret import Secret
from strongroom.formats.errors import NewerFormatError


class Signature(IntEnum):
    """Signature algorithms."""

    ED25519 = 1


class Digest(IntEnum):
    """Digest algorithms."""

    BLAKE3 = 1


class Cipher(IntEnum):
    """Authenticated ciphers."""

    NONE = 0
    AES_256_GCM = 1


class Compression(IntEnum):
    """Compressions of a frame."""

    NONE = 0
    ZSTANDARD = 1


class NameHash(IntEnum):
    """Keyed hashes that name segments."""

    BLAKE3_KEYED = 1


class PassPhraseDerivation(IntEnum):
    """Ways from a pass phrase to 32 bytes; the parameters belong to the id."""

    NONE = 0
    ARGON2ID_3_64M_4 = 1


class Chunker(IntEnum):
    """Content-defined chunkers; only writers need them."""

    FASTCDC_2020 = 1


NONCE_BYTES: Final = 12
GCM_TAG_BYTES: Final = 16
KEY_BYTES: Final = 32


E = TypeVar("E", bound=IntEnum)


def known(kind: type[E], number: int, what: str) -> E:
    """Give the algorithm that has this id.

    Raises:
        NewerFormatError: no algorithm that this program has; a later one may.
    """
    try:
        return kind(number)
    except ValueError as error:
        raise NewerFormatError(f"{what} {number} is not one that this program has") from error


def label(name: str) -> bytes:
    """Give the domain-separation label ``strongroom/NAME/v1`` and its zero byte."""
    return f"strongroom/{name}/v1".encode("ascii") + b"\0"


def digest(data: bytes | memoryview) -> bytes:
    """Compute digest algorithm 1, BLAKE3, 32 bytes."""
    return blake3(data).digest()


def derive(key: Secret, info: bytes, length: int = KEY_BYTES) -> Secret:
    """Derive a key by key derivation 1: HKDF-SHA-256 with an empty salt (RFC 5869)."""
    hkdf = HKDF(algorithm=hashes.SHA256(), length=length, salt=None, info=info)
    return Secret(hkdf.derive(key.reveal()))
