"""Key envelope: a batch of data keys, each wrapped by one KMS key.

Source: ``docs/reference/formats/key-envelope.md``.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from strongroom.core.errors import IntegrityError
from strongroom.core.ids import UUID_BYTES, DataKeyId, to_text
from strongroom.core.secret import Secret
from strongroom.formats.algorithms import Cipher, derive, known, label
from strongroom.formats.records import (
    Bytes12,
    Bytes16,
    Bytes32,
    Bytes48,
    Features,
    Incarnation,
    Moment,
    Number,
    check_ascending,
)
from strongroom.formats.signed import Kind, Payload

MAX_KEYS: Final = 1_024
NO_MEDIUM: Final = bytes(UUID_BYTES)
_WRAP_LABEL: Final = label("envelope-wrap")
_ID_LABEL: Final = label("data-key/id")
_FRAME_LABEL: Final = label("data-key/frame")
_COMMIT_LABEL: Final = label("data-key/commit")


class Purpose(IntEnum):
    """What a data key is for."""

    FRAMES = 1
    NAMES = 2


class WrongWrappingKeyError(IntegrityError):
    """A wrapped data key does not open under the KMS key that was given."""

    code = "envelope.wrong-key"
    default_hint = "check that the KMS key is the one of the envelope's key tag"


class CommitmentError(IntegrityError):
    """A data key opened, and is not the one that the envelope committed to."""

    code = "envelope.bad-commitment"
    default_hint = "do not use this envelope: whoever made it tried to give one name to two keys"


class WrappedKey(msgspec.Struct, frozen=True, kw_only=True):
    """One data key, wrapped."""

    key: Bytes16
    purpose: int
    medium: Bytes16
    commitment: Bytes32
    nonce: Bytes12
    wrapped: Bytes48

    def __post_init__(self) -> None:
        names = known(Purpose, self.purpose, "purpose of a data key") is Purpose.NAMES
        if names != (self.medium != NO_MEDIUM):
            raise ValueError("a data key has a medium exactly when it names segments")


class KeyEnvelope(Payload, frozen=True, kw_only=True):
    """A batch of data keys. ``domain`` is the one whose KMS wraps, ``origin`` the one whose KMS made them."""

    incarnation: Incarnation
    origin: Bytes32
    envelope: Bytes16
    generation: Number
    group: Bytes16
    created: Moment
    tag: Bytes32
    cipher: int
    keys: Annotated[tuple[WrappedKey, ...], msgspec.Meta(min_length=1, max_length=MAX_KEYS)]
    features: Features

    def __post_init__(self) -> None:
        if known(Cipher, self.cipher, "cipher") is Cipher.NONE:
            raise ValueError("wraps are encrypted")
        check_ascending([item.key for item in self.keys], "keys")


KEY_ENVELOPE: Final = Kind(b"SRENVL01", KeyEnvelope, 1 << 20, "key envelope")


class WrapContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a wrap is bound to, besides the data key's own row."""

    domain: Bytes32
    origin: Bytes32
    envelope: Bytes16
    group: Bytes16
    tag: Bytes32

    @classmethod
    def of(cls, envelope: KeyEnvelope) -> WrapContext:
        """Give the context of the wraps of an envelope."""
        return cls(
            domain=envelope.domain,
            origin=envelope.origin,
            envelope=envelope.envelope,
            group=envelope.group,
            tag=envelope.tag,
        )

    def associated_data(self, key: bytes, purpose: int, medium: bytes) -> bytes:
        """Give the associated data of one wrap."""
        return b"".join(
            (_WRAP_LABEL, self.domain, self.origin, self.envelope, key, bytes((purpose,)), medium, self.group, self.tag)
        )


def wrap(
    data_key: Secret,
    *,
    wrapping_key: Secret,
    context: WrapContext,
    nonce: bytes,
    purpose: Purpose = Purpose.FRAMES,
    medium: bytes = NO_MEDIUM,
) -> WrappedKey:
    """Wrap one data key.

    Args:
        data_key: 32 bytes.
        wrapping_key: 32 bytes, derived from the KMS key (``docs/reference/formats/key-tag.md``).
        context: where the wrap will lie.
        nonce: 12 random bytes, of this wrap alone.
        purpose: what the data key is for.
        medium: the pool, for segment names; zeros for frames.
    """
    key = data_key_id(data_key)
    bound = context.associated_data(key, purpose, medium)
    return WrappedKey(
        key=key,
        purpose=purpose,
        medium=medium,
        commitment=commitment(data_key),
        nonce=nonce,
        wrapped=AESGCM(wrapping_key.reveal()).encrypt(nonce, data_key.reveal(), bound),
    )


def unwrap(row: WrappedKey, *, wrapping_key: Secret, context: WrapContext) -> Secret:
    """Recover one data key.

    Args:
        row: as it stands in the envelope.
        wrapping_key: 32 bytes, derived from the KMS key that the envelope's tag names.
        context: of the envelope in which the row stands.

    Returns:
        The data key, 32 bytes.

    Raises:
        WrongWrappingKeyError: another KMS key, or the row was moved here from elsewhere.
        CommitmentError: it opens, and is not the key that was committed to.
    """
    bound = context.associated_data(row.key, row.purpose, row.medium)
    try:
        data_key = Secret(AESGCM(wrapping_key.reveal()).decrypt(row.nonce, row.wrapped, bound))
    except InvalidTag as error:
        raise WrongWrappingKeyError(
            f"the data key {to_text(row.key)} does not open under the key with the tag {context.tag.hex()}"
        ) from error
    # AES-GCM alone lets its maker choose one ciphertext that opens under two keys.
    if data_key_id(data_key) != row.key or commitment(data_key) != row.commitment:
        raise CommitmentError(f"the data key {to_text(row.key)} is not the one that its envelope commits to")
    return data_key


def data_key_id(data_key: Secret) -> DataKeyId:
    """Compute the name of a data key, 16 bytes: no name can be given to two keys."""
    return DataKeyId(derive(data_key, _ID_LABEL, UUID_BYTES).reveal())


def commitment(data_key: Secret) -> bytes:
    """Compute what an envelope publishes of a data key, 32 bytes."""
    return derive(data_key, _COMMIT_LABEL).reveal()


def frame_key(data_key: Secret) -> Secret:
    """Derive the key that encrypts frames from a data key of that purpose, 32 bytes."""
    return derive(data_key, _FRAME_LABEL)
