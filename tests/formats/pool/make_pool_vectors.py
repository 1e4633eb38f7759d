"""Makes ``pool.json``: frames, containers and manifest pages, right ones and wrong ones.

Written from the pages in ``docs/reference/formats`` with struct, BLAKE3 and AES-GCM alone, without the
product's own code. From the root of the repository: ``python tests/formats/pool/make_pool_vectors.py``.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
from pathlib import Path
from typing import Any

from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SEGMENTS = [b"first segment", b"second"]
NAMING_KEY = bytes(range(32))
FRAME_KEY = bytes(range(32, 64))
DATA_KEY = bytes(range(16))
ENVELOPE = b"e" * 16
CONTAINER, MEDIUM, ORIGIN = b"C" * 16, b"M" * 16, b"O" * 32
NAMES = [blake3(segment, key=NAMING_KEY).digest() for segment in SEGMENTS]

Vector = dict[str, Any]


def digest(data: bytes) -> bytes:
    return blake3(data).digest()


def zstd_raw(plain: bytes) -> bytes:
    """One Zstandard frame with a single raw block: any decoder reads it, any encoder's version aside."""
    return struct.pack("<IBB", 0xFD2FB528, 0x20, len(plain)) + struct.pack("<I", len(plain) << 3 | 1)[:3] + plain


def wide_window(plain: bytes) -> bytes:
    """The same with a window descriptor of 16 MiB and a content size of two bytes, which counts from 256."""
    head = struct.pack("<IBB", 0xFD2FB528, 0x40, (24 - 10) << 3) + struct.pack("<H", 0)
    return head + struct.pack("<I", len(plain) << 3 | 1)[:3] + plain


def padding(count: int) -> bytes:
    return struct.pack("<II", 0x184D2A53, count) + bytes(count)


def frame(
    *,
    cipher: int = 1,
    compression: int = 0,
    packed: bytes = b"".join(SEGMENTS),
    plain_bytes: int = 19,
    lengths: tuple[int, ...] = (13, 6),
    digest_id: int = 1,
    name_hash: int = 1,
    magic: bytes = b"SRF1",
    counter: int = 7,
    data_key: bytes | None = None,
    prefix: int = 0,
) -> bytes:
    body_bytes = len(packed) + (16 if cipher else 0)
    nonce = struct.pack(">IQ", prefix, counter) if cipher else bytes(12)
    key_id = data_key if data_key is not None else DATA_KEY if cipher else bytes(16)
    head = struct.pack(
        ">4sBBBBIII16s12s",
        magic,
        cipher,
        compression,
        name_hash,
        digest_id,
        len(lengths),
        plain_bytes,
        body_bytes,
        key_id,
        nonce,
    )
    for name, length in zip(NAMES, lengths, strict=False):
        head += name + struct.pack(">I", length)
    return head + (AESGCM(FRAME_KEY).encrypt(nonce, packed, head) if cipher else packed)


def leaf(
    frames: list[bytes], references: list[bytes], magic: bytes = b"SRP1", level: int = 0, digest_id: int = 1
) -> bytes:
    counts = struct.pack(">II", len(frames), len(references))
    return magic + bytes((level, digest_id, 0, 0)) + counts + b"".join(frames) + b"".join(references)


def interior(level: int, children: list[bytes], zero: int = 0) -> bytes:
    return b"SRP1" + bytes((level, 1, 0, 0)) + struct.pack(">II", len(children), zero) + b"".join(children)


def container(items: list[tuple[bytes, bytes, list[tuple[bytes, int]]]], content: int = 1, mark: bool = True) -> bytes:
    front = struct.pack(
        ">8s16s16s32sQBB6s", b"SRCONT01", CONTAINER, MEDIUM, ORIGIN, 1_000_000_007, content, 1, bytes(6)
    )
    header = front + digest(front)[:8]
    data, rows = header, b""
    segments: list[tuple[bytes, int]] = []
    for item, data_key, names in items:
        rows += digest(item) + struct.pack(">QII", len(data), len(item), len(segments)) + data_key
        segments += names
        data += item
    footer = b"SRFOOT01" + struct.pack(">II", len(items), len(segments)) + rows
    footer += b"".join(name + struct.pack(">I", length) for name, length in segments)
    marked = container_mark(digest(header + footer)) if mark else bytes(32)
    tail = struct.pack(">QQ", len(data), len(footer)) + digest(header + footer) + marked + bytes(8) + b"SREND001"
    return data + footer + tail


def with_footer_again(whole: bytes, at: int, new: bytes) -> bytes:
    """Change bytes of the footer and write the digest anew, so that only the rule itself is broken."""
    offset, length = struct.unpack(">QQ", whole[-96:-80])
    changed = whole[: offset + at] + new + whole[offset + at + len(new) :]
    total = digest(changed[:96] + changed[offset : offset + length])
    return changed[:-80] + total + container_mark(total) + changed[-16:]


