"""A media server's settings, in the primary's home and in one of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from strongroom.settings.domain import write_settings
from strongroom.settings.errors import NoHomeError, SettingsError
from strongroom.settings.home import Home
from strongroom.settings.media_host import MediaHost, is_joined, write_joined


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_a_joined_home_tells_where_its_primary_is(home: Home) -> None:
    write_joined(home, domain="north", host="2001:db8::2", listen="[::]:8712", primary="backup.north.example:8710")
    assert is_joined(home)
    found = MediaHost.load(home)
    assert (found.domain, found.primary, found.listen) == ("north", "backup.north.example:8710", "[::]:8712")
    assert found.address == "[2001:db8::2]:8712"
    assert home.settings_file.stat().st_mode & 0o777 == 0o600


def test_the_primarys_home_has_its_primary_beside_it(home: Home) -> None:
    write_settings(home, domain="north", host="backup.north.example", listen="0.0.0.0:9000")
    assert not is_joined(home)
    found = MediaHost.load(home)
    assert (found.primary, found.address) == ("backup.north.example:9000", "backup.north.example:9002")


def test_what_is_wrong_with_a_joined_home_is_named(home: Home) -> None:
    with pytest.raises(NoHomeError):
        MediaHost.load(home)
    write_joined(home, domain="north", host="two", listen="0.0.0.0:8712", primary="one:8710")
    home.settings_file.write_text(home.settings_file.read_text() + "\n[upkeep]\ncollect_hours = 1.0\n")
    with pytest.raises(SettingsError, match="upkeep"):
        MediaHost.load(home)
    with pytest.raises(SettingsError):
        write_joined(home, domain="north", host="two", listen="8712", primary="one:8710")
