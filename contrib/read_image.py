"""Read the images of a strongroom pool with nothing but this file and three libraries.

Written from the pages in `docs/reference/formats`, and sharing no code with the product, so that whoever holds a
pool and a key can read it without the product. Docstrings name the page that they implement.

    read_image.py list    POOL
    read_image.py verify  POOL IMAGE[-COPY]
    read_image.py restore POOL IMAGE[-COPY] --to DIR --key TAG --passphrase-file FILE
    read_image.py restore POOL IMAGE[-COPY] --tar - --keystore FILE --hmk FILE --kpk FILE

Needs Python 3.11 on Linux, and the packages cryptography, blake3 and zstandard.
"""

import argparse
import contextlib
import datetime as dt
import functools
import hashlib
import itertools
import os
import stat
import sys
import unicodedata
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeAlias, TypeVar

import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
MAX_INT = (1 << 63) - 1
MAX_SUM = 1 << 62
ZEROS = bytes(32)

Value: TypeAlias = "bool | int | str | bytes | list[Value] | dict[str, Value] | None"
T = TypeVar("T")


class ReadError(Exception):
    """What is read cannot be used; `outcome` is one of the words of the pages."""

    outcome = "invalid"

    def __str__(self) -> str:
        return f"{self.outcome}: {super().__str__()}"


class Damaged(ReadError):
    """It is not what its page says."""

    outcome = "damaged"


class Newer(ReadError):
    """It needs a later reader."""

    outcome = "newer"


class Revoked(ReadError):
    """It was signed under a certificate that its domain has revoked."""

    outcome = "revoked"


class Incomplete(ReadError):
    """Something that an image needs is not there."""

    outcome = "incomplete"


class WrongKey(ReadError):
    """The key or pass phrase does not open it."""

    outcome = "wrong key"


class Refused(ReadError):
    """The reader could, and does not."""

    outcome = "refused"


def need(condition: bool, reason: str) -> None:
    """Reject as damaged unless the condition holds."""
    if not condition:
        raise Damaged(reason)


def known(condition: bool, reason: str) -> None:
    """Reject as newer unless the condition holds."""
    if not condition:
        raise Newer(reason)


def warn(text: str) -> None:
    """Tell the user something that does not end the run."""
    print(f"read_image: {shown(text)}", file=sys.stderr)


def shown(text: str) -> str:
    """Text from a medium, safe for a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def shown_path(path: bytes) -> str:
    """A path from an image, safe for a terminal."""
    return shown(path.decode("utf-8", "backslashreplace"))


# ---------------------------------------------------------------- algorithms: conventions.md


def label(name: str) -> bytes:
    """The label of a derivation or signature (conventions.md, Labels)."""
    return f"strongroom/{name}/v1".encode() + b"\0"


def digest(data: bytes) -> bytes:
    """Digest algorithm 1, BLAKE3 (conventions.md)."""
    return blake3(data).digest()


def hkdf(key: bytes, info: bytes, length: int = 32) -> bytes:
    """Key derivation 1, HKDF-SHA-256 with an empty salt (conventions.md)."""
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=info).derive(key)


def argon2id(phrase: bytes, salt: bytes) -> bytes:
    """Pass phrase derivation 1 (conventions.md)."""
    return Argon2id(salt=salt, length=32, iterations=3, lanes=4, memory_cost=65_536).derive(phrase)


def unseal(key: bytes, nonce: bytes, sealed: bytes, associated: bytes) -> bytes | None:
    """Decrypt cipher 1, AES-256-GCM (conventions.md); None when it does not authenticate."""
    try:
        return AESGCM(key).decrypt(nonce, sealed, associated)
    except InvalidTag:
        return None


@functools.cache
def crc32c_table() -> list[int]:
    """The table of the reflected polynomial of CRC-32C (key-tag.md)."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


def crc32c(data: bytes) -> int:
    """CRC-32C, Castagnoli (key-tag.md)."""
    state, table = 0xFFFFFFFF, crc32c_table()
    for byte in data:
        state = state >> 8 ^ table[(state ^ byte) & 0xFF]
    return state ^ 0xFFFFFFFF


def signature_is_valid(public: bytes, signature: bytes, message: bytes) -> bool:
    """Check an Ed25519 signature as strictly as signed-object.md (Checking, 6) demands.

    The library works without cofactor and rejects an S that is not below the group order. What it does not reject
    are public keys that are not canonical, and those of small order. The latter are told by y alone: 1, -1 and 0
    for the orders 1, 2 and 4; and for order 8 the doubled point has y = 0, which makes d y^4 + 2 y^2 = 1.
    """
    prime = 2**255 - 19
    d = -121665 * pow(121666, -1, prime) % prime
    y = int.from_bytes(public, "little") & (1 << 255) - 1
    if y >= prime or y in (0, 1, prime - 1) or (d * pow(y, 4, prime) + 2 * y * y - 1) % prime == 0:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


# ---------------------------------------------------------------- records: conventions.md


class RecordDecoder:
    """MessagePack in its only allowed encoding (conventions.md, Records): every other byte string is rejected."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, length: int) -> bytes:
        """The next bytes; never believes a length that is not there."""
        need(length <= len(self.data) - self.at, "record: shorter than it says")
        self.at += length
        return self.data[self.at - length : self.at]

    def number(self, size: int, least: int) -> int:
        """An unsigned number of `size` bytes that does not fit a shorter form."""
        value = int.from_bytes(self.take(size), "big")
        need(value >= least, "record: not the shortest form")
        return value

    def value(self, depth: int = 0) -> Value:
        """The next value."""
        first = self.take(1)[0]
        if first <= 0x7F:
            return first
        if first <= 0x8F:
            return self.map(first & 0x0F, depth)
        if first <= 0x9F:
            return self.array(first & 0x0F, depth)
        if first <= 0xBF:
            return self.text(first & 0x1F)
        if first >= 0xE0:
            return first - 256
        match first:
            case 0xC0:
                return None
            case 0xC2 | 0xC3:
                return first == 0xC3
            case 0xC4 | 0xC5 | 0xC6:
                return self.take(self.number(1 << first - 0xC4, (0, 1 << 8, 1 << 16)[first - 0xC4]))
            case 0xCC | 0xCD | 0xCE | 0xCF:
                value = self.number(1 << first - 0xCC, (1 << 7, 1 << 8, 1 << 16, 1 << 32)[first - 0xCC])
                need(value <= MAX_INT, "record: number too large")
                return value
            case 0xD0 | 0xD1 | 0xD2 | 0xD3:
                signed = int.from_bytes(self.take(1 << first - 0xD0), "big", signed=True)
                need(signed < (-(1 << 5), -(1 << 7), -(1 << 15), -(1 << 31))[first - 0xD0], "record: not the shortest")
                return signed
            case 0xD9 | 0xDA | 0xDB:
                return self.text(self.number(1 << first - 0xD9, (1 << 5, 1 << 8, 1 << 16)[first - 0xD9]))
            case 0xDC | 0xDD:
                return self.array(self.number(2 << first - 0xDC, (1 << 4, 1 << 16)[first - 0xDC]), depth)
            case 0xDE | 0xDF:
                return self.map(self.number(2 << first - 0xDE, (1 << 4, 1 << 16)[first - 0xDE]), depth)
            case _:
                raise Damaged(f"record: type {first:#x} is not allowed")

    def text(self, length: int) -> str:
        """A `str`."""
        try:
            text = self.take(length).decode()
        except UnicodeDecodeError:
            raise Damaged("record: text that is not UTF-8") from None
        need("\0" not in text, "record: text with a zero character")
        return text

    def array(self, count: int, depth: int) -> list[Value]:
        """An array; each element has at least one byte, which bounds the count."""
        need(depth < 16, "record: nested too deep")
        need(count <= len(self.data) - self.at, "record: shorter than it says")
        return [self.value(depth + 1) for _ in range(count)]

    def map(self, count: int, depth: int) -> dict[str, Value]:
        """A map with text as keys, none of them twice."""
        need(depth < 16, "record: nested too deep")
        need(count <= len(self.data) - self.at, "record: shorter than it says")
        result: dict[str, Value] = {}
        for _ in range(count):
            key = self.value(depth + 1)
            if not isinstance(key, str) or key in result:
                raise Damaged("record: a key that is not text, or is there twice")
            result[key] = self.value(depth + 1)
        return result


def decode(data: bytes) -> Value:
    """One whole record (conventions.md, Records)."""
    decoder = RecordDecoder(data)
    value = decoder.value()
    need(decoder.at == len(data), "record: bytes behind it")
    return value


def as_number(value: Value, what: str, low: int = 0, high: int = MAX_INT) -> int:
    """An integer in its range."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise Damaged(f"{what}: not a number in its range")
    return value


def as_data(value: Value, what: str, low: int, high: int | None = None) -> bytes:
    """A `bin` of exactly `low` bytes, or `low` to `high`."""
    if not isinstance(value, bytes) or not low <= len(value) <= (low if high is None else high):
        raise Damaged(f"{what}: not bytes of its length")
    return value


class Fields:
    """The fields of a record that is a map."""

    def __init__(self, value: Value, what: str) -> None:
        if not isinstance(value, dict):
            raise Damaged(f"{what}: not a map")
        self.map, self.what = value, what

    def get(self, key: str) -> Value:
        """A field of any type; it must be present."""
        need(key in self.map, f"{self.what}: no field {key}")
        return self.map[key]

    def number(self, key: str, low: int = 0, high: int = MAX_INT) -> int:
        """An integer."""
        return as_number(self.get(key), f"{self.what}: {key}", low, high)

    def number_or_nil(self, key: str, high: int = MAX_INT) -> int | None:
        """An integer or nil."""
        return None if self.get(key) is None else self.number(key, 0, high)

    def data(self, key: str, low: int, high: int | None = None) -> bytes:
        """Bytes."""
        return as_data(self.get(key), f"{self.what}: {key}", low, high)

    def text(self, key: str, low: int, high: int, characters: int | None = None) -> str:
        """Text of `low` to `high` bytes."""
        value = self.get(key)
        if not isinstance(value, str) or not low <= len(value.encode()) <= high:
            raise Damaged(f"{self.what}: {key}: not text of its length")
        need(characters is None or len(value) <= characters, f"{self.what}: {key}: too long")
        return value

    def flag(self, key: str) -> bool:
        """A boolean."""
        value = self.get(key)
        if not isinstance(value, bool):
            raise Damaged(f"{self.what}: {key}: not a boolean")
        return value

    def items(self, key: str, high: int, low: int = 0) -> list[Value]:
        """An array of `low` to `high` elements."""
        value = self.get(key)
        if not isinstance(value, list) or not low <= len(value) <= high:
            raise Damaged(f"{self.what}: {key}: not an array of its length")
        return value

    def algorithm(self, key: str, *ids: int) -> int:
        """An algorithm id that this reader knows."""
        value = self.number(key)
        known(value in ids, f"{self.what}: {key} is {value}")
        return value


