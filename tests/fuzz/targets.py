"""What is fuzzed: every decoder of bytes that come from a medium, a peer or a client.

A target takes any bytes, and raises nothing but errors of formats. Where a digest or a signature stands before what is
decoded, the target makes it right, so that the decoder behind it is reached.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import msgspec
from blake3 import blake3

from strongroom.core.errors import IntegrityError
from strongroom.core.ids import DIGEST_BYTES, ContainerId, DomainId, MediumId
from strongroom.formats import (
    container,
    copy_header,
    entries,
    fragment,
    frame,
    inspect,
    key_export,
    key_file,
    key_page,
    key_tag,
    keystore,
    lock_record,
    manifest_page,
    peer_messages,
    records,
    replication_messages,
    root_key,
    service_keys,
    signed,
)
from strongroom.formats.algorithms import Cipher, digest
from strongroom.formats.entry_stream import EntriesReader
from strongroom.formats.explanation import BytesSource
from strongroom.formats.image_stream import BlockReader
from strongroom.formats.restore_stream import members
from strongroom.formats.signed import ARCHIVE_CERTIFICATE
from strongroom.services import messages, sending_messages, upkeep_messages
from tests.formats import samples
from tests.property.test_signed_formats import SIGNED

Target = Callable[[bytes], object]

FORMATS: Final = Path(__file__).resolve().parents[1] / "formats"
MOST_SEED_BYTES: Final = 16_384


@dataclass(frozen=True)
class Fuzzed:
    """One target.

    Attributes:
        run: takes any bytes.
        vectors: files of test vectors, below ``tests/formats``, whose bytes are good beginnings.
        seeds: others.
    """

    run: Target
    vectors: tuple[str, ...] = ()
    seeds: tuple[bytes, ...] = ()

    def beginnings(self) -> Iterator[bytes]:
        """Give the seeds: all of them, and every run of hexadecimal digits in the vectors."""
        yield from self.seeds
        for name in self.vectors:
            document = json.loads((FORMATS / name).read_text(encoding="utf-8"))
            yield from {data for data in _hexadecimal(document) if 8 <= len(data) <= MOST_SEED_BYTES}


def _hexadecimal(document: Any) -> Iterator[bytes]:
    if isinstance(document, dict):
        for value in document.values():
            yield from _hexadecimal(value)
    elif isinstance(document, list):
        for value in document:
            yield from _hexadecimal(value)
    elif isinstance(document, str):
        try:
            yield bytes.fromhex(document)
        except ValueError:
            return


HEADER: Final = container.Header(
    ContainerId(b"c" * 16), MediumId(b"m" * 16), DomainId(b"d" * 32), 1, container.Content.FRAMES
)


def _rightly_signed(kind: Any) -> Target:
    def run(data: bytes) -> None:
        payload = data[: kind.max_bytes]
        # most end here, and to sign costs as much as twenty of them
        records.decode(payload, kind.payload, max_bytes=kind.max_payload_bytes, what=kind.what)
        domain = samples.TARGET if kind is SIGNED["receipt"][0] else samples.ORIGIN
        signed.verify(kind, (domain.root_signed if kind.by_root else domain.signed)(kind.magic, payload))

    return run


def _payload(data: bytes) -> bytes:
    (length,) = struct.unpack_from(">I", data, 8)
    return data[12 : 12 + length]


def _footer(data: bytes) -> None:
    """A footer, behind a header of either content, with the digest that it should have."""
    content = container.Content.PAGES if data[:1] == b"p" else container.Content.FRAMES
    header = container.encode_header(
        container.Header(HEADER.container, HEADER.medium, HEADER.origin, HEADER.created_ns, content)
    )
    footer = data[1:]
    at = int.from_bytes(footer[-8:], "big") % container.MAX_CONTAINER_BYTES
    total = blake3(header).update(footer).digest()
    checked = container.decode_footer(header, footer, container.Tail(at, len(footer), total, container.NO_MARK))
    list(checked.items())
    list(checked.segments())


def _container(data: bytes) -> None:
    container.guess_header(data, HEADER.container, HEADER.medium)
    header = container.decode_header(data)
    tail = container.decode_tail(data[-container.TAIL_BYTES :], len(data))
    raw = data[tail.footer_offset : tail.footer_offset + tail.footer_length]
    list(container.decode_footer(data[: container.HEADER_BYTES], raw, tail).items())
    assert header.container


def _scan(data: bytes) -> None:
    whole = container.encode_header(HEADER) + data
    for _, item in container.scan(lambda offset, length: whole[offset : offset + length]):
        frame.check(item, frame.frame_id(item))


def _frame(data: bytes) -> None:
    head = frame.check(data, frame.frame_id(data))
    if head.cipher is Cipher.NONE:
        assert len(frame.open_body(data, head, None)) <= frame.MAX_PLAIN_BYTES


def _pages(data: bytes) -> None:
    page = manifest_page.page_id(data)
    if data.startswith(key_page.MAGIC):
        key_page.decode(data, page)
    else:
        manifest_page.decode(data, page)


def _in_steps(reader: EntriesReader | BlockReader, data: bytes) -> None:
    """The first byte says in which steps the rest comes."""
    step = (data[0] if data else 0) * 7 + 1
    for at in range(1, len(data), step):
        reader.feed(data[at : at + step])
    reader.finish()


def _restore(data: bytes) -> None:
    for member in members([data], lambda _: None):
        for _ in member.pieces():
            pass


def _one_of(kinds: list[Any], decode: Callable[[bytes, Any], object]) -> Target:
    """The first byte says which kind of record follows."""
    return lambda data: decode(data[1:], kinds[data[0] % len(kinds)]) if data else None


_LOCK_RECORDS: Final = (
    lock_record.ModeRecord(medium=HEADER.medium, number=1, mode="compliance", rounding_days=7, at=1, features=()),
    lock_record.ClockRecord(medium=HEADER.medium, at=1, features=()),
    lock_record.LockRecord(
        medium=HEADER.medium, at=1, until=2, containers=(HEADER.container,), objects=("images/a",), features=()
    ),
)
LOCKS: Final = tuple(
    bytes([number]) + lock_record.encode(kind, record)[lock_record.HEAD_BYTES : -DIGEST_BYTES]
    for number, (kind, record) in enumerate(zip(lock_record.KINDS, _LOCK_RECORDS, strict=True))
)
WIRE: Final = [
    *peer_messages.KINDS.values(),
    peer_messages.ExchangeRecord,
    peer_messages.TrustRequest,
    peer_messages.TrustAnswer,
    peer_messages.ErrorRecord,
]
HOST: Final = sorted(
    (
        kind
        for module in (messages, sending_messages, upkeep_messages)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__module__ == module.__name__
    ),
    key=lambda kind: kind.__name__,
)


def _lock(data: bytes) -> None:
    """The first byte says which kind; the head and the digest are right."""
    kind = lock_record.KINDS[(data[0] if data else 0) % len(lock_record.KINDS)]
    body = data[1:]
    whole = kind.magic + len(body).to_bytes(4, "big") + body
    lock_record.decode(kind, whole + digest(whole))


def _explain(data: bytes) -> None:
    inspect.explain(BytesSource(data))


def _key_file(data: bytes) -> None:
    facts = key_file.read_facts(data)
    if facts.source == "random":  # a pass phrase costs a second
        key_file.decode(data, cast("key_file.Purpose", facts.purpose))


TARGETS: Final[dict[str, Fuzzed]] = {
    **{f"signed-{name.replace(' ', '-')}": Fuzzed(_rightly_signed(kind), seeds=(_payload(good),))
       for name, (kind, good) in SIGNED.items()},
    "signed-object": Fuzzed(lambda data: signed.verify(ARCHIVE_CERTIFICATE, data), seeds=(samples.ORIGIN.cert(),)),
    "copy-header": Fuzzed(copy_header.verify, ("vectors/copy-header.json",), (samples.TARGET_COPY,)),
    "fragment": Fuzzed(fragment.verify, ("vectors/fragment.json",), (samples.COPY + samples.TRAILER,)),
    "container": Fuzzed(_container, ("pool/pool.json",)),
    "container-footer": Fuzzed(_footer, ("pool/pool.json",), (b"f", b"p")),
    "container-scan": Fuzzed(_scan, ("pool/pool.json",)),
    "frame": Fuzzed(_frame, ("pool/pool.json",)),
    "page": Fuzzed(_pages, ("pool/pool.json",)),
    "entry": Fuzzed(entries.decode, ("stream_vectors/entries.json",)),
    "entries": Fuzzed(lambda data: _in_steps(EntriesReader(), data), ("stream_vectors/entries.json",)),
    "image-stream": Fuzzed(lambda data: _in_steps(BlockReader(), data), ("stream_vectors/image-stream.json",)),
    "restore-stream": Fuzzed(_restore, ("stream_vectors/image-stream.json",)),
    "record": Fuzzed(lambda data: records.decode_plain(data, max_bytes=1 << 20, what="record")),
    "peer-record": Fuzzed(_one_of(WIRE, peer_messages.decode), ("vectors/exchange.json",)),
    "host-record": Fuzzed(_one_of(HOST, messages.decode)),
    "replication-message": Fuzzed(replication_messages.decode),
    "lock-record": Fuzzed(_lock, seeds=LOCKS),
    "key-tag": Fuzzed(key_tag.parse, ("kms_vectors/key-tag.json",)),
    "key-file": Fuzzed(_key_file, ("kms_vectors/key-file.json",)),
    "key-export": Fuzzed(key_export.read_head, ("kms_vectors/key-export.json",)),
    "keystore": Fuzzed(keystore.read_head, ("kms_vectors/keystore.json",)),
    "service-keys": Fuzzed(service_keys.read_head, ("kms_vectors/service-keys.json",)),
    "root-key": Fuzzed(root_key.read_head, ("vectors/root-key-file.json",)),
    "inspect": Fuzzed(_explain, ("pool/pool.json", "vectors/fragment.json")),
}  # fmt: skip


def attempt(name: str, data: bytes) -> None:
    """Run a target; what it may raise is well."""
    try:
        TARGETS[name].run(data)
    except IntegrityError:
        return
