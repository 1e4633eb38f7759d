"""Key files: the host master key, the key protection key and the service key, one each.

Source: ``docs/reference/formats/keystore.md``, section *Key file*. Who may read the file is checked
where it is read, in ``kms``.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec

from strongroom.core.errors import KeyUnavailableError
from strongroom.core.secret import Secret
from strongroom.formats import passphrase, sealed
from strongroom.formats.algorithms import PassPhraseDerivation, known, label
from strongroom.formats.errors import DamagedError
from strongroom.formats.records import Bytes16, Bytes32

MAGIC: Final = b"SRKEYF01"
MAX_BYTES: Final = sealed.MAGIC_BYTES + 4 + sealed.MAX_HEAD_BYTES

Purpose = Literal["hmk", "kpk", "service"]
Source = Literal["random", "passphrase"]


class WrongKeyFileError(KeyUnavailableError):
    """The file is opened by another key file than the one at hand."""

    code = "keystore.wrong-key-file"
    default_hint = (
        "put back the key file that belongs to this keystore, from the place where key files are kept"
    )


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    purpose: Purpose
    id: Bytes16
    domain: Bytes32
    source: Source
    kdf: int
    salt: Bytes16
    key: Bytes32
    check: Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]

    def __repr__(self) -> str:
        return "_Record(***)"


@dataclass(frozen=True)
class KeyFile:
    """A key file's content.

    Attributes:
        purpose: what it opens: ``hmk`` the keystore, ``kpk`` the keys in it, ``service`` the service keys.
        id: 16 random bytes, named in the head of what it opens.
        domain: the domain's id.
        source: whether the key is random or comes from a pass phrase.
        key: 32 bytes.
    """

    purpose: Purpose
    id: bytes
    domain: bytes
    source: Source
    key: Secret


def encode(file: KeyFile) -> bytes:
    """Write a key file."""
    from_phrase = file.source == "passphrase"
    record = _Record(
        purpose=file.purpose,
        id=file.id,
        domain=file.domain,
        source=file.source,
        kdf=PassPhraseDerivation.ARGON2ID_3_64M_4 if from_phrase else PassPhraseDerivation.NONE,
        salt=file.id if from_phrase else bytes(16),
        key=file.key.reveal(),
        check=_check(file.purpose, file.id, file.key),
    )
    return sealed.write_front(MAGIC, record)


def decode(data: bytes, purpose: Purpose) -> KeyFile:
    """Read a key file.

    Args:
        data: the whole file.
        purpose: what the key is wanted for.

    Raises:
        DamagedError: not a key file, or its check differs.
        NewerFormatError: of a later version.
        WrongKeyFileError: a key file for another purpose.
    """
    front, rest = sealed.split_head(data, MAGIC, "key file", MAX_BYTES)
    if rest:
        raise DamagedError("something follows the key file")
    record = sealed.decode_head(front, _Record, "key file")
    from_phrase = record.source == "passphrase"
    derivation = known(PassPhraseDerivation, record.kdf, "pass phrase derivation")
    if (derivation is not PassPhraseDerivation.NONE) != from_phrase:
        raise DamagedError("the key file names a pass phrase derivation that its source does not have")
    if record.salt != (record.id if from_phrase else bytes(16)):
        raise DamagedError("the key file has a salt that its source does not have")
    key = Secret(record.key)
    if not hmac.compare_digest(_check(record.purpose, record.id, key), record.check):
        raise DamagedError("the check of the key file differs: the key in it was changed")
    if record.purpose != purpose:
        raise WrongKeyFileError(f"this key file is for '{record.purpose}', and one for '{purpose}' is needed")
    return KeyFile(record.purpose, record.id, record.domain, record.source, key)


def from_pass_phrase(purpose: Purpose, identity: bytes, domain: bytes, phrase: Secret) -> KeyFile:
    """Make, or make again, a key file from a pass phrase; slow on purpose (Argon2id).

    The head of a keystore names domain and ids, so that keystore and pass phrase are enough when key
    files are lost. A wrong pass phrase shows when the keystore is opened.

    Args:
        purpose: what the key is for.
        identity: 16 bytes; random for a new key.
        domain: domain id.
        phrase: in the form that :func:`strongroom.formats.passphrase.normalise` gives.
    """
    return KeyFile(purpose, identity, domain, "passphrase", passphrase.derive(phrase, identity))


def check_key_file(file: KeyFile, purpose: Purpose, wanted: bytes) -> None:
    """Make sure that a key file is the one that is needed.

    Args:
        file: the key file at hand.
        purpose: what it must be for.
        wanted: the 16-byte id that the file to be opened names.

    Raises:
        WrongKeyFileError: it is another one; the message names both.
    """
    if file.purpose != purpose or file.id != wanted:
        raise WrongKeyFileError(
            f"this needs the {purpose.upper()} '{wanted.hex()}', and the one at hand is the "
            f"{file.purpose.upper()} '{file.id.hex()}'"
        )


def _check(purpose: Purpose, identity: bytes, key: Secret) -> bytes:
    return hashlib.sha256(label("key-file") + purpose.encode("ascii") + identity + key.reveal()).digest()[:8]