def need_ascending(values: list[bytes], what: str) -> None:
    """Arrays that a page calls ascending (conventions.md, Records)."""
    need(all(a < b for a, b in itertools.pairwise(values)), f"{what}: not ascending")


# ---------------------------------------------------------------- signed objects: signed-object.md

BOUNDS = {
    b"SRARCC01": 512,
    b"SRHOPR01": 2 * KIB,
    b"SRTRLR01": 16 * KIB,
    b"SRMEDH01": 16 * KIB,
    b"SRIMGH01": 64 * KIB,
    b"SRCPYH01": 512 * KIB,
    b"SRREVL01": MIB,
    b"SRENVL01": MIB,
    b"SRJRNL01": 4 * MIB,
}
SIGNED_BY_ROOT = (b"SRARCC01", b"SRREVL01")
MAX_SEAL = 2_048


def object_bound(magic: bytes) -> int:
    """The longest a whole object can be (signed-object.md, Bounds)."""
    return 4_112 if magic == b"SRHOPR01" else BOUNDS[magic] + 16 + MAX_SEAL


@dataclass(frozen=True)
class Signed:
    """A signed object that passed every check of signed-object.md."""

    raw: bytes
    domain: bytes
    fields: Fields
    certificate: int | None
    root: bytes


def domain_id(alg: int, root: bytes) -> bytes:
    """The name of a domain (identity.md, Domain id)."""
    return hashlib.sha256(label("domain-id") + bytes([alg]) + root).digest()


def object_length(data: bytes) -> int:
    """The length of the object that the bytes begin with (signed-object.md)."""
    need(len(data) >= 16, "object: too short")
    payload = int.from_bytes(data[8:12], "big")
    need(payload <= len(data) - 16, "object: shorter than it says")
    return 16 + payload + int.from_bytes(data[12 + payload : 16 + payload], "big")


def check_object(raw: bytes, magic: bytes) -> Signed:
    """All checks but revocation, in the order of the page (signed-object.md, Checking)."""
    what = magic.decode()
    if raw[:8] != magic:
        digits = raw[6:8]
        known(not (raw[:6] == magic[:6] and digits.isdigit() and digits > magic[6:]), f"{what}: another version")
        raise Damaged(f"{what}: another magic")
    need(len(raw) <= object_bound(magic) and object_length(raw) == len(raw), f"{what}: its length is not what it says")
    payload_length = int.from_bytes(raw[8:12], "big")
    need(payload_length <= BOUNDS[magic] and len(raw) - 16 - payload_length <= MAX_SEAL, f"{what}: too long")
    signed_part = raw[: 12 + payload_length]

    seal = Fields(decode(raw[16 + payload_length :]), f"{what}: seal")
    need(list(seal.map) == ["alg", "root", "cert", "sig"], f"{what}: seal: other keys, or another order")
    alg, root = seal.algorithm("alg", 1), seal.data("root", 32)
    signer = domain_id(alg, root)
    key, number, cert_hash = root, None, ZEROS
    need((seal.get("cert") is None) == (magic in SIGNED_BY_ROOT), f"{what}: signed by the wrong kind of key")
    if seal.get("cert") is not None:
        raw_cert = seal.data("cert", 1, 1_024)
        cert = check_object(raw_cert, b"SRARCC01")
        need(cert.root == root and cert.domain == signer, f"{what}: certificate of another domain")
        number = cert.fields.number("number", 1, (1 << 32) - 1)
        cert.fields.algorithm("alg", 1)
        cert.fields.number("from")
        key, cert_hash = cert.fields.data("key", 32), hashlib.sha256(raw_cert).digest()
    message = label("signed-object") + signed_part + cert_hash
    need(signature_is_valid(key, seal.data("sig", 64), message), f"{what}: the signature is wrong")

    payload = Fields(decode(signed_part[12:]), what)
    need(payload.data("domain", 32) == signer, f"{what}: domain is not the signer's")
    return Signed(raw, signer, payload, number, root)


def check_features(fields: Fields) -> None:
    """Reject what a reader must understand and this one does not (conventions.md, Records): it knows none."""
    for name in fields.items("features", 64):
        need(isinstance(name, str) and len(name.encode()) <= 64, f"{fields.what}: features: not names")
        raise Newer(f"{fields.what}: needs {shown(str(name))}")


@dataclass
class Trust:
    """What the reader was told or has read of domains: pins, and revoked certificates."""

    pinned: frozenset[bytes]
    allow_revoked: bool
    revoked: dict[bytes, set[int]] = field(default_factory=dict)
    told: set[tuple[bytes, int]] = field(default_factory=set)

    def check(self, raw: bytes, magic: bytes) -> Signed:
        """Check an object, and whether its certificate still counts (signed-object.md, Checking, 8)."""
        signed = check_object(raw, magic)
        self.check_revoked(signed)
        if magic not in SIGNED_BY_ROOT:
            check_features(signed.fields)
        return signed

    def check_revoked(self, signed: Signed) -> None:
        """Refuse what a revoked certificate signed, unless the user decided otherwise."""
        if signed.certificate in self.revoked.get(signed.domain, set()):
            text = f"{signed.fields.what}: certificate {signed.certificate} of {signed.domain.hex()} is revoked"
            if not self.allow_revoked:
                raise Revoked(text)
            if (signed.domain, signed.certificate or 0) not in self.told:
                self.told.add((signed.domain, signed.certificate or 0))
                warn(text)

    def word(self, domain: bytes) -> str:
        """The outcome for a domain (signed-object.md, Checking)."""
        return "pinned domain" if domain in self.pinned else "unknown domain"


# ---------------------------------------------------------------- headers


@dataclass(frozen=True)
class Stream:
    """One of the two streams of an image (image-header.md)."""

    root: bytes
    segments: int
    bytes: int


def parse_streams(fields: Fields) -> tuple[Stream, Stream] | None:
    """The fields `entries` and `payload` (image-header.md): both or none."""
    streams = []
    for name in ("entries", "payload"):
        if fields.get(name) is not None:
            stream = Fields(fields.get(name), f"{fields.what}: {name}")
            for number in stream.items("chunker", 4, 4):
                as_number(number, f"{stream.what}: chunker")
            streams.append(
                Stream(stream.data("root", 32), stream.number("segments"), stream.number("bytes", 0, MAX_SUM))
            )
    need(len(streams) != 1, f"{fields.what}: one stream only")
    return (streams[0], streams[1]) if streams else None


@dataclass(frozen=True)
class ImageHeader:
    """What an image is (image-header.md)."""

    signed: Signed
    image: bytes
    client: str
    policy: str
    backup_id: str
    started: int
    key_group: bytes
    cipher: int
    streams: tuple[Stream, Stream] | None
    files: int
    content: int
    problems: int

    @property
    def origin(self) -> bytes:
        """The domain that made the backup."""
        return self.signed.domain


def parse_image_header(trust: Trust, raw: bytes) -> ImageHeader:
    """Check an image header (image-header.md)."""
    signed = trust.check(raw, b"SRIMGH01")
    f = signed.fields
    image, salt = f.data("image", 16), f.data("salt", 16)
    named = hashlib.sha256(label("image-id") + signed.domain + salt).digest()[:16]
    need(image == named, "image header: image does not follow from domain and salt")
    known(f.text("kind", 0, KIB) == "full", f"image header: kind {shown(str(f.get('kind')))}")
    f.algorithm("digest", 1)
    f.text("slp", 0, 448, 112)
    f.text("schedule", 0, 128)
    f.text("data_class", 0, 64)
    f.number_or_nil("retention", 1 << 33)
    for name in ("ended", "slp_version"):
        f.number(name)
    f.data("client_host", 16)
    cipher, group = f.algorithm("cipher", 0, 1), f.data("key_group", 16)
    need((cipher == 0) == (group == bytes(16)), "image header: key group and cipher do not go together")
    return ImageHeader(
        signed,
        image,
        f.text("client", 1, 255),
        f.text("policy", 0, 128),
        f.text("backup_id", 0, 300),
        f.number("started"),
        group,
        cipher,
        parse_streams(f),
        f.number("files"),
        f.number("content"),
        f.number("problems"),
    )


def check_hops(trust: Trust, hops: list[Value], header: ImageHeader, writer: bytes) -> list[bytes]:
    """Check the way from the origin to the writing domain (hop.md, copy-header.md); its domains in order."""
    way, previous = [header.origin], ZEROS
    for item in hops:
        hop = trust.check(as_data(item, "copy header: hop", 16, 4_112), b"SRHOPR01")
        f = hop.fields
        need(f.data("image", 16) == header.image, "hop: another image")
        need(f.data("origin", 32) == header.origin, "hop: another origin")
        need(f.data("header", 32) == digest(header.signed.raw), "hop: another image header")
        need(f.data("previous", 32) == previous, "hop: does not follow the one before it")
        need(hop.domain == way[-1], "hop: the sender is not where the image was")
        f.data("sending", 16)
        f.text("slp", 1, 448, 112)
        f.number_or_nil("retention", 1 << 33)
        f.number("at")
        previous = digest(hop.raw)
        way.append(f.data("to", 32))
    need(way[-1] == writer, "copy header: its hops do not lead from the origin to its domain")
    need(len(set(way[:-1])) == len(way) - 1, "copy header: a domain sent twice")
    need(writer not in way[:-1], "copy header: hops that returned are not cut")
    return way


