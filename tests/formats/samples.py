"""Objects of two domains from fixed keys, for vectors and property tests.

The frame of a signed object is put together here a second time, from the page, so that the product's own
writer is checked by it and so that objects can be made that the product would refuse to write.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import msgspec
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from strongroom.core.secret import Secret
from strongroom.formats.identity import ArchiveSigner, RootKeySigner

Record = dict[str, Any]
NS = 1_000_000_000
T0 = 1_767_225_600 * NS  # 2026-01-01


def fixed(name: str, length: int = 32) -> bytes:
    """Bytes that look random and are always the same."""
    return hashlib.shake_128(f"strongroom test vector: {name}".encode()).digest(length)


class FixedEntropy:
    """Gives the same bytes in each run; never the same twice in one."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls = 0

    def bytes(self, count: int) -> bytes:
        self._calls += 1
        return fixed(f"{self._name} {self._calls}", count)


def pack(value: object) -> bytes:
    return msgspec.msgpack.encode(value)


def frame(magic: bytes, body: bytes, seal: bytes) -> bytes:
    return magic + struct.pack(">I", len(body)) + body + struct.pack(">I", len(seal)) + seal


def signature(magic: bytes, body: bytes, seed: bytes, cert: bytes | None) -> bytes:
    message = b"strongroom/signed-object/v1\0" + magic + struct.pack(">I", len(body)) + body
    message += bytes(32) if cert is None else hashlib.sha256(cert).digest()
    return private_key(seed).sign(message)


