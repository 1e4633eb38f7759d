"""Encoders and a small pool, from the pages of `docs/reference/formats`; they share no code with the product."""

import functools
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from contrib import read_image
from contrib.read_image import Value

RANDOM_SEGMENT = hashlib.shake_256(b"contents").digest(200_000)
HOLE = 300_000
MTIME = 1_700_000_000_123_456_789


# ---------------------------------------------------------------- encoders


def pack(value: Value) -> bytes:
    """MessagePack in its shortest form."""
    if value is None or isinstance(value, bool):
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    if isinstance(value, int):
        if -32 <= value < 128:
            return value.to_bytes(1, "big", signed=value < 0)
        for place, size in enumerate((1, 2, 4, 8)):
            if value < 0 and value >= -(1 << 8 * size - 1):
                return bytes([0xD0 + place]) + value.to_bytes(size, "big", signed=True)
            if 0 <= value < 1 << 8 * size:
                return bytes([0xCC + place]) + value.to_bytes(size, "big")
    if isinstance(value, str):
        return pack_length(len(value.encode()), (0xA0, 32), {1: 0xD9, 2: 0xDA, 4: 0xDB}) + value.encode()
    if isinstance(value, bytes):
        return pack_length(len(value), (0, 0), {1: 0xC4, 2: 0xC5, 4: 0xC6}) + value
    if isinstance(value, list):
        return pack_length(len(value), (0x90, 16), {2: 0xDC, 4: 0xDD}) + b"".join(map(pack, value))
    assert isinstance(value, dict)
    pairs = b"".join(pack(key) + pack(item) for key, item in value.items())
    return pack_length(len(value), (0x80, 16), {2: 0xDE, 4: 0xDF}) + pairs


def pack_length(length: int, fixed: tuple[int, int], codes: dict[int, int]) -> bytes:
    if length < fixed[1]:
        return bytes([fixed[0] + length])
    size = next(size for size in codes if length < 1 << 8 * size)
    return bytes([codes[size]]) + length.to_bytes(size, "big")


def label(name: str) -> bytes:
    return b"strongroom/" + name.encode() + b"/v1\0"


def hkdf(key: bytes, info: bytes, length: int = 32) -> bytes:
    """RFC 5869 for at most one block of output."""
    block = hashlib.sha256

    def mac(k: bytes, data: bytes) -> bytes:
        k = k.ljust(64, b"\0")
        inner = block(bytes(b ^ 0x36 for b in k) + data).digest()
        return block(bytes(b ^ 0x5C for b in k) + inner).digest()

    return mac(mac(bytes(32), key), info + b"\x01")[:length]


def b3(data: bytes, key: bytes | None = None) -> bytes:
    return blake3(data).digest() if key is None else blake3(data, key=key).digest()


def u(size: int, *values: int) -> bytes:
    return b"".join(value.to_bytes(size, "big") for value in values)


class Domain:
    """A domain, with a root key and an archive key."""

    def __init__(self, seed: int) -> None:
        self.root = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        self.archive = Ed25519PrivateKey.from_private_bytes(bytes([seed + 1]) * 32)
        self.public = self.root.public_key().public_bytes_raw()
        self.id = hashlib.sha256(label("domain-id") + b"\x01" + self.public).digest()
        archive = self.archive.public_key().public_bytes_raw()
        self.cert: bytes | None = None
        self.cert = self.sign("SRARCC01", {"number": 1, "alg": 1, "key": archive, "from": 5})

    def sign(self, magic: str, payload: dict[str, Value]) -> bytes:
        record = pack({"domain": self.id, **payload})
        by_root = magic in ("SRARCC01", "SRREVL01")
        cert = None if by_root else self.cert
        signed = magic.encode() + u(4, len(record)) + record
        message = label("signed-object") + signed + (hashlib.sha256(cert).digest() if cert else bytes(32))
        signature = (self.root if by_root else self.archive).sign(message)
        seal = pack({"alg": 1, "root": self.public, "cert": cert, "sig": signature})
        return signed + u(4, len(seal)) + seal


