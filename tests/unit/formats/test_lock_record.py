"""P2: what a pool keeps about its locks is read as it was written, and damage is never taken for it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.errors import IntegrityError
from strongroom.formats import lock_record, records
from strongroom.formats.algorithms import digest
from strongroom.formats.errors import DamagedError, NewerFormatError, OutOfBoundsError
from strongroom.formats.explanation import BytesSource
from strongroom.formats.inspect import explain
from strongroom.formats.lock_record import (
    CLOCK,
    KINDS,
    LOCK,
    MODE,
    MOST_CONTAINERS,
    MOST_OBJECTS,
    ClockRecord,
    LockRecord,
    ModeRecord,
)

MEDIUM = b"m" * 16
RIGHT: dict[str, Any] = {
    "SRLMOD01": ModeRecord(medium=MEDIUM, number=1, mode="compliance", rounding_days=7, at=1, features=()),
    "SRLCLK01": ClockRecord(medium=MEDIUM, at=2, features=()),
    "SRLOCK01": LockRecord(
        medium=MEDIUM,
        at=2,
        until=3,
        containers=(b"c" * 16,),
        objects=("images/ab/" + "ab" * 16 + "-0001",),
        features=(),
    ),
}
BYTES = {
    "SRLMOD01": (
        "53524c4d4f4430310000004f86a66d656469756dc4106d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6da66e756d62657201a46d"
        "6f6465aa636f6d706c69616e6365ad726f756e64696e675f6461797307a2617401a8666561747572657390c298828b2b"
        "873305e03a26bf73700e7f608aaed9ab8499d9be33bdb6e48acee5"
    ),
    "SRLCLK01": (
        "53524c434c4b30310000002883a66d656469756dc4106d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6da2617402a86665617475"
        "72657390171393981d9e345115682ca6dfe937c5360903b66aa14019c79dbe7d0a910f8b"
    ),
    "SRLOCK01": (
        "53524c4f434b30310000008786a66d656469756dc4106d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6da2617402a5756e74696c"
        "03aa636f6e7461696e65727391c41063636363636363636363636363636363a76f626a6563747391d92f696d61676573"
        "2f61622f61626162616261626162616261626162616261626162616261626162616261622d30303031a8666561747572"
        "657390f36e42ffa472ab469b6bd3d21c5482daec8207e0e7401a942aef89bf69329b0f"
    ),
}
"""For ever: what a later version must still read."""


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.what)
def test_the_bytes_are_those_of_the_format_p4(kind: lock_record.Kind[Any]) -> None:
    magic = kind.magic.decode()
    assert lock_record.encode(kind, RIGHT[magic]).hex() == BYTES[magic]
    data = bytes.fromhex(BYTES[magic])
    assert lock_record.decode(kind, data) == RIGHT[magic]
    found = explain(BytesSource(data))
    assert (found.what, found.problems, found.length) == (kind.what, (), len(data))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.what)
def test_every_changed_byte_and_every_cut_is_damage_p4(kind: lock_record.Kind[Any]) -> None:
    data = bytes.fromhex(BYTES[kind.magic.decode()])
    for position in range(len(data)):
        changed = data[:position] + bytes([data[position] ^ 4]) + data[position + 1 :]
        with pytest.raises((DamagedError, NewerFormatError)):
            lock_record.decode(kind, changed)
        with pytest.raises(DamagedError):
            lock_record.decode(kind, data[:position])
    with pytest.raises(DamagedError):
        lock_record.decode(kind, data + b"\0")


def framed(magic: bytes, body: dict[str, object]) -> bytes:
    raw = records.encode(body)
    data = magic + len(raw).to_bytes(4, "big") + raw
    return data + digest(data)


def test_what_a_later_version_may_say_is_newer_and_not_damage_p4() -> None:
    mode = {"medium": MEDIUM, "number": 1, "mode": "eternal", "rounding_days": 7, "at": 1, "features": []}
    with pytest.raises(NewerFormatError):
        lock_record.decode(MODE, framed(b"SRLMOD01", mode))
    with pytest.raises(NewerFormatError):
        lock_record.decode(CLOCK, framed(b"SRLCLK02", {"medium": MEDIUM, "at": 1, "features": []}))
    with pytest.raises(NewerFormatError):
        lock_record.decode(CLOCK, framed(b"SRLCLK01", {"medium": MEDIUM, "at": 1, "features": ["sundial"]}))


@pytest.mark.parametrize(
    ("containers", "objects"),
    [((), ()), ((b"c" * 16, b"a" * 16), ()), ((b"c" * 16, b"c" * 16), ()), ((), ("b", "a")), ((), ("x" * 161,))],
    ids=["nothing", "not in order", "twice", "keys not in order", "a key too long"],
)
def test_a_record_that_breaks_a_rule_is_neither_written_nor_read_p4(
    containers: tuple[bytes, ...], objects: tuple[str, ...]
) -> None:
    body = {
        "medium": MEDIUM,
        "at": 1,
        "until": 2,
        "containers": list(containers),
        "objects": list(objects),
        "features": [],
    }
    with pytest.raises(DamagedError):
        lock_record.decode(LOCK, framed(b"SRLOCK01", body))


def test_the_largest_record_is_within_its_bound_and_a_longer_one_is_refused_p4() -> None:
    containers = tuple(number.to_bytes(16, "big") for number in range(MOST_CONTAINERS))
    objects = tuple(f"{number:0160d}" for number in range(MOST_OBJECTS))
    largest = LockRecord(medium=MEDIUM, at=1, until=2, containers=containers, objects=objects, features=())
    data = lock_record.encode(LOCK, largest)
    assert lock_record.decode(LOCK, data) == largest
    more = LockRecord(medium=MEDIUM, at=1, until=2, containers=(), objects=(*objects, "1" * 160), features=())
    with pytest.raises(OutOfBoundsError):
        lock_record.encode(LOCK, more)


@given(data=st.binary(max_size=200), kind=st.sampled_from(KINDS), with_magic=st.booleans(), holds=st.booleans())
def test_hostile_bytes_are_refused_in_the_words_of_formats_p4(
    data: bytes, kind: lock_record.Kind[Any], with_magic: bool, holds: bool
) -> None:
    if with_magic:
        data = kind.magic + len(data).to_bytes(4, "big") + data
    if holds:
        data += digest(data)
    try:
        lock_record.decode(kind, data)
    except IntegrityError:
        return
    assert with_magic
    assert holds
