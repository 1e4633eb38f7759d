from __future__ import annotations

from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from strongroom.core.secret import Secret
from strongroom.formats import key_envelope as k
from strongroom.formats import signed
from tests.formats import samples as s

ONE = signed.verify(k.KEY_ENVELOPE, s.ENVELOPES[0]).payload
TWO = signed.verify(k.KEY_ENVELOPE, s.ENVELOPES[1]).payload
CONTEXT = k.WrapContext.of(ONE)
KEY = Secret(s.WRAPPING_KEY)


def test_wrapping_gives_what_the_vectors_have_k2() -> None:
    for row in ONE.keys:
        purpose = k.Purpose(row.purpose)
        data_key = Secret(s.DATA_KEYS[row.key])
        wrapped = k.wrap(
            data_key,
            wrapping_key=KEY,
            context=CONTEXT,
            nonce=row.nonce,
            purpose=purpose,
            medium=row.medium,
        )
        assert wrapped == row
    assert {k.Purpose(row.purpose) for row in ONE.keys} == {k.Purpose.FRAMES, k.Purpose.NAMES}


def test_another_kms_key_does_not_open_a_data_key() -> None:
    with pytest.raises(k.WrongWrappingKeyError, match=s.TAG.hex()):
        k.unwrap(ONE.keys[0], wrapping_key=Secret(s.TARGET_WRAPPING_KEY), context=CONTEXT)


@pytest.mark.parametrize("field", ["domain", "origin", "envelope", "group", "tag"])
def test_a_wrap_does_not_open_in_another_envelope(field: str) -> None:
    elsewhere = msgspec.structs.replace(CONTEXT, **{field: bytes(len(getattr(CONTEXT, field)))})
    with pytest.raises(k.WrongWrappingKeyError):
        k.unwrap(ONE.keys[0], wrapping_key=KEY, context=elsewhere)


@pytest.mark.parametrize("changes", [{"key": bytes(16)}, {"purpose": 2, "medium": s.POOL}, {"nonce": bytes(12)}])
def test_a_wrap_does_not_open_in_another_row(changes: dict[str, Any]) -> None:
    row = next(row for row in ONE.keys if row.purpose == k.Purpose.FRAMES)
    with pytest.raises(k.WrongWrappingKeyError):
        k.unwrap(msgspec.structs.replace(row, **changes), wrapping_key=KEY, context=CONTEXT)


def test_a_key_that_is_not_the_one_committed_to_is_refused() -> None:
    row = msgspec.structs.replace(ONE.keys[0], commitment=ONE.keys[1].commitment)
    with pytest.raises(k.CommitmentError):
        k.unwrap(row, wrapping_key=KEY, context=CONTEXT)


def test_a_key_under_the_name_of_another_is_refused() -> None:
    data_key, other = Secret(s.DATA_KEYS[ONE.keys[0].key]), Secret(s.DATA_KEYS[ONE.keys[1].key])
    name = k.data_key_id(other)
    nonce = bytes(12)
    sealed = AESGCM(s.WRAPPING_KEY).encrypt(
        nonce, data_key.reveal(), CONTEXT.associated_data(name, k.Purpose.FRAMES, k.NO_MEDIUM)
    )
    row = k.WrappedKey(
        key=name,
        purpose=k.Purpose.FRAMES,
        medium=k.NO_MEDIUM,
        commitment=k.commitment(data_key),
        nonce=nonce,
        wrapped=sealed,
    )
    with pytest.raises(k.CommitmentError):
        k.unwrap(row, wrapping_key=KEY, context=CONTEXT)


def test_no_key_shows_in_an_error_or_a_dump() -> None:
    row = msgspec.structs.replace(ONE.keys[0], commitment=bytes(32))
    with pytest.raises(k.CommitmentError) as caught:
        k.unwrap(row, wrapping_key=KEY, context=CONTEXT)
    for secret in (s.WRAPPING_KEY, s.DATA_KEYS[row.key]):
        assert secret.hex() not in repr(caught.value)
        assert secret.hex() not in repr(k.frame_key(Secret(secret)))