def make_tag(key: bytes, uuid: bytes, profile: int) -> bytes:
    tag = bytes([1, profile]) + uuid + hkdf(key, label("kms-key/check") + uuid, 8) + bytes(2)
    return tag + u(4, read_image.crc32c(tag))


def make_frame(segments: list[bytes], counter: int, data_key: bytes | None, compress: bool) -> bytes:
    plain = b"".join(segments)
    body = plain
    if compress:
        body = zstandard.compress(plain) + b"\x5a\x2a\x4d\x18" + (7).to_bytes(4, "little") + b"padding"
    names = b"".join(segment_name(s) + u(4, len(s)) for s in segments)
    stored = len(body) + (16 if data_key else 0)
    head = b"SRF1" + bytes([data_key is not None, compress, 1, 1]) + u(4, len(segments), len(plain), stored)
    if data_key is None:
        return head + bytes(28) + names + body
    nonce = u(4, 0) + u(8, counter)
    head += hkdf(data_key, label("data-key/id"), 16) + nonce + names
    return head + AESGCM(hkdf(data_key, label("data-key/frame"))).encrypt(nonce, body, head)


def segment_name(segment: bytes) -> bytes:
    return b3(segment, b"n" * 32)


def make_leaf(frames: list[tuple[bytes, list[bytes]]], references: list[tuple[int, int]]) -> bytes:
    page = b"SRP1" + bytes([0, 1, 0, 0]) + u(4, len(frames), len(references))
    for frame, segments in frames:
        page += b3(frame) + frame[20:36] + u(4, len(frame), sum(map(len, segments)))
    for index, position in references:
        segment = frames[index][1][position]
        page += segment_name(segment) + u(2, index, position) + u(4, len(segment))
    return page


def make_container(content: int, items: list[bytes], name: bytes, medium: bytes, origin: bytes) -> bytes:
    header = b"SRCONT01" + name + medium + origin + u(8, 7) + bytes([content, 1]) + bytes(6)
    header += b3(header)[:8]
    rows, segments, at, first = b"", b"", 96, 0
    for item in items:
        rows += b3(item) + u(8, at) + u(4, len(item), first) + (item[20:36] if content == 1 else bytes(16))
        at += len(item)
        if content == 1:
            count = int.from_bytes(item[8:12], "big")
            segments += item[48 : 48 + 36 * count]
            first += count
    footer = b"SRFOOT01" + u(4, len(items), first) + rows + segments
    tail = u(8, at, len(footer)) + b3(header + footer) + bytes(32) + bytes(8) + b"SREND001"
    return header + b"".join(items) + footer + tail


# ---------------------------------------------------------------- a pool


def record(kind: int, path: bytes, **more: Value) -> list[Value]:
    named: dict[str, Value] = {
        "kind": kind,
        "path": path,
        "mode": 0o640,
        "uid": os.getuid(),
        "gid": os.getgid(),
        "uname": b"someone",
        "gname": b"",
        "mtime": MTIME,
        "ctime": 2,
        "device": 3,
        "inode": 4,
        "size": 0,
        "target": None,
        "flags": 0,
        "attributes": [],
        "extents": [],
        "major": 0,
        "minor": 0,
    }
    assert set(more) <= set(named)
    return list((named | more).values())


SEGMENT_1 = b"hello world" + b"start of big" + b"two"
SMALL = segment_name(SEGMENT_1)


def usual_records() -> list[list[Value]]:
    big: list[Value] = [[SMALL, 11, 12], [None, 0, HOLE]]
    return [
        record(2, b"/", mode=0o750),
        record(1, b"/a", size=11, attributes=[[b"user.note", b"\0\xff"]], extents=[[SMALL, 0, 11]]),
        record(1, b"/big", mode=0o600, mtime=-1, size=12 + HOLE + 200_000, flags=4, extents=big),
        [64, [[segment_name(RANDOM_SEGMENT), 0, 200_000]]],
        record(3, b"/link", mode=0o777, target=b"../outside"),
        record(4, b"/same", target=b"/a"),
        record(2, b"/sub", mode=0o500, flags=8, attributes=[[b"user.a", b"1"]]),
        [65, [[b"user.b", b"2"]]],
        record(1, b"/sub/" + b"n" * 120, mode=0o400, size=3, extents=[[SMALL, 23, 3]]),
        record(1, b"/sub-2"),
    ]


