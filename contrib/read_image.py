"""Read the images of a strongroom pool with nothing but this file and three libraries.

Written from the pages in `docs/reference/formats`, and sharing no code with the product, so that whoever holds a
pool and a key can read it without the product. Each part names the pages that it implements.

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
import re
import stat
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from struct import Struct
from types import SimpleNamespace
from typing import Any, BinaryIO, NamedTuple, TypeAlias, TypeVar

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
    """What is read cannot be used; the names of the classes below are the outcomes of the pages."""

    def __str__(self) -> str:
        outcome = re.sub(r"\B([A-Z])", r" \1", type(self).__name__).lower()
        return f"{outcome}: {super().__str__()}"


class Damaged(ReadError):
    """It is not what its page says."""


class Newer(ReadError):
    """It needs a later reader."""


class Revoked(ReadError):
    """It was signed under a certificate that its domain has revoked."""


class Incomplete(ReadError):
    """Something that an image needs is not there, or cannot be read."""


class WrongKey(ReadError):
    """The key or pass phrase does not open it."""


class Refused(ReadError):
    """The reader could, and does not."""


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


def check_magic(found: bytes, expected: bytes, what: str) -> None:
    """Compare the name that a format begins with; its digits are the version."""
    letters = expected.rstrip(b"0123456789")
    is_newer = found.startswith(letters) and found[len(letters) :].isdigit() and found > expected
    known(not is_newer, f"{what}: another version")
    need(found == expected, f"{what}: it does not begin, or end, like one")


# ---------------------------------------------------------------- algorithms: conventions.md, key-tag.md


def label(name: str) -> bytes:
    """The label of a derivation or signature (conventions.md, Labels)."""
    return f"strongroom/{name}/v1".encode() + b"\0"


def digest(data: bytes) -> bytes:
    """Digest algorithm 1, BLAKE3."""
    return blake3(data).digest()


def hkdf(key: bytes, info: bytes, length: int = 32) -> bytes:
    """Key derivation 1, HKDF-SHA-256 with an empty salt."""
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=info).derive(key)


def argon2id(phrase: bytes, salt: bytes) -> bytes:
    """Pass phrase derivation 1."""
    return Argon2id(salt=salt, length=32, iterations=3, lanes=4, memory_cost=65_536).derive(phrase)


def unseal(key: bytes, nonce: bytes, sealed: bytes, associated: bytes) -> bytes | None:
    """Decrypt cipher 1, AES-256-GCM; None when it does not authenticate."""
    try:
        return AESGCM(key).decrypt(nonce, sealed, associated)
    except InvalidTag:
        return None


def crc32c(data: bytes) -> int:
    """CRC-32C, Castagnoli (key-tag.md)."""
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
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

# first byte of a value: its type; bytes of the number behind it; the least number that may take this form
# fmt: off
FORMS = {
    0xC4: ("bin", 1, 0), 0xC5: ("bin", 2, 1 << 8), 0xC6: ("bin", 4, 1 << 16),
    0xCC: ("int", 1, 1 << 7), 0xCD: ("int", 2, 1 << 8), 0xCE: ("int", 4, 1 << 16), 0xCF: ("int", 8, 1 << 32),
    0xD9: ("str", 1, 1 << 5), 0xDA: ("str", 2, 1 << 8), 0xDB: ("str", 4, 1 << 16),
    0xDC: ("array", 2, 1 << 4), 0xDD: ("array", 4, 1 << 16),
    0xDE: ("map", 2, 1 << 4), 0xDF: ("map", 4, 1 << 16),
}
# fmt: on
# the same of negative numbers, with the first number that is too near to zero
NEGATIVE = {0xD0: (1, -(1 << 5)), 0xD1: (2, -(1 << 7)), 0xD2: (4, -(1 << 15)), 0xD3: (8, -(1 << 31))}


class Decoder:
    """MessagePack in its only allowed encoding; every other byte string is rejected."""

    def __init__(self, data: bytes, most: int = MAX_INT) -> None:
        self.data, self.at, self.most = data, 0, most

    def take(self, length: int) -> bytes:
        """The next bytes; never believes a length that is not there."""
        need(length <= len(self.data) - self.at, "record: shorter than it says")
        self.at += length
        return self.data[self.at - length : self.at]

    def value(self, depth: int = 0) -> Value:
        """The next value."""
        first = self.take(1)[0]
        if first <= 0x7F or first >= 0xE0:
            return first if first <= 0x7F else first - 256
        if first in (0xC0, 0xC2, 0xC3):
            return None if first == 0xC0 else first == 0xC3
        if first in NEGATIVE:
            size, limit = NEGATIVE[first]
            number = int.from_bytes(self.take(size), "big", signed=True)
            need(number < limit, "record: not the shortest form")
            return number
        if first <= 0xBF:
            kind, number = ("map", "array", "str", "str")[first - 0x80 >> 4], first & (0x0F if first <= 0x9F else 0x1F)
        else:
            need(first in FORMS, f"record: type {first:#x} is not allowed")
            kind, size, least = FORMS[first]
            number = int.from_bytes(self.take(size), "big")
            need(number >= least, "record: not the shortest form")
        if kind == "int":
            need(number <= self.most, "record: number too large")
            return number
        if kind == "bin":
            return self.take(number)
        if kind == "str":
            return self.text(number)
        # each element has at least one byte, which bounds their number
        need(number <= len(self.data) - self.at, "record: shorter than it says")
        need(depth < 16, "record: nested too deep")
        return self.map(number, depth) if kind == "map" else [self.value(depth + 1) for _ in range(number)]

    def text(self, length: int) -> str:
        """A `str`."""
        try:
            text = self.take(length).decode()
        except UnicodeDecodeError:
            raise Damaged("record: text that is not UTF-8") from None
        need("\0" not in text, "record: text with a zero character")
        return text

    def map(self, count: int, depth: int) -> dict[str, Value]:
        """A map with text as keys, none of them twice."""
        result: dict[str, Value] = {}
        for _ in range(count):
            key = self.value(depth + 1)
            if not isinstance(key, str) or key in result:
                raise Damaged("record: a key that is not text, or is there twice")
            result[key] = self.value(depth + 1)
        return result


def decode(data: bytes, most: int = MAX_INT) -> Value:
    """One whole record, with no number above `most`."""
    decoder = Decoder(data, most)
    value = decoder.value()
    need(decoder.at == len(data), "record: bytes behind it")
    return value


Rule: TypeAlias = Callable[[Value, str], Any]
"""Checks a value, which is named in messages, and gives it back: what a page's table says of a field."""


def rule(test: Callable[[Any], bool], fault: str) -> Rule:
    """A rule that rejects what does not pass a test."""

    def check(value: Value, what: str) -> Value:
        need(test(value), f"{what}: {fault}")
        return value

    return check


def number(low: int = 0, high: int = MAX_INT) -> Rule:
    """An integer in its range."""
    return rule(lambda value: type(value) is int and low <= value <= high, "not a number in its range")


def data(low: int, high: int | None = None) -> Rule:
    """A `bin` of exactly `low` bytes, or `low` to `high`."""
    most = low if high is None else high
    return rule(lambda value: isinstance(value, bytes) and low <= len(value) <= most, "not bytes of its length")


def text(most: int, low: int = 0, characters: int = MAX_INT) -> Rule:
    """A `str` of `low` to `most` bytes."""
    return rule(
        lambda value: isinstance(value, str) and low <= len(value.encode()) <= most and len(value) <= characters,
        "not text of its length",
    )


def optional(inner: Rule) -> Rule:
    """Nil, or what the inner rule allows."""
    return lambda value, what: None if value is None else inner(value, what)


def one_of(*words: int | str) -> Rule:
    """An algorithm id or a word; one that is not known here is newer."""

    def check(value: Value, what: str) -> Value:
        need(type(value) is type(words[0]), f"{what}: of another type")
        known(value in words, f"{what} is {shown(str(value)[:64])}")
        return value

    return check


def array(item: Rule, high: int, low: int = 0, key: Callable[[Any], Any] | None = None) -> Rule:
    """An array of `low` to `high` elements; with `key` strictly ascending by it."""

    def check(value: Value, what: str) -> list[Any]:
        if not isinstance(value, list) or not low <= len(value) <= high:
            raise Damaged(f"{what}: not an array of its length")
        items = [item(element, what) for element in value]
        if key is not None:
            need_ascending([key(element) for element in items], what)
        return items

    return check


def itself(value: Any) -> Any:
    """The key of an array whose elements ascend by themselves."""
    return value


def need_ascending(values: list[Any], what: str) -> None:
    """Reject values that do not rise from each to the next."""
    need(all(a < b for a, b in itertools.pairwise(values)), f"{what}: not ascending")