def container_mark(total: bytes) -> bytes:
    """HKDF-SHA-256 with an empty salt, one block, then keyed BLAKE3."""
    secret = hmac.digest(bytes(32), NAMING_KEY, "sha256")
    key = hmac.digest(secret, b"strongroom/container-mark/v1\0\x01", "sha256")
    return blake3(total, key=key).digest()


def vector(kind: str, name: str, data: bytes, outcome: str = "right", **facts: Any) -> Vector:
    return {"kind": kind, "name": name, "outcome": outcome, "data": data.hex(), **facts}


def frames() -> list[Vector]:
    plain = b"".join(SEGMENTS)
    packed = zstd_raw(plain)
    right = frame()
    return [
        vector("frame", "encrypted", right, plain=plain.hex()),
        vector("frame", "encrypted and compressed", frame(compression=1, packed=packed), plain=plain.hex()),
        vector(
            "frame",
            "compressed, padding behind",
            frame(compression=1, packed=packed + padding(5) + padding(0)),
            plain=plain.hex(),
        ),
        vector("frame", "clear", frame(cipher=0), plain=plain.hex()),
        vector("frame", "clear and compressed", frame(cipher=0, compression=1, packed=packed), plain=plain.hex()),
        vector("frame", "no segments", frame(lengths=(), plain_bytes=0), "damaged"),
        vector("frame", "sum of lengths differs", frame(plain_bytes=20), "damaged"),
        vector("frame", "segment without bytes", frame(lengths=(19, 0)), "damaged"),
        vector("frame", "unknown digest", frame(digest_id=2), "newer"),
        vector("frame", "clear with a data key id", frame(cipher=0, data_key=DATA_KEY), "damaged"),
        vector("frame", "body shorter than a tag", right[:16] + struct.pack(">I", 15) + right[20:], "damaged"),
        vector("frame", "cut short", right[:-1], "damaged"),
        vector("frame", "something behind", right + b"\0", "damaged"),
        vector("frame", "changed ciphertext", right[:-17] + bytes((right[-17] ^ 1,)) + right[-16:], "damaged"),
        vector("frame", "changed name", right[:48] + bytes((right[48] ^ 1,)) + right[49:], "damaged"),
        vector("frame", "not Zstandard", frame(compression=1, packed=plain), "damaged"),
        vector("frame", "nonce that does not begin with zeros", frame(prefix=1), "damaged"),
        vector("frame", "content size differs", frame(compression=1, packed=zstd_raw(plain + b"!")), "damaged"),
        vector("frame", "garbage behind the data", frame(compression=1, packed=packed + b"x"), "damaged"),
        vector("frame", "padding cut short", frame(compression=1, packed=packed + padding(5)[:-1]), "damaged"),
        vector("frame", "second Zstandard frame", frame(compression=1, packed=packed + packed), "damaged"),
        vector(
            "frame",
            "window over 8 MiB",
            frame(compression=1, packed=wide_window(bytes(256)), plain_bytes=256, lengths=(200, 56)),
            "damaged",
        ),
        vector("frame", "later version", frame(magic=b"SRF2"), "newer"),
        vector("frame", "unknown cipher", right[:4] + b"\x09" + right[5:], "newer"),
        vector("frame", "unknown compression", right[:5] + b"\x09" + right[6:], "newer"),
        vector("frame", "unknown name hash", frame(name_hash=2), "newer"),
    ]


def pages() -> list[Vector]:
    row = digest(frame()) + DATA_KEY + struct.pack(">II", len(frame()), 19)
    other = digest(b"other") + DATA_KEY + struct.pack(">II", 100, 6)
    uses = [
        name + struct.pack(">HHI", 0, position, length)
        for position, (name, length) in enumerate(zip(NAMES, (13, 6), strict=True))
    ]
    right = leaf([row], uses)
    child = digest(right) + struct.pack(">QQ", 2, 19)
    return [
        vector("page", "leaf", right, references=2, bytes=19),
        vector("page", "empty leaf", leaf([], []), references=0, bytes=0),
        vector("page", "interior", interior(1, [child, child]), references=4, bytes=38),
        vector("page", "frame listed twice", leaf([row, row], uses), "damaged"),
        vector("page", "unknown digest", leaf([row], uses, digest_id=2), "newer"),
        vector(
            "page",
            "frames not in the order of use",
            leaf([row, other], [uses[1][:32] + struct.pack(">HHI", 1, 1, 6), uses[0]]),
            "damaged",
        ),
        vector(
            "page",
            "sum over 2^62",
            interior(1, [digest(right) + struct.pack(">QQ", 1 << 61, 1 << 62), child]),
            "damaged",
        ),
        vector("page", "frame not used", leaf([row, other], uses), "damaged"),
        vector(
            "page",
            "reference to no frame",
            leaf([row], [uses[0], NAMES[1] + struct.pack(">HHI", 1, 1, 6)]),
            "damaged",
        ),
        vector(
            "page",
            "reference without bytes",
            leaf([row], [NAMES[0] + struct.pack(">HHI", 0, 0, 0)]),
            "damaged",
        ),
        vector("page", "level over 8", interior(9, [child]), "damaged"),
        vector("page", "interior without children", interior(1, []), "damaged"),
        vector("page", "reserved number set", interior(1, [child], zero=1), "damaged"),
        vector(
            "page",
            "child without references",
            interior(1, [digest(right) + struct.pack(">QQ", 0, 0)]),
            "damaged",
        ),
        vector("page", "cut short", right[:-1], "damaged"),
        vector("page", "something behind", right + b"\0", "damaged"),
        vector("page", "later version", leaf([row], uses, magic=b"SRP2"), "newer"),
    ]


