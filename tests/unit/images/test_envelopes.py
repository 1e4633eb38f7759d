"""P1: the cache of key envelopes says what the files say, and believes nobody who may not speak."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from strongroom.core.ids import DataKeyId, EnvelopeId, KeyGroupId
from strongroom.formats import key_envelope, signed
from strongroom.formats.errors import DamagedError, ForeignError
from strongroom.formats.key_envelope import KEY_ENVELOPE, KeyEnvelope
from strongroom.images.envelopes import FILE_NAME, Envelopes
from strongroom.pool import names
from strongroom.pool.errors import IndexBusyError, PoolFullError, PoolReadError
from tests.support.images import OTHER, Domain
from tests.support.vault import Vault


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path)


@pytest.fixture
def envelopes(vault: Vault) -> Envelopes:
    return vault.pool.envelopes


def payload_of(envelope: bytes) -> KeyEnvelope:
    return signed.verify(KEY_ENVELOPE, envelope).payload


def key_of(payload: KeyEnvelope) -> str:
    return names.envelope_key(EnvelopeId(payload.envelope), payload.domain, payload.generation)  # type: ignore[arg-type]


def test_keys_are_found_by_id_after_a_restart_and_without_the_cache(vault: Vault) -> None:
    batch = vault.data_keys.issue(vault.group, 3)
    vault.pool.envelopes.put(batch.envelope)
    wanted = [key for key, _ in batch.keys]
    for remove_cache in (False, True):
        vault.pool.close()
        if remove_cache:
            (vault.path / "index" / FILE_NAME).unlink()
        vault.reopen()
        assert vault.pool.envelopes.holding(wanted, vault.id) == dict.fromkeys(wanted, batch.identity)
        assert vault.pool.envelopes.tags(vault.id, [batch.identity]) == [vault.key.tag]


def test_a_cache_that_is_no_database_is_made_anew(vault: Vault) -> None:
    batch = vault.data_keys.issue(vault.group, 1)
    vault.pool.envelopes.put(batch.envelope)
    vault.pool.close()
    (vault.path / "index" / FILE_NAME).write_bytes(b"not a database" * 1_000)
    vault.reopen()
    assert vault.pool.envelopes.lacking(vault.id, [batch.identity]) == []


def test_a_cache_whose_tables_are_damaged_is_made_anew(vault: Vault) -> None:
    batch = vault.data_keys.issue(vault.group, 200)
    vault.pool.envelopes.put(batch.envelope)
    vault.pool.close()
    path = vault.path / "index" / FILE_NAME
    contents = path.read_bytes()
    path.write_bytes(contents[:4_096] + b"\xff" * (len(contents) - 4_096))
    vault.reopen()
    assert vault.pool.envelopes.lacking(vault.id, [batch.identity]) == []


def test_a_cache_in_use_by_another_process_is_not_thrown_away(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strongroom.pool.cache_file._BUSY_SECONDS", 0.05)
    vault.pool.close()
    path = vault.path / "index" / FILE_NAME
    before = path.stat().st_ino
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(IndexBusyError):
            Envelopes(vault.pool.store, path.parent, vault.id)
    assert path.stat().st_ino == before


def test_an_envelope_is_entered_whole_or_not_at_all(vault: Vault, envelopes: Envelopes) -> None:
    """A generation without its keys would never be completed: the next opening takes it for known."""
    batch = vault.data_keys.issue(vault.group, 300)
    with envelopes._file.using() as db:
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {pages + 1}")
    with pytest.raises(PoolFullError):
        envelopes.put(batch.envelope)
    with envelopes._file.using() as db:
        db.execute("PRAGMA max_page_count = 100000")
    other = vault.data_keys.issue(vault.group, 1)
    envelopes.put(other.envelope)
    envelopes.refresh()
    assert len(envelopes.holding([key for key, _ in batch.keys], vault.id)) == 300


def test_one_envelope_that_cannot_be_read_ends_nothing(vault: Vault, envelopes: Envelopes) -> None:
    first, second = (vault.data_keys.issue(vault.group, 1) for _ in range(2))
    read = vault.pool.store.read

    class Sector:
        """The pool's folder, with one file that the disk does not give."""

        list = staticmethod(vault.pool.store.list)

        def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
            if key == key_of(payload_of(first.envelope)):
                raise PoolReadError(f"cannot read '{key}'")
            return read(key, offset, length)

    for batch in (first, second):
        vault.pool.store.put(key_of(payload_of(batch.envelope)), batch.envelope)
    envelopes._store = Sector()  # type: ignore[assignment]  # of a store only what refreshing needs
    assert [text for text in envelopes.refresh() if first.identity.hex() in text]
    assert envelopes.lacking(vault.id, [first.identity, second.identity]) == [first.identity]


