"""Key files: the host master key, the key protection key and the service key, one each.

Source: ``docs/reference/formats/keystore.md``, section *Key file*. Who may read the file is checked
where it is read, in ``kms``.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final, Literal, get_args

import msgspec

from strongroom.core.errors import InputError, KeyUnavailableError
from strongroom.core.secret import Secret
from strongroom.formats import passphrase, records, sealed
from strongroom.formats.algorithms import KEY_BYTES, PassPhraseDerivation, known, label
from strongroom.formats.errors import DamagedError
from strongroom.formats.records import Bytes8, Bytes16, Bytes32, Word

MAGIC: Final = b"SRKEYF01"
MAX_BYTES: Final = sealed.MAGIC_BYTES + 4 + sealed.MAX_HEAD_BYTES

NO_KEY: Final = bytes(KEY_BYTES)
"""What stands in place of a key that comes from a pass phrase."""

Purpose = Literal["hmk", "kpk", "service"]
Source = Literal["random", "passphrase"]


class WrongKeyFileError(KeyUnavailableError):
    """The file is opened by another key file than the one at hand."""

    code = "keystore.wrong-key-file"
    default_hint = "put back the key file that belongs to this keystore, from the place where key files are kept"


class PassPhraseNeededError(KeyUnavailableError):
    """The key file holds no key: it comes from a pass phrase, which was not given."""

    code = "key-file.pass-phrase-needed"
    default_hint = "give the pass phrase from which this key was made"


class WrongKeyFilePassPhraseError(InputError):
    """The pass phrase does not make the key that the file names."""

    code = "key-file.wrong-pass-phrase"
    default_hint = "HMK, KPK and service key may each have a phrase of their own: give the one of this key"


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    purpose: Word
    id: Bytes16
    domain: Bytes32
    source: Word
    kdf: int
    salt: Bytes16
    key: Bytes32
    check: Bytes8

    def __post_init__(self) -> None:
        records.check_word(self.purpose, get_args(Purpose), "purpose of a key file")
        records.check_word(self.source, get_args(Source), "source of a key")
        known(PassPhraseDerivation, self.kdf, "pass phrase derivation")

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


@dataclass(frozen=True)
class KeyFileFacts:
    """What a key file says beside its key. ``kdf`` is the pass phrase derivation, 0 for a random key."""

    purpose: str
    id: bytes
    domain: bytes
    source: str
    kdf: int


def read_facts(data: bytes) -> KeyFileFacts:
    """Read what a key file says beside its key; nobody needs the pass phrase for that.

    Raises:
        DamagedError: not a key file, or it was changed.
        NewerFormatError: of a later version.
    """
    record = _read(data)
    return KeyFileFacts(record.purpose, record.id, record.domain, record.source, record.kdf)


def encode(file: KeyFile) -> bytes:
    """Write a key file. A key from a pass phrase is not in it, only what tells the right phrase."""
    derivation, salt = _derivation_of(file.source, file.id)
    record = _Record(
        purpose=file.purpose,
        id=file.id,
        domain=file.domain,
        source=file.source,
        kdf=derivation,
        salt=salt,
        key=NO_KEY if file.source == "passphrase" else file.key.reveal(),
        check=_check(file, derivation, salt),
    )
    return sealed.write_front(MAGIC, record)


def decode(data: bytes, purpose: Purpose, phrase: Secret | None = None) -> KeyFile:
    """Read a key file; slow on purpose (Argon2id) when it needs a pass phrase.

    Args:
        data: the whole file.
        purpose: what the key is wanted for.
        phrase: in the form that :func:`strongroom.formats.passphrase.normalise` gives; not used for a random key.

    Raises:
        DamagedError: not a key file, or it was changed.
        NewerFormatError: of a later version.
        WrongKeyFileError: a key file for another purpose.
        PassPhraseNeededError: the key comes from a pass phrase, and none was given.
        WrongKeyFilePassPhraseError: another pass phrase.
    """
    record = _read(data)
    if record.purpose != purpose:
        raise WrongKeyFileError(f"this key file is for '{record.purpose}', and one for '{purpose}' is needed")
    if record.source == "random":
        return KeyFile(purpose, record.id, record.domain, "random", Secret(record.key))
    if phrase is None:
        raise PassPhraseNeededError(f"the {record.purpose.upper()} '{record.id.hex()}' needs its pass phrase")
    file = from_pass_phrase(purpose, record.id, record.domain, phrase)
    if not _matches(file, record):
        raise WrongKeyFilePassPhraseError(
            f"this is not the pass phrase of the {record.purpose.upper()} '{record.id.hex()}'"
        )
    return file


def from_pass_phrase(purpose: Purpose, identity: bytes, domain: bytes, phrase: Secret) -> KeyFile:
    """Make, or make again, a key from a pass phrase; slow on purpose (Argon2id).

    The head of a keystore names domain and ids, so that keystore and pass phrase are enough when key files are
    lost. A wrong pass phrase shows when the keystore is opened.

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


def _read(data: bytes) -> _Record:
    """Read a key file, and check what can be checked without a pass phrase."""
    front, rest = sealed.split_head(data, MAGIC, "key file", MAX_BYTES)
    if rest:
        raise DamagedError("something follows the key file")
    record = sealed.decode_head(front, _Record, "key file")
    if (record.kdf, record.salt) != _derivation_of(record.source, record.id):
        raise DamagedError("the key file has a pass phrase derivation or a salt that its source does not have")
    if record.source == "random":
        purpose: Purpose = record.purpose  # type: ignore[assignment]  # one of its words, says the record
        file = KeyFile(purpose, record.id, record.domain, "random", Secret(record.key))
        if not _matches(file, record):
            raise DamagedError("the check of the key file differs: it was changed")
    elif record.key != NO_KEY:
        raise DamagedError("the key file has a key, although the key comes from a pass phrase")
    return record


def _derivation_of(source: str, identity: bytes) -> tuple[PassPhraseDerivation, bytes]:
    """Give derivation and salt that go with a source."""
    if source == "random":
        return PassPhraseDerivation.NONE, bytes(passphrase.SALT_BYTES)
    return PassPhraseDerivation.ARGON2ID_3_64M_4, identity


def _matches(file: KeyFile, record: _Record) -> bool:
    return hmac.compare_digest(_check(file, record.kdf, record.salt), record.check)


def _check(file: KeyFile, derivation: int, salt: bytes) -> bytes:
    parts = (
        label("key-file"),
        file.purpose.encode("ascii"),
        b"\0",
        file.id,
        file.domain,
        bytes((derivation,)),
        salt,
        file.key.reveal(),
    )
    return hashlib.sha256(b"".join(parts)).digest()[:8]