@dataclass(frozen=True)
class Copy:
    """One copy of an image in a pool: copy header, image header and trailer (copy-header.md, trailer.md)."""

    name: str
    domain: bytes
    number: int
    header: ImageHeader
    cipher: int
    expires: int | None
    tags: list[bytes]
    key_pages: list[bytes]
    entries: Stream
    payload: Stream
    own_streams: bool
    journal: int
    way: list[bytes]


def parse_copy(trust: Trust, name: str, raw: bytes, domain: bytes, medium: bytes) -> Copy:
    """A file of `images`: one copy header, one trailer (pool-folder.md, copy-header.md, trailer.md)."""
    length = object_length(raw)
    signed = trust.check(raw[:length], b"SRCPYH01")
    f = signed.fields
    image, number = f.data("image", 16), f.number("copy", 1, 65_535)
    need(name == f"{image.hex()}-{number:04x}", "copy header: the file has another name")
    need(signed.domain == domain, "copy header: of another domain than the medium")
    need(f.data("medium", 16) == medium, "copy header: of another medium")
    need(f.number("fragment", 1) == 1, "copy header: a pool copy has one fragment")
    need(f.data("previous", 32) == ZEROS, "copy header: previous of a first fragment")
    need(not f.items("earlier", 4_096), "copy header: earlier media of a first fragment")
    need(f.data("journal_medium", 16) == medium, "copy header: the journal is elsewhere")
    for key, low in (("written", 0), ("incarnation", 1), ("slp_version", 0), ("from_copy", 0)):
        f.number(key, low)
    f.text("slp", 0, 448)

    header = parse_image_header(trust, f.data("header", 16, 67_600))
    need(header.image == image, "copy header: the header is of another image")
    way = check_hops(trust, f.items("hops", 16), header, signed.domain)
    encrypted, cipher = f.flag("encrypted"), f.algorithm("cipher", 0, 1)
    need(encrypted == (cipher != 0), "copy header: cipher and encrypted do not go together")
    need(cipher == header.cipher, "copy header: another cipher than the image")
    tags = [as_data(tag, "copy header: tag", 32) for tag in f.items("tags", 1_024)]
    need_ascending(tags, "copy header: tags")
    pages = [as_data(page, "copy header: key page", 32) for page in f.items("key_pages", 64)]
    need(bool(tags) == encrypted and (encrypted or not pages), "copy header: keys and encrypted do not go together")
    own = parse_streams(f)
    streams = own or header.streams
    if streams is None:
        raise Damaged("copy header: a pool copy without streams")
    check_trailer(trust, raw[length:], signed, streams, header.files)
    return Copy(
        name,
        signed.domain,
        number,
        header,
        cipher,
        f.number_or_nil("expires"),
        tags,
        pages,
        *streams,
        own is not None,
        f.number("journal"),
        way,
    )


def check_trailer(trust: Trust, raw: bytes, copy: Signed, streams: tuple[Stream, Stream], files: int) -> None:
    """Check that a trailer is that of its copy header (trailer.md)."""
    trailer = trust.check(raw, b"SRTRLR01")
    f = trailer.fields
    need(trailer.domain == copy.domain, "trailer: of another domain")
    for name, length in (("medium", 16), ("image", 16)):
        need(f.data(name, length) == copy.fields.data(name, length), f"trailer: {name} of another copy")
    for name in ("copy", "fragment"):
        need(f.number(name) == copy.fields.number(name), f"trailer: {name} of another copy")
    need(f.data("copy_header", 32) == digest(copy.raw), "trailer: of another copy header")
    need(f.flag("last"), "trailer: not the last fragment")
    need(f.number("bytes") == streams[0].bytes + streams[1].bytes, "trailer: bytes are not those of the streams")
    need(f.data("digest", 32) == digest(streams[0].root + streams[1].root), "trailer: digest is not that of the roots")
    need(f.number("files") == files, "trailer: files are not those of the image header")


# ---------------------------------------------------------------- frames and pages


class FrameRow(NamedTuple):
    """A frame as a leaf page lists it (manifest-page.md)."""

    frame: bytes
    key: bytes
    length: int
    bytes: int


class Reference(NamedTuple):
    """One segment in the order of use (manifest-page.md)."""

    name: bytes
    row: FrameRow
    position: int
    length: int


class Child(NamedTuple):
    """A page below an interior page (manifest-page.md)."""

    page: bytes
    references: int
    bytes: int


@dataclass(frozen=True)
class Page:
    """A manifest page (manifest-page.md)."""

    level: int
    rows: list[FrameRow]
    references: list[Reference]
    children: list[Child]


def parse_page(raw: bytes) -> Page:
    """Check what a manifest page says of itself (manifest-page.md); its digest is right already."""
    need(len(raw) >= 16 and raw[:4] == b"SRP1", "page: not a manifest page")
    level = raw[4]
    known(raw[5] == 1, "page: another digest algorithm")
    need(level <= 8 and raw[6:8] == bytes(2), "page: wrong level or reserved bytes")
    one, two = int.from_bytes(raw[8:12], "big"), int.from_bytes(raw[12:16], "big")
    if level:
        need(1 <= one <= 1_024 and two == 0 and len(raw) == 16 + 48 * one, "page: its length is not what it says")
        children = []
        for at in range(16, len(raw), 48):
            sums = int.from_bytes(raw[at + 32 : at + 40], "big"), int.from_bytes(raw[at + 40 : at + 48], "big")
            need(0 < sums[0] <= MAX_SUM and 0 < sums[1] <= MAX_SUM, "page: a child that is empty, or too large")
            children.append(Child(raw[at : at + 32], *sums))
        return Page(level, [], [], children)
    need(one <= 1_024 and two <= 1_024, "page: too many frames or references")
    need(len(raw) == 16 + 56 * one + 40 * two, "page: its length is not what it says")
    rows = []
    for at in range(16, 16 + 56 * one, 56):
        lengths = int.from_bytes(raw[at + 48 : at + 52], "big"), int.from_bytes(raw[at + 52 : at + 56], "big")
        rows.append(FrameRow(raw[at : at + 32], raw[at + 32 : at + 48], *lengths))
    need(len({row.frame for row in rows}) == one, "page: a frame is listed twice")
    references, used = [], 0
    for at in range(16 + 56 * one, len(raw), 40):
        index, position = int.from_bytes(raw[at + 32 : at + 34], "big"), int.from_bytes(raw[at + 34 : at + 36], "big")
        length = int.from_bytes(raw[at + 36 : at + 40], "big")
        need(index <= used and index < one, "page: frames are not in the order of the first reference")
        need(1 <= length <= 4 * MIB and position < 4_096, "page: a reference out of bounds")
        used = max(used, index + 1)
        references.append(Reference(raw[at : at + 32], rows[index], position, length))
    need(used == one, "page: a frame is not used")
    return Page(0, rows, references, [])


def parse_key_page(raw: bytes) -> list[bytes]:
    """The envelope ids of a key page (key-page.md); its digest is right already."""
    need(len(raw) >= 16 and raw[:4] == b"SRK1", "key page: not a key page")
    known(raw[5] == 1, "key page: another digest algorithm")
    count = int.from_bytes(raw[8:12], "big")
    need(raw[4:5] + raw[6:8] + raw[12:16] == bytes(7), "key page: reserved bytes")
    need(1 <= count <= 16_000 and len(raw) == 16 + 16 * count, "key page: its length is not what it says")
    return [raw[at : at + 16] for at in range(16, len(raw), 16)]


MAX_PAGE = 256 * KIB
MAX_BODY = 8 * MIB + 64 * KIB
MAX_FRAME = 48 + 36 * 4_096 + MAX_BODY


@dataclass(frozen=True)
class Frame:
    """A frame, still closed (frame.md)."""

    cipher: int
    compression: int
    total: int
    key: bytes
    nonce: bytes
    segments: list[tuple[bytes, int]]
    length: int
    head: bytes
    body: bytes


def parse_frame(raw: bytes) -> Frame:
    """Check the head of a frame (frame.md); its digest is right already."""
    need(len(raw) >= 48 and raw[:4] == b"SRF1", "frame: not a frame")
    cipher, compression = raw[4], raw[5]
    known(cipher in (0, 1) and compression in (0, 1) and raw[6] == 1 and raw[7] == 1, "frame: another algorithm")
    count, total, body = (int.from_bytes(raw[at : at + 4], "big") for at in (8, 12, 16))
    need(1 <= count <= 4_096 and 1 <= total <= 8 * MIB and body <= MAX_BODY, "frame: a length out of bounds")
    need(len(raw) == 48 + 36 * count + body, "frame: its length is not what it says")
    key, nonce = raw[20:36], raw[36:48]
    need(cipher == 1 or key + nonce == bytes(28), "frame: key or nonce of a frame that is not encrypted")
    need(cipher == 0 or (body >= 16 and nonce[:4] == bytes(4)), "frame: body too short, or a wrong nonce")
    places = range(48, 48 + 36 * count, 36)
    segments = [(raw[at : at + 32], int.from_bytes(raw[at + 32 : at + 36], "big")) for at in places]
    need(all(1 <= length <= 4 * MIB for _, length in segments), "frame: a segment out of bounds")
    need(sum(length for _, length in segments) == total, "frame: bytes are not those of its segments")
    end = 48 + 36 * count
    return Frame(cipher, compression, total, key, nonce, segments, len(raw), raw[:end], raw[end:])


def open_frame(frame: Frame, frame_key: bytes | None) -> bytes:
    """Decrypt and decompress a frame (frame.md, Body)."""
    body: bytes | None = frame.body
    if frame_key is not None:
        body = unseal(frame_key, frame.nonce, frame.body, frame.head)
    if body is None:
        raise Damaged("frame: it does not authenticate")
    if frame.compression == 1:
        body = decompress(body, frame.total)
    need(len(body) == frame.total, "frame: another length than it says")
    return body


