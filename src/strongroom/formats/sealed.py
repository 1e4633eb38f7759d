"""What the files that hold keys share: a clear head, and a body sealed by AES-256-GCM.

Source: ``docs/reference/formats/keystore.md``. The front of such a file (magic, length, head) is the
associated data of its body, so that no part can be exchanged.
"""

from __future__ import annotations

import struct
from typing import Final, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from strongroom.core.secret import Secret
from strongroom.formats import records
from strongroom.formats.algorithms import GCM_TAG_BYTES, Cipher, known
from strongroom.formats.errors import DamagedError
from strongroom.formats.magic import check_magic

MAGIC_BYTES: Final = 8
FRONT_BYTES: Final = MAGIC_BYTES + 4
"""Magic and length; the head follows."""
MAX_HEAD_BYTES: Final = 1_024
_U32: Final = struct.Struct(">I")

H = TypeVar("H")


def split_head(data: bytes, magic: bytes, what: str, max_bytes: int) -> tuple[bytes, bytes]:
    """Cut a file into its front (magic, length, head) and the rest.

    Raises:
        DamagedError: another file, longer than its bound, or cut short.
        NewerFormatError: the same kind of file with a higher version.
    """
    if len(data) > max_bytes:
        raise DamagedError(f"the {what} has {len(data)} bytes, more than its bound {max_bytes}")
    check_magic(data[:MAGIC_BYTES], magic, f"the {what}")
    if len(data) < MAGIC_BYTES + 4:
        raise DamagedError(f"the {what} is cut short")
    (length,) = _U32.unpack_from(data, MAGIC_BYTES)
    if length > MAX_HEAD_BYTES or len(data) < MAGIC_BYTES + 4 + length:
        raise DamagedError(f"the {what} is cut short, or its head too long")
    end = MAGIC_BYTES + 4 + length
    return data[:end], data[end:]


def write_front(magic: bytes, head: object) -> bytes:
    """Write magic, length and head: the associated data of the body."""
    encoded = records.encode(head)
    return magic + _U32.pack(len(encoded)) + encoded


def decode_head(front: bytes, kind: type[H], what: str) -> H:
    """Read the head in a front that :func:`split_head` cut.

    Raises:
        DamagedError: not a record, or not of this type.
    """
    return records.decode(front[FRONT_BYTES:], kind, max_bytes=MAX_HEAD_BYTES, what=what)


def check_cipher(cipher: int, what: str) -> None:
    """Make sure that a head names a cipher.

    Raises:
        NewerFormatError: one that this program does not have.
        DamagedError: none.
    """
    if known(Cipher, cipher, f"cipher of the {what}") is Cipher.NONE:
        raise DamagedError(f"the {what} says that it is not encrypted")


def seal(key: Secret, nonce: bytes, plain: bytes, bound: bytes) -> bytes:
    """Seal with cipher 1.

    Args:
        key: 32 bytes.
        nonce: 12 bytes, never used before under this key.
        plain: what to seal.
        bound: what is authenticated with it.
    """
    return AESGCM(key.reveal()).encrypt(nonce, plain, bound)


def open_sealed(key: Secret, nonce: bytes, sealed: bytes, bound: bytes, what: str) -> bytes:
    """Open what :func:`seal` made.

    Raises:
        DamagedError: cut short, or it does not authenticate.
    """
    if len(sealed) < GCM_TAG_BYTES:
        raise DamagedError(f"the {what} is cut short")
    try:
        return AESGCM(key.reveal()).decrypt(nonce, sealed, bound)
    except InvalidTag as error:
        raise DamagedError(f"the {what} does not authenticate: it was changed after it was written") from error
