"""Frames: neighbouring segments, compressed together and encrypted.

Source: ``docs/reference/formats/frame.md``. A frame's id is the digest of its whole stored form: anyone can
verify it, only who has the data key can read it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from strongroom.core.ids import DataKeyId, FrameId
from strongroom.core.secret import Secret
from strongroom.formats.algorithms import (
    GCM_TAG_BYTES,
    NONCE_BYTES,
    Cipher,
    Compression,
    Digest,
    NameHash,
    digest,
    known,
)
from strongroom.formats.errors import DamagedError
from strongroom.formats.magic import check_magic
from strongroom.formats.segment import MAX_SEGMENT_BYTES, NAME_BYTES, Buffer

MAGIC: Final = b"SRF1"
FIXED_BYTES: Final = 48
ROW: Final = struct.Struct(f">{NAME_BYTES}sI")
"""One segment in a head, and in a container's footer: name and length."""
MAX_SEGMENTS: Final = 4_096
MAX_PLAIN_BYTES: Final = 8 << 20
MAX_BODY_BYTES: Final = (8 << 20) + (64 << 10)
MAX_FRAME_BYTES: Final = FIXED_BYTES + ROW.size * MAX_SEGMENTS + MAX_BODY_BYTES
NO_KEY: Final = DataKeyId(bytes(16))
"""What stands for the data key id when the cipher is 0."""
MAX_WINDOW_BYTES: Final = 8 << 20

_FIXED: Final = struct.Struct(f">4sBBBBIII16s{NONCE_BYTES}s")
_COUNTER: Final = struct.Struct(">IQ")
_ZSTD_SKIPPABLE: Final = 0x184D2A50


@dataclass(frozen=True, slots=True)
class Head:
    """The clear part of a frame.

    Attributes:
        cipher: what the body is encrypted with.
        compression: what it was compressed with before that.
        data_key: names the data key; :data:`NO_KEY` when the cipher is 0.
        nonce: 12 bytes.
        plain_bytes: bytes of all segments together.
        body_bytes: length of the stored body, tag included.
        segments: name and length of each segment, by position.
    """

    cipher: Cipher
    compression: Compression
    data_key: DataKeyId
    nonce: bytes
    plain_bytes: int
    body_bytes: int
    segments: tuple[tuple[bytes, int], ...]

    @property
    def head_bytes(self) -> int:
        """Length of the head, which is where the body begins."""
        return FIXED_BYTES + ROW.size * len(self.segments)

    @property
    def stored_bytes(self) -> int:
        """Length of the whole frame."""
        return self.head_bytes + self.body_bytes


def frame_id(frame: Buffer) -> FrameId:
    """Compute the id of a whole frame."""
    return FrameId(digest(memoryview(frame)))


def compress(segments: Sequence[Buffer], compressor: zstandard.ZstdCompressor) -> tuple[Compression, bytes]:
    """Join segments and compress them, unless that makes them no shorter.

    Args:
        segments: in order; 1 byte to 8 MiB together.
        compressor: one for each thread, writing the content size (its default).
    """
    plain = b"".join(segments)
    packed = compressor.compress(plain)
    if len(packed) < len(plain):
        return Compression.ZSTANDARD, packed
    return Compression.NONE, plain


def stored_bytes(segments: int, packed_bytes: int, *, encrypted: bool) -> int:
    """Tell how long a frame becomes, before it is made."""
    return FIXED_BYTES + ROW.size * segments + packed_bytes + (GCM_TAG_BYTES if encrypted else 0)


