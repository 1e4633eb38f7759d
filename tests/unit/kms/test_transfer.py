from __future__ import annotations

from dataclasses import replace

import pytest

from strongroom.core.ids import KeyTag
from strongroom.core.secret import Secret
from strongroom.formats import key_export, passphrase
from strongroom.formats.errors import DamagedError
from strongroom.formats.key_export import WrongExportPassPhraseError
from strongroom.formats.key_file import WrongKeyFileError
from strongroom.formats.passphrase import normalise
from strongroom.kms.errors import GroupNotFoundError, KeyConflictError, QuiescedError, WeakPassPhraseError
from strongroom.kms.states import KeyState
from strongroom.kms.transfer import Importer, ImportReport, offer_of_keystore
from tests.support.kms import KmsHome, PhraseKey

OTHER_PHRASE = normalise("another phrase for the drawer downstairs")


@pytest.fixture
def phrase(phrase_key: PhraseKey, monkeypatch: pytest.MonkeyPatch) -> Secret:
    """A phrase whose derivation is cheap: what is tested here is what is done with its result."""
    monkeypatch.setattr(passphrase, "derive", lambda given, salt: Secret((given.reveal() + salt)[-32:]))
    return phrase_key.phrase


def fill(home: KmsHome, group: str = "g") -> dict[KeyState, KeyTag]:
    """Make a group with one key in each state."""
    home.keys.create_group(group)
    steps = (home.keys.activate, home.keys.deactivate, home.keys.deprecate, home.keys.terminate)
    tags = {}
    for number, state in reversed(list(enumerate(KeyState))):
        tags[state] = home.keys.create_key(group, state.value).tag
        for step in steps[:number]:
            step(tags[state])
    return tags


ENTRY = {
    KeyState.PRELIVE: KeyState.INACTIVE,
    KeyState.ACTIVE: KeyState.INACTIVE,
    KeyState.INACTIVE: KeyState.INACTIVE,
    KeyState.DEPRECATED: KeyState.DEPRECATED,
    KeyState.TERMINATED: KeyState.TERMINATED,
}


def carry(home: KmsHome, other: KmsHome, *, preview: bool = False) -> ImportReport:
    return other.keys.import_keystore(home.keystore.read_bytes(), home.hmk, home.kpk, preview=preview)


def test_a_carried_keystore_is_used_elsewhere_without_recreating_a_key_k4(home: KmsHome, other: KmsHome) -> None:
    tags = fill(home)
    home.keys.quiesce()
    heard: list[KeyTag] = []
    other.keys.on_usable(heard.append)
    report = carry(home, other)
    assert dict(report.imported) == {tag: ENTRY[state] for state, tag in tags.items()}
    for state, tag in tags.items():
        assert other.keys.key(tag).state is ENTRY[state]
        assert other.keys.key(tag).recovered
    usable = {tags[KeyState.PRELIVE], tags[KeyState.ACTIVE], tags[KeyState.INACTIVE]}
    assert set(heard) == usable
    for tag in usable - {tags[KeyState.PRELIVE]}:
        assert other.ring.decrypting_key(tag) == home.ring.decrypting_key(tag)
    assert other.keys.group("g").active is None
    other.keys.create_group("still writable")


def test_a_keystore_file_alone_opens_nothing_k5(home: KmsHome, other: KmsHome) -> None:
    fill(home)
    with pytest.raises(WrongKeyFileError, match=home.hmk.id.hex()):
        other.keys.import_keystore(home.keystore.read_bytes(), other.hmk, other.kpk)


def test_importing_again_skips_what_is_there_and_keeps_its_state(home: KmsHome, other: KmsHome) -> None:
    tags = fill(home)
    carry(home, other)
    other.keys.activate(tags[KeyState.INACTIVE])
    before = len(other.keys.groups())
    report = carry(home, other)
    assert (report.imported, set(report.skipped), report.groups) == ((), set(tags.values()), ())
    assert other.keys.key(tags[KeyState.INACTIVE]).state is KeyState.ACTIVE
    assert len(other.keys.groups()) == before