def decompress(body: bytes, total: int) -> bytes:
    """One Zstandard frame, then whole skippable frames (frame.md, Body)."""
    need(body[:4] == b"\x28\xb5\x2f\xfd", "frame: no Zstandard frame")
    try:
        parameters = zstandard.get_frame_parameters(body)
        need(parameters.content_size == total, "frame: another content size than it says")
        need(parameters.dict_id == 0 and parameters.window_size <= 8 * MIB, "frame: dictionary, or too large a window")
        decompressor = zstandard.ZstdDecompressor(max_window_size=8 * MIB).decompressobj()
        data = decompressor.decompress(body)
    except zstandard.ZstdError as error:
        raise Damaged(f"frame: {error}") from None
    need(decompressor.eof, "frame: the Zstandard frame is cut off")
    rest = decompressor.unused_data
    while rest:
        magic, size = int.from_bytes(rest[:4], "little"), int.from_bytes(rest[4:8], "little")
        need(len(rest) >= 8 + size and magic >> 4 == 0x184D2A5, "frame: bytes behind it that are no skippable frame")
        rest = rest[8 + size :]
    return data


# ---------------------------------------------------------------- the pool: pool-folder.md


def read_whole(path: Path, bound: int) -> bytes:
    """A regular file of at most `bound` bytes; symbolic links are not followed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Incomplete(f"{path}: not there") from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        need(stat.S_ISREG(status.st_mode) and status.st_size <= bound, f"{path}: not a file, or too long")
        return file.read(bound)


def hexadecimal(text: str, length: int | None = None) -> bool:
    """Whether a file name is lower-case hexadecimal (pool-folder.md)."""
    return set(text) <= set("0123456789abcdef") and (length is None or len(text) == length)


class Container:
    """A sealed container, checked from its tail and footer (container.md)."""

    def __init__(self, path: Path, medium: bytes) -> None:
        self.path = path
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            need(stat.S_ISREG(status.st_mode) and 192 <= status.st_size <= GIB, "container: not a file, or its size")
            header = file.read(96)
            file.seek(status.st_size - 96)
            tail = file.read(96)
            need(tail[80:] == bytes(8) + b"SREND001", "container: not sealed")
            offset, length = int.from_bytes(tail[:8], "big"), int.from_bytes(tail[8:16], "big")
            need(
                offset >= 96 and length >= 16 and offset + length == status.st_size - 96, "container: footer misplaced"
            )
            need(length <= 16 + 64 * 65_536 + 36 * 1_048_576, "container: footer too long")
            file.seek(offset)
            footer = file.read(length)
        self.check_header(header, medium)
        need(digest(header + footer) == tail[16:48], "container: digest differs")
        self.items = self.check_footer(footer, offset)

    def check_header(self, header: bytes, medium: bytes) -> None:
        """Check the first 96 bytes (container.md, Header)."""
        if header[:8] != b"SRCONT01":
            newer = header[:6] == b"SRCONT" and header[6:8].isdigit() and header[6:8] > b"01"
            raise (Newer if newer else Damaged)("container: another magic")
        need(digest(header[:88])[:8] == header[88:], "container: header is damaged")
        need(header[8:24].hex() == self.path.name, "container: the file has another name")
        need(header[24:40] == medium, "container: of another medium")
        known(header[80] in (1, 2) and header[81] == 1, "container: another content or digest algorithm")
        need(header[82:88] == bytes(6), "container: reserved bytes")
        self.content = header[80]

    def check_footer(self, footer: bytes, end: int) -> list[tuple[bytes, int, int]]:
        """The items as id, offset and length (container.md, Footer)."""
        need(footer[:8] == b"SRFOOT01", "container: no footer")
        items, segments = int.from_bytes(footer[8:12], "big"), int.from_bytes(footer[12:16], "big")
        need(1 <= items <= 65_536 and segments <= 1_048_576, "container: too many items or segments")
        need(len(footer) == 16 + 64 * items + 36 * segments, "container: footer is not as long as it says")
        need(self.content == 1 or segments == 0, "container: segments of pages")
        result: list[tuple[bytes, int, int]] = []
        at, first = 96, 0
        for place in range(16, 16 + 64 * items, 64):
            row = footer[place : place + 64]
            offset, length = int.from_bytes(row[32:40], "big"), int.from_bytes(row[40:44], "big")
            number = int.from_bytes(row[44:48], "big")
            need(offset == at and 0 < length <= end - at, "container: items do not cover it")
            low, high = (first + 1, first + 4_096) if result and self.content == 1 else (0, 0)
            need(self.content == 1 or row[48:] == bytes(16), "container: a data key of a page")
            need(low <= number <= high and (number < segments or self.content == 2), "container: first segment")
            at, first = at + length, number
            result.append((row[:32], offset, length))
        need(at == end, "container: items do not cover it")
        return result

    def read(self, offset: int, length: int) -> bytes:
        """The bytes of an item."""
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read(length)


class Pool:
    """A pool folder (pool-folder.md)."""

    def __init__(self, path: Path, trust: Trust) -> None:
        self.path, self.trust = path, trust
        header = check_object(read_whole(path / "medium", object_bound(b"SRMEDH01")), b"SRMEDH01")
        self.domain = header.domain
        self.read_revocations()
        trust.check_revoked(header)
        f = header.fields
        check_features(f)
        kind = f.text("kind", 1, KIB)
        known(kind in ("pool", "tape"), f"media header: kind {shown(kind)}")
        need(kind == "pool", "media header: not a pool")
        self.medium, self.label = f.data("medium", 16), f.text("label", 1, 128)
        self.created = f.number("created")
        self.tombstones: set[tuple[bytes, int]] = set()
        self.journal = self.read_journal()

    def names(self, folder: str) -> list[tuple[str, Path]]:
        """The files of a folder with subfolders `xx`, by name (pool-folder.md)."""
        result = []
        for sub in sorted((self.path / folder).glob("[0-9a-f][0-9a-f]")):
            if not sub.is_symlink() and sub.is_dir():
                for path in sorted(sub.iterdir()):
                    if path.name[:2] == sub.name:
                        result.append((path.name, path))
                    else:
                        warn(f"{path}: damaged: in the wrong folder")
        return result

    def read_revocations(self) -> None:
        """The newest revocation list of the owning domain (identity.md, pool-folder.md)."""
        folder = self.path / "revocations"
        names = sorted((path.name for path in folder.iterdir()), reverse=True) if folder.is_dir() else []
        for name in names:
            try:
                raw = read_whole(folder / name, object_bound(b"SRREVL01"))
                self.trust.revoked[self.domain] = self.check_revocations(raw, name)
            except ReadError as error:
                warn(f"revocations/{name}: {error}; an older list may say less")
            else:
                return
        warn("no revocation list: it cannot be known whether a certificate was revoked")

    def check_revocations(self, raw: bytes, name: str) -> set[int]:
        """The numbers of the certificates that a list revokes (identity.md, Revocation list)."""
        signed = check_object(raw, b"SRREVL01")
        number = signed.fields.number("number", 1, (1 << 32) - 1)
        need(signed.domain == self.domain and name == f"{number:010d}", "revocation list: of another domain or name")
        signed.fields.number("issued")
        revoked: list[int] = []
        for item in signed.fields.items("revoked", 1_024):
            f = Fields(item, "revocation list: revoked")
            revoked.append(f.number("certificate", 1 if not revoked else revoked[-1] + 1))
            f.number("since")
            f.text("reason", 0, 256)
        return set(revoked)

    def read_journal(self) -> int:
        """Apply the journal as far as it is complete (journal.md); the number of its last batch."""
        previous, incarnation, number = ZEROS, 1, 0
        folder = self.path / "journal"
        names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        while (name := f"{number + 1:016x}") in names:
            try:
                signed = self.trust.check(read_whole(folder / name, object_bound(b"SRJRNL01")), b"SRJRNL01")
                f = signed.fields
                need(signed.domain == self.domain and f.data("medium", 16) == self.medium, "journal: of another medium")
                need(f.number("sequence", 1) == number + 1, "journal: the file has another name")
                need(f.data("previous", 32) == previous, "journal: does not follow the batch before it")
                incarnation = f.number("incarnation", incarnation)
                f.number("at")
                self.tombstones |= set(self.journal_tombstones(f.items("records", 4_096, 1)))
            except ReadError as error:
                warn(f"journal/{name}: {error}")
                break
            previous, number = digest(signed.raw), number + 1
            names.remove(name)
        if names:
            warn(f"the journal is complete up to batch {number} only")
        return number

    @staticmethod
    def journal_tombstones(records: list[Value]) -> list[tuple[bytes, int]]:
        """The copies that a batch says were expired (journal.md); other kinds are checked, and not needed here."""
        result = []
        for record in records:
            f = Fields(record, "journal: record")
            kind, key = f.text("kind", 1, KIB), (f.data("image", 16), f.number("copy"))
            f.number("at")
            f.text("reason", 0, 256)
            if kind == "tombstone":
                result.append(key)
        return result

    def copy_names(self) -> list[str]:
        """The names of what lies in `images`."""
        return [name for name, _ in self.names("images")]

    def copy(self, name: str) -> Copy:
        """One copy, all signatures checked."""
        bound = object_bound(b"SRCPYH01") + object_bound(b"SRTRLR01")
        raw = read_whole(self.path / "images" / name[:2] / name, bound)
        copy = parse_copy(self.trust, name, raw, self.domain, self.medium)
        if copy.journal > self.journal:
            warn(
                f"{name}: names journal batch {copy.journal}, and the journal ends at {self.journal}: it is incomplete"
            )
        return copy

    @functools.cached_property
    def items(self) -> dict[tuple[int, bytes], list[tuple[Container, int, int]]]:
        """Where pages and frames lie, from the containers' footers (container.md)."""
        result: dict[tuple[int, bytes], list[tuple[Container, int, int]]] = {}
        for name, path in self.names("containers"):
            try:
                need(hexadecimal(name, 32), "container: not a name of a container")
                container = Container(path, self.medium)
            except (ReadError, OSError) as error:
                warn(f"containers/{name}: {error}")
                continue
            for item, offset, length in container.items:
                result.setdefault((container.content, item), []).append((container, offset, length))
        return result

    def item(self, content: int, name: bytes, bound: int, parse: Callable[[bytes], T]) -> T:
        """A page or frame that is what its digest says, from the first container that has it whole."""
        what = "frame" if content == 1 else "page"
        places = self.items.get((content, name), [])
        for container, offset, length in places:
            if length <= bound:
                raw = container.read(offset, length)
                if digest(raw) == name:
                    return parse(raw)
            warn(f"{container.path.name}: the {what} at {offset} is damaged")
        raise (Damaged if places else Incomplete)(f"{what} {name.hex()} is {'damaged' if places else 'missing'}")

    @functools.cached_property
    def envelope_files(self) -> dict[str, list[Path]]:
        """The files of each envelope (pool-folder.md)."""
        result: dict[str, list[Path]] = {}
        for name, path in self.names("envelopes"):
            result.setdefault(name.partition("-")[0], []).append(path)
        return result


