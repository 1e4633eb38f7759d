"""Key tags and keystores: what is written is read, and no bytes bring a reader to anything but its own errors."""

from __future__ import annotations

from typing import Literal, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.ids import KeyTag
from strongroom.core.secret import Secret
from strongroom.formats import key_export, key_file, key_tag, keystore, service_keys
from strongroom.formats.errors import DamagedError, NewerFormatError
from strongroom.formats.key_file import KeyFile, Purpose, WrongKeyFileError
from strongroom.formats.key_tag import KeyProfile, WrongKeyError
from strongroom.formats.keystore import STATES, GroupRecord, KeyRecord, KeystoreBody, KeystoreHead
from strongroom.formats.service_keys import ServiceKey, ServiceKeysHead

KEYS = st.binary(min_size=32, max_size=32).map(Secret)
IDS = st.binary(min_size=16, max_size=16)
MOMENTS = st.integers(0, (1 << 63) - 1)
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
DOMAIN = b"d" * 32


def file(purpose: Purpose) -> KeyFile:
    return KeyFile(purpose, purpose.encode().ljust(16), DOMAIN, "random", Secret(purpose.encode().ljust(32)))


@given(KEYS, IDS, st.sampled_from(KeyProfile))
def test_a_tag_says_what_it_was_made_of(key: Secret, uuid: bytes, profile: KeyProfile) -> None:
    tag = key_tag.make(key, uuid, profile)
    fields = key_tag.parse(tag)
    assert (fields.profile, fields.uuid, fields.check) == (profile, uuid, key_tag.check_value(key, uuid))
    key_tag.check_key(key, tag)


@given(KEYS, KEYS, IDS)
def test_another_key_is_refused_by_the_tag_k3(key: Secret, another: Secret, uuid: bytes) -> None:
    if key == another:
        return
    with pytest.raises(WrongKeyError):
        key_tag.check_key(another, key_tag.make(key, uuid, KeyProfile.RANDOM))


@given(KEYS, IDS, st.integers(0, 255), st.integers(1, 255))
def test_every_changed_byte_of_a_tag_is_damage(key: Secret, uuid: bytes, at: int, change: int) -> None:
    tag = bytearray(key_tag.make(key, uuid, KeyProfile.RANDOM))
    tag[at % len(tag)] ^= change
    with pytest.raises(DamagedError):
        key_tag.parse(bytes(tag))


@given(st.binary(max_size=40))
def test_any_bytes_are_a_tag_or_an_error(data: bytes) -> None:
    try:
        key_tag.parse(data)
    except (DamagedError, NewerFormatError):
        pass


@st.composite
def bodies(draw: st.DrawFn) -> tuple[KeystoreBody, dict[bytes, Secret]]:
    """A keystore's body that follows the rules, and the keys wrapped in it."""
    groups = draw(st.lists(st.tuples(IDS, NAMES), max_size=3, unique_by=(lambda g: g[0], lambda g: g[1])))
    records: list[KeyRecord] = []
    secrets: dict[bytes, Secret] = {}
    for group, _ in groups:
        active_is_free = True
        for number, (key, uuid) in enumerate(draw(st.lists(st.tuples(KEYS, IDS), max_size=3))):
            tag = key_tag.make(key, uuid, KeyProfile.RANDOM)
            if tag in secrets:
                continue
            state = draw(st.sampled_from(STATES))
            if state == "active" and not active_is_free:
                state = "inactive"
            active_is_free = active_is_free and state != "active"
            created, nonce = draw(MOMENTS), draw(st.binary(min_size=12, max_size=12))
            records.append(
                KeyRecord(
                    tag=tag,
                    group=group,
                    name=f"{number}",
                    description=draw(st.just("") | NAMES),
                    state=state,
                    created=created,
                    modified=draw(MOMENTS),
                    recovered=draw(st.booleans()),
                    nonce=nonce,
                    wrapped=keystore.wrap(key, file("kpk"), tag=tag, group=group, created=created, nonce=nonce),
                )
            )
            secrets[tag] = key
    body = KeystoreBody(
        groups=[GroupRecord(group=g, name=name, description="", created=0, modified=1) for g, name in groups],
        keys=records,
    )
    return body, secrets


def head(nonce: bytes) -> KeystoreHead:
    return KeystoreHead(
        domain=DOMAIN, generation=3, hmk=file("hmk").id, kpk=file("kpk").id, cipher=1, nonce=nonce, quiesced=0
    )


@given(bodies(), st.binary(min_size=12, max_size=12))
def test_a_keystore_is_read_as_it_was_written_k5(made: tuple[KeystoreBody, dict[bytes, Secret]], nonce: bytes) -> None:
    body, secrets = made
    opened = keystore.open_file(keystore.seal_file(head(nonce), body, file("hmk")), file("hmk"), file("kpk"))
    assert (opened.head, opened.body, opened.complete) == (head(nonce), body, True)
    assert {record.tag: keystore.unwrap(record, file("kpk")) for record in opened.body.keys} == secrets


@given(bodies(), st.integers(0), st.integers(1, 255))
def test_every_changed_byte_of_a_keystore_is_noticed_k5(
    made: tuple[KeystoreBody, dict[bytes, Secret]], at: int, change: int
) -> None:
    data = bytearray(keystore.seal_file(head(bytes(12)), made[0], file("hmk")))
    data[at % len(data)] ^= change
    with pytest.raises((DamagedError, NewerFormatError, WrongKeyFileError)):
        keystore.open_file(bytes(data), file("hmk"), file("kpk"))


@given(st.lists(st.tuples(NAMES, st.binary(max_size=40)), max_size=4, unique_by=lambda pair: pair[0]))
def test_service_keys_are_read_as_they_were_written(pairs: list[tuple[str, bytes]]) -> None:
    keys = tuple(ServiceKey(name=name, alg="x", created=1, value=Secret(value)) for name, value in pairs)
    start = ServiceKeysHead(domain=DOMAIN, generation=1, service=file("service").id, cipher=1, nonce=bytes(12))
    opened = service_keys.open_file(service_keys.seal_file(start, keys, file("service")), file("service"))
    assert opened.keys == keys


@given(st.sampled_from(get_args(Purpose)), IDS, KEYS)
def test_a_key_file_is_read_as_it_was_written(
    purpose: Literal["hmk", "kpk", "service"], id_: bytes, key: Secret
) -> None:
    made = KeyFile(purpose, id_, DOMAIN, "random", key)
    assert key_file.decode(key_file.encode(made), purpose) == made


MAGICS = st.sampled_from([b"SRKEYS01", b"SRKEYF01", b"SRSVCK01", b"SRKEYX01", b""])


@given(MAGICS, st.binary(max_size=200))
def test_any_bytes_are_a_file_or_an_error(magic: bytes, rest: bytes) -> None:
    data = magic + rest
    for read in (
        lambda: keystore.open_file(data, file("hmk"), file("kpk")),
        lambda: keystore.read_head(data),
        lambda: key_file.decode(data, "hmk"),
        lambda: service_keys.open_file(data, file("service")),
        lambda: key_export.read_head(data),
    ):
        try:
            read()
        except (DamagedError, NewerFormatError, WrongKeyFileError):
            pass


def test_a_tag_is_text_in_no_message_that_hides_it() -> None:
    """A tag is no secret: an operator must be able to compare it."""
    tag = key_tag.make(Secret(bytes(32)), bytes(16), KeyProfile.RANDOM)
    with pytest.raises(WrongKeyError, match=tag.hex()):
        key_tag.check_key(Secret(b"\1" * 32), KeyTag(tag))
