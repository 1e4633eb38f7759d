from __future__ import annotations

import pytest
from msgspec.structs import replace

from strongroom.core.ids import DataKeyId, DomainId, KeyGroupId, MediumId
from strongroom.core.secret import Secret
from strongroom.formats import signed
from strongroom.formats.errors import DamagedError, ForeignError
from strongroom.formats.key_envelope import KEY_ENVELOPE, CommitmentError, Purpose, WrongWrappingKeyError
from strongroom.kms.data_keys import DataKeys
from strongroom.kms.errors import (
    DataKeyMissingError,
    GroupNotFoundError,
    KeyNotFoundError,
    KeyStateError,
    NoActiveKeyError,
)
from strongroom.kms.views import KeyView
from tests.formats.samples import ORIGIN, TARGET
from tests.support.kms import KmsHome


@pytest.fixture
def key(home: KmsHome) -> KeyView:
    home.keys.create_group("g")
    return home.keys.create_key("g", "one", active=True)


@pytest.fixture
def data_keys(home: KmsHome) -> DataKeys:
    return DataKeys(home.ring, ORIGIN.signer(), 1, home.clock, home.entropy)


def open_with(
    data_keys: DataKeys, group: KeyGroupId, envelopes: list[bytes], wanted: list[DataKeyId]
) -> dict[DataKeyId, Secret]:
    return data_keys.unwrap(envelopes, wanted, origin=DomainId(ORIGIN.id), group=group)


def test_issued_keys_come_back_from_their_envelope(key: KeyView, data_keys: DataKeys) -> None:
    batch = data_keys.issue(key.group, 5)
    envelope = signed.verify(KEY_ENVELOPE, batch.envelope, pinned=DomainId(ORIGIN.id)).payload
    assert (envelope.tag, envelope.group, envelope.generation) == (key.tag, key.group, 1)
    assert [row.key for row in envelope.keys] == [identity for identity, _ in batch.keys]
    assert {row.purpose for row in envelope.keys} == {Purpose.FRAMES}
    assert len({secret.reveal() for _, secret in batch.keys}) == 5
    assert open_with(data_keys, key.group, [batch.envelope], [identity for identity, _ in batch.keys]) == dict(
        batch.keys
    )


def test_only_the_wanted_keys_are_opened(key: KeyView, data_keys: DataKeys) -> None:
    batch = data_keys.issue(key.group, 3)
    wanted = batch.keys[1][0]
    assert open_with(data_keys, key.group, [batch.envelope], [wanted]) == {wanted: batch.keys[1][1]}


def test_a_naming_key_belongs_to_group_and_pool(key: KeyView, data_keys: DataKeys) -> None:
    batch = data_keys.issue_naming_key(key.group, MediumId(b"m" * 16))
    (row,) = signed.verify(KEY_ENVELOPE, batch.envelope).payload.keys
    assert (row.purpose, row.medium) == (Purpose.NAMES, b"m" * 16)


@pytest.mark.parametrize("count", [0, 1_025])
def test_a_batch_has_its_bounds(key: KeyView, data_keys: DataKeys, count: int) -> None:
    with pytest.raises(ValueError, match="1 to 1024"):
        data_keys.issue(key.group, count)


def test_without_an_active_key_nothing_is_issued_k1(home: KmsHome, key: KeyView, data_keys: DataKeys) -> None:
    """Fail closed: no backup, never a clear one."""
    home.keys.deactivate(key.tag)
    with pytest.raises(NoActiveKeyError, match="'g' has no active key") as caught:
        data_keys.issue(key.group, 1)
    assert (caught.value.code, caught.value.hint != "") == ("kms.no-active-key", True)
    with pytest.raises(GroupNotFoundError):
        data_keys.issue(KeyGroupId(bytes(16)), 1)


def test_inactive_decrypts_and_deprecated_and_terminated_do_not_k1(
    home: KmsHome, key: KeyView, data_keys: DataKeys
) -> None:
    batch = data_keys.issue(key.group, 1)
    wanted = [batch.keys[0][0]]
    home.keys.deactivate(key.tag)
    assert open_with(data_keys, key.group, [batch.envelope], wanted) == dict(batch.keys)
    for step in (home.keys.deprecate, home.keys.terminate):
        step(key.tag)
        with pytest.raises(KeyStateError, match=key.tag.hex()):
            open_with(data_keys, key.group, [batch.envelope], wanted)


def test_a_missing_key_is_named_by_its_tag(key: KeyView, data_keys: DataKeys, other: KmsHome) -> None:
    batch = data_keys.issue(key.group, 1)
    elsewhere = DataKeys(other.ring, TARGET.signer(), 1, other.clock, other.entropy)
    with pytest.raises(KeyNotFoundError, match=key.tag.hex()) as caught:
        open_with(elsewhere, key.group, [batch.envelope], [batch.keys[0][0]])
    assert (caught.value.tags, caught.value.code) == ((key.tag,), "kms.key-not-found")
    assert other.ring.states_of([key.tag]) == {key.tag: None}


def test_a_data_key_that_no_envelope_holds_is_its_own_error(key: KeyView, data_keys: DataKeys) -> None:
    batch = data_keys.issue(key.group, 1)
    with pytest.raises(DataKeyMissingError):
        open_with(data_keys, key.group, [batch.envelope], [DataKeyId(bytes(16))])