def test_the_newest_generation_counts(vault: Vault, envelopes: Envelopes) -> None:
    batch = vault.data_keys.issue(vault.group, 2)
    envelopes.put(batch.envelope)
    tag = vault.rotate("second")
    newer = vault.data_keys.rewrap(batch.envelope)
    envelopes.put(newer)
    assert envelopes.read(batch.identity, vault.id) == [newer, batch.envelope]
    assert envelopes.read_newest(batch.identity, vault.id) == newer
    assert envelopes.tags(vault.id, [batch.identity]) == [tag]
    keys = [key for key, _ in batch.keys]
    assert envelopes.usable(keys, origin=vault.id, group=vault.group, tags=[tag]) == set(keys)
    assert envelopes.data_keys(vault.id, vault.group, [batch.identity]) == set(keys)
    assert envelopes.data_keys(vault.id, KeyGroupId(bytes(16)), [batch.identity]) == set()
    assert envelopes.usable(keys, origin=vault.id, group=KeyGroupId(bytes(16)), tags=[tag]) == set()
    assert envelopes.usable(keys, origin=vault.id, group=vault.group, tags=[]) == set()


def test_a_generation_with_other_keys_is_refused(vault: Vault, envelopes: Envelopes) -> None:
    one = payload_of(vault.data_keys.issue(vault.group, 2).envelope)
    other = payload_of(vault.data_keys.issue(vault.group, 2).envelope)
    envelopes.put(signed.sign(KEY_ENVELOPE, one, vault.domain.signer))
    for changed in (replace(one, generation=2, keys=other.keys), replace(one, generation=2, group=bytes(16))):
        with pytest.raises(DamagedError):
            envelopes.put(signed.sign(KEY_ENVELOPE, changed, vault.domain.signer))


def test_a_data_key_lies_in_one_envelope(vault: Vault, envelopes: Envelopes) -> None:
    one = payload_of(vault.data_keys.issue(vault.group, 2).envelope)
    envelopes.put(signed.sign(KEY_ENVELOPE, one, vault.domain.signer))
    with pytest.raises(DamagedError):
        envelopes.put(signed.sign(KEY_ENVELOPE, replace(one, envelope=bytes(16)), vault.domain.signer))


def test_what_a_stranger_signed_does_not_count(vault: Vault, envelopes: Envelopes) -> None:
    real = vault.data_keys.issue(vault.group, 2)
    planted = replace(payload_of(real.envelope), domain=OTHER.id)
    data = signed.sign(KEY_ENVELOPE, planted, OTHER.signer)
    with pytest.raises(ForeignError):
        envelopes.put(data)
    vault.pool.store.put(key_of(planted), data)
    (refusal,) = envelopes.refresh()
    assert planted.envelope.hex() in refusal
    envelopes.put(real.envelope)
    assert envelopes.lacking(vault.id, [real.identity]) == []


@pytest.mark.parametrize("name", ["one", "two", "three", "four"])
def test_the_word_of_the_origin_holds_whichever_name_comes_first(vault: Vault, envelopes: Envelopes, name: str) -> None:
    """Of generations that disagree, the lowest one that the origin signed."""
    origin = Domain(name)
    wrapped = payload_of(vault.data_keys.issue(vault.group, 2).envelope)
    of_origin = replace(wrapped, domain=origin.id, origin=origin.id)
    rewrapped = replace(of_origin, domain=vault.id, keys=wrapped.keys[:1])
    for payload, signer in ((of_origin, origin.signer), (rewrapped, vault.domain.signer)):
        vault.pool.store.put(key_of(payload), signed.sign(KEY_ENVELOPE, payload, signer))
    (refusal,) = envelopes.refresh()
    assert key_of(rewrapped) in refusal
    assert envelopes.lacking(origin.id, [EnvelopeId(wrapped.envelope)]) == []


def test_a_file_under_another_name_is_refused(vault: Vault, envelopes: Envelopes) -> None:
    batch = vault.data_keys.issue(vault.group, 1)
    vault.pool.store.put(names.envelope_key(EnvelopeId(bytes(16)), vault.id, 1), batch.envelope)
    assert len(envelopes.refresh()) == 1
    assert envelopes.holding([batch.keys[0][0]], vault.id) == {}


def test_an_envelope_that_is_gone_is_forgotten_with_its_keys(vault: Vault, envelopes: Envelopes) -> None:
    batch = vault.data_keys.issue(vault.group, 1)
    payload = envelopes.put(batch.envelope)
    vault.pool.store.remove(key_of(payload))
    assert envelopes.refresh() == []
    assert envelopes.lacking(vault.id, [batch.identity]) == [batch.identity]
    assert envelopes.holding([batch.keys[0][0]], vault.id) == {}


def test_naming_keys_belong_to_group_and_pool(vault: Vault, envelopes: Envelopes) -> None:
    vault.naming_key()
    (found,) = envelopes.naming(origin=vault.id, group=vault.group, medium=vault.medium)
    assert payload_of(envelopes.read(found, vault.id)[0]).keys[0].purpose == key_envelope.Purpose.NAMES
    assert envelopes.data_keys(vault.id, vault.group, [found]) == set()
    assert envelopes.naming(origin=vault.id, group=KeyGroupId(bytes(16)), medium=vault.medium) == []


def test_many_ids_are_asked_for_in_batches(vault: Vault, envelopes: Envelopes) -> None:
    batch = vault.data_keys.issue(vault.group, 1_024)
    envelopes.put(batch.envelope)
    keys = [key for key, _ in batch.keys]
    unknown = [DataKeyId(number.to_bytes(16, "big")) for number in range(1_500)]
    assert envelopes.holding(keys + unknown, vault.id).keys() == set(keys)