def test_a_preview_tells_all_and_stores_nothing_k5(home: KmsHome, other: KmsHome) -> None:
    fill(home)
    before = other.keystore.read_bytes()
    previewed = carry(home, other, preview=True)
    assert other.keystore.read_bytes() == before
    assert carry(home, other) == previewed


def test_a_group_whose_name_is_taken_comes_under_another_name(home: KmsHome, other: KmsHome) -> None:
    fill(home)
    other.keys.create_group("g")
    ((_, name),) = carry(home, other).groups
    assert name == f"g ({home.domain.hex()[:8]})"
    assert len(other.keys.keys(name)) == 5
    assert other.keys.keys("g") == []


def test_one_tag_with_two_keys_is_refused_and_nothing_imported(home: KmsHome, other: KmsHome) -> None:
    tags = fill(home)
    carry(home, other)
    new = home.keys.create_key("g", "new").tag
    offer = offer_of_keystore(home.keystore.read_bytes(), home.hmk, home.kpk)
    forged = [replace(key, key=Secret(bytes(32))) if key.tag != new else key for key in offer.keys]
    importer = Importer(other.store.protect, other.store.reveal, 0)
    before = other.keystore.read_bytes()
    with pytest.raises(KeyConflictError, match="|".join(tag.hex() for tag in tags.values())):
        other.store.change(lambda draft: importer.bring(replace(offer, keys=tuple(forged[::-1])), draft))
    assert other.keystore.read_bytes() == before


def test_chosen_groups_travel_under_a_pass_phrase_k5(home: KmsHome, other: KmsHome, phrase: Secret) -> None:
    tags = fill(home, "chosen")
    home.keys.create_group("kept")
    home.keys.create_key("kept", "k")
    data = home.keys.export_groups(["chosen"], phrase)
    report = other.keys.import_export(data, phrase)
    assert dict(report.imported) == {tag: ENTRY[state] for state, tag in tags.items()}
    assert [group.name for group in other.keys.groups()] == ["chosen"]
    active = tags[KeyState.ACTIVE]
    key = home.ring.decrypting_key(active)
    assert other.ring.decrypting_key(active) == key
    assert key.reveal() not in data
    assert key_export.read_head(data).domain == home.domain


def test_an_export_opens_with_its_pass_phrase_only_k5(home: KmsHome, other: KmsHome, phrase: Secret) -> None:
    fill(home)
    data = home.keys.export_groups(["g"], phrase)
    with pytest.raises(WrongExportPassPhraseError):
        other.keys.import_export(data, OTHER_PHRASE)
    with pytest.raises(DamagedError):
        other.keys.import_export(data[:-1], phrase)
    assert other.keys.keys() == []


def test_an_export_is_not_made_under_a_weak_phrase(home: KmsHome) -> None:
    fill(home)
    with pytest.raises(WeakPassPhraseError):
        home.keys.export_groups(["g"], normalise("backup2026"))
    with pytest.raises(GroupNotFoundError):
        home.keys.export_groups(["nowhere"], OTHER_PHRASE)


def test_a_quiesced_keystore_takes_no_import(home: KmsHome, other: KmsHome) -> None:
    fill(home)
    other.keys.quiesce()
    with pytest.raises(QuiescedError):
        carry(home, other)


def test_the_longest_names_fit_in_bytes_with_a_mark_too(home: KmsHome, other: KmsHome) -> None:
    long = "ä" * 64
    home.keys.create_group(long)
    home.keys.create_key(long, long)
    other.keys.create_group(long)
    ((_, name),) = carry(home, other).groups
    assert name.startswith("ää")
    assert name.endswith(f"({home.domain.hex()[:8]})")
    assert [key.name for key in other.service(other.reopened()).keys(name)] == [long]