def seal(
    rows: Sequence[tuple[bytes, int]],
    compression: Compression,
    packed: bytes,
    *,
    data_key: DataKeyId = NO_KEY,
    frame_key: Secret | None = None,
    counter: int = 0,
) -> bytearray:
    """Make the stored form of a frame.

    Args:
        rows: name and length of each segment, in order.
        compression: how ``packed`` was made, from :func:`compress`.
        packed: the segments after compression.
        data_key: id of the data key; left out together with ``frame_key`` for cipher 0.
        frame_key: frame key of that data key, 32 bytes.
        counter: from 1; never used before under this key.

    Raises:
        ValueError: a bound of the format would be broken, a mistake of the caller.
    """
    plain_bytes = sum(length for _, length in rows)
    body_bytes = len(packed) + (GCM_TAG_BYTES if frame_key else 0)
    if not 1 <= len(rows) <= MAX_SEGMENTS or not 1 <= plain_bytes <= MAX_PLAIN_BYTES or body_bytes > MAX_BODY_BYTES:
        raise ValueError("too many segments or bytes for a frame")
    if (frame_key is None) != (data_key == NO_KEY) or (frame_key is None) != (counter == 0):
        raise ValueError("a frame has a data key, a frame key and a counter, or none of them")
    cipher = Cipher.NONE if frame_key is None else Cipher.AES_256_GCM
    nonce = _COUNTER.pack(0, counter)
    head_bytes = FIXED_BYTES + ROW.size * len(rows)
    frame = bytearray(head_bytes + body_bytes)
    _FIXED.pack_into(
        frame, 0, MAGIC, cipher, compression, NameHash.BLAKE3_KEYED, Digest.BLAKE3, len(rows), plain_bytes, body_bytes,
        data_key, nonce
    )  # fmt: skip
    offset = FIXED_BYTES
    for name, length in rows:
        ROW.pack_into(frame, offset, name, length)
        offset += ROW.size
    if frame_key is None:
        frame[head_bytes:] = packed
    else:
        body = memoryview(frame)[head_bytes:]
        AESGCM(frame_key.reveal()).encrypt_into(nonce, packed, bytes(frame[:head_bytes]), body)
    return frame


def stored_length_at(fixed: Buffer, what: str = "frame") -> int:
    """Tell a frame's whole length from its first 48 bytes, bounds checked.

    Raises:
        DamagedError: not a frame, or a length over its bound.
        NewerFormatError: a later version or an unknown algorithm.
    """
    return _parse_fixed(fixed, what).stored_bytes


def parse_head(data: Buffer, what: str = "frame") -> Head:
    """Read the head of a frame.

    Args:
        data: at least the head; what follows is not looked at.
        what: names the frame in messages.

    Raises:
        DamagedError: cut short, or a rule of the head is broken.
        NewerFormatError: a later version or an unknown algorithm.
    """
    fixed = _parse_fixed(data, what)
    head_bytes = FIXED_BYTES + ROW.size * fixed.count
    if len(data) < head_bytes:
        raise DamagedError(f"{what} is cut short in its head")
    segments = tuple(ROW.iter_unpack(memoryview(data)[FIXED_BYTES:head_bytes]))
    total = 0
    for _, length in segments:
        if not 1 <= length <= MAX_SEGMENT_BYTES:
            raise DamagedError(f"{what} has a segment of {length} bytes")
        total += length
    if total != fixed.plain_bytes:
        raise DamagedError(f"{what} claims {fixed.plain_bytes} bytes, and its segments have {total}")
    return Head(
        fixed.cipher,
        fixed.compression,
        fixed.data_key,
        fixed.nonce,
        fixed.plain_bytes,
        fixed.body_bytes,
        segments,
    )


def check(data: Buffer, expected: FrameId) -> Head:
    """Verify a whole frame by its id, without a key.

    Raises:
        DamagedError: the digest is not the id, the head breaks a rule, or something is missing or left over.
        NewerFormatError: a later version or an unknown algorithm.
    """
    what = f"frame '{expected.hex()}'"
    if len(data) > MAX_FRAME_BYTES:
        raise DamagedError(f"{what} has {len(data)} bytes, more than the {MAX_FRAME_BYTES} that are allowed")
    if frame_id(data) != expected:
        raise DamagedError(f"{what} has another digest")
    head = parse_head(data, what)
    if head.stored_bytes != len(data):
        raise DamagedError(f"{what} has {len(data)} bytes, and its head says {head.stored_bytes}")
    return head


def open_body(data: Buffer, head: Head, frame_key: Secret | None, what: str = "frame") -> bytes:
    """Decrypt and decompress the body of a frame.

    Args:
        data: the whole frame, as it was given to :func:`check`.
        head: its head.
        frame_key: frame key of ``head.data_key``; ``None`` for cipher 0.
        what: names the frame in messages.

    Returns:
        The segments one after the other, ``head.plain_bytes`` bytes.

    Raises:
        DamagedError: it does not authenticate or decompress to what the head says.
        ValueError: a key is missing or too much, a mistake of the caller.
    """
    if (frame_key is None) != (head.cipher is Cipher.NONE):
        raise ValueError(f"{what} needs {'no key' if frame_key else 'a key'}")
    view = memoryview(data)
    body: Buffer = view[head.head_bytes : head.stored_bytes]
    if len(body) != head.body_bytes:
        raise DamagedError(f"{what} is cut short in its body")
    if frame_key is not None:
        try:
            body = AESGCM(frame_key.reveal()).decrypt(head.nonce, body, view[: head.head_bytes])
        except InvalidTag as error:
            raise DamagedError(f"{what} does not authenticate under data key '{head.data_key.hex()}'") from error
    if head.compression is Compression.NONE:
        plain = bytes(body)
    else:
        plain = _decompress(memoryview(body), head.plain_bytes, what)
    if len(plain) != head.plain_bytes:
        raise DamagedError(f"{what} holds {len(plain)} bytes, and its head says {head.plain_bytes}")
    return plain