# ---------------------------------------------------------------- keys: key-envelope.md, key-tag.md, keystore.md


@dataclass(frozen=True)
class WrappedKey:
    """A data key in an envelope (key-envelope.md)."""

    key: bytes
    purpose: int
    medium: bytes
    commitment: bytes
    nonce: bytes
    wrapped: bytes


@dataclass(frozen=True)
class Envelope:
    """One generation of a key envelope (key-envelope.md)."""

    domain: bytes
    origin: bytes
    envelope: bytes
    generation: int
    group: bytes
    tag: bytes
    keys: list[WrappedKey]

    def meaning(self) -> tuple[object, ...]:
        """What all generations must agree in."""
        return self.origin, self.group, [(k.key, k.purpose, k.medium, k.commitment) for k in self.keys]


def parse_envelope(trust: Trust, raw: bytes, name: str) -> Envelope:
    """Check a key envelope (key-envelope.md)."""
    signed = trust.check(raw, b"SRENVL01")
    f = signed.fields
    f.number("incarnation", 1)
    f.number("created")
    f.algorithm("cipher", 1)
    keys = []
    for item in f.items("keys", 1_024, 1):
        k = Fields(item, "envelope: key")
        purpose, medium = k.algorithm("purpose", 1, 2), k.data("medium", 16)
        need((purpose == 1) == (medium == bytes(16)), "envelope: medium and purpose do not go together")
        key = WrappedKey(
            k.data("key", 16), purpose, medium, k.data("commitment", 32), k.data("nonce", 12), k.data("wrapped", 48)
        )
        keys.append(key)
    need_ascending([key.key for key in keys], "envelope: keys")
    envelope = Envelope(
        signed.domain,
        f.data("origin", 32),
        f.data("envelope", 16),
        f.number("generation", 1, (1 << 32) - 1),
        f.data("group", 16),
        f.data("tag", 32),
        keys,
    )
    made_name = f"{envelope.envelope.hex()}-{envelope.domain.hex()}-{envelope.generation:08x}"
    need(name == made_name, "envelope: the file has another name")
    return envelope


def agreeing(generations: list[Envelope], origin: bytes) -> list[Envelope]:
    """The generations of one envelope that hold (key-envelope.md): those that agree with the origin's lowest."""
    generations = sorted(generations, key=lambda e: (e.domain != origin, e.generation))
    result = []
    for envelope in generations:
        if envelope.meaning() == generations[0].meaning():
            result.append(envelope)
        else:
            warn(f"envelope {envelope.envelope.hex()}: generation {envelope.generation} disagrees, and is rejected")
    return result


def check_tag(tag: bytes) -> None:
    """Check a key tag (key-tag.md)."""
    need(len(tag) == 32, "key tag: not 32 bytes")
    need(crc32c(tag[:28]) == int.from_bytes(tag[28:], "big"), "key tag: wrong check sum (a typing error?)")
    known(tag[0] == 1 and tag[1] in (0, 1), "key tag: another version or profile")
    need(tag[26:28] == bytes(2), "key tag: reserved bytes")


def has_check_value(key: bytes, tag: bytes) -> bool:
    """Whether a KMS key is that of the tag (key-tag.md, Derivations)."""
    return hkdf(key, label("kms-key/check") + tag[2:18], 8) == tag[18:26]


def read_phrase(path: Path) -> bytes:
    """The normalised pass phrase in a file (key-tag.md, Pass phrase)."""
    try:
        text = read_whole(path, 64 * KIB).decode()
    except UnicodeDecodeError:
        raise Refused(f"{path}: not UTF-8") from None
    # What `split` takes for white space is Unicode's White_Space and U+001C to U+001F.
    phrase = " ".join(unicodedata.normalize("NFC", text).split()).encode()
    if not 1 <= len(phrase) <= 1_024:
        raise Refused(f"{path}: a pass phrase has 1 to 1,024 bytes")
    return phrase


def key_from_phrase(tag: bytes, phrase: bytes) -> bytes:
    """The KMS key of a tag and a pass phrase (key-tag.md, Pass phrase)."""
    check_tag(tag)
    if tag[1] != 1:
        raise Refused("this key was not made from a pass phrase")
    salt = hashlib.sha256(label("passphrase-key")[:-1] + tag[2:18]).digest()[:16]
    key = argon2id(phrase, salt)
    if not has_check_value(key, tag):
        raise WrongKey("the pass phrase is not that of this key tag")
    return key


class KeyFile(NamedTuple):
    """A key file, opened (keystore.md)."""

    id: bytes
    domain: bytes
    key: bytes


def read_key_file(path: Path, purpose: str, phrase: Path | None) -> KeyFile:
    """Open a key file (keystore.md, Key file)."""
    raw = read_whole(path, 12 + KIB)
    if path.stat().st_mode & 0o077:
        raise Refused(f"{path}: others than its owner may read it")
    need(raw[:8] == b"SRKEYF01" and len(raw) >= 12, f"{path}: not a key file")
    need(len(raw) == 12 + int.from_bytes(raw[8:12], "big"), f"{path}: its length is not what it says")
    f = Fields(decode(raw[12:]), str(path))
    need(f.text("purpose", 1, 64) == purpose, f"{path}: not the {purpose}")
    name, domain, salt, key = f.data("id", 16), f.data("domain", 32), f.data("salt", 16), f.data("key", 32)
    source, kdf = f.text("source", 1, 64), f.algorithm("kdf", 0, 1)
    known(source in ("random", "passphrase"), f"{path}: source {shown(source)}")
    if source == "random":
        need(kdf == 0 and salt == bytes(16), f"{path}: salt of a random key")
    else:
        need(kdf == 1 and salt == name and key == ZEROS, f"{path}: a pass phrase's key that is not one")
        if phrase is None:
            raise Refused(f"{path}: its key comes from a pass phrase; give --{purpose}-passphrase-file")
        key = argon2id(read_phrase(phrase), salt)
    checked = label("key-file") + purpose.encode() + b"\0" + name + domain + bytes([kdf]) + salt + key
    if hashlib.sha256(checked).digest()[:8] != f.data("check", 8):
        if source == "passphrase":
            raise WrongKey(f"{path}: the pass phrase is not the right one")
        raise Damaged(f"{path}: its check differs")
    return KeyFile(name, domain, key)


def read_keystore(path: Path, hmk: KeyFile, kpk: KeyFile) -> dict[bytes, bytes]:
    """The KMS keys of a keystore by their tags (keystore.md, Keystore)."""
    raw = read_whole(path, 64 * MIB + 2 * KIB)
    need(len(raw) >= 12 and raw[:8] == b"SRKEYS01", f"{path}: not a keystore")
    end = 12 + int.from_bytes(raw[8:12], "big")
    need(end <= 12 + KIB and end + 16 <= len(raw), f"{path}: shorter than its parts")
    head = Fields(decode(raw[12:end]), "keystore: head")
    head.algorithm("cipher", 1)
    for name, file in (("hmk", hmk), ("kpk", kpk)):
        if head.data(name, 16) != file.id or head.data("domain", 32) != file.domain:
            raise WrongKey(
                f"wrong key file: the keystore wants {name} {head.data(name, 16).hex()}, not {file.id.hex()}"
            )
    body = unseal(hkdf(hmk.key, label("keystore") + hmk.id), head.data("nonce", 12), raw[end:], raw[:end])
    if body is None:
        raise Damaged("keystore: its body does not authenticate")
    f = Fields(decode(body), "keystore")
    groups = [Fields(item, "keystore: group").data("group", 16) for item in f.items("groups", 10_000)]
    need(len(set(groups)) == len(groups), "keystore: a group is there twice")
    wrapping, keys = hkdf(kpk.key, label("keystore-record") + kpk.id), {}
    for item in f.items("keys", 100_000):
        k = Fields(item, "keystore: key")
        tag, group = k.data("tag", 32), k.data("group", 16)
        check_tag(tag)
        need(tag not in keys and group in groups, "keystore: a key is there twice, or without a group")
        associated = tag + group + k.number("created").to_bytes(8, "big")
        key = unseal(wrapping, k.data("nonce", 12), k.data("wrapped", 48), associated)
        if key is None or not has_check_value(key, tag):
            raise Damaged(f"keystore: key {tag.hex()} does not open")
        keys[tag] = key
    return keys


def unwrap(envelope: Envelope, wrapped: WrappedKey, kms_key: bytes) -> bytes:
    """The frame key of a data key (key-envelope.md, Wrap)."""
    wrapping = hkdf(kms_key, label("kms-key/wrap") + envelope.tag[2:18])
    associated = label("envelope-wrap") + envelope.domain + envelope.origin + envelope.envelope + wrapped.key
    associated += bytes([wrapped.purpose]) + wrapped.medium + envelope.group + envelope.tag
    data_key = unseal(wrapping, wrapped.nonce, wrapped.wrapped, associated)
    if data_key is None:
        raise Damaged(f"data key {wrapped.key.hex()}: it does not unwrap")
    named = hkdf(data_key, label("data-key/id"), 16) == wrapped.key
    need(named and hkdf(data_key, label("data-key/commit")) == wrapped.commitment, "data key: another than it says")
    return hkdf(data_key, label("data-key/frame"))


# ---------------------------------------------------------------- an image


class Below(NamedTuple):
    """What lies below a page."""

    level: int
    references: int
    length: int
    first: bytes
    last: bytes


