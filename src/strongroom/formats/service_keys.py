"""Service keys: archive key, CA keys, catalog key, sealed apart from the keystore.

Source: ``docs/reference/formats/keystore.md``, section *Service keys*. With a locked keystore, phase one,
sealed replication and receipts go on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from strongroom.core.secret import Secret
from strongroom.formats import records
from strongroom.formats.algorithms import GCM_TAG_BYTES, derive, label
from strongroom.formats.errors import DamagedError
from strongroom.formats.key_file import KeyFile, check_key_file
from strongroom.formats.records import Bytes12, Bytes16, Bytes32, Count, Moment
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

MAGIC: Final = b"SRSVCK01"
MAX_KEYS: Final = 1_024
MAX_BODY_BYTES: Final = 8 << 20
MAX_BYTES: Final = FRONT_BYTES + MAX_HEAD_BYTES + MAX_BODY_BYTES + GCM_TAG_BYTES


class ServiceKeysHead(msgspec.Struct, frozen=True, kw_only=True):
    """What a file of service keys says without a key."""

    domain: Bytes32
    generation: Count
    service: Bytes16
    cipher: int
    nonce: Bytes12


@dataclass(frozen=True, kw_only=True)
class ServiceKey:
    """A key that a service of the primary needs: archive key, CA key, catalog key."""

    name: str
    alg: str
    created: int
    value: Secret


class _ServiceKeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    alg: Annotated[str, msgspec.Meta(max_length=32)]
    created: Moment
    value: Annotated[bytes, msgspec.Meta(max_length=4_096)]

    def __repr__(self) -> str:
        return "_ServiceKeyRecord(***)"


class _ServiceBody(msgspec.Struct, frozen=True, kw_only=True):
    keys: Annotated[list[_ServiceKeyRecord], msgspec.Meta(max_length=MAX_KEYS)]


@dataclass(frozen=True)
class OpenedServiceKeys:
    """Service keys as read; ``complete`` as in :class:`OpenedKeystore`."""

    head: ServiceKeysHead
    keys: tuple[ServiceKey, ...]
    complete: bool


def read_head(data: bytes) -> ServiceKeysHead:
    """Read the clear head. Nothing in it is authenticated before the file is opened.

    Raises:
        DamagedError: not a file of service keys, or cut short.
        NewerFormatError: of a later version.
    """
    return _front(data)[0]


def open_file(data: bytes, service: KeyFile) -> OpenedServiceKeys:
    """Open a file of service keys.

    Raises:
        WrongKeyFileError: the head names another service key file.
        DamagedError: cut, changed, or two keys with one name.
        NewerFormatError: of a later version.
    """
    head, front, body_bytes = _front(data)
    check_key_file(service, "service", head.service)
    key = derive(service.key, label("service-keys") + service.id)
    plain = open_sealed(key, head.nonce, body_bytes, front, "file of service keys")
    body = records.decode(plain, _ServiceBody, max_bytes=MAX_BODY_BYTES, what="body of the service keys")
    _check_service_names([record.name for record in body.keys])
    known = records.encode(head) == front[FRONT_BYTES:] and records.encode(body) == plain
    keys = tuple(
        ServiceKey(name=record.name, alg=record.alg, created=record.created, value=Secret(record.value))
        for record in body.keys
    )
    return OpenedServiceKeys(head, keys, complete=known)


def seal_file(head: ServiceKeysHead, keys: tuple[ServiceKey, ...], service: KeyFile) -> bytes:
    """Write a file of service keys.

    Args:
        head: with a nonce never used before under this service key.
        keys: all of them, names unique.
        service: the key file that the head names.

    Raises:
        DamagedError: two keys with one name.
        OutOfBoundsError: more or longer keys than the format allows.
        WrongKeyFileError: the head names another service key file.
    """
    check_key_file(service, "service", head.service)
    _check_service_names([key.name for key in keys])
    body = _ServiceBody(
        keys=[
            _ServiceKeyRecord(name=key.name, alg=key.alg, created=key.created, value=key.value.reveal()) for key in keys
        ]
    )
    plain = records.encode_checked(body, max_bytes=MAX_BODY_BYTES, what="file of service keys")
    front = write_front(MAGIC, head)
    key = derive(service.key, label("service-keys") + service.id)
    return front + seal(key, head.nonce, plain, front)


def _front(data: bytes) -> tuple[ServiceKeysHead, bytes, bytes]:
    front, sealed = split_head(data, MAGIC, "file of service keys", MAX_BYTES)
    head = decode_head(front, ServiceKeysHead, "head of the service keys")
    check_cipher(head.cipher, "file of service keys")
    return head, front, sealed


def _check_service_names(names: list[str]) -> None:
    if len(set(names)) != len(names):
        raise DamagedError("the file of service keys has two keys with one name")