@dataclass(frozen=True, slots=True)
class _Fixed:
    cipher: Cipher
    compression: Compression
    count: int
    plain_bytes: int
    body_bytes: int
    data_key: DataKeyId
    nonce: bytes

    @property
    def stored_bytes(self) -> int:
        return FIXED_BYTES + ROW.size * self.count + self.body_bytes


def _parse_fixed(data: Buffer, what: str) -> _Fixed:
    if len(data) < FIXED_BYTES:
        raise DamagedError(f"{what} is cut short in its head")
    magic, cipher, compression, name_hash, digest_id, count, plain_bytes, body_bytes, key, nonce = _FIXED.unpack_from(
        data
    )
    check_magic(magic, MAGIC, what)
    if not 1 <= count <= MAX_SEGMENTS:
        raise DamagedError(f"{what} claims {count} segments")
    if not 1 <= plain_bytes <= MAX_PLAIN_BYTES or body_bytes > MAX_BODY_BYTES:
        raise DamagedError(f"{what} claims a body of {body_bytes} bytes that become {plain_bytes}")
    known(NameHash, name_hash, f"segment name algorithm of {what}")
    known(Digest, digest_id, f"digest algorithm of {what}")
    used = known(Cipher, cipher, f"cipher of {what}")
    packing = known(Compression, compression, f"compression of {what}")
    if used is Cipher.NONE:
        if key != NO_KEY or nonce != bytes(NONCE_BYTES):
            raise DamagedError(f"{what} is not encrypted, and names a data key or a nonce")
    elif body_bytes < GCM_TAG_BYTES:
        raise DamagedError(f"{what} has a body shorter than its tag")
    elif nonce[:4] != bytes(4):
        raise DamagedError(f"{what} has a nonce that does not begin with zeros")
    return _Fixed(used, packing, count, plain_bytes, body_bytes, DataKeyId(key), nonce)


def _decompress(body: memoryview, plain_bytes: int, what: str) -> bytes:
    """Decompress one Zstandard frame, followed by skippable frames only.

    The content size is compared before anything is allocated, and the output buffer is of that size, so a
    small body cannot grow beyond what the head says, whatever its blocks claim.
    """
    if bytes(body[:4]) != zstandard.FRAME_HEADER:
        raise DamagedError(f"{what} does not begin with Zstandard data")
    try:
        parameters = zstandard.get_frame_parameters(body)
        if parameters.content_size != plain_bytes:
            raise DamagedError(f"{what} does not state its content size as {plain_bytes}")
        if parameters.dict_id or parameters.window_size > MAX_WINDOW_BYTES:
            raise DamagedError(f"{what} needs a dictionary, or a larger window than {MAX_WINDOW_BYTES} bytes")
        end = _zstd_frame_end(body, zstandard.frame_header_size(body), what) + (4 if parameters.has_checksum else 0)
        _check_skippable(body, end, what)
        return zstandard.ZstdDecompressor().decompress(body[:end])
    except zstandard.ZstdError as error:
        raise DamagedError(f"{what} does not decompress: {error}") from error


def _zstd_frame_end(body: memoryview, at: int, what: str) -> int:
    """Find where the last block of a Zstandard frame ends, from the heads of its blocks (RFC 8878, section 3.1.1)."""
    last = False
    while not last:
        if at + 3 > len(body):
            raise DamagedError(f"{what} has Zstandard data that are cut short")
        block = int.from_bytes(body[at : at + 3], "little")
        last = bool(block & 1)
        is_run = block >> 1 & 3 == 1
        at += 3 + (1 if is_run else block >> 3)
    return at


def _check_skippable(body: memoryview, at: int, what: str) -> None:
    """Accept nothing but whole skippable frames from ``at`` to the end."""
    while at < len(body):
        if at + 8 > len(body) or int.from_bytes(body[at : at + 4], "little") & ~0xF != _ZSTD_SKIPPABLE:
            raise DamagedError(f"{what} has something behind its data that is not padding")
        at += 8 + int.from_bytes(body[at + 4 : at + 8], "little")
    if at > len(body):
        raise DamagedError(f"{what} has Zstandard data or padding that is cut short")
