"""Records of primaries: what is written is read again, and hostile bytes are damage and nothing else."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.errors import IntegrityError
from strongroom.core.ids import DomainId
from strongroom.formats import peer_messages as wire
from strongroom.formats import signed
from strongroom.formats.domain_statement import DOMAIN_STATEMENT, DomainStatement
from tests.formats.make_peer_vectors import exchange, statement
from tests.formats.samples import ORIGIN, pack

RISING = st.integers(1, (1 << 63) - 1)
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=16)
IDS = st.binary(min_size=16, max_size=16)
MESSAGES = st.builds(wire.Message, id=IDS, kind=WORDS, re=st.none() | IDS, body=st.binary(max_size=200))
RECORDS = st.builds(
    wire.ExchangeRecord,
    version=st.integers(1, 65_535),
    capabilities=st.lists(WORDS, max_size=3).map(tuple),
    incarnation=RISING,
    start=RISING,
    instance=IDS,
    state=WORDS,
    number=st.integers(0, (1 << 63) - 1),
    statement=st.binary(max_size=300),
    messages=st.lists(MESSAGES, max_size=4).map(tuple),
    done=st.lists(IDS, max_size=4).map(tuple),
    newer=st.none() | IDS,
)
TYPES = st.sampled_from([*wire.KINDS.values(), wire.ExchangeRecord, wire.TrustRequest, wire.TrustAnswer])
GOOD = pack(exchange())


@given(RECORDS)
def test_a_record_is_read_as_it_was_written(record: wire.ExchangeRecord) -> None:
    assert wire.decode(wire.encode(record), wire.ExchangeRecord) == record


@given(RECORDS)
def test_a_message_takes_no_more_room_than_was_reckoned(record: wire.ExchangeRecord) -> None:
    bare = len(wire.encode(msgspec.structs.replace(record, messages=())))
    room = sum(wire.message_size(message) for message in record.messages)
    assert len(wire.encode(record)) <= bare + room


@given(st.binary(max_size=400), TYPES)
def test_hostile_bytes_are_damage_and_nothing_else(data: bytes, kind: type[msgspec.Struct]) -> None:
    try:
        wire.decode(data, kind)
    except IntegrityError:
        return


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_changed_byte_is_damage_or_another_record(position: int, change: int) -> None:
    data = GOOD[:position] + bytes([GOOD[position] ^ change]) + GOOD[position + 1 :]
    try:
        record = wire.decode(data, wire.ExchangeRecord)
    except IntegrityError:
        return
    assert record != wire.decode(GOOD, wire.ExchangeRecord)


@given(
    name=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=128),
    incarnation=RISING,
    number=RISING,
    host=st.from_regex(r"[a-z0-9.-]{1,40}", fullmatch=True),
    port=st.integers(-10, 100_000),
)
def test_a_statement_is_signed_only_when_it_can_be_read(
    name: str, incarnation: int, number: int, host: str, port: int
) -> None:
    body = statement(name=name, incarnation=incarnation, number=number, peer=[f"{host}:{port}"])
    good = len(name.encode()) <= 128 and 0 < port < 65_536
    data = ORIGIN.signed(b"SRDOMS01", pack(body))
    if not good:
        with pytest.raises(IntegrityError):
            signed.verify(DOMAIN_STATEMENT, data)
        return
    read: DomainStatement = signed.verify(DOMAIN_STATEMENT, data, pinned=DomainId(ORIGIN.id)).payload
    assert (read.name, read.order) == (name, (incarnation, number))
