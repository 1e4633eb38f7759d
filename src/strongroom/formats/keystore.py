"""The keystore: key groups and KMS keys at rest.

Source: ``docs/reference/formats/keystore.md``. A keystore is read in two steps: :func:`read_head` needs no
key and says which keys are needed, :func:`open_file` needs the host master key. KMS keys stay wrapped until
:func:`unwrap` takes one out with the key protection key.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from strongroom.core.ids import KeyTag
from strongroom.core.secret import Secret
from strongroom.formats import key_tag, records
from strongroom.formats.algorithms import GCM_TAG_BYTES, derive, label
from strongroom.formats.errors import DamagedError
from strongroom.formats.key_file import KeyFile, check_key_file
from strongroom.formats.records import Bytes12, Bytes16, Bytes32, Bytes48, Count, Moment, Word
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

MAGIC: Final = b"SRKEYS01"
MAX_BODY_BYTES: Final = 64 << 20
MAX_BYTES: Final = FRONT_BYTES + MAX_HEAD_BYTES + MAX_BODY_BYTES + GCM_TAG_BYTES
MAX_GROUPS: Final = 10_000
MAX_KEYS: Final = 100_000

_U64: Final = struct.Struct(">Q")

STATES: Final = ("prelive", "active", "inactive", "deprecated", "terminated")
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Description = Annotated[str, msgspec.Meta(max_length=256)]


class KeystoreHead(msgspec.Struct, frozen=True, kw_only=True):
    """What a keystore says without a key."""

    domain: Bytes32
    generation: Count
    hmk: Bytes16
    kpk: Bytes16
    cipher: int
    nonce: Bytes12
    quiesced: Count


class GroupRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A key group."""

    group: Bytes16
    name: Name
    description: Description
    created: Moment
    modified: Moment


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A KMS key, wrapped."""

    tag: Bytes32
    group: Bytes16
    name: Name
    description: Description
    state: Word
    created: Moment
    modified: Moment
    recovered: bool
    nonce: Bytes12
    wrapped: Bytes48

    def __post_init__(self) -> None:
        records.check_word(self.state, STATES, "key state")


class KeystoreBody(msgspec.Struct, frozen=True, kw_only=True):
    """Groups and keys, in no particular order."""

    groups: Annotated[list[GroupRecord], msgspec.Meta(max_length=MAX_GROUPS)]
    keys: Annotated[list[KeyRecord], msgspec.Meta(max_length=MAX_KEYS)]


@dataclass(frozen=True)
class OpenedKeystore:
    """A keystore as read.

    ``complete`` is false when a later version left fields in it that this program would lose by writing it
    again.
    """

    head: KeystoreHead
    body: KeystoreBody
    complete: bool


def read_head(data: bytes) -> KeystoreHead:
    """Read the clear head of a keystore. Nothing in it is authenticated before the keystore is opened.

    Raises:
        DamagedError: not a keystore, or cut short.
        NewerFormatError: of a later version.
    """
    return _keystore_front(data)[0]


def open_file(data: bytes, hmk: KeyFile, kpk: KeyFile) -> OpenedKeystore:
    """Open a keystore and check that it makes sense. KMS keys stay wrapped.

    Raises:
        WrongKeyFileError: the head names another HMK or KPK.
        DamagedError: cut, changed, or its records contradict each other.
        NewerFormatError: of a later version.
    """
    head, front, sealed = _keystore_front(data)
    check_key_file(hmk, "hmk", head.hmk)
    check_key_file(kpk, "kpk", head.kpk)
    key = derive(hmk.key, label("keystore") + hmk.id)
    plain = open_sealed(key, head.nonce, sealed, front, "keystore")
    body = records.decode(plain, KeystoreBody, max_bytes=MAX_BODY_BYTES, what="body of the keystore")
    _check_body(body)
    known = records.encode(head) == front[FRONT_BYTES:] and records.encode(body) == plain
    return OpenedKeystore(head, body, complete=known)


def seal_file(head: KeystoreHead, body: KeystoreBody, hmk: KeyFile) -> bytes:
    """Write a keystore.

    Args:
        head: with a nonce never used before under this HMK.
        body: all groups and keys.
        hmk: the host master key that the head names.

    Raises:
        OutOfBoundsError: a name is too long, or there is too much.
        DamagedError: the records contradict each other.
        WrongKeyFileError: the head names another HMK.
    """
    check_key_file(hmk, "hmk", head.hmk)
    _check_body(body)
    plain = records.encode_checked(body, max_bytes=MAX_BODY_BYTES, what="keystore")
    front = write_front(MAGIC, head)
    key = derive(hmk.key, label("keystore") + hmk.id)
    return front + seal(key, head.nonce, plain, front)


def wrap(key: Secret, kpk: KeyFile, *, tag: bytes, group: bytes, created: int, nonce: bytes) -> bytes:
    """Wrap a KMS key for its record, 48 bytes.

    Args:
        key: the KMS key, 32 bytes.
        kpk: the key protection key.
        tag: key tag, 32 bytes.
        group: key group id, 16 bytes.
        created: nanoseconds, as in the record.
        nonce: 12 bytes, never used before under this KPK.
    """
    return seal(_record_key(kpk), nonce, key.reveal(), tag + group + _U64.pack(created))


def unwrap(record: KeyRecord, kpk: KeyFile) -> Secret:
    """Take a KMS key out of its record, and compare it with its tag.

    Raises:
        DamagedError: the record does not authenticate, or holds another key than its tag names.
    """
    bound = record.tag + record.group + _U64.pack(record.created)
    key = open_sealed(_record_key(kpk), record.nonce, record.wrapped, bound, f"key with the tag '{record.tag.hex()}'")
    secret = Secret(key)
    try:
        key_tag.check_key(secret, KeyTag(record.tag))
    except key_tag.WrongKeyError as error:
        raise DamagedError(f"the keystore holds another key than the tag '{record.tag.hex()}' names") from error
    return secret


def _keystore_front(data: bytes) -> tuple[KeystoreHead, bytes, bytes]:
    front, sealed = split_head(data, MAGIC, "keystore", MAX_BYTES)
    head = decode_head(front, KeystoreHead, "head of the keystore")
    check_cipher(head.cipher, "keystore")
    return head, front, sealed


def _record_key(kpk: KeyFile) -> Secret:
    return derive(kpk.key, label("keystore-record") + kpk.id)


def _check_body(body: KeystoreBody) -> None:
    """Refuse records that contradict each other: what is authentic may still come from a broken writer."""
    groups = {record.group for record in body.groups}
    _check_unique(len(groups), len(body.groups), "two key groups with one id")
    _check_unique(len({record.name for record in body.groups}), len(body.groups), "two key groups with one name")
    _check_unique(len({record.tag for record in body.keys}), len(body.keys), "two keys with one tag")
    _check_unique(
        len({(record.group, record.name) for record in body.keys}),
        len(body.keys),
        "two keys of a group with one name",
    )
    active = [record.group for record in body.keys if record.state == "active"]
    _check_unique(len(set(active)), len(active), "two active keys in one group")
    for record in body.keys:
        key_tag.parse(record.tag)
        if record.group not in groups:
            raise DamagedError(f"the key with the tag '{record.tag.hex()}' is in a group that is not in the keystore")


def _check_unique(different: int, all_of_them: int, fault: str) -> None:
    if different != all_of_them:
        raise DamagedError(f"the keystore has {fault}")