def table(**rules: Rule) -> Rule:
    """A map with these fields; others are ignored."""

    def check(value: Value, what: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise Damaged(f"{what}: not a map")
        missing = rules.keys() - value.keys()
        need(not missing, f"{what}: no field {min(missing, default='')}")
        return {name: check_field(value[name], f"{what}: {name}") for name, check_field in rules.items()}

    return check


FLAG = rule(lambda value: isinstance(value, bool), "not a boolean")
CIPHER = one_of(0, 1)
RETENTION = optional(number(0, 1 << 33))
POLICY = text(448, characters=112)
SERIAL = number(1, (1 << 32) - 1)
COPY_NUMBER = number(1, 65_535)

# ---------------------------------------------------------------- signed objects: signed-object.md


class Kind(NamedTuple):
    """A kind of signed object: what it is, the bound of its payload, and its fields."""

    what: str
    bound: int
    fields: Rule


# fmt: off
# The tables of the pages, field by field. `features` is looked at before all others.
STREAM = table(root=data(32), segments=number(), bytes=number(0, MAX_SUM), chunker=array(number(), 4, 4))
REVOCATION = table(certificate=number(1), since=number(), reason=text(256))
STATE_RECORD = table(kind=text(KIB, 1), image=data(16), copy=number(), at=number(), reason=text(256))
WRAPPED_KEY = table(
    key=data(16), purpose=one_of(1, 2), medium=data(16), commitment=data(32), nonce=data(12), wrapped=data(48))
KINDS = {
    b"SRARCC01": Kind("archive certificate", 512, table(
        number=SERIAL, alg=one_of(1), key=data(32), **{"from": number()})),
    b"SRREVL01": Kind("revocation list", MIB, table(
        number=SERIAL, issued=number(), revoked=array(REVOCATION, 1_024, key=lambda item: item["certificate"]))),
    b"SRMEDH01": Kind("media header", 16 * KIB, table(
        medium=data(16), kind=one_of("pool", "tape"), label=text(128, 1), created=number())),
    b"SRIMGH01": Kind("image header", 64 * KIB, table(
        image=data(16), salt=data(16), backup_id=text(300), client=text(255, 1), client_host=data(16),
        policy=text(128), schedule=text(128), kind=one_of("full"), started=number(), ended=number(), slp=POLICY,
        slp_version=number(), data_class=text(64), retention=RETENTION, key_group=data(16), cipher=CIPHER,
        digest=one_of(1), entries=optional(STREAM), payload=optional(STREAM), files=number(), content=number(),
        problems=number())),
    b"SRCPYH01": Kind("copy header", 512 * KIB, table(
        medium=data(16), image=data(16), copy=number(1, 65_535), fragment=number(1), written=number(),
        expires=optional(number()), encrypted=FLAG, cipher=CIPHER, incarnation=number(1), slp=text(448),
        slp_version=number(), from_copy=number(), tags=array(data(32), 1_024, key=itself),
        key_pages=array(data(32), 64), entries=optional(STREAM), payload=optional(STREAM), journal=number(),
        journal_medium=data(16), previous=data(32), earlier=array(data(16), 4_096), hops=array(data(16, 4_112), 16),
        header=data(16, 67_600))),
    b"SRHOPR01": Kind("hop", 2 * KIB, table(
        to=data(32), image=data(16), origin=data(32), header=data(32), sending=data(16),
        slp=text(448, 1, characters=112), retention=RETENTION, at=number(), previous=data(32))),
    b"SRTRLR01": Kind("trailer", 16 * KIB, table(
        medium=data(16), image=data(16), copy=number(), fragment=number(), copy_header=data(32), bytes=number(),
        digest=data(32), files=number(), last=FLAG)),
    b"SRJRNL01": Kind("journal batch", 4 * MIB, table(
        medium=data(16), incarnation=number(1), sequence=number(1), previous=data(32), at=number(),
        records=array(STATE_RECORD, 4_096, 1))),
    b"SRENVL01": Kind("key envelope", MIB, table(
        incarnation=number(1), origin=data(32), envelope=data(16), generation=SERIAL, group=data(16),
        created=number(), tag=data(32), cipher=one_of(1),
        keys=array(WRAPPED_KEY, 1_024, 1, key=lambda item: item["key"]))),
}
# fmt: on
SIGNED_BY_ROOT = (b"SRARCC01", b"SRREVL01")
SEAL = table(alg=one_of(1), root=data(32), cert=optional(data(1, 1_024)), sig=data(64))
MAX_SEAL = 2_048
U32 = Struct(">I")


def object_bound(magic: bytes) -> int:
    """The longest a whole object can be (Bounds)."""
    return KINDS[magic].bound + 16 + MAX_SEAL


class Signed(NamedTuple):
    """An object with a valid signature, and its fields."""

    raw: bytes
    magic: bytes
    domain: bytes
    root: bytes
    certificate: int | None
    fields: dict[str, Any]

    @property
    def what(self) -> str:
        """Its name in messages."""
        return KINDS[self.magic].what


def domain_id(alg: int, root: bytes) -> bytes:
    """The name of a domain (identity.md, Domain id)."""
    return hashlib.sha256(label("domain-id") + bytes([alg]) + root).digest()


def object_length(raw: bytes) -> int:
    """The length of the object that the bytes begin with."""
    need(len(raw) >= 16, "object: too short")
    (payload,) = U32.unpack_from(raw, 8)
    need(payload <= len(raw) - 16, "object: shorter than it says")
    return 16 + int(payload) + int(U32.unpack_from(raw, 12 + payload)[0])


def open_object(raw: bytes, magic: bytes) -> Signed:
    """Checking, 1 to 7: all but revocation; of the fields only `domain` is looked at."""
    what, bound, _ = KINDS[magic]
    check_magic(raw[:8], magic, what)
    need(len(raw) <= object_bound(magic) and object_length(raw) == len(raw), f"{what}: its length is not what it says")
    end = 12 + int(U32.unpack_from(raw, 8)[0])
    need(end - 12 <= bound and len(raw) - end - 4 <= MAX_SEAL, f"{what}: too long")

    raw_seal = decode(raw[end + 4 :])
    seal = SEAL(raw_seal, f"{what}: seal")
    need(isinstance(raw_seal, dict) and list(raw_seal) == list(seal), f"{what}: seal: other keys, or another order")
    need((seal["cert"] is None) == (magic in SIGNED_BY_ROOT), f"{what}: signed by the wrong kind of key")
    domain = domain_id(seal["alg"], seal["root"])
    key, certificate, bound_to = seal["root"], None, ZEROS
    if seal["cert"] is not None:
        by = open_object(seal["cert"], b"SRARCC01")
        need((by.root, by.domain) == (seal["root"], domain), f"{what}: certificate of another domain")
        fields = check_fields(by)
        key, certificate, bound_to = fields["key"], fields["number"], hashlib.sha256(by.raw).digest()
    message = label("signed-object") + raw[:end] + bound_to
    need(signature_is_valid(key, seal["sig"], message), f"{what}: the signature is wrong")

    payload = decode(raw[12:end])
    need(table(domain=data(32))(payload, what)["domain"] == domain, f"{what}: domain is not the signer's")
    return Signed(raw, magic, domain, seal["root"], certificate, payload if isinstance(payload, dict) else {})


def check_fields(signed: Signed) -> dict[str, Any]:
    """Check the fields, after what a reader must understand, of which this one knows nothing (conventions.md)."""
    if signed.magic not in SIGNED_BY_ROOT:
        for name in array(text(64), 64)(signed.fields.get("features"), f"{signed.what}: features"):
            raise Newer(f"{signed.what}: needs {shown(name)}")
    fields: dict[str, Any] = KINDS[signed.magic].fields(signed.fields, signed.what)
    return fields


@dataclass
class Trust:
    """What the reader was told or has read of domains: pins, and revoked certificates."""

    pinned: frozenset[bytes]
    allow_revoked: bool
    revoked: dict[bytes, set[int]] = field(default_factory=dict)
    told: set[tuple[bytes, int]] = field(default_factory=set)

    def check(self, raw: bytes, magic: bytes) -> Signed:
        """Check an object, and whether its certificate still counts (Checking, 8)."""
        signed = open_object(raw, magic)
        number = signed.certificate or 0
        if number in self.revoked.get(signed.domain, ()):
            reason = f"{signed.what}: certificate {number} of {signed.domain.hex()} is revoked"
            if not self.allow_revoked:
                raise Revoked(reason)
            if (signed.domain, number) not in self.told:
                self.told.add((signed.domain, number))
                warn(reason)
        return signed._replace(fields=check_fields(signed))

    def word(self, domain: bytes) -> str:
        """The outcome for a domain (Checking)."""
        return "pinned domain" if domain in self.pinned else "unknown domain"


# ---------------------------------------------------------------- headers: image-, copy-header.md, hop.md, trailer.md


class Stream(NamedTuple):
    """One of the two streams of an image (image-header.md)."""

    root: bytes
    segments: int
    bytes: int


def streams_of(header: Signed) -> tuple[Stream, Stream] | None:
    """The fields `entries` and `payload`: both or none."""
    found = [header.fields[name] for name in ("entries", "payload") if header.fields[name] is not None]
    need(len(found) != 1, f"{header.what}: one stream only")
    entries, payload = [Stream(f["root"], f["segments"], f["bytes"]) for f in found] or (None, None)
    return (entries, payload) if entries and payload else None


class Copy(NamedTuple):
    """One copy of an image in a pool, all headers checked.

    `f` has the fields of the copy header, `image` those of the image header; `way` are the domains from the origin
    to the one that wrote the copy.
    """

    name: str
    domain: bytes
    f: dict[str, Any]
    image: dict[str, Any]
    way: list[bytes]
    entries: Stream
    payload: Stream
    own_streams: bool

    @property
    def origin(self) -> bytes:
        """The domain that made the backup."""
        return self.way[0]

    @property
    def key(self) -> tuple[bytes, int]:
        """Image and copy number."""
        return self.f["image"], self.f["copy"]


def check_image_header(trust: Trust, raw: bytes) -> Signed:
    """Check an image header (image-header.md)."""
    header = trust.check(raw, b"SRIMGH01")
    f = header.fields
    named = hashlib.sha256(label("image-id") + header.domain + f["salt"]).digest()[:16]
    need(f["image"] == named, "image header: image does not follow from domain and salt")
    need((f["cipher"] == 0) == (f["key_group"] == bytes(16)), "image header: key group and cipher do not go together")
    return header


def check_hops(trust: Trust, hops: list[bytes], header: Signed, writer: bytes) -> list[bytes]:
    """Check the way from the origin to the writing domain (hop.md, copy-header.md); its domains in order."""
    way, previous = [header.domain], ZEROS
    for raw in hops:
        hop = trust.check(raw, b"SRHOPR01")
        f = hop.fields
        need(f["image"] == header.fields["image"] and f["origin"] == header.domain, "hop: another image or origin")
        need(f["header"] == digest(header.raw), "hop: another image header")
        need(f["previous"] == previous, "hop: does not follow the one before it")
        need(hop.domain == way[-1], "hop: the sender is not where the image was")
        previous = digest(raw)
        way.append(f["to"])
    need(way[-1] == writer, "copy header: its hops do not lead from the origin to its domain")
    need(len(set(way)) == len(way), "copy header: a domain sent twice, or hops that returned are not cut")
    return way


def check_copy(trust: Trust, name: str, raw: bytes, domain: bytes, medium: bytes) -> Copy:
    """Check a file of `images`: one copy header, one trailer (pool-folder.md, copy-header.md, trailer.md)."""
    length = object_length(raw)
    header = trust.check(raw[:length], b"SRCPYH01")
    f = header.fields
    need(name == f"{f['image'].hex()}-{f['copy']:04x}", "copy header: the file has another name")
    need((header.domain, f["medium"]) == (domain, medium), "copy header: of another domain or medium")
    need(f["fragment"] == 1, "copy header: a pool copy has one fragment")
    need(f["previous"] == ZEROS and not f["earlier"], "copy header: something before a first fragment")
    need(f["journal_medium"] == medium, "copy header: the journal is elsewhere")

    image = check_image_header(trust, f["header"])
    need(image.fields["image"] == f["image"], "copy header: the header is of another image")
    way = check_hops(trust, f["hops"], image, header.domain)
    encrypted = f["encrypted"]
    need(encrypted == (f["cipher"] != 0), "copy header: cipher and encrypted do not go together")
    need(f["cipher"] == image.fields["cipher"], "copy header: another cipher than the image")
    need(bool(f["tags"]) == encrypted, "copy header: tags and encrypted do not go together")
    need(encrypted or not f["key_pages"], "copy header: key pages of what is not encrypted")
    own = streams_of(header)
    streams = own or streams_of(image)
    if streams is None:
        raise Damaged("copy header: a pool copy without streams")

    trailer = trust.check(raw[length:], b"SRTRLR01")
    t = trailer.fields
    need(trailer.domain == header.domain, "trailer: of another domain")
    same = all(t[key] == f[key] for key in ("medium", "image", "copy", "fragment"))
    need(same and t["copy_header"] == digest(header.raw), "trailer: of another copy, or copy header")
    need(t["last"], "trailer: not the last fragment")
    need(t["bytes"] == streams[0].bytes + streams[1].bytes, "trailer: bytes are not those of the streams")
    need(t["digest"] == digest(streams[0].root + streams[1].root), "trailer: digest is not that of the roots")
    need(t["files"] == image.fields["files"], "trailer: files are not those of the image header")
    return Copy(name, domain, f, image.fields, way, *streams, own is not None)


# ---------------------------------------------------------------- pages: manifest-page.md, key-page.md

PAGE = Struct(">4sBB2sII")
FRAME_ROW, REFERENCE_ROW, CHILD_ROW = Struct(">32s16sII"), Struct(">32sHHI"), Struct(">32sQQ")


class FrameRow(NamedTuple):
    """A frame as a leaf page lists it."""

    frame: bytes
    key: bytes
    length: int
    bytes: int


class Reference(NamedTuple):
    """One segment in the order of use."""

    name: bytes
    row: FrameRow
    position: int
    length: int


class Child(NamedTuple):
    """A page below an interior page."""

    page: bytes
    references: int
    bytes: int


class Page(NamedTuple):
    """A manifest page."""

    level: int
    rows: list[FrameRow]
    references: list[Reference]
    children: list[Child]


def parse_page(raw: bytes) -> Page:
    """Check what a manifest page says of itself; its digest is right already."""
    need(len(raw) >= PAGE.size, "page: too short")
    magic, level, algorithm, zero, one, two = PAGE.unpack_from(raw)
    check_magic(magic, b"SRP1", "page")
    known(algorithm == 1, "page: another digest algorithm")
    need(level <= 8 and zero == bytes(2), "page: wrong level or reserved bytes")
    need(one <= 1_024 and two <= 1_024, "page: too many rows")
    body = memoryview(raw)[PAGE.size :]
    if level:
        need(one >= 1 and two == 0 and len(body) == CHILD_ROW.size * one, "page: its length is not what it says")
        children = [Child(*row) for row in CHILD_ROW.iter_unpack(body)]
        fits = all(0 < child.references <= child.bytes <= MAX_SUM for child in children)
        need(fits, "page: a child that is empty, or too large")
        return Page(level, [], [], children)
    cut = FRAME_ROW.size * one
    need(len(body) == cut + REFERENCE_ROW.size * two, "page: its length is not what it says")
    rows = [FrameRow(*row) for row in FRAME_ROW.iter_unpack(body[:cut])]
    need(len({row.frame for row in rows}) == one, "page: a frame is listed twice")
    references, used = [], 0
    for name, index, position, length in REFERENCE_ROW.iter_unpack(body[cut:]):
        need(index <= used and index < one, "page: frames are not in the order of the first reference")
        need(1 <= length <= 4 * MIB and position < 4_096, "page: a reference out of bounds")
        used = max(used, index + 1)
        references.append(Reference(name, rows[index], position, length))
    need(used == one, "page: a frame is not used")
    return Page(0, rows, references, [])


def parse_key_page(raw: bytes) -> list[bytes]:
    """The envelope ids of a key page; its digest is right already."""
    need(len(raw) >= PAGE.size, "key page: too short")
    magic, zero, algorithm, zeros, count, reserved = PAGE.unpack_from(raw)
    check_magic(magic, b"SRK1", "key page")
    known(algorithm == 1, "key page: another digest algorithm")
    need(zero == reserved == 0 and zeros == bytes(2), "key page: reserved bytes")
    need(1 <= count <= 16_000 and len(raw) == 16 + 16 * count, "key page: its length is not what it says")
    return [raw[at : at + 16] for at in range(16, len(raw), 16)]


# ---------------------------------------------------------------- frames: frame.md

FRAME, SEGMENT = Struct(">4sBBBBIII16s12s"), Struct(">32sI")
MAX_BODY = 8 * MIB + 64 * KIB


class Frame(NamedTuple):
    """A frame, still closed."""

    cipher: int
    compression: int
    total: int
    key: bytes
    nonce: bytes
    segments: list[tuple[bytes, int]]
    head: bytes
    body: bytes


def parse_frame(raw: bytes) -> Frame:
    """Check the head of a frame; its digest is right already."""
    need(len(raw) >= FRAME.size, "frame: too short")
    magic, cipher, compression, naming, algorithm, count, total, body, key, nonce = FRAME.unpack_from(raw)
    check_magic(magic, b"SRF1", "frame")
    known(cipher in (0, 1) and compression in (0, 1) and naming == algorithm == 1, "frame: another algorithm")
    need(1 <= count <= 4_096 and 1 <= total <= 8 * MIB and body <= MAX_BODY, "frame: a length out of bounds")
    end = FRAME.size + SEGMENT.size * count
    need(len(raw) == end + body, "frame: its length is not what it says")
    need(cipher == 1 or key + nonce == bytes(28), "frame: key or nonce of a frame that is not encrypted")
    need(cipher == 0 or (body >= 16 and nonce[:4] == bytes(4)), "frame: body too short, or a wrong nonce")
    segments = list(SEGMENT.iter_unpack(raw[FRAME.size : end]))
    need(all(1 <= length <= 4 * MIB for _, length in segments), "frame: a segment out of bounds")
    need(sum(length for _, length in segments) == total, "frame: bytes are not those of its segments")
    return Frame(cipher, compression, total, key, nonce, segments, raw[:end], raw[end:])


def open_frame(frame: Frame, frame_key: bytes | None) -> bytes:
    """Decrypt and decompress a frame (Body)."""
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
    """One Zstandard frame, then whole skippable frames (Body).

    The frame is first followed through the heads of its blocks (RFC 8878, section 3.1.1): the library would either
    not tell where it ends, or give more than its stated size before it finds that wrong.
    """
    need(body[:4] == b"\x28\xb5\x2f\xfd", "frame: no Zstandard frame")
    try:
        parameters = zstandard.get_frame_parameters(body)
        need(parameters.content_size == total, "frame: another content size than it says")
        need(parameters.dict_id == 0 and parameters.window_size <= 8 * MIB, "frame: dictionary, or too large a window")
        at, last = zstandard.frame_header_size(body), 0
        while not last:
            need(at + 3 <= len(body), "frame: the Zstandard frame is cut off")
            block = int.from_bytes(body[at : at + 3], "little")
            last, is_run = block & 1, block >> 1 & 3 == 1
            at += 3 + (1 if is_run else block >> 3)
        at += 4 if parameters.has_checksum else 0
        plain = zstandard.ZstdDecompressor(max_window_size=8 * MIB).decompress(body[:at])
    except zstandard.ZstdError as error:
        raise Damaged(f"frame: {error}") from None
    while at < len(body):
        magic, size = int.from_bytes(body[at : at + 4], "little"), int.from_bytes(body[at + 4 : at + 8], "little")
        need(magic >> 4 == 0x184D2A5, "frame: bytes behind it that are no skippable frame")
        at += 8 + size
    need(at == len(body), "frame: it is cut off")
    return plain


# ---------------------------------------------------------------- the pool: pool-folder.md, container.md, journal.md

HEADER, FOOTER = Struct(">8s16s16s32sQBB6s8s"), Struct(">8sII")
ITEM, TAIL = Struct(">32sQII16s"), Struct(">QQ32s32s8s8s")
FRAMES, PAGES = 1, 2
MAX_ITEM = {FRAMES: FRAME.size + SEGMENT.size * 4_096 + MAX_BODY, PAGES: 256 * KIB}
MAX_FOOTER = FOOTER.size + ITEM.size * 65_536 + SEGMENT.size * 1_048_576


@contextlib.contextmanager
def reading(path: Path) -> Iterator[BinaryIO]:
    """A regular file; symbolic links are not followed, and nothing is waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            need(stat.S_ISREG(os.fstat(descriptor).st_mode), f"{path}: not a file")
            yield file
    except OSError as error:
        raise Incomplete(f"{path}: {error.strerror}") from None


def read_whole(path: Path, bound: int) -> bytes:
    """A file of at most `bound` bytes."""
    with reading(path) as file:
        found = file.read(bound + 1)
    need(len(found) <= bound, f"{path}: too long")
    return found


def hexadecimal(text: str, length: int) -> bool:
    """Whether a name is lower-case hexadecimal of a length."""
    return set(text) <= set("0123456789abcdef") and len(text) == length


class Place(NamedTuple):
    """Where a frame or a page lies."""

    container: Path
    offset: int
    length: int


def read_container(path: Path, medium: bytes) -> tuple[int, list[tuple[bytes, Place]]]:
    """Check a sealed container from its tail and footer (container.md); its content, and its items."""
    with reading(path) as file:
        size = os.fstat(file.fileno()).st_size
        need(HEADER.size + TAIL.size <= size <= GIB, "container: its size")
        header = file.read(HEADER.size)
        file.seek(size - TAIL.size)
        end, length, total, _, zero, magic = TAIL.unpack(file.read(TAIL.size).ljust(TAIL.size))
        check_magic(magic, b"SREND001", "container")
        fits = end >= HEADER.size and FOOTER.size <= length <= MAX_FOOTER and end + length + TAIL.size == size
        need(fits and zero == bytes(8), "container: footer misplaced")
        file.seek(end)
        footer = file.read(length)
    need(len(footer) == length and digest(header + footer) == total, "container: digest differs")

    magic, name, of_medium, _, _, content, algorithm, zero, check = HEADER.unpack(header)
    check_magic(magic, b"SRCONT01", "container")
    need(digest(header[:88])[:8] == check, "container: header is damaged")
    need(name.hex() == path.name, "container: the file has another name")
    need(of_medium == medium, "container: of another medium")
    known(content in MAX_ITEM and algorithm == 1, "container: another content or digest algorithm")
    need(zero == bytes(6), "container: reserved bytes")

    magic, items, segments = FOOTER.unpack_from(footer)
    check_magic(magic, b"SRFOOT01", "container")
    need(1 <= items <= 65_536 and segments <= 1_048_576, "container: too many items or segments")
    cut = FOOTER.size + ITEM.size * items
    need(len(footer) == cut + SEGMENT.size * segments, "container: footer is not as long as it says")
    need(content == FRAMES or segments == 0, "container: segments of pages")
    places: list[tuple[bytes, Place]] = []
    at, first = HEADER.size, 0
    for item, offset, length, number, key in ITEM.iter_unpack(footer[FOOTER.size : cut]):
        need(offset == at and 0 < length <= min(end - at, MAX_ITEM[content]), "container: items do not cover it")
        low, high = (first + 1, first + 4_096) if places and content == FRAMES else (0, 0)
        need(low <= number <= high and (number < segments or content == PAGES), "container: first segment")
        need(content == FRAMES or key == bytes(16), "container: a data key of a page")
        places.append((item, Place(path, offset, length)))
        at, first = at + length, number
    need(at == end, "container: items do not cover it")
    return content, places


class Pool:
    """A pool folder (pool-folder.md)."""

    def __init__(self, path: Path, trust: Trust) -> None:
        self.path, self.trust = path, trust
        raw = read_whole(path / "medium", object_bound(b"SRMEDH01"))
        self.domain = open_object(raw, b"SRMEDH01").domain
        self.read_revocations()
        header = trust.check(raw, b"SRMEDH01").fields
        need(header["kind"] == "pool", "media header: not a pool")
        self.medium, self.label, self.created = header["medium"], header["label"], header["created"]
        self.tombstones: set[tuple[bytes, int]] = set()
        self.journal = self.read_journal()

    def names(self, folder: str) -> Iterator[tuple[str, Path]]:
        """The files of a folder with subfolders `xx`, by name."""
        for sub in sorted((self.path / folder).glob("[0-9a-f][0-9a-f]")):
            for path in sorted(sub.iterdir()) if sub.is_dir() and not sub.is_symlink() else ():
                if path.name[:2] == sub.name:
                    yield path.name, path
                else:
                    warn(f"{path}: damaged: in the wrong folder")

    def plain_names(self, folder: str) -> list[str]:
        """The names in a folder without subfolders, the highest first."""
        path = self.path / folder
        return sorted((path.name for path in path.iterdir()), reverse=True) if path.is_dir() else []

    def read_revocations(self) -> None:
        """The newest revocation list of the owning domain (identity.md, pool-folder.md)."""
        for name in self.plain_names("revocations"):
            try:
                raw = read_whole(self.path / "revocations" / name, object_bound(b"SRREVL01"))
                signed = open_object(raw, b"SRREVL01")
                fields = check_fields(signed)
                own = signed.domain == self.domain and name == f"{fields['number']:010d}"
                need(own, "revocation list: of another domain or name")
            except ReadError as error:
                warn(f"revocations/{name}: {error}; an older list may say less")
            else:
                self.trust.revoked[self.domain] = {item["certificate"] for item in fields["revoked"]}
                return
        warn("no revocation list: it cannot be known whether a certificate was revoked")

    def read_journal(self) -> int:
        """Apply the journal as far as it is complete (journal.md); the number of its last batch.

        Of the records only tombstones matter to a reader.
        """
        previous, incarnation, number = ZEROS, 1, 0
        names = set(self.plain_names("journal"))
        while (name := f"{number + 1:016x}") in names:
            try:
                raw = read_whole(self.path / "journal" / name, object_bound(b"SRJRNL01"))
                signed = self.trust.check(raw, b"SRJRNL01")
                f = signed.fields
                own = (signed.domain, f["medium"]) == (self.domain, self.medium)
                need(own and f["sequence"] == number + 1, "journal: of another medium, or another name")
                need(f["previous"] == previous, "journal: does not follow the batch before it")
                need(f["incarnation"] >= incarnation, "journal: of an earlier incarnation than the batch before it")
            except ReadError as error:
                warn(f"journal/{name}: {error}")
                break
            self.tombstones |= {(r["image"], r["copy"]) for r in f["records"] if r["kind"] == "tombstone"}
            previous, incarnation, number = digest(raw), f["incarnation"], number + 1
            names.remove(name)
        if names:
            warn(f"the journal is complete up to batch {number} only")
        return number

    def copy(self, name: str) -> Copy:
        """One copy, all signatures checked."""
        bound = object_bound(b"SRCPYH01") + object_bound(b"SRTRLR01")
        raw = read_whole(self.path / "images" / name[:2] / name, bound)
        copy = check_copy(self.trust, name, raw, self.domain, self.medium)
        if copy.f["journal"] > self.journal:
            warn(f"{name}: names journal batch {copy.f['journal']}, and the journal ends at {self.journal}")
        return copy

    @functools.cached_property
    def places(self) -> dict[tuple[int, bytes], tuple[Place, ...]]:
        """Where pages and frames lie, from the footers of all containers."""
        result: dict[tuple[int, bytes], tuple[Place, ...]] = {}
        for name, path in self.names("containers"):
            try:
                need(hexadecimal(name, 32), "container: not a name of a container")
                content, found = read_container(path, self.medium)
            except ReadError as error:
                warn(f"containers/{name}: {error}")
                continue
            for item, place in found:
                result[content, item] = (*result.get((content, item), ()), place)
        return result

    def item(self, content: int, name: bytes, parse: Callable[[bytes], T]) -> T:
        """A page or frame that is what its digest says, from the first container that has it whole."""
        what = "frame" if content == FRAMES else "page"
        places = self.places.get((content, name), ())
        for container, offset, length in places:
            try:
                with reading(container) as file:
                    file.seek(offset)
                    raw = file.read(length)
                need(digest(raw) == name, f"the {what} at {offset} is damaged")
            except ReadError as error:
                warn(f"containers/{container.name}: {error}")
            else:
                return parse(raw)
        raise (Damaged if places else Incomplete)(f"{what} {name.hex()} is {'damaged' if places else 'missing'}")

    @functools.cached_property
    def envelope_files(self) -> dict[str, list[Path]]:
        """The files of each envelope."""
        result: dict[str, list[Path]] = {}
        for name, path in self.names("envelopes"):
            result.setdefault(name.partition("-")[0], []).append(path)
        return result


# ---------------------------------------------------------------- keys: key-envelope.md, key-tag.md, keystore.md


def parse_envelope(trust: Trust, raw: bytes, name: str) -> Signed:
    """Check one generation of a key envelope (key-envelope.md)."""
    envelope = trust.check(raw, b"SRENVL01")
    f = envelope.fields
    fits = all((key["purpose"] == 1) == (key["medium"] == bytes(16)) for key in f["keys"])
    need(fits, "envelope: medium and purpose do not go together")
    made_name = f"{f['envelope'].hex()}-{envelope.domain.hex()}-{f['generation']:08x}"
    need(name == made_name, "envelope: the file has another name")
    return envelope


def agreeing(generations: list[Signed], origin: bytes) -> list[Signed]:
    """The generations of one envelope that hold (key-envelope.md): those that agree with the origin's lowest."""

    def meaning(envelope: Signed) -> tuple[object, ...]:
        f = envelope.fields
        return f["origin"], f["group"], [(k["key"], k["purpose"], k["medium"], k["commitment"]) for k in f["keys"]]

    result: list[Signed] = []
    for envelope in sorted(generations, key=lambda e: (e.domain != origin, e.fields["generation"])):
        if not result or meaning(envelope) == meaning(result[0]):
            result.append(envelope)
        else:
            f = envelope.fields
            warn(f"envelope {f['envelope'].hex()}: generation {f['generation']} disagrees, and is rejected")
    return result


def unwrap(envelope: Signed, row: dict[str, Any], kms_key: bytes) -> bytes:
    """The frame key of a data key (key-envelope.md, Wrap)."""
    f = envelope.fields
    wrapping = hkdf(kms_key, label("kms-key/wrap") + f["tag"][2:18])
    associated = label("envelope-wrap") + envelope.domain + f["origin"] + f["envelope"] + row["key"]
    associated += bytes([row["purpose"]]) + row["medium"] + f["group"] + f["tag"]
    data_key = unseal(wrapping, row["nonce"], row["wrapped"], associated)
    if data_key is None:
        raise Damaged(f"data key {row['key'].hex()}: it does not unwrap")
    named = hkdf(data_key, label("data-key/id"), 16) == row["key"]
    need(named and hkdf(data_key, label("data-key/commit")) == row["commitment"], "data key: another than it says")
    return hkdf(data_key, label("data-key/frame"))


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


# fmt: off
KEY_FILE = table(
    purpose=one_of("hmk", "kpk", "service"),
    id=data(16), domain=data(32), source=one_of("random", "passphrase"), kdf=one_of(0, 1),
    salt=data(16), key=data(32), check=data(8))
# fmt: on
KEYSTORE_HEAD = table(domain=data(32), hmk=data(16), kpk=data(16), cipher=one_of(1), nonce=data(12))
KEY_RECORD = table(tag=data(32), group=data(16), created=number(), nonce=data(12), wrapped=data(48))
KEYSTORE = table(groups=array(table(group=data(16)), 10_000), keys=array(KEY_RECORD, 100_000))


def split_head(raw: bytes, magic: bytes, what: str) -> int:
    """Where the head of a file that holds keys ends; it begins at 12."""
    check_magic(raw[:8], magic, what)
    need(len(raw) >= 12, f"{what}: too short")
    length = int.from_bytes(raw[8:12], "big")
    need(length <= KIB and 12 + length <= len(raw), f"{what}: shorter than its parts")
    return 12 + length


def read_key_file(path: Path, purpose: str, phrase: Path | None) -> dict[str, Any]:
    """Open a key file (keystore.md, Key file): its fields, with the key that they hold or that the phrase makes."""
    raw = read_whole(path, 12 + KIB)
    if path.stat().st_mode & 0o077:
        raise Refused(f"{path}: others than its owner may read it")
    need(split_head(raw, b"SRKEYF01", str(path)) == len(raw), f"{path}: bytes behind it")
    f: dict[str, Any] = KEY_FILE(decode(raw[12:]), str(path))
    need(f["purpose"] == purpose, f"{path}: not the {purpose}")
    by_phrase = f["source"] == "passphrase"
    if by_phrase:
        fits = f["kdf"] == 1 and f["salt"] == f["id"] and f["key"] == ZEROS
    else:
        fits = f["kdf"] == 0 and f["salt"] == bytes(16)
    need(fits, f"{path}: derivation, salt or key does not go with its source")
    if by_phrase:
        if phrase is None:
            raise Refused(f"{path}: its key comes from a pass phrase; give --{purpose}-passphrase-file")
        f["key"] = argon2id(read_phrase(phrase), f["salt"])
    checked = label("key-file") + purpose.encode() + b"\0" + f["id"] + f["domain"] + bytes([f["kdf"]]) + f["salt"]
    if hashlib.sha256(checked + f["key"]).digest()[:8] != f["check"]:
        if by_phrase:
            raise WrongKey(f"{path}: the pass phrase is not the right one")
        raise Damaged(f"{path}: its check differs")
    return f


def read_keystore(path: Path, hmk: dict[str, Any], kpk: dict[str, Any]) -> dict[bytes, bytes]:
    """The KMS keys of a keystore by their tags (keystore.md, Keystore)."""
    raw = read_whole(path, 64 * MIB + 2 * KIB)
    end = split_head(raw, b"SRKEYS01", "keystore")
    head = KEYSTORE_HEAD(decode(raw[12:end]), "keystore: head")
    for name, file in (("hmk", hmk), ("kpk", kpk)):
        if (head[name], head["domain"]) != (file["id"], file["domain"]):
            raise WrongKey(f"wrong key file: the keystore wants {name} {head[name].hex()}, not {file['id'].hex()}")
    body = unseal(hkdf(hmk["key"], label("keystore") + hmk["id"]), head["nonce"], raw[end:], raw[:end])
    if body is None:
        raise Damaged("keystore: its body does not authenticate")
    f = KEYSTORE(decode(body), "keystore")
    groups = {item["group"] for item in f["groups"]}
    need(len(groups) == len(f["groups"]), "keystore: a group is there twice")
    wrapping, keys = hkdf(kpk["key"], label("keystore-record") + kpk["id"]), dict[bytes, bytes]()
    for record in f["keys"]:
        tag, group = record["tag"], record["group"]
        check_tag(tag)
        need(tag not in keys and group in groups, "keystore: a key is there twice, or without a group")
        key = unseal(wrapping, record["nonce"], record["wrapped"], tag + group + record["created"].to_bytes(8, "big"))
        if key is None or not has_check_value(key, tag):
            raise Damaged(f"keystore: key {tag.hex()} does not open")
        keys[tag] = key
    return keys


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
        self.stored_frame = functools.lru_cache(8)(lambda name: pool.item(FRAMES, name, parse_frame))
        self.opened_frame = functools.lru_cache(8)(self.open_frame)

    def page(self, name: bytes) -> Page:
        """A manifest page by its id."""
        return self.pool.item(PAGES, name, parse_page)

    def check_pages(self) -> None:
        """Visit each distinct page of both trees once (manifest-page.md)."""
        for stream, distinct in ((self.copy.entries, False), (self.copy.payload, True)):
            seen: dict[bytes, Below] = {}
            root = self.page(stream.root)
            need((stream.segments, stream.bytes) == self.sums(root), "page: root is not the header's")
            if root.children or root.references:
                self.check_page(stream.root, root.level, seen, distinct)
            self.leaves.update((name, None) for name, below in seen.items() if below.level == 0)
        for name in self.leaves:
            self.data_keys.update(row.key for row in self.page(name).rows)
        fits = bytes(16) not in self.data_keys if self.copy.f["cipher"] else self.data_keys <= {bytes(16)}
        need(fits, "page: names a data key exactly when the copy is not encrypted")

    @staticmethod
    def sums(page: Page) -> tuple[int, int]:
        """References and bytes below a page, as it says."""
        if page.level:
            return sum(child.references for child in page.children), sum(child.bytes for child in page.children)
        return len(page.references), sum(reference.length for reference in page.references)

    def check_page(self, name: bytes, level: int, seen: dict[bytes, Below], distinct: bool) -> Below:
        """Check a page and all below it; with `distinct` no reference may stand directly behind itself."""
        if name not in seen:
            page = self.page(name)
            count, total = self.sums(page)
            need(page.level == level, "page: a child of the wrong level")
            need(count > 0 and total <= MAX_SUM, "page: empty, or sums out of bounds")
            parts = [(reference.name, reference.name) for reference in page.references]
            for child in page.children:
                below = self.check_page(child.page, level - 1, seen, distinct)
                need((below.references, below.length) == child[1:], "page: a child holds another count")
                parts.append((below.first, below.last))
            apart = all(one[1] != other[0] for one, other in itertools.pairwise(parts))
            need(apart or not distinct, "page: a reference directly behind itself")
            seen[name] = Below(level, count, total, parts[0][0], parts[-1][1])
        need(seen[name].level == level, "page: a child of the wrong level")
        return seen[name]

    def references(self, name: bytes) -> Iterator[Reference]:
        """All references below a page, in order; the pages were checked."""
        page = self.page(name)
        yield from page.references
        for child in page.children:
            yield from self.references(child.page)

    def frame(self, row: FrameRow) -> Frame:
        """A frame, still closed, that is what a leaf page says."""
        frame = self.stored_frame(row.frame)
        same = (frame.key, len(frame.head) + len(frame.body), frame.total) == (row.key, row.length, row.bytes)
        need(same, "page: key, length or bytes of a frame differ")
        need(frame.cipher == self.copy.f["cipher"], "frame: another cipher than the copy")
        return frame

    def offset(self, reference: Reference) -> int:
        """Where in its frame a reference begins; checks it against the frame's head."""
        segments, place = self.frame(reference.row).segments, reference.position
        same = place < len(segments) and segments[place] == (reference.name, reference.length)
        need(same, "page: a reference that is not in the frame")
        return sum(length for _, length in segments[:place])

    def segment(self, reference: Reference) -> bytes:
        """The bytes of a segment, all checked."""
        offset = self.offset(reference)
        return self.opened_frame(reference.row.frame)[offset : offset + reference.length]

    def open_frame(self, name: bytes) -> bytes:
        """The segments of a frame, one after the other."""
        frame = self.stored_frame(name)
        return open_frame(frame, self.frame_keys[frame.key] if frame.cipher else None)

    def check_frames(self) -> tuple[int, int]:
        """Check all frames without a key (frame.md, manifest-page.md); their number and bytes."""
        checked: dict[bytes, int] = {}
        for name in self.leaves:
            page = self.page(name)
            # frame by frame, because few are remembered; each is used, as the page was checked
            order = {row: number for number, row in enumerate(page.rows)}
            for reference in sorted(page.references, key=lambda r: order[r.row]):
                self.offset(reference)
                checked[reference.row.frame] = reference.row.length
        return len(checked), sum(checked.values())

    @functools.cached_property
    def wrapped(self) -> dict[bytes, list[tuple[Signed, dict[str, Any]]]]:
        """Where each data key of the copy is wrapped (key-page.md, key-envelope.md); all of them must be."""
        pages = (self.pool.item(PAGES, page, parse_key_page) for page in self.copy.f["key_pages"])
        names = list(itertools.chain.from_iterable(pages))
        need_ascending(names, "key pages")
        result: dict[bytes, list[tuple[Signed, dict[str, Any]]]] = {}
        holder: dict[bytes, bytes] = {}
        for name in names:
            for envelope in agreeing(self.generations(name), self.copy.origin):
                f = envelope.fields
                if (f["origin"], f["group"]) != (self.copy.origin, self.copy.image["key_group"]):
                    warn(f"envelope {name.hex()}: of another origin or key group; it opens nothing here")
                    continue
                for key in f["keys"]:
                    same = holder.setdefault(key["key"], name) == name
                    need(same, f"data key {key['key'].hex()} is in two envelopes")
                    if key["purpose"] == 1:
                        result.setdefault(key["key"], []).append((envelope, key))
        missing = self.data_keys - result.keys()
        if self.copy.f["cipher"] and missing:
            raise Incomplete(f"no envelope holds {len(missing)} of {len(self.data_keys)} data keys")
        return result

    def generations(self, name: bytes) -> list[Signed]:
        """The generations of an envelope that count for this copy: the origin's, and the writing domain's."""
        result = []
        for path in self.pool.envelope_files.get(name.hex(), []):
            try:
                raw = read_whole(path, object_bound(b"SRENVL01"))
                result.append(parse_envelope(self.pool.trust, raw, path.name))
            except ReadError as error:
                warn(f"envelopes/{path.name}: {error}")
        return [envelope for envelope in result if envelope.domain in (self.copy.origin, self.copy.domain)]

    def open_keys(self, kms_keys: dict[bytes, bytes]) -> None:
        """Unwrap all data keys of the copy (key-envelope.md)."""
        for name in self.data_keys if self.copy.f["cipher"] else ():
            wraps = self.wrapped[name]
            opening = [(envelope, key) for envelope, key in wraps if envelope.fields["tag"] in kms_keys]
            if not opening:
                tags = " ".join(sorted({envelope.fields["tag"].hex() for envelope, _ in wraps}))
                raise WrongKey(f"none of the keys at hand opens data key {name.hex()}; it is wrapped under {tags}")
            envelope, key = opening[-1]
            self.frame_keys[name] = unwrap(envelope, key, kms_keys[envelope.fields["tag"]])

    def files(self) -> "Entries":
        """The files of the image."""
        segments = (self.segment(reference) for reference in self.references(self.copy.entries.root))
        return Entries(segments, self.references(self.copy.payload.root), self.copy.image)


# ---------------------------------------------------------------- entries: entries.md

FILE, FOLDER, SYMLINK, HARD_LINK, FIFO, SOCKET, CHARACTER_DEVICE, BLOCK_DEVICE = range(1, 9)
LAST_TYPE = BLOCK_DEVICE
SPECIAL = {
    FIFO: stat.S_IFIFO,
    SOCKET: stat.S_IFSOCK,
    CHARACTER_DEVICE: stat.S_IFCHR,
    BLOCK_DEVICE: stat.S_IFBLK,
}
MORE_EXTENTS, MORE_ATTRIBUTES, END = 64, 65, 127
EXTENTS_FOLLOW, ATTRIBUTES_FOLLOW = 4, 8
LATEST = 2 * MAX_INT + 1
TIME, NAME, PATH = number(-MAX_INT - 1, LATEST), data(0, 256), data(1, 65_536)


def row(*rules: Rule) -> Rule:
    """An array with these elements, in order."""

    def check(value: Value, what: str) -> list[Any]:
        if not isinstance(value, list) or len(value) != len(rules):
            raise Damaged(f"{what}: not {len(rules)} elements")
        return [inner(element, what) for inner, element in zip(rules, value, strict=True)]

    return check


ATTRIBUTES = array(row(data(1, 255), data(0, 65_536)), 1_024)
EXTENTS = array(row(optional(data(32)), number(), number(1)), 4_096)
# fmt: off
ENTRY = {
    "type": number(1, LAST_TYPE), "path": PATH, "mode": number(0, 0o7777), "uid": number(), "gid": number(),
    "uname": NAME, "gname": NAME, "mtime": TIME, "ctime": TIME, "device": number(), "inode": number(),
    "size": number(), "target": optional(PATH), "flags": number(), "attributes": ATTRIBUTES, "extents": EXTENTS,
    "major": number(), "minor": number(),
}
# fmt: on


class Extent(NamedTuple):
    """A piece of a file: of a segment, or a hole."""

    reference: Reference | None
    offset: int
    length: int


class Entry(SimpleNamespace):
    """One file, with the fields of the table above; `contents` are its extents with their references, once."""


class Entries:
    """The entries stream, read side by side with the references of *payload*."""

    def __init__(self, segments: Iterator[bytes], references: Iterator[Reference], header: dict[str, Any]) -> None:
        self.segments, self.references, self.header = segments, references, header
        self.buffer = bytearray()
        self.peeked: list[Value] | None = None
        self.current: Reference | None = None
        self.linkable: set[bytes] = set()
        self.files = self.content = 0

    def bytes_of_stream(self, length: int) -> bytes:
        """The next bytes of the stream."""
        while len(self.buffer) < length:
            segment = next(self.segments, None)
            if segment is None:
                raise Damaged("entries: the stream ends too early")
            self.buffer += segment
        found = bytes(self.buffer[:length])
        del self.buffer[:length]
        return found

    def peek(self) -> list[Value]:
        """The next record, left where it is."""
        if self.peeked is None:
            length = int.from_bytes(self.bytes_of_stream(4), "big")
            need(0 < length <= MIB, "entries: length of a record")
            record = decode(self.bytes_of_stream(length), LATEST)
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
        while (kind := number()(self.peek()[0], "entries: type")) != END:
            known(kind <= LAST_TYPE or kind in (MORE_EXTENTS, MORE_ATTRIBUTES), f"entries: type {kind}")
            need(1 <= kind <= LAST_TYPE, "entries: extents or attributes that follow no file that says so")
            entry = self.entry(self.take(len(ENTRY)))
            order = b"" if entry.path == b"/" else entry.path.replace(b"/", b"\0")
            need(last is None or order > last, "entries: not in the order of a walk")
            last, self.files = order, self.files + 1
            if entry.type not in (FOLDER, HARD_LINK):
                self.linkable.add(entry.path)
            yield entry
            for _ in entry.contents:  # what the caller did not want is checked all the same
                pass
        _, files, content = row(number(), number(), number())(self.take(3)[:3], "entries: end")
        need(not self.buffer and next(self.segments, None) is None, "entries: bytes behind the end")
        need((files, content) == (self.files, self.content), "entries: the end has other numbers")
        same = (files, content) == (self.header["files"], self.header["content"])
        need(same, "entries: the image header has other numbers")
        need(next(self.references, None) is None, "entries: references of payload that no file uses")

    def entry(self, record: list[Value]) -> Entry:
        """Check a record of the types 1 to 8, and the attributes that follow it."""
        pairs = zip(ENTRY.items(), record, strict=False)  # elements behind these are for later readers
        entry = Entry(**{name: check(value, f"entries: {name}") for (name, check), value in pairs})
        path, flags, target = entry.path, entry.flags, entry.target
        need(path[:1] == b"/" and b"\0" not in path, "entries: a path that is not absolute, or has a zero byte")
        parts = set(path[1:].split(b"/")) if path != b"/" else set()
        need(not {b"", b".", b".."} & parts, "entries: a path with a part that is empty, . or ..")
        need(path != b"/" or entry.type == FOLDER, "entries: / is not a folder")
        is_device = entry.type in (CHARACTER_DEVICE, BLOCK_DEVICE)
        need(is_device or entry.major == entry.minor == 0, "entries: device number of what is no device")
        is_link = entry.type in (SYMLINK, HARD_LINK)
        need((target is not None) == is_link, "entries: a target where the type has none, or none where it has")
        need(not is_link or b"\0" not in target, "entries: target with a zero byte")
        need(entry.type != HARD_LINK or target in self.linkable, "entries: hard link to no earlier file")
        known(flags < 16, "entries: flags")
        is_empty = entry.size == 0 and not flags & EXTENTS_FOLLOW
        need(entry.type == FILE or is_empty, "entries: contents of what is no regular file")
        self.check_announced(flags & ATTRIBUTES_FOLLOW, MORE_ATTRIBUTES, "attributes")
        while self.peek()[0] == MORE_ATTRIBUTES:
            entry.attributes += ATTRIBUTES(self.take(2)[1], "entries: attributes")
        need_ascending([name for name, _ in entry.attributes], "entries: attributes")
        need(all(b"\0" not in name for name, _ in entry.attributes), "entries: attribute with a zero byte")
        entry.contents = self.contents(entry)
        return entry

    def check_announced(self, flag: int, kind: int, what: str) -> None:
        """Check that records follow a file's exactly when its flags say so."""
        need(bool(flag) == (self.peek()[0] == kind), f"entries: flags, and {what} that follow")

    def contents(self, entry: Entry) -> Iterator[Extent]:
        """The contents of a file, with the references of *payload* that they mean."""
        total, items = 0, entry.extents
        self.check_announced(entry.flags & EXTENTS_FOLLOW, MORE_EXTENTS, "extents")
        while True:
            for name, offset, length in items:
                total += length
                need(total <= entry.size, "entries: extents do not add up to the size")
                yield Extent(self.reference(name, offset, length), offset, length)
            if self.peek()[0] != MORE_EXTENTS:
                break
            items = EXTENTS(self.take(2)[1], "entries: extents")
        need(total == entry.size, "entries: extents do not add up to the size")
        self.content += total
        need(self.content <= MAX_INT, "entries: sum of the sizes")

    def reference(self, name: bytes | None, offset: int, length: int) -> Reference | None:
        """The reference of an extent: that of the one before it, or the next."""
        if name is None:
            need(offset == 0, "entries: a hole with an offset")
            return None
        if self.current is None or self.current.name != name:
            self.current = next(self.references, None)
        if self.current is None or self.current.name != name:
            raise Damaged("entries: an extent that is not the next reference of payload")
        need(offset + length <= self.current.length, "entries: an extent that goes beyond its segment")
        return self.current


# ---------------------------------------------------------------- where files go: entries.md, tar.md


class Sink:
    """Where the files of an image go."""

    def __init__(self, image: Image) -> None:
        self.image, self.problems = image, 0

    def problem(self, entry: Entry, what: str) -> None:
        """Count and tell what could not be restored."""
        self.problems += 1
        warn(f"{entry.path.decode('utf-8', 'backslashreplace')}: {what}")


class FolderSink(Sink):
    """Files in a new folder. Nothing outside of it is ever touched: no symbolic link is followed.

    What the system refuses for one file is told, and ends nothing.
    """

    def __init__(self, root: Path, image: Image) -> None:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if next(root.iterdir(), None) is not None:
            raise Refused(f"{root} is not empty")
        super().__init__(image)
        self.root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.as_root = os.geteuid() == 0
        self.folders: list[Entry] = []

    @contextlib.contextmanager
    def trying(self, entry: Entry, what: str) -> Iterator[None]:
        """Count and tell what the system refuses, or cannot hold."""
        try:
            yield
        except (OSError, OverflowError) as error:
            self.problem(entry, f"{what}: {getattr(error, 'strerror', None) or error}")

    @contextlib.contextmanager
    def folder(self, parts: list[bytes]) -> Iterator[int]:
        """A folder, opened step by step from the root; what the image has no record of is made, mode 0700."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        here = os.dup(self.root)
        try:
            for part in parts:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=here)
                above, here = here, os.open(part, flags, dir_fd=here)
                os.close(above)
            yield here
        finally:
            os.close(here)

    def add(self, entry: Entry) -> None:
        """Restore one file; folders get their attributes at the end."""
        parts = [part for part in entry.path.split(b"/") if part]
        with self.trying(entry, "not restored as it was"):
            if entry.type == FOLDER:
                with self.folder(parts):
                    self.folders.append(entry)
                return
            with self.folder(parts[:-1]) as folder:
                if entry.type == FILE:
                    self.add_file(entry, folder, parts[-1])
                elif entry.type == SYMLINK:
                    os.symlink(entry.target, parts[-1], dir_fd=folder)
                    self.attributes(entry, b"/proc/self/fd/%d/%s" % (folder, parts[-1]))
                elif entry.type == HARD_LINK:
                    old = entry.target[1:].split(b"/")
                    with self.folder(old[:-1]) as other:
                        os.link(old[-1], parts[-1], src_dir_fd=other, dst_dir_fd=folder, follow_symlinks=False)
                else:
                    device = os.makedev(entry.major, entry.minor)
                    os.mknod(parts[-1], SPECIAL[entry.type] | 0o600, device, dir_fd=folder)
                    handle = os.open(parts[-1], os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
                    try:  # without opening it, which would wake what is behind it
                        self.attributes(entry, b"/proc/self/fd/%d" % handle)
                    finally:
                        os.close(handle)

    def add_file(self, entry: Entry, folder: int, name: bytes) -> None:
        """Write a regular file."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(name, flags, 0o600, dir_fd=folder), "wb") as file:
            for reference, offset, length in entry.contents:
                if reference is None:
                    file.seek(length, os.SEEK_CUR)
                else:
                    file.write(self.image.segment(reference)[offset : offset + length])
            file.truncate(entry.size)
            self.attributes(entry, file.fileno())

    def attributes(self, entry: Entry, where: int | bytes) -> None:
        """Owner, extended attributes, mode and times, in this order.

        Chown takes capabilities away, and a strict mode forbids the rest. A symbolic link is named by a path whose last
        part is not followed, and has no mode.
        """
        follow = entry.type != SYMLINK
        if self.as_root:
            with self.trying(entry, "owner"):
                os.chown(where, entry.uid, entry.gid, follow_symlinks=follow)
        for name, value in entry.attributes:
            with self.trying(entry, f"attribute {name.decode(errors='backslashreplace')}"):
                os.setxattr(where, name, value, follow_symlinks=follow)
        if entry.type != SYMLINK:
            # What would run as the owner must not run as whoever restores it.
            os.chmod(where, entry.mode if self.as_root else entry.mode & 0o1777)  # noqa: PTH101 - a descriptor
        os.utime(where, ns=(entry.mtime, entry.mtime), follow_symlinks=follow)

    def finish(self) -> None:
        """Give the folders their attributes, the deepest first."""
        for entry in reversed(self.folders):
            with (
                self.trying(entry, "attributes"),
                self.folder([part for part in entry.path.split(b"/") if part]) as folder,
            ):
                self.attributes(entry, folder)


TAR_TYPES = {
    FILE: b"0", HARD_LINK: b"1", SYMLINK: b"2", CHARACTER_DEVICE: b"3", BLOCK_DEVICE: b"4", FOLDER: b"5", FIFO: b"6",
}  # fmt: skip
ACCESS_LISTS = {
    b"system.posix_acl_access": b"SCHILY.acl.access",
    b"system.posix_acl_default": b"SCHILY.acl.default",
}


def access_list(value: bytes) -> bytes | None:
    """An access list as tar has it: text with numbers (tar.md); None for what is no list of version 2."""
    words = {1: "user:", 2: "user:{}", 4: "group:", 8: "group:{}", 16: "mask:", 32: "other:"}
    if value[:4] != b"\2\0\0\0" or len(value) % 8 != 4 or len(value) == 4:
        return None
    found = []
    for tag, bits, number in Struct("<HHI").iter_unpack(value[4:]):
        if tag not in words or bits > 7:
            return None
        letters = "".join(letter if bits & bit else "-" for bit, letter in ((4, "r"), (2, "w"), (1, "x")))
        found.append(f"{words[tag].format(number)}:{letters}")
    return ",".join(found).encode()


class TarSink(Sink):
    """A POSIX pax stream (tar.md)."""

    def __init__(self, file: BinaryIO, image: Image) -> None:
        super().__init__(image)
        self.file, self.length, self.sockets = file, 0, set[bytes]()

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
        head += octal(entry.major, 7) + octal(entry.minor, 7) + bytes(167)
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
        for device, n in ((b"SCHILY.devmajor", entry.major), (b"SCHILY.devminor", entry.minor)):
            pairs += [(device, b"%d" % n)] if n > 2_097_151 else []
        for key, value in entry.attributes:
            text = access_list(value) if key in ACCESS_LISTS else None
            pairs += [(ACCESS_LISTS[key], text)] if text is not None else []
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
        if entry.type == SOCKET or (entry.type == HARD_LINK and entry.target in self.sockets):
            self.sockets |= {entry.path} if entry.type == SOCKET else set()
            self.problem(entry, "a socket, which a tar cannot hold")
            return
        kind = TAR_TYPES[entry.type]
        name = (entry.path[1:] or b".") + (b"/" if entry.type == FOLDER else b"")
        link = (entry.target or b"")[1 if entry.type == HARD_LINK else 0 :]
        if records := self.extended(entry, name, link):
            self.header(b"PaxHeaders/" + name.rstrip(b"/")[-80:], b"x", len(records), entry)
            self.write(records)
            self.pad(512)
        self.header(name, kind, entry.size, entry, link)
        for reference, offset, length in entry.contents:
            if reference is None:
                for at in range(0, length, MIB):
                    self.write(bytes(min(MIB, length - at)))
            else:
                self.write(self.image.segment(reference)[offset : offset + length])
        self.pad(512)

    def finish(self) -> None:
        """Two blocks of zeros, then up to a multiple of 10,240 bytes."""
        self.write(bytes(1_024))
        self.pad(10_240)
        self.file.flush()


# ---------------------------------------------------------------- commands


def when(nanoseconds: int) -> str:
    """A time for people."""
    start = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return f"{start + dt.timedelta(seconds=nanoseconds // 10**9):%Y-%m-%d %H:%M:%S} UTC"


def tell_medium(pool: Pool) -> None:
    """Say whose medium it is."""
    print(f"medium {pool.medium.hex()} ({shown(pool.label)}), made {when(pool.created)}", file=sys.stderr)
    print(f"  domain {pool.domain.hex()}: {pool.trust.word(pool.domain)}", file=sys.stderr)


def tell_origin(pool: Pool, copy: Copy) -> None:
    """Say who vouches for a copy."""
    print(f"  origin {copy.origin.hex()}: {pool.trust.word(copy.origin)}; {len(copy.way) - 1} hops")
    if copy.own_streams:
        print("  its streams are in the word of the writing domain, not of the origin")


def list_images(pool: Pool) -> int:
    """The command `list`."""
    bad = 0
    for name, _ in pool.names("images"):
        try:
            copy = pool.copy(name)
        except ReadError as error:
            bad += 1
            print(f"{shown(name)}\n  {shown(str(error))}")
            continue
        image = copy.image
        print(f"{name}{'  EXPIRED: the journal has a tombstone' if copy.key in pool.tombstones else ''}")
        print(f"  client {shown(image['client'])}, policy {shown(image['policy'])!r}, {shown(image['backup_id'])}")
        print(f"  started {when(image['started'])}, {image['files']} files, {image['content']} bytes")
        if image["problems"]:
            print(f"  {image['problems']} files could not be read, or changed while they were read")
        tell_origin(pool, copy)
        print(f"  {'encrypted, under:' if copy.f['cipher'] else 'not encrypted'}")
        for tag in copy.f["tags"]:
            print(f"    key {tag.hex()} ({'pass phrase' if tag[1] else 'random'})")
    return 1 if bad else 0


def choose(pool: Pool, wanted: str) -> Copy:
    """The copy that the user named: IMAGE or IMAGE-COPY, IMAGE also written as a UUID."""
    digits = wanted.lower().replace("-", "")
    if not hexadecimal(digits, 32) and not hexadecimal(digits, 36):
        raise Refused("an image is 32 hexadecimal digits; -COPY is four more")
    problem: ReadError = Incomplete(f"no copy of image {digits[:32]} is here")
    for name, _ in pool.names("images"):
        if name.replace("-", "").startswith(digits):
            try:
                copy = pool.copy(name)
            except ReadError as error:
                warn(f"{name}: {error}")
                problem = error
                continue
            if copy.key not in pool.tombstones:
                return copy
            problem = Incomplete(f"{name}: the journal has a tombstone, so the copy is not complete")
    raise problem


def verify(pool: Pool, wanted: str) -> int:
    """The command `verify`: everything that can be known without a key."""
    image = Image(pool, choose(pool, wanted))
    print(f"copy {image.copy.name}: headers and trailer are right")
    tell_origin(pool, image.copy)
    image.check_pages()
    print(f"  {len(image.leaves)} leaf pages are right")
    count, total = image.check_frames()
    print(f"  {count} frames are right, {total} bytes")
    if image.copy.f["cipher"]:
        envelopes = {envelope.fields["envelope"] for wraps in image.wrapped.values() for envelope, _ in wraps}
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
