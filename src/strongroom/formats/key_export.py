"""Key export: chosen key groups with their keys, sealed to a pass phrase, on the way to another domain.

Source: ``docs/reference/formats/key-export.md``.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from strongroom.core.errors import InputError
from strongroom.core.ids import KeyTag
from strongroom.core.secret import Secret
from strongroom.formats import key_tag, passphrase, records
from strongroom.formats.algorithms import GCM_TAG_BYTES, Cipher, PassPhraseDerivation, derive, known, label
from strongroom.formats.errors import DamagedError
from strongroom.formats.keystore import (
    MAX_BODY_BYTES,
    MAX_GROUPS,
    MAX_KEYS,
    STATES,
    Description,
    GroupRecord,
    Name,
)
from strongroom.formats.records import Bytes12, Bytes16, Bytes32, Moment, Word
from strongroom.formats.sealed import (
    FRONT_BYTES,
    MAX_HEAD_BYTES,
    check_cipher,
    decode_head,
    open_sealed,
    seal,
    split_head,
    write_front,
)

MAGIC: Final = b"SRKEYX01"
MAX_BYTES: Final = FRONT_BYTES + MAX_HEAD_BYTES + MAX_BODY_BYTES + GCM_TAG_BYTES
CHECK_BYTES: Final = 8


class WrongExportPassPhraseError(InputError):
    """The pass phrase is not the one that the key export was sealed to."""

    code = "key-export.wrong-pass-phrase"
    default_hint = "ask who made the export for its pass phrase; it is not the pass phrase of a key"


class ExportHead(msgspec.Struct, frozen=True, kw_only=True):
    """What a key export says without its pass phrase."""

    domain: Bytes32
    export: Bytes16
    created: Moment
    kdf: int
    salt: Bytes16
    check: Annotated[bytes, msgspec.Meta(min_length=CHECK_BYTES, max_length=CHECK_BYTES)]
    cipher: int
    nonce: Bytes12


class _KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    tag: Bytes32
    group: Bytes16
    name: Name
    description: Description
    state: Word
    created: Moment
    key: Bytes32

    def __post_init__(self) -> None:
        records.check_word(self.state, STATES, "key state")

    def __repr__(self) -> str:
        return "_KeyRecord(***)"


class _Body(msgspec.Struct, frozen=True, kw_only=True):
    groups: Annotated[list[GroupRecord], msgspec.Meta(max_length=MAX_GROUPS)]
    keys: Annotated[list[_KeyRecord], msgspec.Meta(max_length=MAX_KEYS)]


@dataclass(frozen=True, kw_only=True)
class ExportedKey:
    """A KMS key outside a keystore, with what its keystore said of it."""

    tag: KeyTag
    group: bytes
    name: str
    description: str
    state: str
    created: int
    key: Secret


@dataclass(frozen=True)
class OpenedExport:
    """A key export as read; every key was compared with its tag."""

    head: ExportHead
    groups: tuple[GroupRecord, ...]
    keys: tuple[ExportedKey, ...]


@dataclass(frozen=True)
class ExportOrigin:
    """Who makes an export and when, and its fresh random values."""

    domain: bytes
    created: int
    export: bytes
    salt: bytes
    nonce: bytes


def seal_file(
    origin: ExportOrigin, groups: Sequence[GroupRecord], keys: Sequence[ExportedKey], phrase: Secret
) -> bytes:
    """Write a key export; slow on purpose (Argon2id).

    Args:
        origin: domain, time in ns, and random ``export`` (16 bytes), ``salt`` (16) and ``nonce`` (12).
        groups: the groups of the keys.
        keys: the keys.
        phrase: in the form that :func:`strongroom.formats.passphrase.normalise` gives.

    Raises:
        OutOfBoundsError: a name is too long, or there is too much.
        DamagedError: the records contradict each other, or a key is not the one that its tag names.
    """
    derived = passphrase.derive(phrase, origin.salt)
    head = ExportHead(
        domain=origin.domain,
        export=origin.export,
        created=origin.created,
        kdf=PassPhraseDerivation.ARGON2ID_3_64M_4,
        salt=origin.salt,
        check=_check_value(derived, origin.export),
        cipher=Cipher.AES_256_GCM,
        nonce=origin.nonce,
    )
    body = records.encode_checked(
        _Body(
            groups=list(groups),
            keys=[
                _KeyRecord(
                    tag=key.tag,
                    group=key.group,
                    name=key.name,
                    description=key.description,
                    state=key.state,
                    created=key.created,
                    key=key.key.reveal(),
                )
                for key in keys
            ],
        ),
        max_bytes=MAX_BODY_BYTES,
        what="key export",
    )
    _read_body(body)
    front = write_front(MAGIC, head)
    return front + seal(_body_key(derived, origin.export), origin.nonce, body, front)


def read_head(data: bytes) -> ExportHead:
    """Read the clear head. Nothing in it is authenticated before the export is opened.

    Raises:
        DamagedError: not a key export, or cut short.
        NewerFormatError: of a later version.
    """
    return _front(data)[0]


def open_file(data: bytes, phrase: Secret) -> OpenedExport:
    """Open a key export; slow on purpose (Argon2id).

    Args:
        data: the whole file.
        phrase: in the form that :func:`strongroom.formats.passphrase.normalise` gives.

    Raises:
        WrongExportPassPhraseError: another pass phrase.
        DamagedError: cut, changed, or a key in it is not the one that its tag names.
        NewerFormatError: of a later version.
    """
    head, front, sealed = _front(data)
    derived = passphrase.derive(phrase, head.salt)
    if not hmac.compare_digest(_check_value(derived, head.export), head.check):
        raise WrongExportPassPhraseError("the pass phrase does not open this key export")
    plain = open_sealed(_body_key(derived, head.export), head.nonce, sealed, front, "key export")
    groups, keys = _read_body(plain)
    return OpenedExport(head, groups, keys)


def _front(data: bytes) -> tuple[ExportHead, bytes, bytes]:
    front, sealed = split_head(data, MAGIC, "key export", MAX_BYTES)
    head = decode_head(front, ExportHead, "head of the key export")
    check_cipher(head.cipher, "key export")
    if known(PassPhraseDerivation, head.kdf, "pass phrase derivation") is PassPhraseDerivation.NONE:
        raise DamagedError("the key export names no pass phrase derivation")
    return head, front, sealed


def _read_body(plain: bytes) -> tuple[tuple[GroupRecord, ...], tuple[ExportedKey, ...]]:
    body = records.decode(plain, _Body, max_bytes=MAX_BODY_BYTES, what="body of the key export")
    groups = {record.group for record in body.groups}
    if len(groups) != len(body.groups):
        raise DamagedError("the key export has two key groups with one id")
    if len({record.tag for record in body.keys}) != len(body.keys):
        raise DamagedError("the key export has two keys with one tag")
    return tuple(body.groups), tuple(_read_key(record, groups) for record in body.keys)


def _read_key(record: _KeyRecord, groups: set[bytes]) -> ExportedKey:
    tag, key = KeyTag(record.tag), Secret(record.key)
    if record.group not in groups:
        raise DamagedError(f"the key with the tag '{tag.hex()}' is in a group that is not in the key export")
    try:
        key_tag.check_key(key, tag)
    except key_tag.WrongKeyError as error:
        raise DamagedError(f"the key export holds another key than the tag '{tag.hex()}' names") from error
    return ExportedKey(
        tag=tag,
        group=record.group,
        name=record.name,
        description=record.description,
        state=record.state,
        created=record.created,
        key=key,
    )


def _check_value(derived: Secret, export: bytes) -> bytes:
    return derive(derived, label("key-export/check") + export, CHECK_BYTES).reveal()


def _body_key(derived: Secret, export: bytes) -> Secret:
    return derive(derived, label("key-export/body") + export)
