from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from strongroom.core.errors import StrongroomError
from strongroom.formats import key_file, keystore
from strongroom.formats.errors import DamagedError, NewerFormatError
from strongroom.formats.key_file import KeyFile, WrongKeyFileError, WrongKeyFilePassPhraseError
from strongroom.formats.passphrase import normalise
from strongroom.kms import store as store_module
from strongroom.kms.errors import (
    KeyFileExistsError,
    KeyFileExposedError,
    KeyFileMissingError,
    KeystoreBusyError,
    KeystoreExistsError,
    KeystoreMissingError,
    KeystoreWriteError,
    NotQuiescedError,
    QuiescedError,
    WeakPassPhraseError,
)
from strongroom.kms.store import KeystoreFile
from tests.support.kms import KmsHome, PhraseKey


def test_each_change_raises_the_generation_and_is_there_for_another_process(home: KmsHome) -> None:
    elsewhere = home.reopened()
    home.keys.create_group("g")
    assert home.store.head().generation == 2
    assert elsewhere.read().group_named("g") is not None
    home.service(elsewhere).create_group("h")
    assert [group.name for group in home.keys.groups()] == ["g", "h"]
    assert home.store.head().generation == 3


def test_a_change_that_fails_writes_nothing(home: KmsHome) -> None:
    before = home.keystore.read_bytes()
    home_error = RuntimeError("stop")

    def edit(draft: object) -> None:
        raise home_error

    with pytest.raises(RuntimeError):
        home.store.change(edit)
    assert home.keystore.read_bytes() == before


def test_threads_lose_no_change(home: KmsHome) -> None:
    stores = [home.service(home.reopened()) for _ in range(3)]

    def work(number: int) -> None:
        for step in range(8):
            stores[number].create_group(f"{number}-{step}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(home.keys.groups()) == 24


def test_quiescing_is_counted_k4(home: KmsHome) -> None:
    assert home.keys.quiesce() == 1
    assert home.service(home.reopened()).quiesce() == 2
    assert home.keys.unquiesce() == 1
    with pytest.raises(QuiescedError):
        home.keys.create_group("g")
    assert home.keys.unquiesce() == 0
    home.keys.create_group("g")
    with pytest.raises(NotQuiescedError):
        home.keys.unquiesce()


def test_a_quiesced_keystore_still_gives_keys_k4(home: KmsHome) -> None:
    home.keys.create_group("g")
    key = home.keys.create_key("g", "one", active=True)
    home.keys.quiesce()
    assert home.ring.encrypting_key(key.group)[0] == key.tag


def test_a_wrong_hmk_or_kpk_is_a_clear_error_that_names_both_k5(home: KmsHome, other: KmsHome) -> None:
    with pytest.raises(WrongKeyFileError, match=f"{home.hmk.id.hex()}.*{other.hmk.id.hex()}"):
        KeystoreFile(home.keystore, other.hmk, home.kpk, home.entropy)
    with pytest.raises(WrongKeyFileError, match=f"{home.kpk.id.hex()}.*{other.kpk.id.hex()}"):
        KeystoreFile(home.keystore, home.hmk, other.kpk, home.entropy)


def test_no_key_is_readable_in_the_file_k5(home: KmsHome) -> None:
    home.keys.create_group("a group")
    key = home.keys.create_key("a group", "a key", active=True)
    data = home.keystore.read_bytes()
    for plain in (home.ring.decrypting_key(key.tag).reveal(), b"a group", key.tag):
        assert plain not in data


def test_a_keystore_is_never_made_over_another(home: KmsHome) -> None:
    with pytest.raises(KeystoreExistsError):
        KeystoreFile.create(home.keystore, home.domain, home.hmk, home.kpk, home.entropy)


def test_a_missing_keystore_is_its_own_error(home: KmsHome) -> None:
    home.keystore.unlink()
    with pytest.raises(KeystoreMissingError):
        home.reopened()


def test_a_changed_byte_anywhere_is_noticed_k5(home: KmsHome) -> None:
    home.keys.create_group("g")
    good = home.keystore.read_bytes()
    for at in range(0, len(good), 7):
        home.keystore.write_bytes(good[:at] + bytes([good[at] ^ 0x40]) + good[at + 1 :])
        with pytest.raises(StrongroomError):
            home.reopened()


def test_what_a_later_version_left_is_read_and_not_overwritten(home: KmsHome, monkeypatch: pytest.MonkeyPatch) -> None:
    real = keystore.open_file

    def with_more(data: bytes, hmk: KeyFile, kpk: KeyFile) -> keystore.OpenedKeystore:
        opened = real(data, hmk, kpk)
        return keystore.OpenedKeystore(opened.head, opened.body, complete=False)

    monkeypatch.setattr(keystore, "open_file", with_more)
    newer = home.reopened()
    assert newer.read().groups == ()
    with pytest.raises(NewerFormatError):
        home.service(newer).create_group("g")


def test_a_held_lock_ends_in_an_error_not_in_waiting_for_ever(home: KmsHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "LOCK_TRIES", 2)
    second = home.service(home.reopened())

    def edit(draft: object) -> None:
        with pytest.raises(KeystoreBusyError):
            second.create_group("g")

    home.store.change(edit)


def test_a_lock_file_that_cannot_be_opened_is_an_error_of_ours(home: KmsHome) -> None:
    lock = home.keystore.with_name(home.keystore.name + ".lock")
    lock.mkdir()
    with pytest.raises(KeystoreWriteError, match="lock"):
        home.keys.create_group("g")


def test_files_are_for_their_owner_alone(home: KmsHome, tmp_path: Path) -> None:
    home.keys.create_group("g")
    for path in (home.keystore, tmp_path / "a.keys" / "hmk", tmp_path / "a.keys" / "kpk"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "a.keys").stat().st_mode) == 0o700
    assert sorted(path.name for path in (tmp_path / "a.keys").iterdir()) == ["hmk", "kpk"]


