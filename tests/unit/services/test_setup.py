"""``init`` makes a whole domain, or nothing (T1, K5)."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from strongroom.api.errors import KeystoreLockedError
from strongroom.core.clock import ManualClock
from strongroom.core.secret import Secret
from strongroom.formats import root_key
from strongroom.formats.passphrase import normalise
from strongroom.kms.errors import WeakPassPhraseError
from strongroom.pki.fingerprint import fingerprint_of
from strongroom.services.primary import service_keys, setup
from strongroom.services.primary.opening import open_primary
from strongroom.services.primary.service_keys import ServiceKeyMissingError, ServiceKeys
from strongroom.services.primary.setup import DatabaseInUseError, HomeExistsError, HomeNameError, NewDomain
from strongroom.settings.domain import DomainSettings
from strongroom.settings.errors import NoHomeError, SettingsError
from strongroom.settings.home import Home
from strongroom.settings.system import SystemClock, SystemEntropy
from tests.support.databases import empty_database

CLOCK, ENTROPY = SystemClock(), SystemEntropy()


def init(home: Home, *, name: str = "north", listen: str = "127.0.0.1:9000", phrase: Secret | None = None) -> NewDomain:
    return setup.init(
        home, name=name, host="localhost", listen=listen, root_phrase=phrase, clock=CLOCK, entropy=ENTROPY
    )


def test_a_new_domain_opens_and_is_what_init_said(tmp_path: Path) -> None:
    home = Home(tmp_path / "h")
    made = init(home)
    primary = open_primary(home, DomainSettings.load(home), CLOCK, ENTROPY)
    assert primary.domain == made.domain
    assert fingerprint_of(primary.root) == made.fingerprint
    assert primary.kms.management.groups() == []
    primary.engine.dispose()


def test_the_root_key_opens_with_the_phrase_that_was_shown_and_makes_the_domain(tmp_path: Path) -> None:
    made = init(Home(tmp_path / "h"))
    assert made.root_phrase is not None
    data = made.root_key.read_bytes()
    phrase = normalise(made.root_phrase.reveal().decode())
    assert len(root_key.open_sealed(data, phrase)) == 32
    assert root_key.read_head(data).domain == made.domain


def test_nothing_of_a_home_is_readable_by_others(tmp_path: Path) -> None:
    home = Home(tmp_path / "h")
    init(home)
    paths = [home.path, home.keys, home.root_key, *home.path.rglob("*"), *home.keys.rglob("*")]
    private = {path: stat.S_IMODE(path.stat().st_mode) & 0o077 for path in paths if path.parent != home.path.parent}
    inside = {path for path, mode in private.items() if mode and path.parent not in (home.path / "pki",)}
    assert {stat.S_IMODE(home.path.stat().st_mode), stat.S_IMODE(home.keys.stat().st_mode)} == {0o700}
    assert stat.S_IMODE(home.root_key.stat().st_mode) == 0o600
    assert not {path for path in inside if path.is_relative_to(home.keys)}


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ({"name": ""}, HomeNameError),
        ({"name": "x" * 129}, HomeNameError),
        ({"listen": "nowhere"}, SettingsError),
        ({"phrase": Secret(b"password")}, WeakPassPhraseError),
    ],
)
def test_a_refused_init_leaves_nothing(tmp_path: Path, words: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        init(Home(tmp_path / "h"), **words)  # type: ignore[arg-type]  # one wrong word at a time
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_init_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_off(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(setup, "_fill_database", break_off)
    with pytest.raises(KeyboardInterrupt):
        init(Home(tmp_path / "h"))
    assert list(tmp_path.iterdir()) == []


def test_a_home_is_never_made_over_another(tmp_path: Path) -> None:
    home = Home(tmp_path / "h")
    made = init(home)
    with pytest.raises(HomeExistsError):
        init(home, name="second")
    assert home.root_key.read_bytes()
    assert open_primary(home, DomainSettings.load(home), CLOCK, ENTROPY).domain == made.domain


def test_with_the_wrong_hmk_the_keystore_is_locked_and_the_rest_goes_on(tmp_path: Path) -> None:
    """K5: archive and CA keys are opened apart from the keystore."""
    home, other = Home(tmp_path / "h"), Home(tmp_path / "o")
    init(home)
    init(other)
    (home.keys / "hmk").write_bytes((other.keys / "hmk").read_bytes())
    primary = open_primary(home, DomainSettings.load(home), CLOCK, ENTROPY)
    with pytest.raises(KeystoreLockedError, match="keystore cannot be opened"):
        primary.kms  # noqa: B018 - asking is the test
    assert primary.known_tags() is None
    assert primary.signer.sign(b"x")
    primary.engine.dispose()


def test_service_keys_are_kept_over_a_restart_and_dropped_for_good(tmp_path: Path) -> None:
    home = Home(tmp_path / "h")
    init(home)
    primary = open_primary(home, DomainSettings.load(home), CLOCK, ENTROPY)
    primary.keys.keep("storage-x", Secret(b"s" * 32))
    again = ServiceKeys(home.service_keys, primary.keys._service, ManualClock(), ENTROPY)
    assert again.get("storage-x") == Secret(b"s" * 32)
    assert again.get(service_keys.ARCHIVE) == primary.keys.get(service_keys.ARCHIVE)
    again.drop("storage-x")
    with pytest.raises(ServiceKeyMissingError):
        ServiceKeys(home.service_keys, primary.keys._service, ManualClock(), ENTROPY).get("storage-x")
    assert b"s" * 32 not in home.service_keys.read_bytes()
    primary.engine.dispose()


def test_a_domain_on_postgresql_keeps_nothing_in_sqlite(tmp_path: Path, postgresql_url: str) -> None:
    """X1."""
    home = Home(tmp_path / "h")
    with empty_database("postgresql", tmp_path, postgresql_url) as url:
        made = setup.init(
            home,
            name="north",
            host="localhost",
            listen="127.0.0.1:9000",
            root_phrase=None,
            database=url,
            clock=CLOCK,
            entropy=ENTROPY,
        )
        primary = open_primary(home, DomainSettings.load(home), CLOCK, ENTROPY)
        assert primary.domain == made.domain
        assert not home.catalog.exists()
        primary.engine.dispose()


def test_a_database_that_holds_a_domain_is_not_taken_for_another(tmp_path: Path) -> None:
    def make(name: str) -> Home:
        home = Home(tmp_path / name)
        setup.init(
            home,
            name=name,
            host="localhost",
            listen="127.0.0.1:9000",
            root_phrase=None,
            database=f"sqlite:///{tmp_path / 'shared'}",
            clock=CLOCK,
            entropy=ENTROPY,
        )
        return home

    north = make("north")
    with pytest.raises(DatabaseInUseError):
        make("south")
    assert not (tmp_path / "south").exists()
    open_primary(north, DomainSettings.load(north), CLOCK, ENTROPY).engine.dispose()


def test_what_a_loss_of_power_leaves_of_an_init_is_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing takes it for a domain: the settings come last."""
    home = Home(tmp_path / "h")

    def lose_power(*_: object, **__: object) -> None:
        assert home.catalog.exists()
        raise SystemExit

    monkeypatch.setattr(setup, "write_settings", lose_power)
    monkeypatch.setattr(setup, "_remove", lambda _: None)
    with pytest.raises(SystemExit):
        init(home)
    with pytest.raises(NoHomeError):
        DomainSettings.load(home)