class Image:
    """The data of one copy."""

    def __init__(self, pool: Pool, copy: Copy) -> None:
        self.pool, self.copy = pool, copy
        self.leaves: dict[bytes, None] = {}
        self.data_keys: set[bytes] = set()
        self.frame_keys: dict[bytes, bytes] = {}
        self.frames: OrderedDict[bytes, Frame] = OrderedDict()
        self.opened: OrderedDict[bytes, bytes] = OrderedDict()

    def page(self, name: bytes) -> Page:
        """A manifest page by its id."""
        return self.pool.item(2, name, MAX_PAGE, parse_page)

    def check_pages(self) -> None:
        """Visit each distinct page of both trees once (manifest-page.md)."""
        for stream, distinct in ((self.copy.entries, False), (self.copy.payload, True)):
            seen: dict[bytes, Below] = {}
            root = self.page(stream.root)
            empty = root.level == 0 and not root.references
            sums = self.sums(root)
            need(
                (stream.segments, stream.bytes) == sums and (not empty or sums == (0, 0)),
                "page: root is not the header's",
            )
            if not empty:
                self.check_page(stream.root, root.level, seen, distinct)
            self.leaves.update((name, None) for name, below in seen.items() if below.level == 0)
        for name in self.leaves:
            self.data_keys.update(row.key for row in self.page(name).rows)
        if self.copy.cipher == 0:
            need(self.data_keys <= {bytes(16)}, "page: names a data key, and the copy is not encrypted")
        else:
            need(bytes(16) not in self.data_keys, "page: names no data key, and the copy is encrypted")

    @staticmethod
    def sums(page: Page) -> tuple[int, int]:
        """References and bytes below a page, as it says."""
        if page.level:
            return sum(child.references for child in page.children), sum(child.bytes for child in page.children)
        return len(page.references), sum(reference.length for reference in page.references)

    def check_page(self, name: bytes, level: int, seen: dict[bytes, Below], distinct: bool) -> Below:
        """Check a page and all below it; with `distinct` no reference may stand directly behind itself."""
        if name in seen:
            need(seen[name].level == level, "page: a child of the wrong level")
            return seen[name]
        page = self.page(name)
        need(page.level == level, "page: a child of the wrong level")
        count, total = self.sums(page)
        need(0 < count <= MAX_SUM and total <= MAX_SUM, "page: empty, or sums out of bounds")
        if page.level:
            parts = []
            for child in page.children:
                below = self.check_page(child.page, level - 1, seen, distinct)
                need(
                    (below.references, below.length) == (child.references, child.bytes),
                    "page: a child holds another count",
                )
                parts.append((below.first, below.last))
        else:
            parts = [(reference.name, reference.name) for reference in page.references]
        pairs = itertools.pairwise(parts)
        need(not distinct or all(a[1] != b[0] for a, b in pairs), "page: a reference directly behind itself")
        seen[name] = Below(page.level, count, total, parts[0][0], parts[-1][1])
        return seen[name]

    def references(self, name: bytes) -> Iterator[Reference]:
        """All references below a page, in order; the pages were checked."""
        page = self.page(name)
        yield from page.references
        for child in page.children:
            yield from self.references(child.page)

    def frame(self, row: FrameRow) -> Frame:
        """A frame by its id, still closed, that is what a leaf page says."""
        frame = self.frames.get(row.frame)
        if frame is None:
            frame = self.pool.item(1, row.frame, MAX_FRAME, parse_frame)
            self.frames[row.frame] = frame
            while len(self.frames) > 8:
                self.frames.popitem(last=False)
        same = (frame.key, frame.length, frame.total) == (row.key, row.length, row.bytes)
        need(same, "page: key, length or bytes of a frame differ")
        need(frame.cipher == self.copy.cipher, "frame: another cipher than the copy")
        return frame

    def check_reference(self, reference: Reference, frame: Frame) -> int:
        """Check that a reference is what the frame's head says; the segment's offset in the frame."""
        place = reference.position
        need(
            place < len(frame.segments) and frame.segments[place] == (reference.name, reference.length),
            "page: a reference that is not in the frame",
        )
        return sum(length for _, length in frame.segments[:place])

    def check_frames(self) -> tuple[int, int]:
        """Check all frames without a key (frame.md, manifest-page.md); their number and bytes."""
        checked: dict[bytes, int] = {}
        for name in self.leaves:
            page = self.page(name)
            by_frame: dict[bytes, list[Reference]] = {}
            for reference in page.references:
                by_frame.setdefault(reference.row.frame, []).append(reference)
            for row in page.rows:
                frame = self.frame(row)
                checked[row.frame] = frame.length
                for reference in by_frame[row.frame]:
                    self.check_reference(reference, frame)
        return len(checked), sum(checked.values())

    @functools.cached_property
    def wrapped(self) -> dict[bytes, list[tuple[Envelope, WrappedKey]]]:
        """Where each data key of the copy is wrapped (key-page.md, key-envelope.md); all of them must be."""
        names: list[bytes] = []
        for page in self.copy.key_pages:
            names += self.pool.item(2, page, MAX_PAGE, parse_key_page)
        need_ascending(names, "key pages")
        header, result = self.copy.header, dict[bytes, list[tuple[Envelope, WrappedKey]]]()
        for name in names:
            generations = agreeing(self.generations(name), header.origin)
            for envelope in generations:
                if (envelope.origin, envelope.group) != (header.origin, header.key_group):
                    warn(f"envelope {name.hex()}: of another origin or key group; it opens nothing here")
                    continue
                for key in envelope.keys:
                    places = result.setdefault(key.key, [])
                    need(all(e.envelope == name for e, _ in places), f"data key {key.key.hex()} is in two envelopes")
                    if key.purpose == 1:
                        places.append((envelope, key))
        missing = [key for key in self.data_keys if not result.get(key)]
        if self.copy.cipher and missing:
            raise Incomplete(f"no envelope holds {len(missing)} of {len(self.data_keys)} data keys")
        return result

    def generations(self, name: bytes) -> list[Envelope]:
        """The generations of an envelope that count for this copy: the origin's, and the writing domain's."""
        result = []
        for path in self.pool.envelope_files.get(name.hex(), []):
            try:
                raw = read_whole(path, object_bound(b"SRENVL01"))
                result.append(parse_envelope(self.pool.trust, raw, path.name))
            except ReadError as error:
                warn(f"envelopes/{path.name}: {error}")
        return [e for e in result if e.domain in (self.copy.header.origin, self.copy.domain)]

    def open_keys(self, kms_keys: dict[bytes, bytes]) -> None:
        """Unwrap all data keys of the copy (key-envelope.md)."""
        for name in self.data_keys if self.copy.cipher else ():
            places = [(envelope, key) for envelope, key in self.wrapped[name] if envelope.tag in kms_keys]
            if not places:
                tags = " ".join(sorted({envelope.tag.hex() for envelope, _ in self.wrapped[name]}))
                raise WrongKey(f"none of the keys at hand opens data key {name.hex()}; it is wrapped under {tags}")
            envelope, key = places[-1]
            self.frame_keys[name] = unwrap(envelope, key, kms_keys[envelope.tag])

    def segment(self, reference: Reference) -> bytes:
        """The bytes of a segment, all checked (frame.md)."""
        frame = self.frame(reference.row)
        offset = self.check_reference(reference, frame)
        data = self.opened.get(reference.row.frame)
        if data is None:
            data = open_frame(frame, self.frame_keys[frame.key] if frame.cipher else None)
            self.opened[reference.row.frame] = data
            while len(self.opened) > 8:
                self.opened.popitem(last=False)
        return data[offset : offset + reference.length]

    def files(self) -> "Entries":
        """The files of the image."""
        segments = (self.segment(reference) for reference in self.references(self.copy.entries.root))
        return Entries(segments, self.references(self.copy.payload.root), self.copy.header)


# ---------------------------------------------------------------- entries: entries.md

FILE, FOLDER, SYMLINK, HARD_LINK = 1, 2, 3, 4
MORE_EXTENTS, MORE_ATTRIBUTES, END = 64, 65, 127


class Extent(NamedTuple):
    """A piece of a file: of a segment, or a hole (entries.md)."""

    reference: Reference | None
    offset: int
    length: int


@dataclass
class Entry:
    """One file (entries.md)."""

    type: int
    path: bytes
    mode: int
    uid: int
    gid: int
    uname: bytes
    gname: bytes
    mtime: int
    size: int
    target: bytes
    flags: int
    attributes: list[tuple[bytes, bytes]]
    extents: Iterator[Extent] = field(default_factory=lambda: iter(()))


