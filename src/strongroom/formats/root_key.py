"""Root key file: the key that makes a domain, sealed to a pass phrase, to be kept away from the primary.

Source: ``docs/reference/formats/identity.md``, section *Root key file*.
"""

from __future__ import annotations

from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from strongroom.core.entropy import Entropy
from strongroom.core.secret import Secret
from strongroom.formats import passphrase
from strongroom.formats.algorithms import (
    GCM_TAG_BYTES,
    KEY_BYTES,
    NONCE_BYTES,
    Cipher,
    PassPhraseDerivation,
    Signature,
    derive,
    known,
    label,
)
from strongroom.formats.errors import DamagedError
from strongroom.formats.identity import RootKeySigner
from strongroom.formats.passphrase import SALT_BYTES, WrongPassPhraseError
from strongroom.formats.records import Bytes12, Bytes16, Bytes32
from strongroom.formats.sealed import FRONT_BYTES, MAX_HEAD_BYTES, decode_head, split_head, write_front
from strongroom.formats.signed import domain_id_of

MAGIC: Final = b"SRROOT01"
_SEALED_BYTES: Final = KEY_BYTES + GCM_TAG_BYTES
MAX_BYTES: Final = FRONT_BYTES + MAX_HEAD_BYTES + _SEALED_BYTES
_LABEL: Final = label("root-key-file")
_WHAT: Final = "root key file"


class RootKeyHead(msgspec.Struct, frozen=True, kw_only=True):
    """What a root key file says without its pass phrase. Nothing vouches for it before the file is opened."""

    domain: Bytes32
    alg: int
    public: Bytes32
    kdf: int
    salt: Bytes16
    cipher: int
    nonce: Bytes12

    def __post_init__(self) -> None:
        known(Signature, self.alg, "signature algorithm")
        if known(PassPhraseDerivation, self.kdf, "pass phrase derivation") is PassPhraseDerivation.NONE:
            raise ValueError("a root key is sealed to a pass phrase")
        if known(Cipher, self.cipher, "cipher") is Cipher.NONE:
            raise ValueError("a root key is encrypted")
        if self.domain != domain_id_of(self.public, self.alg):
            raise ValueError("the domain id is not that of the public key")


def make(entropy: Entropy) -> Secret:
    """Make a root key: 32 bytes, the seed of RFC 8032."""
    return Secret(entropy.bytes(KEY_BYTES))


def seal(seed: Secret, phrase: Secret, entropy: Entropy) -> bytes:
    """Write a root key file.

    Args:
        seed: the root key, 32 bytes.
        phrase: what :func:`strongroom.formats.passphrase.normalise` gave.
        entropy: gives salt and nonce.
    """
    signer = RootKeySigner(seed)
    head = RootKeyHead(
        domain=signer.domain,
        alg=Signature.ED25519,
        public=signer.public_key,
        kdf=PassPhraseDerivation.ARGON2ID_3_64M_4,
        salt=entropy.bytes(SALT_BYTES),
        cipher=Cipher.AES_256_GCM,
        nonce=entropy.bytes(NONCE_BYTES),
    )
    front = write_front(MAGIC, head)
    return front + _cipher(phrase, head).encrypt(head.nonce, seed.reveal(), front)


def read_head(data: bytes) -> RootKeyHead:
    """Read what a root key file says without its pass phrase.

    Raises:
        DamagedError: cut, changed or malformed.
        NewerFormatError: a later version or algorithm.
    """
    return _split(data)[0]


def open_sealed(data: bytes, phrase: Secret) -> Secret:
    """Open a root key file.

    Args:
        data: the whole file.
        phrase: what :func:`strongroom.formats.passphrase.normalise` gave.

    Returns:
        The root key, 32 bytes.

    Raises:
        WrongPassPhraseError: the pass phrase does not open it, or the file was changed.
        DamagedError: cut or malformed, or the key in it is not the one that its head names.
        NewerFormatError: a later version or algorithm.
    """
    head, front, sealed = _split(data)
    try:
        seed = Secret(_cipher(phrase, head).decrypt(head.nonce, sealed, front))
    except InvalidTag as error:
        raise WrongPassPhraseError("the pass phrase does not open the root key file") from error
    # Whoever knows the phrase could have sealed another key under this head.
    if RootKeySigner(seed).public_key != head.public:
        raise DamagedError(f"the key in the {_WHAT} is not the one that its head names")
    return seed


def _split(data: bytes) -> tuple[RootKeyHead, bytes, bytes]:
    front, sealed = split_head(data, MAGIC, _WHAT, MAX_BYTES)
    if len(sealed) != _SEALED_BYTES:
        raise DamagedError(f"the {_WHAT} has not the length that it should have")
    return decode_head(front, RootKeyHead, f"head of the {_WHAT}"), front, sealed


def _cipher(phrase: Secret, head: RootKeyHead) -> AESGCM:
    return AESGCM(derive(passphrase.derive(phrase, head.salt), _LABEL).reveal())
