"""Write the test vectors of key tags, keystores and their kin: ``python -m tests.formats.make_kms_vectors``.

Everything is put together here a second time, from the pages, with HKDF and CRC-32C of its own, so that the
product's code is checked by it. Deterministic; a test compares the files with what this module gives.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

VECTORS = Path(__file__).parent / "kms_vectors"
DAMAGED, NEWER, WRONG_FILE = "format.damaged", "format.newer", "keystore.wrong-key-file"
NS = 1_767_225_600_000_000_000  # 2026-01-01

Record = dict[str, Any]
Case = dict[str, Any]


def fixed(name: str, length: int) -> bytes:
    """Bytes that look random and are always the same."""
    return hashlib.shake_128(f"strongroom kms vector: {name}".encode()).digest(length)


def label(name: str) -> bytes:
    return b"strongroom/" + name.encode() + b"/v1\0"


def hkdf(key: bytes, info: bytes, length: int = 32) -> bytes:
    """RFC 5869 with SHA-256, an empty salt and at most one block of output."""
    extracted = hmac.digest(bytes(32), key, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")[:length]


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def argon2id(phrase: str, salt: bytes) -> bytes:
    return Argon2id(salt=salt, length=32, iterations=3, lanes=4, memory_cost=65_536).derive(phrase.encode())


def tag(key: bytes, uuid: bytes, profile: int, *, version: int = 1, zero: bytes = b"\0\0", crc: int = 0) -> bytes:
    check = hkdf(key, label("kms-key/check") + uuid, 8)
    body = bytes([version, profile]) + uuid + check + zero
    return body + struct.pack(">I", crc32c(body) ^ crc)


def pack(value: object) -> bytes:
    return msgspec.msgpack.encode(value)


def front(magic: bytes, head: Record) -> bytes:
    encoded = pack(head)
    return magic + struct.pack(">I", len(encoded)) + encoded


def seal(key: bytes, nonce: bytes, plain: bytes, bound: bytes) -> bytes:
    return AESGCM(key).encrypt(nonce, plain, bound)


def case(name: str, outcome: str, data: bytes, **more: Any) -> Case:
    return {"name": name, "outcome": outcome, **more, "data": data.hex()}


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] if at >= 0 else flipped(data, len(data) + at)


DOMAIN = fixed("domain", 32)
GROUP = fixed("group", 16)
KEY, UUID = fixed("random key", 32), fixed("random uuid", 16)
KEY_TAG = tag(KEY, UUID, 0)
PHRASE, PHRASE_UUID = "velvet orbit candle raft mumble cactus", fixed("phrase uuid", 16)
A_KAD, IMAGE = fixed("a-kad", 12), fixed("image", 16)
KEY_IDS = {purpose: fixed(f"id of {purpose}", 16) for purpose in ("hmk", "kpk", "service")}
FILE_KEYS = {purpose: fixed(f"key of {purpose}", 32) for purpose in ("hmk", "kpk", "service")}


def key_tags() -> Record:
    salt = hashlib.sha256(b"strongroom/passphrase-key/v1" + PHRASE_UUID).digest()[:16]
    phrase_key = argon2id(PHRASE, salt)
    good = tag(KEY, UUID, 0)
    return {
        "keys": [
            {"name": "random", "profile": 0, "key": KEY.hex(), "uuid": UUID.hex(), "tag": good.hex()}
            | {"wrapping_key": hkdf(KEY, label("kms-key/wrap") + UUID).hex()}
            | {"a_kad": A_KAD.hex(), "drive_key": hkdf(KEY, label("kms-key/drive") + A_KAD).hex()}
            | {"image": IMAGE.hex(), "tape_digest_key": hkdf(KEY, label("kms-key/tape-digest") + IMAGE).hex()},
            {"name": "pass phrase", "profile": 1, "phrase": f" {PHRASE.replace(' ', '  ')}\n"}
            | {"key": phrase_key.hex(), "uuid": PHRASE_UUID.hex(), "tag": tag(phrase_key, PHRASE_UUID, 1).hex()}
            | {"wrapping_key": hkdf(phrase_key, label("kms-key/wrap") + PHRASE_UUID).hex()}
            | {"a_kad": A_KAD.hex(), "drive_key": hkdf(phrase_key, label("kms-key/drive") + A_KAD).hex()}
            | {"image": IMAGE.hex(), "tape_digest_key": hkdf(phrase_key, label("kms-key/tape-digest") + IMAGE).hex()},
        ],
        "cases": [
            case("good", "ok", good),
            case("too-short", DAMAGED, good[:-1]),
            case("too-long", DAMAGED, good + b"\0"),
            case("empty", DAMAGED, b""),
            case("later-version", NEWER, tag(KEY, UUID, 0, version=2)),
            case("later-version-and-wrong-crc", DAMAGED, tag(KEY, UUID, 0, version=2, crc=1)),
            case("version-zero", NEWER, tag(KEY, UUID, 0, version=0)),
            case("unknown-profile", NEWER, tag(KEY, UUID, 2)),
            case("unknown-profile-and-wrong-crc", DAMAGED, tag(KEY, UUID, 2, crc=1)),
            case("wrong-crc", DAMAGED, tag(KEY, UUID, 0, crc=1)),
            case("reserved-bytes-set", DAMAGED, tag(KEY, UUID, 0, zero=b"\0\1")),
            case("bit-flip-in-uuid", DAMAGED, flipped(good, 5)),
            case("bit-flip-in-check-value", DAMAGED, flipped(good, 20)),
        ],
    }


def key_file_record(purpose: str, **changes: Any) -> Record:
    record: Record = {
        "purpose": purpose,
        "id": KEY_IDS.get(purpose, bytes(16)),
        "domain": DOMAIN,
        "source": "random",
        "kdf": 0,
        "salt": bytes(16),
        "key": FILE_KEYS.get(purpose, bytes(32)),
    } | changes
    real = record.pop("real_key", record["key"])
    bound = label("key-file") + record["purpose"].encode() + b"\0" + record["id"] + record["domain"]
    bound += bytes([record["kdf"]]) + record["salt"] + real
    return record | {"check": hashlib.sha256(bound).digest()[:8]}


def key_files() -> Record:
    magic = b"SRKEYF01"
    good = front(magic, key_file_record("hmk"))
    salt = KEY_IDS["hmk"]
    phrase: Record = {
        "source": "passphrase",
        "kdf": 1,
        "salt": salt,
        "key": bytes(32),
        "real_key": argon2id(PHRASE, salt),
    }
    by_phrase = key_file_record("hmk", **phrase)
    other = key_file_record("hmk", **phrase | {"real_key": bytes(32)})
    wrong_check = key_file_record("hmk") | {"check": bytes(8)}
    return {
        "purpose": "hmk",
        "phrase": PHRASE,
        "cases": [
            case("good", "ok", good, id=salt.hex(), source="random", key=FILE_KEYS["hmk"].hex()),
            case("pass-phrase", "ok", front(magic, by_phrase), id=salt.hex(), source="passphrase")
            | {"key": phrase["real_key"].hex()},
            case("wrong-pass-phrase", "key-file.wrong-pass-phrase", front(magic, other)),
            case("other-purpose", WRONG_FILE, front(magic, key_file_record("kpk"))),
            case("purpose-of-a-later-version", NEWER, front(magic, key_file_record("tpm"))),
            case("check-differs", DAMAGED, front(magic, wrong_check)),
            case("other-domain", DAMAGED, good.replace(DOMAIN, bytes(32))),
            case("random-with-derivation", DAMAGED, front(magic, key_file_record("hmk", kdf=1))),
            case("random-with-salt", DAMAGED, front(magic, key_file_record("hmk", salt=salt))),
            case("pass-phrase-without-derivation", DAMAGED, front(magic, by_phrase | {"kdf": 0})),
            case("pass-phrase-with-other-salt", DAMAGED, front(magic, by_phrase | {"salt": bytes(16)})),
            case("pass-phrase-with-key", DAMAGED, front(magic, by_phrase | {"key": bytes(31) + b"\1"})),
            case("unknown-derivation", NEWER, front(magic, by_phrase | {"kdf": 2})),
            case("later-version", NEWER, b"SRKEYF02" + good[8:]),
            case("other-kind", DAMAGED, b"SRKEYS01" + good[8:]),
            case("cut-short", DAMAGED, good[:-1]),
            case("head-length-over-bound", DAMAGED, good[:8] + struct.pack(">I", 1_025) + bytes(1_025)),
            case("something-follows", DAMAGED, good + b"\0"),
            case("bit-flip-in-key", DAMAGED, good.replace(FILE_KEYS["hmk"], flipped(FILE_KEYS["hmk"], 3))),
            case("empty", DAMAGED, b""),
        ],
    }


def keystore_head(**changes: Any) -> Record:
    return {
        "domain": DOMAIN,
        "generation": 7,
        "hmk": KEY_IDS["hmk"],
        "kpk": KEY_IDS["kpk"],
        "cipher": 1,
        "nonce": fixed("keystore nonce", 12),
        "quiesced": 0,
    } | changes


def group_record(**changes: Any) -> Record:
    return {"group": GROUP, "name": "ENCR_pool", "description": "", "created": NS, "modified": NS} | changes


def key_record(**changes: Any) -> Record:
    nonce = fixed("record nonce", 12)
    kpk = hkdf(FILE_KEYS["kpk"], label("keystore-record") + KEY_IDS["kpk"])
    bound = KEY_TAG + GROUP + struct.pack(">Q", NS)
    return {
        "tag": KEY_TAG,
        "group": GROUP,
        "name": "first",
        "description": "made for a vector",
        "state": "active",
        "created": NS,
        "modified": NS + 1,
        "recovered": False,
        "nonce": nonce,
        "wrapped": seal(kpk, nonce, KEY, bound),
    } | changes


def keystore(head: Record | None = None, groups: list[Record] | None = None, keys: list[Record] | None = None) -> bytes:
    body = {
        "groups": [group_record()] if groups is None else groups,
        "keys": [key_record()] if keys is None else keys,
    }
    return sealed_keystore(pack(body), head)


def sealed_keystore(plain: bytes, head: Record | None = None) -> bytes:
    start = front(b"SRKEYS01", head or keystore_head())
    key = hkdf(FILE_KEYS["hmk"], label("keystore") + KEY_IDS["hmk"])
    return start + seal(key, fixed("keystore nonce", 12), plain, start)


def keystores() -> Record:
    good = keystore()
    other_tag = tag(fixed("other key", 32), fixed("other uuid", 16), 0)
    second = key_record(tag=other_tag, name="second", state="inactive")
    with_more = pack({"groups": [group_record()], "keys": [key_record() | {"hsm": "a slot"}]})
    return {
        "hmk": front(b"SRKEYF01", key_file_record("hmk")).hex(),
        "kpk": front(b"SRKEYF01", key_file_record("kpk")).hex(),
        "cases": [
            case("good", "ok", good, complete=True, tag=KEY_TAG.hex(), key=KEY.hex()),
            case("empty-of-keys", "ok", keystore(groups=[], keys=[]), complete=True),
            case("fields-of-a-later-version", "ok", sealed_keystore(with_more), complete=False),
            case("head-field-of-a-later-version", "ok", keystore(keystore_head() | {"more": 1}), complete=False),
            case("other-hmk", WRONG_FILE, keystore(keystore_head(hmk=bytes(16)))),
            case("other-kpk", WRONG_FILE, keystore(keystore_head(kpk=bytes(16)))),
            case("later-version", NEWER, b"SRKEYS02" + good[8:]),
            case("unknown-cipher", NEWER, keystore(keystore_head(cipher=2))),
            case("not-encrypted", DAMAGED, keystore(keystore_head(cipher=0))),
            case("other-kind", DAMAGED, b"SRSVCK01" + good[8:]),
            case("generation-changed", DAMAGED, good.replace(b"generation\x07", b"generation\x06")),
            case("quiesce-counter-changed", DAMAGED, good.replace(b"quiesced\x00", b"quiesced\x01")),
            case("bit-flip-in-body", DAMAGED, flipped(good, -40)),
            case("bit-flip-in-authenticator", DAMAGED, flipped(good, -1)),
            case("cut-in-body", DAMAGED, good[:-1]),
            case("cut-in-head", DAMAGED, good[:60]),
            case("cut-to-head", DAMAGED, front(b"SRKEYS01", keystore_head())),
            case("something-follows", DAMAGED, good + b"\0"),
            case("empty", DAMAGED, b""),
            case("two-keys-one-tag", DAMAGED, keystore(keys=[key_record(), second | {"tag": KEY_TAG}])),
            case("two-keys-one-name", DAMAGED, keystore(keys=[key_record(), second | {"name": "first"}])),
            case("two-active-keys", DAMAGED, keystore(keys=[key_record(), second | {"state": "active"}])),
            case("two-groups-one-id", DAMAGED, keystore(groups=[group_record(), group_record(name="x")])),
            case("two-groups-one-name", DAMAGED, keystore(groups=[group_record(), group_record(group=bytes(16))])),
            case("group-missing", DAMAGED, keystore(groups=[])),
            case("state-of-a-later-version", NEWER, keystore(keys=[key_record(state="asleep")])),
            case("tag-damaged", DAMAGED, keystore(keys=[key_record(tag=flipped(KEY_TAG, 30))])),
            case("name-empty", DAMAGED, keystore(keys=[key_record(name="")])),
            case("name-with-too-many-bytes", DAMAGED, keystore(keys=[key_record(name="\u00e4" * 65)])),
            case("record-moved-to-other-tag", DAMAGED, keystore(keys=[key_record(tag=other_tag)]), unwrap=True),
            case("record-with-other-time", DAMAGED, keystore(keys=[key_record(created=NS + 1)]), unwrap=True),
        ],
    }


def service_keys(head: Record | None = None, keys: list[Record] | None = None) -> bytes:
    default: Record = {
        "domain": DOMAIN,
        "generation": 1,
        "service": KEY_IDS["service"],
        "cipher": 1,
        "nonce": fixed("service nonce", 12),
    }
    archive = {"name": "archive", "alg": "ed25519", "created": NS, "value": fixed("archive key", 32)}
    start = front(b"SRSVCK01", default | (head or {}))
    key = hkdf(FILE_KEYS["service"], label("service-keys") + KEY_IDS["service"])
    return start + seal(key, default["nonce"], pack({"keys": [archive] if keys is None else keys}), start)


def service_key_files() -> Record:
    good = service_keys()
    one = {"name": "ca", "alg": "ed25519", "created": NS, "value": b"\1"}
    return {
        "service": front(b"SRKEYF01", key_file_record("service")).hex(),
        "cases": [
            case("good", "ok", good, key_name="archive", value=fixed("archive key", 32).hex()),
            case("no-keys", "ok", service_keys(keys=[])),
            case("other-service-key", WRONG_FILE, service_keys({"service": bytes(16)})),
            case("unknown-cipher", NEWER, service_keys({"cipher": 9})),
            case("later-version", NEWER, b"SRSVCK02" + good[8:]),
            case("two-keys-one-name", DAMAGED, service_keys(keys=[one, one | {"value": b"\2"}])),
            case("value-too-long", DAMAGED, service_keys(keys=[one | {"value": bytes(4_097)}])),
            case("bit-flip-in-body", DAMAGED, flipped(good, -30)),
            case("cut-short", DAMAGED, good[:-1]),
            case("something-follows", DAMAGED, good + b"\0"),
        ],
    }


def key_exports() -> Record:
    salt, export, nonce = fixed("export salt", 16), fixed("export id", 16), fixed("export nonce", 12)
    derived = argon2id(PHRASE, salt)
    head = {
        "domain": DOMAIN,
        "export": export,
        "created": NS,
        "kdf": 1,
        "salt": salt,
        "check": hkdf(derived, label("key-export/check") + export, 8),
        "cipher": 1,
        "nonce": nonce,
    }
    exported = {name: value for name, value in key_record().items() if name in EXPORTED} | {"key": KEY}

    def file(changes: Record, *keys: Record) -> bytes:
        start = front(b"SRKEYX01", head | changes)
        plain = pack({"groups": [group_record()], "keys": list(keys)})
        return start + seal(hkdf(derived, label("key-export/body") + export), nonce, plain, start)

    good = file({}, exported)
    return {
        "phrase": PHRASE,
        "cases": [
            case("good", "ok", good, tag=KEY_TAG.hex(), key=KEY.hex()),
            case("sealed-to-other-phrase", "key-export.wrong-pass-phrase", file({"check": bytes(8)}, exported)),
            case("other-key-than-its-tag-names", DAMAGED, file({}, exported | {"key": bytes(32)})),
            case("group-missing", DAMAGED, file({}, exported | {"group": bytes(16)})),
            case("two-keys-one-tag", DAMAGED, file({}, exported, exported)),
            case("bit-flip-in-body", DAMAGED, flipped(good, -30)),
            case("domain-changed", DAMAGED, good.replace(DOMAIN, bytes(32))),
            case("unknown-derivation", NEWER, file({"kdf": 2}, exported)),
            case("no-derivation", DAMAGED, file({"kdf": 0}, exported)),
            case("unknown-cipher", NEWER, file({"cipher": 2}, exported)),
            case("later-version", NEWER, b"SRKEYX02" + good[8:]),
            case("cut-in-head", DAMAGED, good[:50]),
        ],
    }


EXPORTED = ("tag", "group", "name", "description", "state", "created")


def files() -> dict[str, str]:
    made = {
        "key-tag": key_tags(),
        "key-file": key_files(),
        "keystore": keystores(),
        "service-keys": service_key_files(),
        "key-export": key_exports(),
    }
    return {f"{name}.json": json.dumps(content, indent=1) + "\n" for name, content in made.items()}


if __name__ == "__main__":
    VECTORS.mkdir(exist_ok=True)
    for name, text in files().items():
        (VECTORS / name).write_text(text, encoding="utf-8")