class Entries:
    """The entries stream, read side by side with the references of *payload* (entries.md)."""

    def __init__(self, segments: Iterator[bytes], references: Iterator[Reference], header: ImageHeader) -> None:
        self.segments, self.references, self.header = segments, references, header
        self.buffer = bytearray()
        self.peeked: list[Value] | None = None
        self.current: Reference | None = None
        self.types: dict[bytes, int] = {}
        self.content = 0

    def bytes_of_stream(self, length: int) -> bytes:
        """The next bytes of the stream."""
        while len(self.buffer) < length:
            segment = next(self.segments, None)
            if segment is None:
                raise Damaged("entries: the stream ends too early")
            self.buffer += segment
        data = bytes(self.buffer[:length])
        del self.buffer[:length]
        return data

    def peek(self) -> list[Value]:
        """The next record, left where it is."""
        if self.peeked is None:
            length = int.from_bytes(self.bytes_of_stream(4), "big")
            need(0 < length <= MIB, "entries: length of a record")
            record = decode(self.bytes_of_stream(length))
            if not isinstance(record, list) or not record:
                raise Damaged("entries: a record that is not an array")
            self.peeked = record
        return self.peeked

    def take(self, least: int) -> list[Value]:
        """The next record, of at least so many elements."""
        record, self.peeked = self.peek(), None
        need(len(record) >= least, "entries: a record that is too short")
        return record

    def __iter__(self) -> Iterator[Entry]:
        last: bytes | None = None
        while (kind := as_number(self.peek()[0], "entries: type")) != END:
            known(kind <= 8 or kind in (MORE_EXTENTS, MORE_ATTRIBUTES), f"entries: type {kind}")
            need(1 <= kind <= 8, "entries: a type that cannot stand here")
            record = self.take(18)
            entry = self.entry(record)
            order = b"" if entry.path == b"/" else entry.path.replace(b"/", b"\0")
            need(last is None or order > last, "entries: not in the order of a walk")
            last, self.types[entry.path] = order, entry.type
            entry.extents = self.extents(entry, record[15])
            yield entry
            for _ in entry.extents:  # what the caller did not want is checked all the same
                pass
        end = self.take(3)
        need(not self.buffer and next(self.segments, None) is None, "entries: bytes behind the end")
        totals = as_number(end[1], "entries: end"), as_number(end[2], "entries: end")
        need(totals == (len(self.types), self.content), "entries: the end has other numbers")
        need(totals == (self.header.files, self.header.content), "entries: the image header has other numbers")
        need(next(self.references, None) is None, "entries: references of payload that no file uses")

    def entry(self, record: list[Value]) -> Entry:
        """Check a record of the types 1 to 8, and the attributes that follow it."""
        kind, path = as_number(record[0], "entries: type"), as_data(record[1], "entries: path", 1, 65_536)
        parts = path[1:].split(b"/") if path != b"/" else []
        need(path[:1] == b"/" and b"\0" not in path, "entries: a path that is not absolute, or has a zero byte")
        need(not {b"", b".", b".."} & set(parts), "entries: a path with a part that is empty, . or ..")
        need(path != b"/" or kind == FOLDER, "entries: / is not a folder")
        for place in (9, 10):
            as_number(record[place], "entries: device and inode")
        as_number(record[8], "entries: changed", -MAX_INT - 1)
        device = as_number(record[16], "entries: major"), as_number(record[17], "entries: minor")
        need(kind in (7, 8) or device == (0, 0), "entries: device number of what is no device")
        target = b""
        if kind in (SYMLINK, HARD_LINK):
            target = as_data(record[12], "entries: target", 1, 65_536)
            need(b"\0" not in target, "entries: target with a zero byte")
            links = (None, FOLDER, HARD_LINK)
            need(kind == SYMLINK or self.types.get(target) not in links, "entries: hard link to no earlier file")
        else:
            need(record[12] is None, "entries: a target where the type has none")
        flags = as_number(record[13], "entries: flags")
        known(flags < 16, "entries: flags")
        size = as_number(record[11], "entries: size")
        need(kind == FILE or (size == 0 and not flags & 4), "entries: contents of what is no regular file")
        attributes = self.attributes(record[14])
        need(bool(flags & 8) == (self.peek()[0] == MORE_ATTRIBUTES), "entries: flags, and attributes that follow")
        while self.peek()[0] == MORE_ATTRIBUTES:
            attributes += self.attributes(self.take(2)[1])
        need_ascending([name for name, _ in attributes], "entries: attributes")
        return Entry(
            kind,
            path,
            as_number(record[2], "entries: mode", 0, 0o7777),
            as_number(record[3], "entries: owner"),
            as_number(record[4], "entries: group"),
            as_data(record[5], "entries: owner", 0, 256),
            as_data(record[6], "entries: group", 0, 256),
            as_number(record[7], "entries: modified", -MAX_INT - 1),
            size,
            target,
            flags,
            attributes,
        )

    @staticmethod
    def attributes(value: Value) -> list[tuple[bytes, bytes]]:
        """Extended attributes (entries.md, place 14)."""
        if not isinstance(value, list) or len(value) > 1_024:
            raise Damaged("entries: attributes")
        result = []
        for pair in value:
            if not isinstance(pair, list) or len(pair) != 2:
                raise Damaged("entries: an attribute that is not a pair")
            name, data = (
                as_data(pair[0], "entries: attribute", 1, 255),
                as_data(pair[1], "entries: attribute", 0, 65_536),
            )
            need(b"\0" not in name, "entries: attribute with a zero byte")
            result.append((name, data))
        return result

    def extents(self, entry: Entry, value: Value) -> Iterator[Extent]:
        """The contents of a file, with the references of *payload* that they mean (entries.md)."""
        total = 0
        need(bool(entry.flags & 4) == (self.peek()[0] == MORE_EXTENTS), "entries: flags, and extents that follow")
        while True:
            if not isinstance(value, list) or len(value) > 4_096:
                raise Damaged("entries: extents")
            for item in value:
                extent = self.extent(item)
                total += extent.length
                need(total <= entry.size, "entries: extents do not add up to the size")
                yield extent
            if self.peek()[0] != MORE_EXTENTS:
                break
            value = self.take(2)[1]
        need(total == entry.size, "entries: extents do not add up to the size")
        self.content += total
        need(self.content <= MAX_INT, "entries: sum of the sizes")

    def extent(self, item: Value) -> Extent:
        """One extent: in the reference of the one before it, or in the next."""
        if not isinstance(item, list) or len(item) != 3:
            raise Damaged("entries: an extent that is not three elements")
        offset, length = as_number(item[1], "entries: extent"), as_number(item[2], "entries: extent", 1)
        if item[0] is None:
            need(offset == 0, "entries: a hole with an offset")
            return Extent(None, 0, length)
        name = as_data(item[0], "entries: extent", 32)
        if self.current is None or self.current.name != name:
            self.current = next(self.references, None)
        if self.current is None or self.current.name != name:
            raise Damaged("entries: an extent that is not the next reference of payload")
        need(offset + length <= self.current.length, "entries: an extent that goes beyond its segment")
        return Extent(self.current, offset, length)


# ---------------------------------------------------------------- where files go