@functools.cache
def key_of_phrase(phrase: bytes, salt: bytes) -> bytes:
    """Derive a key; slow on purpose, so once for all pools."""
    return read_image.argon2id(phrase, salt)


@dataclass
class PoolBuilder:
    """One pool with one image."""

    path: Path
    encrypted: bool = True
    from_peer: bool = False
    origin: Domain = field(default_factory=lambda: Domain(1))
    medium: bytes = b"M" * 16
    records: list[list[Value]] = field(default_factory=usual_records)
    revoked: list[Value] = field(default_factory=list)
    journal: list[Value] = field(default_factory=list)
    change: dict[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.writer = Domain(11) if self.from_peer else self.origin
        uuid = b"U" * 16
        salt = hashlib.sha256(b"strongroom/passphrase-key/v1" + uuid).digest()[:16]
        self.kms_key = key_of_phrase(b"correct horse battery staple", salt)
        self.tag = make_tag(self.kms_key, uuid, 1)
        self.other_key = b"K" * 32
        self.other_tag = make_tag(self.other_key, b"V" * 16, 0)
        self.data_key = b"D" * 32 if self.encrypted else None
        self.group = b"G" * 16 if self.encrypted else bytes(16)
        self.write("medium", self.writer.sign("SRMEDH01", self.medium_header()))
        revocations: dict[str, Value] = {"number": 2, "issued": 1, "revoked": self.revoked}
        self.write("revocations/0000000002", self.writer.sign("SRREVL01", revocations))
        self.write_image()

    def medium_header(self) -> dict[str, Value]:
        return {"medium": self.medium, "kind": "pool", "label": "first pool", "created": 1, "features": []}

    def write(self, name: str, data: bytes) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def write_container(self, content: int, items: list[bytes]) -> None:
        name = bytes([content]) * 16
        data = make_container(content, items, name, self.medium, self.origin.id)
        self.write(f"containers/{name.hex()[:2]}/{name.hex()}", data)

    def envelope(self, domain: Domain, generation: int, kms_key: bytes, tag: bytes) -> tuple[str, bytes]:
        assert self.data_key is not None
        name, keys = b"E" * 16, dict[bytes, Value]()
        for data_key, purpose, medium in ((self.data_key, 1, bytes(16)), (b"n" * 32, 2, self.medium)):
            key = hkdf(data_key, label("data-key/id"), 16)
            associated = label("envelope-wrap") + domain.id + self.origin.id + name + key + bytes([purpose]) + medium
            associated += self.group + tag
            wrapping = hkdf(kms_key, label("kms-key/wrap") + tag[2:18])
            keys[key] = {
                "key": key,
                "purpose": purpose,
                "medium": medium,
                "commitment": hkdf(data_key, label("data-key/commit")),
                "nonce": bytes([generation]) * 12,
                "wrapped": AESGCM(wrapping).encrypt(bytes([generation]) * 12, data_key, associated),
            }
        payload: dict[str, Value] = {
            "incarnation": 1,
            "origin": self.origin.id,
            "envelope": name,
            "generation": generation,
            "group": self.group,
            "created": 1,
            "tag": tag,
            "cipher": 1,
            "keys": [keys[key] for key in sorted(keys)],
            "features": [],
        }
        file = f"envelopes/{name.hex()[:2]}/{name.hex()}-{domain.id.hex()}-{generation:08x}"
        return file, domain.sign("SRENVL01", payload)

    def write_image(self) -> None:
        files = [r for r in self.records if isinstance(r[0], int) and r[0] <= 8]
        content = sum(r[11] for r in files if isinstance(r[11], int))
        stream = b""
        end: list[Value] = [127, len(files), content]
        for item in map(pack, [*self.records, end]):
            stream += u(4, len(item)) + item
        parts = [stream[: len(stream) // 2], stream[len(stream) // 2 :]]
        entries_frame = make_frame(parts, 1, self.data_key, compress=True)
        contents = [SEGMENT_1, RANDOM_SEGMENT]
        payload_frame = make_frame(contents, 2, self.data_key, compress=False)
        entries = make_leaf([(entries_frame, parts)], [(0, 0), (0, 1)])
        leaves = [
            make_leaf([(payload_frame, contents)], [(0, 0), (0, 1)]),
            make_leaf([(payload_frame, contents)], [(0, 0)]),
        ]
        sizes = [len(SEGMENT_1) + 200_000, len(SEGMENT_1)]
        root = b"SRP1" + bytes([1, 1, 0, 0]) + u(4, 2, 0)
        root += b"".join(b3(leaf) + u(8, 2 - i, sizes[i]) for i, leaf in enumerate(leaves))
        key_page = b"SRK1" + bytes([0, 1, 0, 0]) + u(4, 1, 0) + b"E" * 16
        self.write_container(1, [entries_frame, payload_frame])
        self.write_container(2, [entries, *leaves, root, key_page])
        if self.encrypted:
            self.write(*self.envelope(self.origin, 1, self.kms_key, self.tag))
            self.write(*self.envelope(self.origin, 2, self.other_key, self.other_tag))
        if self.journal:
            batch: dict[str, Value] = {"medium": self.medium, "incarnation": 1, "sequence": 1, "previous": bytes(32)}
            batch |= {"at": 1, "records": self.journal, "features": []}
            self.write(f"journal/{1:016x}", self.writer.sign("SRJRNL01", batch))

        chunker: Value = [1, 65_536, 262_144, 1_048_576]
        streams: dict[str, Value] = {
            "entries": {"root": b3(entries), "segments": 2, "bytes": len(stream), "chunker": chunker},
            "payload": {"root": b3(root), "segments": 3, "bytes": sum(sizes), "chunker": chunker},
        }
        salt = b"S" * 16
        self.image = hashlib.sha256(label("image-id") + self.origin.id + salt).digest()[:16]
        image_header = self.origin.sign(
            "SRIMGH01",
            {
                "image": self.image,
                "salt": salt,
                "backup_id": "alpha_1700000000",
                "client": "alpha",
                "client_host": b"H" * 16,
                "policy": "daily",
                "schedule": "",
                "kind": "full",
                "started": MTIME,
                "ended": MTIME,
                "slp": "short",
                "slp_version": 1,
                "data_class": "",
                "retention": None,
                "key_group": self.group,
                "cipher": int(self.encrypted),
                "digest": 1,
                **streams,
                "files": len(files),
                "content": content,
                "problems": 0,
                "features": [],
            },
        )
        hops: list[Value] = []
        if self.from_peer:
            hop: dict[str, Value] = {"to": self.writer.id, "image": self.image, "origin": self.origin.id}
            hop |= {"header": b3(image_header), "sending": b"s" * 16, "slp": "import", "retention": None, "at": 1}
            hops.append(self.origin.sign("SRHOPR01", hop | {"previous": bytes(32), "features": []}))
        copy: dict[str, Value] = {
            "medium": self.medium,
            "image": self.image,
            "copy": 1,
            "fragment": 1,
            "written": 1,
            "expires": None,
            "encrypted": self.encrypted,
            "cipher": int(self.encrypted),
            "incarnation": 1,
            "slp": "short",
            "slp_version": 1,
            "from_copy": 0,
            "tags": [self.tag] if self.encrypted else [],
            "key_pages": [b3(key_page)] if self.encrypted else [],
            "entries": None,
            "payload": None,
            "journal": len(self.journal),
            "journal_medium": self.medium,
            "previous": bytes(32),
            "earlier": [],
            "hops": hops,
            "header": image_header,
            "features": [],
        }
        copy_header = self.writer.sign("SRCPYH01", copy | self.change)
        trailer: dict[str, Value] = {"medium": self.medium, "image": self.image, "copy": 1, "fragment": 1}
        trailer |= {"copy_header": b3(copy_header), "bytes": len(stream) + sum(sizes)}
        trailer |= {"digest": b3(b3(entries) + b3(root)), "files": len(files), "last": True, "features": []}
        self.name = f"{self.image.hex()}-0001"
        self.write(f"images/{self.name[:2]}/{self.name}", copy_header + self.writer.sign("SRTRLR01", trailer))
