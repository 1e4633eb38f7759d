from __future__ import annotations

import shlex
import threading
from collections.abc import Callable

import pytest

from strongroom.core.ids import KeyTag
from strongroom.core.secret import Secret
from strongroom.formats import key_tag
from strongroom.formats.errors import DamagedError
from strongroom.formats.key_tag import KeyProfile
from strongroom.formats.passphrase import normalise
from strongroom.kms import recovery
from strongroom.kms import store as store_module
from strongroom.kms.errors import (
    BadNameError,
    GroupNotFoundError,
    KeyExistsError,
    KeyNeededError,
    NameTakenError,
    NotAPassPhraseKeyError,
    TransitionError,
    UnknownKeyError,
    WeakPassPhraseError,
    WrongPassPhraseError,
)
from strongroom.kms.service import KeyManagement
from strongroom.kms.states import KeyState
from tests.support.kms import KmsHome, PhraseKey

WRONG = normalise("velvet orbit candle raft mumble cactuses")


def test_a_key_is_created_prelive_or_active_k1(home: KmsHome) -> None:
    home.keys.create_group("g")
    assert home.keys.create_key("g", "one").state is KeyState.PRELIVE
    assert home.keys.create_key("g", "two", active=True).state is KeyState.ACTIVE


def test_activating_a_key_makes_the_former_active_one_inactive_k1(home: KmsHome) -> None:
    home.keys.create_group("g")
    home.keys.create_group("h")
    elsewhere = home.keys.create_key("h", "x", active=True)
    first = home.keys.create_key("g", "one", active=True)
    second = home.keys.create_key("g", "two")
    home.keys.activate(second.tag)
    assert home.keys.key(first.tag).state is KeyState.INACTIVE
    third = home.keys.create_key("g", "three", active=True)
    assert home.keys.key(second.tag).state is KeyState.INACTIVE
    assert home.keys.group("g").active == third.tag
    assert home.keys.key(elsewhere.tag).state is KeyState.ACTIVE


def test_groups_count_their_keys_by_state(home: KmsHome) -> None:
    home.keys.create_group("g", "for tests")
    home.keys.create_key("g", "one")
    home.keys.create_key("g", "two", active=True)
    group = home.keys.group("g")
    assert (group.description, group.counts[KeyState.PRELIVE], group.counts[KeyState.ACTIVE]) == ("for tests", 1, 1)
    assert group.counts[KeyState.TERMINATED] == 0


def test_a_key_is_shown_with_the_names_of_the_standards_k1(home: KmsHome) -> None:
    home.keys.create_group("g")
    key = home.keys.create_key("g", "one", active=True)
    assert (key.standard.nist, key.standard.kmip) == ("active", "Active")
    home.keys.deactivate(key.tag)
    assert home.keys.key(key.tag).standard.nist == "deactivated"


@pytest.mark.parametrize("name", ["", " x", "x ", "a\nb", "n" * 129, "\u200b", "\u00e4" * 65, "\ud800"])
def test_what_is_no_name_is_refused(home: KmsHome, name: str) -> None:
    with pytest.raises(BadNameError):
        home.keys.create_group(name)


def test_names_are_unique_where_they_must_be(home: KmsHome) -> None:
    home.keys.create_group("g")
    home.keys.create_group("h")
    home.keys.create_key("g", "one")
    home.keys.create_key("h", "one")
    with pytest.raises(NameTakenError):
        home.keys.create_group("g")
    with pytest.raises(NameTakenError):
        home.keys.create_key("g", "one")
    with pytest.raises(GroupNotFoundError):
        home.keys.create_key("nowhere", "one")


def test_destruction_needs_the_right_state_and_no_image_k4(home: KmsHome) -> None:
    home.keys.create_group("g")
    key = home.keys.create_key("g", "one", active=True)
    with pytest.raises(TransitionError):
        home.keys.destroy(key.tag)
    for step in (home.keys.deactivate, home.keys.deprecate, home.keys.terminate):
        step(key.tag)
    home.needed.images[key.tag] = 3
    with pytest.raises(KeyNeededError, match="3 images"):
        home.keys.destroy(key.tag)
    assert home.keys.key(key.tag).state is KeyState.TERMINATED
    home.keys.destroy(key.tag, although_needed=True)
    with pytest.raises(UnknownKeyError):
        home.keys.key(key.tag)


def test_a_pass_phrase_key_is_made_again_from_tag_and_phrase_elsewhere_k3(home: KmsHome, other: KmsHome) -> None:
    home.keys.create_group("g")
    made = home.keys.create_pass_phrase_key("g", "one", active=True)
    recovered = other.keys.recover(made.key.tag, made.phrase, group="other name", name="other")
    assert (recovered.state, recovered.recovered) == (KeyState.INACTIVE, True)
    assert other.ring.decrypting_key(made.key.tag) == home.ring.decrypting_key(made.key.tag)
    phrase = made.phrase.reveal().decode()
    assert len(phrase.split(" ")) == 6
    assert phrase not in made.sheet
    assert made.key.tag.hex() in made.sheet.replace(" ", "").replace("\n", "")


def test_a_wrong_pass_phrase_is_refused_at_once_and_nothing_stored_k3(home: KmsHome, phrase_key: PhraseKey) -> None:
    before = home.keystore.read_bytes()
    with pytest.raises(WrongPassPhraseError, match=phrase_key.tag.hex()):
        home.keys.recover(phrase_key.tag, WRONG, group="g", name="one")
    assert home.keystore.read_bytes() == before