def test_after_rotation_old_and_new_generation_open_and_nothing_was_rewritten_k8(
    home: KmsHome, key: KeyView, data_keys: DataKeys
) -> None:
    batch = data_keys.issue(key.group, 4)
    second = home.keys.create_key("g", "two", active=True)
    renewed = data_keys.rewrap(batch.envelope)
    old = signed.verify(KEY_ENVELOPE, batch.envelope).payload
    new = signed.verify(KEY_ENVELOPE, renewed).payload
    kept = [(row.key, row.purpose, row.medium, row.commitment) for row in old.keys]
    assert [(row.key, row.purpose, row.medium, row.commitment) for row in new.keys] == kept
    assert (new.envelope, new.origin, new.group) == (old.envelope, old.origin, old.group)
    assert (new.generation, new.tag) == (2, second.tag)
    wanted = [identity for identity, _ in batch.keys]
    for envelopes in ([batch.envelope], [renewed], [batch.envelope, renewed]):
        assert open_with(data_keys, key.group, envelopes, wanted) == dict(batch.keys)
    home.keys.deprecate(key.tag)
    assert open_with(data_keys, key.group, [batch.envelope, renewed], wanted) == dict(batch.keys)


def test_another_domain_wraps_anew_under_its_own_group_and_both_open_k8(
    key: KeyView, data_keys: DataKeys, home: KmsHome, other: KmsHome
) -> None:
    batch = data_keys.issue(key.group, 2)
    other.keys.import_keystore(home.keystore.read_bytes(), home.hmk, home.kpk)
    there = other.keys.create_group("there")
    mine = other.keys.create_key("there", "mine", active=True)
    target = DataKeys(other.ring, TARGET.signer(), 3, other.clock, other.entropy)
    with pytest.raises(NoActiveKeyError):
        target.rewrap(batch.envelope)
    rewrapped = target.rewrap(batch.envelope, there.group)
    payload = signed.verify(KEY_ENVELOPE, rewrapped, pinned=DomainId(TARGET.id)).payload
    assert (payload.origin, payload.group, payload.generation) == (ORIGIN.id, key.group, 1)
    assert (payload.tag, payload.incarnation) == (mine.tag, 3)
    other.keys.deprecate(key.tag)
    wanted = [identity for identity, _ in batch.keys]
    assert open_with(target, key.group, [batch.envelope, rewrapped], wanted) == dict(batch.keys)
    again = signed.verify(KEY_ENVELOPE, target.rewrap(rewrapped, there.group)).payload
    assert again.generation == 2


def test_a_data_key_is_not_given_for_an_image_of_another_group_or_origin(key: KeyView, data_keys: DataKeys) -> None:
    batch = data_keys.issue(key.group, 1)
    wanted = [batch.keys[0][0]]
    for origin, group in ((ORIGIN.id, bytes(16)), (TARGET.id, key.group)):
        with pytest.raises(ForeignError):
            data_keys.unwrap([batch.envelope], wanted, origin=DomainId(origin), group=KeyGroupId(group))


def test_a_newer_generation_that_does_not_open_hides_no_older_one(key: KeyView, data_keys: DataKeys) -> None:
    batch = data_keys.issue(key.group, 1)
    payload = signed.verify(KEY_ENVELOPE, batch.envelope).payload
    bad_row = replace(payload.keys[0], wrapped=bytes(48))
    bad = signed.sign(KEY_ENVELOPE, replace(payload, generation=9, keys=(bad_row,)), ORIGIN.signer())
    wanted = [batch.keys[0][0]]
    assert open_with(data_keys, key.group, [bad, batch.envelope], wanted) == dict(batch.keys)
    with pytest.raises(WrongWrappingKeyError):
        open_with(data_keys, key.group, [bad], wanted)


def test_a_changed_envelope_is_refused(key: KeyView, data_keys: DataKeys) -> None:
    batch = data_keys.issue(key.group, 1)
    changed = bytearray(batch.envelope)
    changed[60] ^= 1
    with pytest.raises(DamagedError):
        open_with(data_keys, key.group, [bytes(changed)], [batch.keys[0][0]])


def test_a_key_that_was_not_committed_to_is_refused(key: KeyView, data_keys: DataKeys) -> None:
    batch = data_keys.issue(key.group, 1)
    payload = signed.verify(KEY_ENVELOPE, batch.envelope).payload
    forged = replace(payload, keys=(replace(payload.keys[0], commitment=bytes(32)),))
    data = signed.sign(KEY_ENVELOPE, forged, ORIGIN.signer())
    with pytest.raises(CommitmentError):
        open_with(data_keys, key.group, [data], [batch.keys[0][0]])


def test_a_drive_key_is_given_by_state_and_differs_by_cartridge_k1(home: KmsHome, key: KeyView) -> None:
    writing = home.ring.drive_key(key.tag, b"a" * 12, encrypt=True)
    assert writing != home.ring.drive_key(key.tag, b"b" * 12, encrypt=True)
    home.keys.deactivate(key.tag)
    assert home.ring.drive_key(key.tag, b"a" * 12, encrypt=False) == writing
    with pytest.raises(KeyStateError):
        home.ring.drive_key(key.tag, b"a" * 12, encrypt=True)
    home.keys.deprecate(key.tag)
    with pytest.raises(KeyStateError):
        home.ring.drive_key(key.tag, b"a" * 12, encrypt=False)


def test_the_data_key_is_a_secret_wherever_it_goes(key: KeyView, data_keys: DataKeys) -> None:
    batch = data_keys.issue(key.group, 1)
    assert isinstance(batch.keys[0][1], Secret)
    assert batch.keys[0][1].reveal().hex() not in repr(batch)
    assert batch.keys[0][1].reveal() not in batch.envelope