def key_page(envelopes: list[bytes], count: int | None = None, zero: int = 0) -> bytes:
    fixed = struct.pack(">4sBB2sII", b"SRK1", zero, 1, bytes(2), len(envelopes) if count is None else count, 0)
    return fixed + b"".join(envelopes)


def key_pages() -> list[Vector]:
    right = [b"a" * 16, ENVELOPE]
    return [
        vector("key page", "two envelopes", key_page(right), envelopes=[one.hex() for one in right]),
        vector("key page", "no envelope", key_page([]), "damaged"),
        vector("key page", "twice the same", key_page([ENVELOPE, ENVELOPE]), "damaged"),
        vector("key page", "not ascending", key_page(right[::-1]), "damaged"),
        vector("key page", "another count", key_page(right, 1), "damaged"),
        vector("key page", "reserved byte set", key_page(right, zero=1), "damaged"),
        vector("key page", "later version", b"SRK2" + key_page(right)[4:], "newer"),
    ]


def containers() -> list[Vector]:
    rows = list(zip(NAMES, (13, 6), strict=True))
    right = container([(frame(), DATA_KEY, rows), (frame(counter=8), DATA_KEY, rows)])
    footer_at = struct.unpack(">Q", right[-96:-88])[0]
    unsealed = right[:footer_at]
    return [
        vector("container", "two frames", right, items=2, segments=4, scanned=2),
        vector(
            "container",
            "a page",
            container([(leaf([], []), bytes(16), [])], 2, mark=False),
            items=1,
            segments=0,
            scanned=1,
        ),
        vector(
            "container",
            "a key page",
            container([(key_page([ENVELOPE]), bytes(16), [])], 2, mark=False),
            items=1,
            segments=0,
            scanned=1,
        ),
        vector("container", "not sealed", unsealed, "damaged", scanned=2),
        vector("container", "stopped inside an item", unsealed[:-1], "damaged", scanned=1),
        vector("container", "no item", container([]), "damaged"),
        vector("container", "header changed", right[:24] + b"m" + right[25:], "damaged"),
        vector("container", "unknown content", container([(frame(), DATA_KEY, rows)], 3), "newer"),
        vector("container", "footer changed", right[:-97] + b"\xff" + right[-96:], "damaged"),
        vector("container", "tail changed", right[:-9] + b"\x01" + right[-8:], "damaged"),
        vector("container", "cut short", right[:-1], "damaged"),
        vector("container", "gap before an item", with_footer_again(right, 16 + 39, b"\x61"), "damaged"),
        vector("container", "first segment not 0", with_footer_again(right, 16 + 47, b"\x01"), "damaged"),
        vector(
            "container",
            "first segments do not rise",
            with_footer_again(right, 16 + 64 + 47, b"\x00"),
            "damaged",
        ),
        vector(
            "container",
            "segment too long",
            with_footer_again(right, 16 + 128 + 32, b"\x00\x40\x00\x01"),
            "damaged",
        ),
        vector("container", "later version", b"SRCONT02" + right[8:], "newer"),
    ]


def main() -> None:
    vectors = {
        "about": "made by make_pool_vectors.py beside this file",
        "segments": [segment.hex() for segment in SEGMENTS],
        "naming_key": NAMING_KEY.hex(),
        "names": [name.hex() for name in NAMES],
        "clear_names": {"medium": MEDIUM.hex(), "key": clear_naming_key().hex()},
        "frame_key": FRAME_KEY.hex(),
        "vectors": frames() + pages() + key_pages() + containers(),
    }
    Path(__file__).with_name("pool.json").write_text(json.dumps(vectors, indent=1) + "\n")


def clear_naming_key() -> bytes:
    return hashlib.sha256(b"strongroom/clear-names/v1\0" + MEDIUM).digest()


if __name__ == "__main__":
    main()