def test_recovering_a_key_that_is_here_is_a_clear_error(
    home: KmsHome, phrase_key: PhraseKey, known_derivation: None
) -> None:
    home.keys.recover(phrase_key.tag, phrase_key.phrase, group="g", name="one")
    with pytest.raises(KeyExistsError):
        home.keys.recover(phrase_key.tag, phrase_key.phrase, group="g", name="two")


def test_a_random_key_cannot_be_recovered(home: KmsHome) -> None:
    tag = key_tag.make(Secret(bytes(32)), bytes(16), KeyProfile.RANDOM)
    with pytest.raises(NotAPassPhraseKeyError):
        home.keys.recover(tag, WRONG, group="g", name="one")


def test_a_mistyped_tag_costs_no_derivation(home: KmsHome, phrase_key: PhraseKey) -> None:
    tag = KeyTag(phrase_key.tag[:-1] + bytes([phrase_key.tag[-1] ^ 1]))
    with pytest.raises(DamagedError):
        home.keys.recover(tag, phrase_key.phrase, group="g", name="one")


def test_a_drill_tries_the_phrase_and_stores_nothing_k9(
    home: KmsHome, phrase_key: PhraseKey, known_derivation: None
) -> None:
    before = home.keystore.read_bytes()
    home.keys.check(phrase_key.tag, phrase_key.phrase)
    with pytest.raises(WrongPassPhraseError):
        home.keys.check(phrase_key.tag, WRONG)
    assert home.keystore.read_bytes() == before


@pytest.mark.parametrize("phrase", ["Sommer2024!", "correct horse battery staple", "g one g one g one", "aaaa " * 12])
def test_a_weak_phrase_is_refused_with_the_reason(home: KmsHome, phrase: str) -> None:
    home.keys.create_group("g")
    with pytest.raises(WeakPassPhraseError, match=r"guessed in about 2\^\d+ tries"):
        home.keys.create_pass_phrase_key("g", "one", normalise(phrase))
    assert home.keys.keys() == []


@pytest.fixture
def known_derivation(phrase_key: PhraseKey, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one derivation that tests need is taken from the session; any other phrase gives another key."""
    uuid = key_tag.parse(phrase_key.tag).uuid

    def derive(phrase: Secret, given: bytes) -> Secret:
        return phrase_key.key if (phrase, given) == (phrase_key.phrase, uuid) else Secret(bytes(32))

    monkeypatch.setattr(key_tag, "from_pass_phrase", derive)


def test_listeners_hear_of_each_key_that_becomes_usable(
    home: KmsHome, phrase_key: PhraseKey, known_derivation: None
) -> None:
    heard: list[KeyTag] = []
    home.keys.on_usable(heard.append)
    home.keys.create_group("g")
    prelive = home.keys.create_key("g", "one")
    assert heard == []
    home.keys.activate(prelive.tag)
    assert heard == [prelive.tag]
    home.keys.recover(phrase_key.tag, phrase_key.phrase, group="g", name="two")
    assert heard[1:] == [phrase_key.tag]
    home.keys.deactivate(prelive.tag)
    home.keys.activate(phrase_key.tag)
    assert len(heard) == 2
    home.keys.deprecate(prelive.tag)
    home.keys.deactivate(prelive.tag)
    assert heard[2:] == [prelive.tag]


def test_listeners_hear_of_what_another_process_did(home: KmsHome) -> None:
    heard: list[KeyTag] = []
    home.keys.on_usable(heard.append)
    elsewhere = home.service(home.reopened())
    elsewhere.create_group("g")
    key = elsewhere.create_key("g", "one", active=True)
    assert heard == []
    home.keys.refresh()
    assert heard == [key.tag]


def test_listeners_are_called_without_a_lock(home: KmsHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "LOCK_TRIES", 2)
    seen: list[str] = []

    def listen(tag: KeyTag) -> None:
        home.service(home.reopened()).create_group("made by a listener")
        thread = threading.Thread(target=lambda: seen.extend(group.name for group in home.keys.groups()))
        thread.start()
        thread.join(timeout=10)

    home.keys.create_group("g")
    home.keys.on_usable(listen)
    home.keys.create_key("g", "one", active=True)
    assert seen == ["g", "made by a listener"]


def test_the_sheet_names_what_recovery_needs_and_no_secret(home: KmsHome, phrase_key: PhraseKey) -> None:
    home.keys.create_group("ENCR_pool")
    view = home.keys.create_key("ENCR_pool", "2026")
    sheet = recovery.sheet(view, home.domain, home.clock)
    for fact in ("ENCR_pool", "2026", f"kms key recover {view.tag.hex()}", home.domain.hex()):
        assert fact in sheet


VERBS: list[Callable[[KeyManagement, KeyTag], object]] = [
    KeyManagement.activate,
    KeyManagement.deactivate,
    KeyManagement.deprecate,
    KeyManagement.terminate,
    KeyManagement.destroy,
]


@pytest.mark.parametrize("verb", VERBS)
def test_an_unknown_key_is_not_found(home: KmsHome, phrase_key: PhraseKey, verb: Callable[..., object]) -> None:
    with pytest.raises(UnknownKeyError, match=phrase_key.tag.hex()):
        verb(home.keys, phrase_key.tag)


def test_the_command_on_the_sheet_is_one_that_a_shell_takes(home: KmsHome) -> None:
    home.keys.create_group("o'brien's; group")
    made = home.keys.create_pass_phrase_key("o'brien's; group", "first key")
    command = next(line for line in made.sheet.splitlines() if "key recover" in line).split(maxsplit=1)[1]
    assert shlex.split(command)[-4:] == ["--group", "o'brien's; group", "--name", "first key"]
