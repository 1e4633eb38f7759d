"""Settings come from the home's file and the environment, and a slip of the pen is an error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from strongroom.settings.domain import DomainSettings, write_settings
from strongroom.settings.errors import NoHomeError, SettingsError
from strongroom.settings.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    write_settings(home, domain='north "one"', host="localhost", listen="127.0.0.1:8710")
    return home


def test_settings_of_a_new_home_are_read_back(home: Home) -> None:
    settings = DomainSettings.load(home)
    assert settings.domain == 'north "one"'
    assert settings.primary.listen_peer == "127.0.0.1:8710"
    assert settings.primary.listen_people == "127.0.0.1:8711"
    assert settings.media.listen == "127.0.0.1:8712"


def test_the_settings_of_a_new_home_are_on_stable_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them nothing starts, and nothing else says where the domain listens."""
    lengths: list[int] = []
    fsync = os.fsync

    def note_fsync(handle: int) -> None:
        lengths.append(os.fstat(handle).st_size)
        fsync(handle)

    monkeypatch.setattr("os.fsync", note_fsync)
    home = Home(tmp_path)
    write_settings(home, domain="d", host="h", listen="127.0.0.1:1")
    assert lengths[0] == home.settings_file.stat().st_size
    assert len(lengths) == 2, "the folder"


def test_the_environment_wins_over_the_file(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRONGROOM_TIMES__BEAT_SECONDS", "2.5")
    assert DomainSettings.load(home).times.beat.total_seconds() == 2.5


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("colour = 1", "colour"),
        ("[times]\nbeat_second = 1", "times.beat_second"),
        ("[times]\nbeat_seconds = 0", "times.beat_seconds"),
        ("[times]\nbeat_seconds = inf", "times.beat_seconds"),
        ("=", "not TOML"),
    ],
)
def test_a_wrong_setting_is_named(home: Home, line: str, named: str) -> None:
    home.settings_file.write_text(home.settings_file.read_text() + line)
    with pytest.raises(SettingsError, match=named):
        DomainSettings.load(home)


def test_a_file_that_is_no_text_is_a_wrong_setting(home: Home) -> None:
    home.settings_file.write_bytes(b'domain = "n\xf6rd"')
    with pytest.raises(SettingsError, match="not TOML"):
        DomainSettings.load(home)


def test_the_settings_of_a_new_home_are_never_for_others_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not made private afterwards: the URL of the database may hold a password."""
    monkeypatch.setattr(os, "chmod", lambda *_, **__: None)
    before = os.umask(0)
    try:
        write_settings(Home(tmp_path), domain="d", host="h", listen="h:1")
    finally:
        os.umask(before)
    assert Home(tmp_path).settings_file.stat().st_mode & 0o777 == 0o600


def test_a_folder_without_settings_is_not_a_home(tmp_path: Path) -> None:
    with pytest.raises(NoHomeError):
        DomainSettings.load(Home(tmp_path / "nothing"))


@pytest.mark.parametrize("listen", ["8710", "host:", "host:99999", "host:65534"])
def test_an_address_that_cannot_be_served_is_refused(tmp_path: Path, listen: str) -> None:
    with pytest.raises(SettingsError):
        write_settings(Home(tmp_path), domain="d", host="h", listen=listen)