class FolderSink:
    """Files in a new folder. Nothing outside of it is ever touched: no symbolic link is followed (entries.md)."""

    def __init__(self, root: Path, image: Image) -> None:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if next(root.iterdir(), None) is not None:
            raise Refused(f"{root} is not empty")
        self.image, self.problems = image, 0
        self.root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.as_root = os.geteuid() == 0
        self.folders: list[Entry] = []

    def folder(self, parts: list[bytes]) -> int:
        """A descriptor of a folder, step by step from the root; what the image has no record of is made, mode 0700."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        here = os.dup(self.root)
        for part in parts:
            try:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=here)
                below = os.open(part, flags, dir_fd=here)
            finally:
                os.close(here)
            here = below
        return here

    @contextlib.contextmanager
    def place(self, path: bytes) -> Iterator[tuple[int, bytes]]:
        """The folder that a path lies in, open, and the last part of the path."""
        parts = path[1:].split(b"/")
        descriptor = self.folder(parts[:-1])
        try:
            yield descriptor, parts[-1]
        finally:
            os.close(descriptor)

    def add(self, entry: Entry) -> None:
        """Restore one file; folders get their attributes at the end."""
        if entry.type == FOLDER:
            os.close(self.folder([part for part in entry.path.split(b"/") if part]))
            self.folders.append(entry)
            return
        with self.place(entry.path) as (folder, name):
            if entry.type == FILE:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                with os.fdopen(os.open(name, flags, 0o600, dir_fd=folder), "wb") as file:
                    for extent in entry.extents:
                        if extent.reference is None:
                            file.seek(extent.length, os.SEEK_CUR)
                        else:
                            data = self.image.segment(extent.reference)
                            file.write(data[extent.offset : extent.offset + extent.length])
                    file.truncate(entry.size)
                    self.attributes(entry, file.fileno())
            elif entry.type == SYMLINK:
                os.symlink(entry.target, name, dir_fd=folder)
                self.attributes_of_link(entry, folder, name)
            elif entry.type == HARD_LINK:
                with self.place(entry.target) as (other, old):
                    os.link(old, name, src_dir_fd=other, dst_dir_fd=folder, follow_symlinks=False)
            else:
                self.problem(entry, "a special file, which is not restored")

    def problem(self, entry: Entry, text: str) -> None:
        """Count and tell what could not be restored."""
        self.problems += 1
        warn(f"{shown_path(entry.path)}: {text}")

    def attributes(self, entry: Entry, descriptor: int) -> None:
        """Owner, extended attributes, mode and times. Chown takes capabilities away, a strict mode forbids the rest."""
        if self.as_root:
            os.fchown(descriptor, entry.uid, entry.gid)
        self.extended(entry, descriptor, follow=True)
        # What would run as the owner must not run as whoever restores it.
        os.fchmod(descriptor, entry.mode if self.as_root else entry.mode & 0o1777)
        os.utime(descriptor, ns=(entry.mtime, entry.mtime))

    def attributes_of_link(self, entry: Entry, folder: int, name: bytes) -> None:
        """The same for a symbolic link, which has no mode."""
        if self.as_root:
            os.chown(name, entry.uid, entry.gid, dir_fd=folder, follow_symlinks=False)
        self.extended(entry, b"/proc/self/fd/%d/%s" % (folder, name), follow=False)
        os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=folder, follow_symlinks=False)

    def extended(self, entry: Entry, where: int | bytes, follow: bool) -> None:
        """Extended attributes; one that cannot be set is told, and ends nothing."""
        for name, value in entry.attributes:
            try:
                if follow:
                    os.setxattr(where, name, value)
                else:
                    os.setxattr(where, name, value, follow_symlinks=False)
            except OSError as error:
                self.problem(entry, f"attribute {name.decode(errors='backslashreplace')}: {error.strerror}")

    def finish(self) -> None:
        """Give the folders their attributes, the deepest first."""
        for entry in reversed(self.folders):
            descriptor = self.folder([part for part in entry.path.split(b"/") if part])
            self.attributes(entry, descriptor)
            os.close(descriptor)


class TarSink:
    """A POSIX pax stream (tar.md)."""

    def __init__(self, file: BinaryIO, image: Image) -> None:
        self.file, self.image, self.problems, self.length = file, image, 0, 0

    def write(self, data: bytes) -> None:
        """Append to the stream."""
        self.file.write(data)
        self.length += len(data)

    def pad(self, block: int) -> None:
        """Fill the stream up with zeros."""
        self.write(bytes(-self.length % block))

    def header(self, name: bytes, kind: bytes, size: int, entry: Entry, link: bytes = b"") -> None:
        """A plain `ustar` header; what does not fit stands in the extended one."""

        def octal(value: int, digits: int) -> bytes:
            return b"%0*o\0" % (digits, value if 0 <= value < 8**digits else 0)

        head = name[:100].ljust(100, b"\0")
        head += octal(entry.mode, 7) + octal(entry.uid, 7) + octal(entry.gid, 7)
        head += octal(size, 11) + octal(entry.mtime // 10**9, 11) + b" " * 8 + kind + link[:100].ljust(100, b"\0")
        head += b"ustar\x0000" + entry.uname[:31].ljust(32, b"\0") + entry.gname[:31].ljust(32, b"\0")
        head += octal(0, 7) + octal(0, 7) + bytes(167)
        self.write(head[:148] + b"%06o\0 " % sum(head) + head[156:])

    def extended(self, entry: Entry, name: bytes, link: bytes) -> bytes:
        """The records of the extended header; empty when the plain one holds everything."""
        pairs: list[tuple[bytes, bytes]] = []
        pairs += [(b"path", name)] if len(name) > 100 else []
        pairs += [(b"linkpath", link)] if len(link) > 100 else []
        pairs += [(b"size", b"%d" % entry.size)] if entry.size >= 8 * GIB else []
        pairs += [(key, b"%d" % n) for key, n in ((b"uid", entry.uid), (b"gid", entry.gid)) if n > 2_097_151]
        pairs += [(key, n) for key, n in ((b"uname", entry.uname), (b"gname", entry.gname)) if len(n) > 31]
        if entry.mtime % 10**9 or not 0 <= entry.mtime < 8**11 * 10**9:
            seconds, rest = divmod(abs(entry.mtime), 10**9)
            pairs.append((b"mtime", b"%s%d.%09d" % (b"-" if entry.mtime < 0 else b"", seconds, rest)))
        try:
            b"\0".join(value for _, value in pairs).decode()
        except UnicodeDecodeError:
            pairs.insert(0, (b"hdrcharset", b"BINARY"))
        for key, value in entry.attributes:
            pairs.append((b"SCHILY.xattr." + key.replace(b"%", b"%25").replace(b"=", b"%3D"), value))
        return b"".join(self.record(key, value) for key, value in pairs)

    @staticmethod
    def record(key: bytes, value: bytes) -> bytes:
        """A record of an extended header, which begins with its own length."""
        body = b" %s=%s\n" % (key, value)
        length = len(body)
        while len(str(length)) + len(body) != length:
            length = len(str(length)) + len(body)
        return b"%d" % length + body

    def add(self, entry: Entry) -> None:
        """One member."""
        kind = {FILE: b"0", HARD_LINK: b"1", SYMLINK: b"2", FOLDER: b"5"}.get(entry.type)
        if kind is None:
            self.problems += 1
            warn(f"{shown_path(entry.path)}: a special file, which is not restored")
            return
        name = (entry.path[1:] or b".") + (b"/" if entry.type == FOLDER else b"")
        link = entry.target[1:] if entry.type == HARD_LINK else entry.target
        if records := self.extended(entry, name, link):
            self.header(b"PaxHeaders/" + name.rstrip(b"/")[-80:], b"x", len(records), entry)
            self.write(records)
            self.pad(512)
        self.header(name, kind, entry.size, entry, link)
        for extent in entry.extents:
            if extent.reference is None:
                for at in range(0, extent.length, MIB):
                    self.write(bytes(min(MIB, extent.length - at)))
            else:
                self.write(self.image.segment(extent.reference)[extent.offset : extent.offset + extent.length])
        self.pad(512)

    def finish(self) -> None:
        """Two blocks of zeros, then up to a multiple of 10,240 bytes."""
        self.write(bytes(1_024))
        self.pad(10_240)
        self.file.flush()


# ---------------------------------------------------------------- commands


def when(nanoseconds: int) -> str:
    """A time for people."""
    try:
        start = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
        return (start + dt.timedelta(seconds=nanoseconds // 10**9)).strftime("%Y-%m-%d %H:%M:%S UTC")
    except OverflowError:
        return f"{nanoseconds} ns"


def tell_medium(pool: Pool) -> None:
    """Say whose medium it is."""
    print(f"medium {pool.medium.hex()} ({shown(pool.label)}), made {when(pool.created)}", file=sys.stderr)
    print(f"  domain {pool.domain.hex()}: {pool.trust.word(pool.domain)}", file=sys.stderr)


def list_images(pool: Pool) -> int:
    """The command `list`."""
    bad = 0
    for name in pool.copy_names():
        try:
            copy = pool.copy(name)
        except (ReadError, OSError) as error:
            bad += 1
            print(f"{shown(name)}\n  {error}")
            continue
        header = copy.header
        gone = (header.image, copy.number) in pool.tombstones
        print(f"{name}{'  EXPIRED: the journal has a tombstone' if gone else ''}")
        print(f"  client {shown(header.client)}, policy {shown(header.policy)!r}, {shown(header.backup_id)}")
        print(f"  started {when(header.started)}, {header.files} files, {header.content} bytes")
        if header.problems:
            print(f"  {header.problems} files could not be read, or changed while they were read")
        print(f"  origin {header.origin.hex()}: {pool.trust.word(header.origin)}; {len(copy.way) - 1} hops")
        if copy.own_streams:
            print("  its streams are in the word of the writing domain, not of the origin")
        print(f"  {'encrypted, under:' if copy.cipher else 'not encrypted'}")
        for tag in copy.tags:
            print(f"    key {tag.hex()} ({'pass phrase' if tag[1] else 'random'})")
    return 1 if bad else 0


def choose(pool: Pool, wanted: str) -> Copy:
    """The copy that the user named: IMAGE or IMAGE-COPY, IMAGE also written as a UUID."""
    digits = wanted.lower().replace("-", "")
    if not hexadecimal(digits) or len(digits) not in (32, 36):
        raise Refused("an image is 32 hexadecimal digits; -COPY is four more")
    problem: ReadError = Incomplete(f"no copy of image {digits[:32]} is here")
    for name in pool.copy_names():
        if name.replace("-", "").startswith(digits):
            try:
                copy = pool.copy(name)
            except ReadError as error:
                warn(f"{name}: {error}")
                problem = error
                continue
            if (copy.header.image, copy.number) not in pool.tombstones:
                return copy
            problem = Incomplete(f"{name}: the journal has a tombstone, so the copy is not complete")
    raise problem


def verify(pool: Pool, wanted: str) -> int:
    """The command `verify`: everything that can be known without a key."""
    image = Image(pool, choose(pool, wanted))
    copy = image.copy
    print(f"copy {copy.name}: headers and trailer are right")
    print(f"  origin {copy.header.origin.hex()}: {pool.trust.word(copy.header.origin)}")
    if copy.own_streams:
        print("  its streams are in the word of the writing domain, not of the origin")
    image.check_pages()
    print(f"  {len(image.leaves)} leaf pages are right")
    count, total = image.check_frames()
    print(f"  {count} frames are right, {total} bytes")
    if copy.cipher:
        envelopes = {envelope.envelope for places in image.wrapped.values() for envelope, _ in places}
        print(f"  {len(envelopes)} envelopes hold all {len(image.data_keys)} data keys")
    else:
        files = sum(1 for _ in image.files())
        print(f"  {files} files are described rightly")
    return 0


def kms_keys(args: argparse.Namespace) -> dict[bytes, bytes]:
    """The KMS keys that the user gave, by tag."""
    keys: dict[bytes, bytes] = {}
    if args.key is not None:
        if args.passphrase_file is None:
            raise Refused("--key needs --passphrase-file")
        try:
            tag = bytes.fromhex(args.key)
        except ValueError:
            raise Refused("a key tag is 64 hexadecimal digits") from None
        keys[tag] = key_from_phrase(tag, read_phrase(args.passphrase_file))
    if args.keystore is not None:
        if args.hmk is None or args.kpk is None:
            raise Refused("--keystore needs --hmk and --kpk")
        hmk = read_key_file(args.hmk, "hmk", args.hmk_passphrase_file)
        kpk = read_key_file(args.kpk, "kpk", args.kpk_passphrase_file)
        keys |= read_keystore(args.keystore, hmk, kpk)
    return keys


def restore(pool: Pool, args: argparse.Namespace) -> int:
    """The command `restore`."""
    keys = kms_keys(args)  # first, so that a wrong pass phrase is refused at once
    image = Image(pool, choose(pool, args.image))
    image.check_pages()
    image.open_keys(keys)
    with contextlib.ExitStack() as stack:
        sink: FolderSink | TarSink
        if args.to is not None:
            sink = FolderSink(args.to, image)
            stack.callback(os.close, sink.root)
        elif args.tar == "-":
            sink = TarSink(sys.stdout.buffer, image)
        else:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            sink = TarSink(stack.enter_context(os.fdopen(os.open(args.tar, flags, 0o600), "wb")), image)
        count = 0
        for entry in image.files():
            sink.add(entry)
            count += 1
        sink.finish()
    print(f"restored {count} files of {image.copy.name}, {sink.problems} problems", file=sys.stderr)
    return 1 if sink.problems else 0


def arguments(words: Iterable[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Read the images of a strongroom pool without strongroom.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("list", "show the images of a pool"),
        ("verify", "check a whole image, without a key"),
        ("restore", "write the files of an image"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("pool", type=Path, help="folder of the pool")
        if name != "list":
            command.add_argument("image", help="IMAGE or IMAGE-COPY, as `list` shows it")
        command.add_argument(
            "--domain", action="append", default=[], help="domain id that you were given on paper; can be repeated"
        )
        command.add_argument("--allow-revoked", action="store_true", help="use what a revoked certificate signed")
    target = command.add_mutually_exclusive_group(required=True)
    target.add_argument("--to", type=Path, metavar="DIR", help="restore into this folder, new or empty")
    target.add_argument("--tar", metavar="FILE", help="write a tar stream; - is standard output")
    command.add_argument("--key", metavar="TAG", help="key tag of a pass phrase's key, 64 hexadecimal digits")
    for option in ("passphrase-file", "keystore", "hmk", "kpk", "hmk-passphrase-file", "kpk-passphrase-file"):
        command.add_argument(f"--{option}", type=Path, metavar="FILE")
    return parser.parse_args(None if words is None else list(words))


def main(words: Iterable[str] | None = None) -> int:
    """Run a command; 0 is success, 1 is that something is wrong with what was read."""
    args = arguments(words)
    try:
        if not all(hexadecimal(domain, 64) for domain in args.domain):
            raise Refused("a domain id is 64 hexadecimal digits")
        trust = Trust(frozenset(bytes.fromhex(domain) for domain in args.domain), args.allow_revoked)
        pool = Pool(args.pool, trust)
        tell_medium(pool)
        if trust.pinned and pool.domain not in trust.pinned:
            raise Refused("the medium belongs to another domain than the one that you gave")
        if args.command == "list":
            return list_images(pool)
        return verify(pool, args.image) if args.command == "verify" else restore(pool, args)
    except (ReadError, OSError) as error:
        warn(str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
