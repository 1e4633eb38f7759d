"""Key tags: 32 bytes that name a KMS key for ever, and what is derived from the key.

Source: ``docs/reference/formats/key-tag.md``. CRC-32C: RFC 3720, appendix B.4.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import google_crc32c

from strongroom.core.errors import InputError
from strongroom.core.ids import ImageId, KeyTag
from strongroom.core.secret import Secret
from strongroom.formats import passphrase
from strongroom.formats.algorithms import KEY_BYTES, derive, known, label
from strongroom.formats.errors import DamagedError, NewerFormatError

TAG_BYTES: Final = 32
CHECK_BYTES: Final = 8
UUID_BYTES: Final = 16
A_KAD_BYTES: Final = 12
VERSION: Final = 1

_BODY: Final = struct.Struct(">BB16s8s2s")
_CRC: Final = struct.Struct(">I")
_PASS_PHRASE_SALT: Final = b"strongroom/passphrase-key/v1"


class WrongKeyError(InputError):
    """The key, or the pass phrase it was made from, is not the one that the tag names."""

    code = "key.wrong"
    default_hint = "compare the tag with the recovery sheet, and type the pass phrase that stands with this very tag"


class KeyProfile(IntEnum):
    """How a KMS key was made."""

    RANDOM = 0
    PASS_PHRASE = 1


@dataclass(frozen=True)
class KeyTagFields:
    """What a key tag says: how the key was made, its 16-byte UUID, and its 8-byte check value."""

    profile: KeyProfile
    uuid: bytes
    check: bytes


def make(key: Secret, uuid: bytes, profile: KeyProfile) -> KeyTag:
    """Write the tag of a key.

    Args:
        key: the KMS key, 32 bytes.
        uuid: 16 random bytes, never used for another key.
        profile: how the key was made.
    """
    body = _BODY.pack(VERSION, profile, _checked(uuid, UUID_BYTES), check_value(key, uuid), bytes(2))
    return KeyTag(body + _CRC.pack(google_crc32c.value(body)))


def parse(tag: bytes) -> KeyTagFields:
    """Read a tag, as a drive, a header or an envelope gave it.

    Raises:
        DamagedError: not 32 bytes, its CRC is wrong, or bytes that must be zero are not.
        NewerFormatError: a version or a profile that this program does not know.
    """
    if len(tag) != TAG_BYTES:
        raise DamagedError(f"a key tag has {TAG_BYTES} bytes, this has {len(tag)}")
    version, profile, uuid, check, reserved = _BODY.unpack_from(tag)
    (crc,) = _CRC.unpack_from(tag, _BODY.size)
    if crc != google_crc32c.value(bytes(tag[: _BODY.size])):
        raise DamagedError(f"the check sum of the key tag '{tag.hex()}' is wrong")
    if version != VERSION:
        raise NewerFormatError(f"the key tag '{tag.hex()}' has version {version}, which this program does not have")
    made = known(KeyProfile, profile, "profile of the key tag")
    if reserved != bytes(2):
        raise DamagedError(f"the key tag '{tag.hex()}' has bytes that must be zero and are not")
    return KeyTagFields(made, uuid, check)


def check_value(key: Secret, uuid: bytes) -> bytes:
    """Compute the 8 bytes by which a wrong key or pass phrase is known without data."""
    return derive(_checked_key(key), label("kms-key/check") + _checked(uuid, UUID_BYTES), CHECK_BYTES).reveal()


def check_key(key: Secret, tag: KeyTag) -> None:
    """Make sure that a recovered or imported key is the one that the tag names.

    Raises:
        WrongKeyError: it is another key.
        DamagedError: this is not a tag.
        NewerFormatError: the tag is of a later version.
    """
    fields = parse(tag)
    if not hmac.compare_digest(check_value(key, fields.uuid), fields.check):
        raise WrongKeyError(f"this is not the key that the tag '{tag.hex()}' names")


def wrapping_key(key: Secret, tag: KeyTag) -> Secret:
    """Derive the key that wraps data keys in envelopes, 32 bytes."""
    return derive(_checked_key(key), label("kms-key/wrap") + parse(tag).uuid)


def drive_key(key: Secret, a_kad: bytes) -> Secret:
    """Derive the key that a tape drive gets for one cartridge, 32 bytes.

    Args:
        key: the KMS key.
        a_kad: the 12 bytes that the drive keeps as A-KAD with each block of the cartridge.
    """
    return derive(_checked_key(key), label("kms-key/drive") + _checked(a_kad, A_KAD_BYTES))


def tape_digest_key(key: Secret, image_id: ImageId) -> Secret:
    """Derive the key of the digest in the trailer of an encrypted tape fragment, 32 bytes."""
    return derive(_checked_key(key), label("kms-key/tape-digest") + _checked(image_id, UUID_BYTES))


def from_pass_phrase(phrase: Secret, uuid: bytes) -> Secret:
    """Make a KMS key from a pass phrase; slow on purpose (Argon2id), so never under a lock.

    Args:
        phrase: in the form that :func:`strongroom.formats.passphrase.normalise` gives.
        uuid: the UUID of the key's tag; no name, group or domain enters.
    """
    salt = hashlib.sha256(_PASS_PHRASE_SALT + _checked(uuid, UUID_BYTES)).digest()[: passphrase.SALT_BYTES]
    return passphrase.derive(phrase, salt)


def _checked(value: bytes, length: int) -> bytes:
    if len(value) != length:
        raise ValueError(f"{length} bytes are needed here, not {len(value)}")
    return value


def _checked_key(key: Secret) -> Secret:
    if len(key) != KEY_BYTES:
        raise ValueError(f"a KMS key has {KEY_BYTES} bytes, not {len(key)}")
    return key
