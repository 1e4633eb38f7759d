from __future__ import annotations

import pytest
from msgspec.structs import replace

from strongroom.core.ids import DataKeyId, DomainId, KeyGroupId, MediumId
from strongroom.core.secret import Secret
from strongroom.formats import key_envelope, signed
from strongroom.formats.errors import DamagedError
from strongroom.formats.key_envelope import KEY_ENVELOPE, CommitmentError, Purpose
from strongroom.kms.data_keys import DataKeys, tags_of
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
    return DataKeys(home.ring, ORIGIN.signer(), home.clock, home.entropy)


def test_issued_keys_come_back_from_their_envelope(key: KeyView, data_keys: DataKeys) -> None:
    batch = data_keys.issue(key.group, 5)
    envelope = signed.verify(KEY_ENVELOPE, batch.envelope, pinned=DomainId(ORIGIN.id)).payload
    assert (envelope.tag, envelope.group, envelope.generation) == (key.tag, key.group, 1)
    assert [row.key for row in envelope.keys] == [identity for identity, _ in batch.keys]
    assert {row.purpose for row in envelope.keys} == {Purpose.FRAMES}
    assert len({secret.reveal() for _, secret in batch.keys}) == 5
    assert data_keys.unwrap([batch.envelope], [identity for identity, _ in batch.keys]) == dict(batch.keys)


def test_only_the_wanted_keys_are_opened(key: KeyView, data_keys: DataKeys) -> None:
    batch = data_keys.issue(key.group, 3)
    wanted = batch.keys[1][0]
    assert data_keys.unwrap([batch.envelope], [wanted]) == {wanted: batch.keys[1][1]}


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
    assert data_keys.unwrap([batch.envelope], wanted) == dict(batch.keys)
    for step in (home.keys.deprecate, home.keys.terminate):
        step(key.tag)
        with pytest.raises(KeyStateError, match=key.tag.hex()):
            data_keys.unwrap([batch.envelope], wanted)


def test_a_missing_key_is_named_by_its_tag(key: KeyView, data_keys: DataKeys, other: KmsHome) -> None:
    batch = data_keys.issue(key.group, 1)
    elsewhere = DataKeys(other.ring, TARGET.signer(), other.clock, other.entropy)
    with pytest.raises(KeyNotFoundError, match=key.tag.hex()) as caught:
        elsewhere.unwrap([batch.envelope], [batch.keys[0][0]])
    assert (caught.value.tags, caught.value.code) == ((key.tag,), "kms.key-not-found")
    assert tags_of([batch.envelope]) == {key.tag}
    assert other.ring.states_of([key.tag]) == {key.tag: None}


def test_a_data_key_that_no_envelope_holds_is_its_own_error(key: KeyView, data_keys: DataKeys) -> None:
    batch = data_keys.issue(key.group, 1)
    with pytest.raises(DataKeyMissingError):
        data_keys.unwrap([batch.envelope], [DataKeyId(bytes(16))])


def test_after_rotation_old_and_new_generation_open_and_nothing_was_rewritten_k8(
    home: KmsHome, key: KeyView, data_keys: DataKeys
) -> None:
    batch = data_keys.issue(key.group, 4)
    second = home.keys.create_key("g", "two", active=True)
    renewed = data_keys.rewrap(batch.envelope)
    old = signed.verify(KEY_ENVELOPE, batch.envelope).payload
    new = signed.verify(KEY_ENVELOPE, renewed).payload
    key_envelope.check_generations(old, new)
    assert (new.generation, new.tag) == (2, second.tag)
    wanted = [identity for identity, _ in batch.keys]
    for envelopes in ([batch.envelope], [renewed], [batch.envelope, renewed]):
        assert data_keys.unwrap(envelopes, wanted) == dict(batch.keys)
    home.keys.deprecate(key.tag)
    assert data_keys.unwrap([batch.envelope, renewed], wanted) == dict(batch.keys)


def test_a_changed_envelope_is_refused(key: KeyView, data_keys: DataKeys) -> None:
    batch = data_keys.issue(key.group, 1)
    changed = bytearray(batch.envelope)
    changed[60] ^= 1
    with pytest.raises(DamagedError):
        data_keys.unwrap([bytes(changed)], [batch.keys[0][0]])


def test_a_key_that_was_not_committed_to_is_refused(key: KeyView, data_keys: DataKeys) -> None:
    batch = data_keys.issue(key.group, 1)
    payload = signed.verify(KEY_ENVELOPE, batch.envelope).payload
    forged = replace(payload, keys=(replace(payload.keys[0], commitment=bytes(32)),))
    data = signed.sign(KEY_ENVELOPE, forged, ORIGIN.signer())
    with pytest.raises(CommitmentError):
        data_keys.unwrap([data], [batch.keys[0][0]])


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
