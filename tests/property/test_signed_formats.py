"""Decoders of signed objects and records on hostile bytes: only the errors of formats come out of them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from strongroom.core.errors import IntegrityError
from strongroom.core.ids import DomainId, MediumId
from strongroom.formats import copy_header, fragment, journal, records, root_key, signed
from strongroom.formats.errors import DamagedError, NewerFormatError, OutOfBoundsError
from strongroom.formats.hop import HOP, Hop
from strongroom.formats.identity import REVOCATION_LIST
from strongroom.formats.image_header import IMAGE_HEADER
from strongroom.formats.journal import BATCH, Batch, StateRecord
from strongroom.formats.key_envelope import KEY_ENVELOPE
from strongroom.formats.media_header import MEDIA_HEADER, MediaHeader
from strongroom.formats.passphrase import WrongPassPhraseError, normalise
from strongroom.formats.receipt import RECEIPT
from strongroom.formats.signed import ARCHIVE_CERTIFICATE
from strongroom.formats.trailer import TRAILER
from tests.formats import samples as s

SIGNED: dict[str, tuple[Any, bytes]] = {
    "archive certificate": (ARCHIVE_CERTIFICATE, s.ORIGIN.cert()),
    "revocation list": (REVOCATION_LIST, s.REVOCATIONS),
    "media header": (MEDIA_HEADER, s.ORIGIN.signed(b"SRMEDH01", s.pack(s.media_header()))),
    "image header": (IMAGE_HEADER, s.HEADER),
    "hop": (HOP, s.HOP),
    "copy header": (copy_header.COPY_HEADER, s.COPY),
    "trailer": (TRAILER, s.TRAILER),
    "receipt": (RECEIPT, s.RECEIPT),
    "key envelope": (KEY_ENVELOPE, s.ENVELOPES[0]),
    "journal batch": (BATCH, s.BATCH_2),
}


def decoders() -> dict[str, tuple[Callable[[bytes], object], bytes]]:
    def of(kind: Any) -> Callable[[bytes], object]:
        return lambda data: signed.verify(kind, data)

    found = {name: (of(kind), data) for name, (kind, data) in SIGNED.items()}
    return found | {
        "copy header and what it embeds": (copy_header.verify, s.TARGET_COPY),
        "fragment": (fragment.verify, s.COPY + s.TRAILER),
        "root key file": (root_key.read_head, s.root_key_file(derived=bytes(32))),
    }


DECODERS = decoders()
every_decoder = pytest.mark.parametrize("name", DECODERS)


@every_decoder
def test_every_cut_is_refused(name: str) -> None:
    decode, data = DECODERS[name]
    decode(data)
    for length in range(len(data)):
        with pytest.raises(DamagedError):
            decode(data[:length])


@pytest.mark.parametrize("name", SIGNED)
def test_every_changed_byte_is_refused(name: str) -> None:
    decode, data = DECODERS[name]
    for position in range(len(data)):
        for change in (0x01, 0x80):
            hostile = bytearray(data)
            hostile[position] ^= change
            with pytest.raises((DamagedError, NewerFormatError)):
                decode(bytes(hostile))


def test_every_changed_byte_of_a_root_key_file_is_refused() -> None:
    data = s.root_key_file(derived=bytes(32))
    # The head vouches for nothing before the file is opened: only domain and public key must agree already.
    for position in range(len(data)):
        hostile = bytearray(data)
        hostile[position] ^= 0x01
        try:
            head = root_key.read_head(bytes(hostile))
        except (DamagedError, NewerFormatError):
            continue
        assert head.domain == s.ORIGIN.id
        assert head.public == s.ORIGIN.root


@every_decoder
@given(data=st.data())
def test_hostile_bytes_raise_errors_of_formats_only(name: str, data: st.DataObject) -> None:
    decode, good = DECODERS[name]
    at = data.draw(st.integers(0, len(good)))
    removed = data.draw(st.integers(0, 40))
    put = data.draw(st.binary(max_size=60))
    mutated = good[:at] + put + good[at + removed :]
    for hostile in (put, good[:8] + put, mutated):
        if hostile != good:
            try:
                decode(hostile)
            except (DamagedError, NewerFormatError):
                continue
            assert name == "root key file"  # what is sealed is not looked at here


plain_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=40)
    | st.datetimes(timezones=st.just(UTC))
    | st.builds(msgspec.msgpack.Ext, st.integers(-128, 127).filter(lambda code: code != -1),
    st.binary(max_size=9)), lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8)
    | st.integers(0, 9), inner, max_size=5), max_leaves=20,
)  # fmt: skip


@pytest.mark.parametrize("name", SIGNED)
@given(data=st.data())
@settings(max_examples=30)
def test_a_rightly_signed_payload_of_any_shape_raises_errors_of_formats_only(name: str, data: st.DataObject) -> None:
    kind, good = SIGNED[name]
    (length,) = struct.unpack_from(">I", good, 8)
    body = msgspec.msgpack.decode(good[12 : 12 + length])
    field = data.draw(st.sampled_from([*body, "later", "features"]))
    body[field] = data.draw(plain_values)
    domain = s.TARGET if kind is RECEIPT else s.ORIGIN
    packed = s.pack(body)
    hostile = (domain.root_signed if kind.by_root else domain.signed)(kind.magic, packed)
    try:
        verified = signed.verify(kind, hostile)
    except (DamagedError, NewerFormatError):
        return
    known = set(type(verified.payload).__struct_encode_fields__)
    assert field not in known or records.encode(getattr(verified.payload, attribute(kind, field))) == s.pack(
        body[field]
    )


def attribute(kind: Any, name: str) -> str:
    fields = kind.payload.__struct_encode_fields__
    return str(kind.payload.__struct_fields__[fields.index(name)])


@given(st.binary(max_size=200))
@example(b"\x91" * 100_000)  # deep
@example(b"\xdd\xff\xff\xff\xff")  # four thousand million items, none there
@example(b"\xdf\xff\xff\xff\xff\xa1a")
@example(b"\x81\x80\x01")  # a map as key
@example(b"\x81\xa1\xff\x01")  # a key that is not UTF-8
@example(b"\xa1\xff")
@example(b"\xd6\xff\0\0\0\1")  # a timestamp
@example(b"\xc7\x0c\xff" + b"\xff" * 12)  # a timestamp out of range
@example(b"\xcb\x7f\xf8\0\0\0\0\0\0")  # NaN
@example(b"\xd1\x00\x7f")  # 127 in two bytes
@example(b"\xd1\x7f\xff")  # as short as the allowed form, with a sign
def test_bytes_are_one_record_or_none(data: bytes) -> None:
    try:
        plain = records.decode_plain(data, max_bytes=1 << 20, what="thing")
    except DamagedError:
        with pytest.raises((DamagedError, NewerFormatError)):
            records.decode(data, Hop, max_bytes=1 << 20, what="thing")
        return
    assert records.encode(plain) == data


def test_a_record_beyond_its_bound_is_not_read() -> None:
    with pytest.raises(DamagedError, match="more than the 9"):
        records.decode_plain(b"\xa9ninebytes", max_bytes=9, what="thing")
    with pytest.raises(DamagedError, match="more than the 9"):
        records.decode(b"\xa9ninebytes", Hop, max_bytes=9, what="thing")


ids = st.binary(min_size=16, max_size=16)
moments = st.integers(0, 2**63 - 1)


@given(ids, st.sampled_from(["pool", "tape"]), st.text(min_size=1, max_size=128), moments)
def test_a_media_header_says_after_the_way_what_it_said_before(
    medium: bytes, kind: str, label: str, created: int
) -> None:
    header = MediaHeader(domain=s.ORIGIN.id, medium=medium, kind=kind, label=label, created=created, features=())
    try:
        data = signed.sign(MEDIA_HEADER, header, s.ORIGIN.signer())
    except OutOfBoundsError:
        odd = any("\ud800" <= letter <= "\udfff" or letter == "\0" for letter in label)
        assert odd or len(label.encode()) > 128
        return
    assert signed.verify(MEDIA_HEADER, data).payload == header


@given(ids | st.binary(max_size=40), st.text(max_size=120), st.none() | st.integers(-5, 2**34) | st.just(2**64))
def test_the_writer_never_makes_what_the_reader_refuses(sending: bytes, slp: str, retention: int | None) -> None:
    hop = Hop(**s.hop(sending=sending, slp=slp, retention=retention, features=()))
    try:
        data = signed.sign(HOP, hop, s.ORIGIN.signer())
    except OutOfBoundsError:
        return
    assert signed.verify(HOP, data).payload == hop


def state_record(**fields: Any) -> StateRecord:
    return StateRecord(**s.state_record(fields.pop("kind")) | fields)


copies = {"image": st.sampled_from([b"a" * 16, b"b" * 16]), "copy": st.integers(1, 2)}
hold_ids = st.sampled_from([b"1" * 16, b"2" * 16])
state_records = (
    st.builds(state_record, kind=st.sampled_from(["hold", "release"]), hold=hold_ids, **copies)
    | st.builds(state_record, kind=st.sampled_from(["tombstone", "custom"]), **copies)
    | st.builds(state_record, kind=st.sampled_from(["lock", "expiry"]), until=st.integers(0, 1000), **copies)
)


@given(st.lists(st.lists(state_records, min_size=1, max_size=4), max_size=5), st.data())
@settings(max_examples=50)
def test_a_journal_means_its_records_in_order_however_they_are_batched(
    batches: list[list[StateRecord]], data: st.DataObject
) -> None:
    domain, medium = DomainId(s.ORIGIN.id), MediumId(s.POOL)
    signer, chain = s.ORIGIN.signer(), list[bytes]()
    for number, content in enumerate(batches, start=1):
        previous = s.digest(chain[-1]) if chain else bytes(32)
        batch = Batch(
            domain=domain,
            medium=medium,
            incarnation=1,
            features=(),
            sequence=number,
            previous=previous,
            at=0,
            records=tuple(content),
        )
        chain.append(signed.sign(BATCH, batch, signer))
    whole = journal.follow(chain, domain=domain, medium=medium)
    assert whole.is_complete(len(chain))
    assert not whole.is_complete(len(chain) + 1)
    flat = [record for content in batches for record in content]
    for (image, copy), state in whole.copies.items():
        mine = [record for record in flat if (record.image, record.copy) == (image, copy)]
        holds = {r.hold: r.kind for r in mine if r.kind in ("hold", "release")}  # the last word on each
        assert state.holds == {hold for hold, kind in holds.items() if kind == "hold"}
        assert state.locked_until == max((r.until or 0 for r in mine if r.kind == "lock"), default=0)
        assert [state.expires] == ([r.until for r in mine if r.kind == "expiry"] or [None])[-1:]
        assert state.expired == any(record.kind == "tombstone" for record in mine)
        unknown = any(record.kind == "custom" for record in mine)
        assert state.stops_expiry(500) == (bool(state.holds) or unknown or state.locked_until > 500)
    cut = data.draw(st.integers(0, len(chain)))
    part = journal.follow(chain[:cut], domain=domain, medium=medium)
    assert journal.follow(chain[cut:], domain=domain, medium=medium, after=part) == whole
    if len(chain) - cut > 1:
        gap = journal.follow(chain[:cut] + chain[cut + 1 :], domain=domain, medium=medium)
        assert (gap.complete_to, gap.copies) == (cut, part.copies)
        assert isinstance(gap.problem, IntegrityError)


def test_a_root_key_that_was_sealed_opens_again_and_under_no_other_phrase() -> None:
    entropy = s.FixedEntropy("root key")
    seed = root_key.make(entropy)
    data = root_key.seal(seed, normalise("one"), entropy)
    assert len(data) <= root_key.MAX_BYTES
    assert root_key.open_sealed(data, normalise(" one ")) == seed
    with pytest.raises(WrongPassPhraseError):
        root_key.open_sealed(data, normalise("two"))