@cache
def private_key(seed: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(seed)


@dataclass(frozen=True)
class Domain:
    """A domain with one root key and archive keys made from its name."""

    name: str

    @property
    def root_seed(self) -> bytes:
        return fixed(f"{self.name} root")

    @cached_property
    def root(self) -> bytes:
        return RootKeySigner(Secret(self.root_seed)).public_key

    @property
    def id(self) -> bytes:
        return hashlib.sha256(b"strongroom/domain-id/v1\0\x01" + self.root).digest()

    def archive_seed(self, number: int = 1) -> bytes:
        return fixed(f"{self.name} archive {number}")

    @cache  # noqa: B019 - there are three domains
    def cert(self, number: int = 1) -> bytes:
        key = Ed25519PrivateKey.from_private_bytes(self.archive_seed(number)).public_key().public_bytes_raw()
        body = {"domain": self.id, "number": number, "alg": 1, "key": key, "from": T0}
        return self.root_signed(b"SRARCC01", pack(body))

    def root_signed(self, magic: bytes, body: bytes) -> bytes:
        sig = signature(magic, body, self.root_seed, None)
        return frame(magic, body, pack({"alg": 1, "root": self.root, "cert": None, "sig": sig}))

    def signed(self, magic: bytes, body: bytes, number: int = 1) -> bytes:
        cert = self.cert(number)
        sig = signature(magic, body, self.archive_seed(number), cert)
        return frame(magic, body, pack({"alg": 1, "root": self.root, "cert": cert, "sig": sig}))

    def signer(self, number: int = 1) -> ArchiveSigner:
        return ArchiveSigner(Secret(self.archive_seed(number)), self.cert(number))


ORIGIN, TARGET, THIRD = Domain("origin"), Domain("target"), Domain("third")
POOL, TARGET_POOL, SALT = fixed("pool", 16), fixed("target pool", 16), fixed("image salt", 16)


def image_id(domain: bytes, salt: bytes) -> bytes:
    return hashlib.sha256(b"strongroom/image-id/v1\0" + domain + salt).digest()[:16]


IMAGE, OTHER_SALT = image_id(ORIGIN.id, SALT), fixed("another image salt", 16)
OTHER_IMAGE = image_id(ORIGIN.id, OTHER_SALT)
CHUNKER = [1, 65_536, 262_144, 1_048_576]
TAG, TARGET_TAG = fixed("tag"), fixed("target tag")
GROUP, ENVELOPE = fixed("group", 16), fixed("envelope", 16)


def media_header(**changes: Any) -> Record:
    return {
        "domain": ORIGIN.id,
        "medium": POOL,
        "kind": "pool",
        "label": "main pool",
        "created": T0,
        "features": [],
    } | changes


def image_header(**changes: Any) -> Record:
    return {
        "domain": ORIGIN.id,
        "image": IMAGE,
        "salt": SALT,
        "backup_id": "files1_1767229200",
        "client": "files1.example",
        "client_host": fixed("host", 16),
        "policy": "homes",
        "schedule": "nightly",
        "kind": "full",
        "started": T0 + 3600 * NS,
        "ended": T0 + 3725 * NS,
        "slp": "gold",
        "slp_version": 3,
        "data_class": "",
        "retention": 2_592_000,
        "key_group": GROUP,
        "cipher": 1,
        "digest": 1,
        "entries": {"root": fixed("entries root"), "segments": 4, "bytes": 1_000_000, "chunker": CHUNKER},
        "payload": {"root": fixed("payload root"), "segments": 4_096, "bytes": 1 << 30, "chunker": CHUNKER},
        "files": 12_345,
        "content": 1 << 30,
        "problems": 0,
        "features": [],
    } | changes


HEADER = ORIGIN.signed(b"SRIMGH01", pack(image_header()))


def digest(data: bytes) -> bytes:
    return blake3(data).digest()


def hop(sender: Domain = ORIGIN, to: Domain = TARGET, previous: bytes = bytes(32), **changes: Any) -> Record:
    return {
        "domain": sender.id,
        "to": to.id,
        "image": IMAGE,
        "origin": ORIGIN.id,
        "header": digest(HEADER),
        "sending": fixed(f"sending {sender.name} {to.name}", 16),
        "slp": "import-gold",
        "retention": None,
        "at": T0 + 7200 * NS,
        "previous": previous,
        "features": [],
    } | changes


HOP = ORIGIN.signed(b"SRHOPR01", pack(hop()))
SECOND_HOP = TARGET.signed(b"SRHOPR01", pack(hop(TARGET, THIRD, digest(HOP))))


def copy_header(**changes: Any) -> Record:
    return {
        "domain": ORIGIN.id,
        "medium": POOL,
        "image": IMAGE,
        "copy": 1,
        "fragment": 1,
        "written": T0 + 3730 * NS,
        "expires": T0 + 2_595_600 * NS,
        "encrypted": True,
        "cipher": 1,
        "incarnation": 1,
        "slp": "gold",
        "slp_version": 3,
        "from_copy": 0,
        "tags": [TAG],
        "key_pages": [fixed("key page")],
        "entries": None,
        "payload": None,
        "journal": 2,
        "journal_medium": POOL,
        "previous": bytes(32),
        "earlier": [],
        "hops": [],
        "header": HEADER,
        "features": [],
    } | changes


def copy_at(domain: Domain, hops: list[bytes], **changes: Any) -> bytes:
    body = copy_header(domain=domain.id, medium=TARGET_POOL, journal_medium=TARGET_POOL, hops=hops, **changes)
    return domain.signed(b"SRCPYH01", pack(body))


COPY = ORIGIN.signed(b"SRCPYH01", pack(copy_header()))
TARGET_COPY = copy_at(TARGET, [HOP])


def trailer(header: bytes = COPY, **changes: Any) -> Record:
    roots = fixed("entries root") + fixed("payload root")
    return {
        "domain": ORIGIN.id,
        "medium": POOL,
        "image": IMAGE,
        "copy": 1,
        "fragment": 1,
        "copy_header": digest(header),
        "bytes": 1_000_000 + (1 << 30),
        "digest": digest(roots),
        "files": 12_345,
        "last": True,
        "features": [],
    } | changes


TRAILER = ORIGIN.signed(b"SRTRLR01", pack(trailer()))


def receipt(**changes: Any) -> Record:
    return {
        "domain": TARGET.id,
        "receipt": fixed("receipt", 16),
        "source": ORIGIN.id,
        "sending": fixed("sending origin target", 16),
        "origin": ORIGIN.id,
        "image": IMAGE,
        "header": digest(HEADER),
        "medium": TARGET_POOL,
        "copy": 1,
        "slp": "import-gold",
        "received": T0 + 7300 * NS,
        "expires": None,
        "state": "sealed",
        "tags": [TAG],
        "features": [],
    } | changes


RECEIPT = TARGET.signed(b"SRRCPT01", pack(receipt()))


HOLD = fixed("hold", 16)


def state_record(kind: str = "hold", **changes: Any) -> Record:
    return {
        "kind": kind,
        "image": IMAGE,
        "copy": 1,
        "at": T0 + 8000 * NS,
        "until": None,
        "hold": HOLD if kind in ("hold", "release") else None,
        "object": None,
        "reason": "",
    } | changes


def batch(sequence: int, previous: bytes, *records: Record, **changes: Any) -> Record:
    return {
        "domain": ORIGIN.id,
        "medium": POOL,
        "incarnation": 1,
        "sequence": sequence,
        "previous": previous,
        "at": T0 + (8000 + sequence) * NS,
        "records": list(records),
        "features": [],
    } | changes


BATCH_1 = ORIGIN.signed(
    b"SRJRNL01",
    pack(batch(1, bytes(32), state_record("hold", reason="case 7"), state_record("hop", object=HOP))),
)
BATCH_2 = ORIGIN.signed(
    b"SRJRNL01",
    pack(
        batch(
            2,
            digest(BATCH_1),
            state_record("release"),
            state_record("receipt", object=RECEIPT),
            state_record("expiry", until=T0 + 9_000_000 * NS),
            state_record("lock", until=T0 + 8_000_000 * NS),
        )
    ),
)
BATCH_3 = ORIGIN.signed(b"SRJRNL01", pack(batch(3, digest(BATCH_2), state_record("tombstone"))))


def revocation_list(**changes: Any) -> Record:
    return {
        "domain": ORIGIN.id,
        "number": 2,
        "issued": T0 + 9000 * NS,
        "revoked": [{"certificate": 2, "since": T0 + 8500 * NS, "reason": "primary stolen"}],
    } | changes


REVOCATIONS = ORIGIN.root_signed(b"SRREVL01", pack(revocation_list()))

WRAPPING_KEY, TARGET_WRAPPING_KEY = fixed("wrapping key"), fixed("target wrapping key")


def hkdf(key: bytes, info: bytes) -> bytes:
    """RFC 5869 for one block of output and an empty salt, written out."""
    secret = hmac.digest(bytes(32), key, "sha256")
    return hmac.digest(secret, info + b"\x01", "sha256")


def data_keys() -> dict[bytes, bytes]:
    values = [fixed(f"data key {n}") for n in range(3)]
    return dict(sorted((hkdf(value, b"strongroom/data-key/id/v1\0")[:16], value) for value in values))


DATA_KEYS = data_keys()
NAMING_KEY_ID = max(DATA_KEYS)


def wrapped_key(key: bytes, wrapping_key: bytes, tag: bytes, **changes: Any) -> Record:
    purpose, medium = (2, POOL) if key == NAMING_KEY_ID else (1, bytes(16))
    nonce = fixed(f"nonce {key.hex()} {tag.hex()}", 12)
    bound = b"strongroom/envelope-wrap/v1\0" + ORIGIN.id + ORIGIN.id + ENVELOPE + key + bytes([purpose]) + medium
    row = {
        "key": key,
        "purpose": purpose,
        "medium": medium,
        "commitment": hkdf(DATA_KEYS[key], b"strongroom/data-key/commit/v1\0"),
        "nonce": nonce,
        "wrapped": AESGCM(wrapping_key).encrypt(nonce, DATA_KEYS[key], bound + GROUP + tag),
    }
    return row | changes


def key_envelope(generation: int = 1, **changes: Any) -> Record:
    wrapping_key, tag = (WRAPPING_KEY, TAG) if generation == 1 else (TARGET_WRAPPING_KEY, TARGET_TAG)
    return {
        "domain": ORIGIN.id,
        "incarnation": 1,
        "origin": ORIGIN.id,
        "envelope": ENVELOPE,
        "generation": generation,
        "group": GROUP,
        "created": T0,
        "tag": tag,
        "cipher": 1,
        "keys": [wrapped_key(key, wrapping_key, tag) for key in DATA_KEYS],
        "features": [],
    } | changes


ENVELOPES = [ORIGIN.signed(b"SRENVL01", pack(key_envelope(n))) for n in (1, 2)]

PASS_PHRASE = "open sesame, said the vector"
ROOT_SALT, ROOT_NONCE = fixed("root key salt", 16), fixed("root key nonce", 12)


def root_key_file(seed: bytes = ORIGIN.root_seed, derived: bytes | None = None, **changes: Any) -> bytes:
    """A root key file; the derived bytes may be given, because Argon2id takes a while."""
    head = {
        "domain": ORIGIN.id,
        "alg": 1,
        "public": ORIGIN.root,
        "kdf": 1,
        "salt": ROOT_SALT,
        "cipher": 1,
        "nonce": ROOT_NONCE,
    }
    body = pack(head | changes)
    front = b"SRROOT01" + struct.pack(">I", len(body)) + body
    if derived is None:
        argon2id = Argon2id(salt=ROOT_SALT, length=32, iterations=3, lanes=4, memory_cost=65_536)
        derived = argon2id.derive(PASS_PHRASE.encode())
    key = hkdf(derived, b"strongroom/root-key-file/v1\0")
    return front + AESGCM(key).encrypt(ROOT_NONCE, seed, front)