def test_a_key_file_that_others_may_read_is_refused(home: KmsHome, tmp_path: Path) -> None:
    path = tmp_path / "a.keys" / "hmk"
    path.chmod(0o640)
    with pytest.raises(KeyFileExposedError, match="0640"):
        home.folder.load("hmk")
    path.chmod(0o600)
    path.parent.chmod(0o755)
    with pytest.raises(KeyFileExposedError, match="0755"):
        home.folder.load("hmk")


def test_key_files_are_read_back_and_never_overwritten(home: KmsHome, tmp_path: Path) -> None:
    assert home.folder.load("hmk") == home.hmk
    with pytest.raises(KeyFileExistsError):
        home.folder.create("hmk", home.domain)
    (tmp_path / "a.keys" / "kpk").unlink()
    with pytest.raises(KeyFileMissingError):
        home.folder.load("kpk")
    (tmp_path / "a.keys" / "hmk").rename(tmp_path / "a.keys" / "kpk")
    with pytest.raises(WrongKeyFileError):
        home.folder.load("kpk")


def test_keystore_and_pass_phrase_are_enough_when_the_key_folder_is_lost_k5(
    home: KmsHome, tmp_path: Path, phrase_key: PhraseKey
) -> None:
    for purpose in ("hmk", "kpk", "service"):
        (tmp_path / "a.keys" / purpose).unlink(missing_ok=True)
    home.keystore.unlink()
    hmk = home.folder.create("hmk", home.domain, phrase_key.phrase)
    kpk = home.folder.create("kpk", home.domain)
    KeystoreFile.create(home.keystore, home.domain, hmk, kpk, home.entropy)
    assert home.folder.load("hmk", phrase_key.phrase) == hmk
    with pytest.raises(WrongKeyFilePassPhraseError):
        home.folder.load("hmk", normalise("not this one"))
    assert hmk.key.reveal() not in (tmp_path / "a.keys" / "hmk").read_bytes()
    (tmp_path / "a.keys" / "hmk").unlink()

    head = keystore.read_head(home.keystore.read_bytes())
    again = home.folder.restore("hmk", head.hmk, home.domain, phrase_key.phrase)
    KeystoreFile(home.keystore, again, kpk, home.entropy)
    home.folder.store(again)
    wrong = key_file.KeyFile("hmk", head.hmk, home.domain, "passphrase", kpk.key)
    with pytest.raises(DamagedError):
        KeystoreFile(home.keystore, wrong, kpk, home.entropy)


def test_a_weak_pass_phrase_makes_no_key_file(home: KmsHome) -> None:
    with pytest.raises(WeakPassPhraseError):
        home.folder.create("service", home.domain, normalise("hunter2"))
