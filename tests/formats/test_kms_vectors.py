"""Key tags, key files, keystores, service keys and key exports have the outcomes that their vectors state."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from strongroom.core.errors import StrongroomError
from strongroom.core.ids import ImageId, KeyTag
from strongroom.core.secret import Secret
from strongroom.formats import key_export, key_file, key_tag, keystore, passphrase, service_keys
from strongroom.formats.key_tag import KeyProfile
from strongroom.formats.passphrase import normalise
from tests.formats import make_kms_vectors

Case = dict[str, Any]


def load(name: str) -> Any:
    return json.loads((make_kms_vectors.VECTORS / f"{name}.json").read_text(encoding="utf-8"))


def cases(name: str) -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in load(name)["cases"]]


def outcome(read: Callable[[], object]) -> str:
    try:
        read()
    except StrongroomError as error:
        return error.code
    return "ok"


def secret(text: str) -> Secret:
    return Secret(bytes.fromhex(text))


@pytest.fixture(scope="session")
def export_key() -> Callable[[Secret, bytes], Secret]:
    """The one derivation that all exports of the vectors share, done once."""
    phrase, salt = normalise(make_kms_vectors.PHRASE), make_kms_vectors.fixed("export salt", 16)
    derived = passphrase.derive(phrase, salt)

    def derive(given: Secret, with_salt: bytes) -> Secret:
        assert (given, with_salt) == (phrase, salt)
        return derived

    return derive


def test_the_files_are_what_their_generator_gives() -> None:
    expected = make_kms_vectors.files()
    assert {path.name for path in make_kms_vectors.VECTORS.iterdir()} == set(expected)
    for name, text in expected.items():
        assert (make_kms_vectors.VECTORS / name).read_text(encoding="utf-8") == text, name


@pytest.mark.parametrize("case", cases("key-tag"))
def test_key_tag(case: Case) -> None:
    assert outcome(lambda: key_tag.parse(bytes.fromhex(case["data"]))) == case["outcome"]


@pytest.mark.parametrize("key", [pytest.param(key, id=key["name"]) for key in load("key-tag")["keys"]])
def test_derivations_from_a_key_k2(key: Case) -> None:
    made, uuid = secret(key["key"]), bytes.fromhex(key["uuid"])
    tag = key_tag.make(made, uuid, KeyProfile(key["profile"]))
    assert tag.hex() == key["tag"]
    assert key_tag.parse(tag) == key_tag.KeyTagFields(KeyProfile(key["profile"]), uuid, tag[18:26])
    assert key_tag.wrapping_key(made, tag) == secret(key["wrapping_key"])
    assert key_tag.drive_key(made, bytes.fromhex(key["a_kad"])) == secret(key["drive_key"])
    assert key_tag.tape_digest_key(made, ImageId(bytes.fromhex(key["image"]))) == secret(key["tape_digest_key"])
    key_tag.check_key(made, tag)


def test_pass_phrase_and_tag_are_enough_to_make_the_key_k3() -> None:
    vector = load("key-tag")["keys"][1]
    tag = KeyTag(bytes.fromhex(vector["tag"]))
    made = key_tag.from_pass_phrase(normalise(vector["phrase"]), key_tag.parse(tag).uuid)
    assert made == secret(vector["key"])


@pytest.mark.parametrize("case", cases("key-file"))
def test_key_file(case: Case) -> None:
    data = bytes.fromhex(case["data"])
    phrase = normalise(load("key-file")["phrase"])
    assert outcome(lambda: key_file.decode(data, "hmk", phrase)) == case["outcome"]
    if case["outcome"] == "ok":
        file = key_file.decode(data, "hmk", phrase)
        assert (file.id.hex(), file.source, file.key) == (case["id"], case["source"], secret(case["key"]))
        assert key_file.encode(file) == data


def read_keystore(case: Case) -> keystore.OpenedKeystore:
    vector = load("keystore")
    hmk = key_file.decode(bytes.fromhex(vector["hmk"]), "hmk")
    kpk = key_file.decode(bytes.fromhex(vector["kpk"]), "kpk")
    opened = keystore.open_file(bytes.fromhex(case["data"]), hmk, kpk)
    for record in opened.body.keys if "key" in case or "unwrap" in case else []:
        key = keystore.unwrap(record, kpk)
        if "key" in case:
            assert (record.tag.hex(), key) == (case["tag"], secret(case["key"]))
    if opened.complete:
        assert keystore.seal_file(opened.head, opened.body, hmk).hex() == case["data"]
    return opened


def test_a_key_file_without_a_key_asks_for_its_pass_phrase() -> None:
    case = next(case for case in load("key-file")["cases"] if case["name"] == "pass-phrase")
    with pytest.raises(key_file.PassPhraseNeededError):
        key_file.decode(bytes.fromhex(case["data"]), "hmk")


@pytest.mark.parametrize("case", cases("keystore"))
def test_keystore_k5(case: Case) -> None:
    assert outcome(lambda: read_keystore(case)) == case["outcome"]
    if case["outcome"] == "ok":
        assert read_keystore(case).complete == case["complete"]


def test_a_wrong_key_file_is_named_beside_the_right_one_k5() -> None:
    case = next(case for case in load("keystore")["cases"] if case["name"] == "other-hmk")
    with pytest.raises(key_file.WrongKeyFileError) as caught:
        read_keystore(case)
    assert bytes(16).hex() in caught.value.message
    assert make_kms_vectors.KEY_IDS["hmk"].hex() in caught.value.message


def test_the_head_of_a_keystore_is_read_without_a_key() -> None:
    head = keystore.read_head(bytes.fromhex(load("keystore")["cases"][0]["data"]))
    assert (head.generation, head.hmk, head.quiesced) == (7, make_kms_vectors.KEY_IDS["hmk"], 0)


@pytest.mark.parametrize("case", cases("service-keys"))
def test_service_keys(case: Case) -> None:
    data = bytes.fromhex(case["data"])
    service = key_file.decode(bytes.fromhex(load("service-keys")["service"]), "service")
    assert outcome(lambda: service_keys.open_file(data, service)) == case["outcome"]
    if case["outcome"] == "ok":
        opened = service_keys.open_file(data, service)
        assert [(key.name, key.value) for key in opened.keys] == (
            [(case["key_name"], secret(case["value"]))] if "value" in case else []
        )
        assert service_keys.seal_file(opened.head, opened.keys, service) == data


@pytest.mark.parametrize("case", cases("key-export"))
def test_key_export_k5(
    case: Case, export_key: Callable[[Secret, bytes], Secret], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passphrase, "derive", export_key)
    phrase = normalise(load("key-export")["phrase"])
    data = bytes.fromhex(case["data"])
    assert outcome(lambda: key_export.open_file(data, phrase)) == case["outcome"]
    if case["outcome"] == "ok":
        opened = key_export.open_file(data, phrase)
        assert [(key.tag.hex(), key.key) for key in opened.keys] == [(case["tag"], secret(case["key"]))]
        origin = key_export.ExportOrigin(
            opened.head.domain, opened.head.created, opened.head.export, opened.head.salt, opened.head.nonce
        )
        assert key_export.seal_file(origin, opened.groups, opened.keys, phrase) == data
