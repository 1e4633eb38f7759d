"""What a media server must know before it can ask: its primary, and where it listens.

The first media server of a domain lies in the primary's home, and has its settings. Another one has a home of its own,
with a settings file of its own: ``[primary] address`` instead of where a primary listens.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import Self

from pydantic import Field

from strongroom.settings.domain import (
    Address,
    DomainSettings,
    HostSettings,
    MediaSection,
    Section,
    TimesSection,
    quoted,
    split_address,
    write_file,
)
from strongroom.settings.errors import SettingsError
from strongroom.settings.home import Home


class PrimaryElsewhere(Section):
    """The primary, on another host."""

    address: Address = Field(description="where the primary's peer listener is reached")


class JoinedSettings(HostSettings):
    """All settings of a host that is a media server and nothing else."""

    primary: PrimaryElsewhere
    media: MediaSection
    times: TimesSection = TimesSection()


@dataclass(frozen=True)
class MediaHost:
    """Settings of a media server, in whichever home it lies.

    Attributes:
        domain: name of the domain.
        primary: ``HOST:PORT`` of the primary's peer listener.
        listen: ``ADDRESS:PORT`` of its own listener.
        address: ``HOST:PORT`` by which others reach that.
        times: how often things are looked at.
    """

    domain: str
    primary: str
    listen: str
    address: str
    times: TimesSection

    @classmethod
    def load(cls, home: Home) -> Self:
        """Read the settings of a home.

        Raises:
            NoHomeError: there is no settings file.
            SettingsError: a setting is unknown, missing or out of range; all of them are named.
        """
        if is_joined(home):
            joined = JoinedSettings.load(home)
            return cls._of(joined, joined.media, joined.primary.address, joined.times)
        whole = DomainSettings.load(home)
        _, port = split_address(whole.primary.listen_peer)
        return cls._of(whole, whole.media, _shown(whole.host, port), whole.times)

    @classmethod
    def _of(cls, settings: HostSettings, media: MediaSection, primary: str, times: TimesSection) -> Self:
        _, port = split_address(media.listen)
        return cls(settings.domain, primary, media.listen, _shown(settings.host, port), times)


def is_joined(home: Home) -> bool:
    """Tell whether a home is of a media server whose primary is elsewhere; false for one that cannot be read."""
    try:
        read = tomllib.loads(home.settings_file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return False  # whoever loads it says what is wrong
    primary = read.get("primary")
    return isinstance(primary, dict) and "address" in primary


def write_joined(home: Home, *, domain: str, host: str, listen: str, primary: str) -> None:
    """Write the settings file of a media server's own home; by it a folder is known to be a home.

    Raises:
        SettingsError: an address cannot be read.
    """
    for address in (listen, primary):
        split_address(address)
    write_file(
        home,
        (
            f"domain = {quoted(domain)}",
            f"host = {quoted(host)}",
            "",
            "[primary]",
            f"address = {quoted(primary)}",
            "",
            "[media]",
            f"listen = {quoted(listen)}",
            "",
        ),
    )


def check_joined(listen: str) -> None:
    """Look at an address before anything is made.

    Raises:
        SettingsError: it is not ``ADDRESS:PORT``.
    """
    _, port = split_address(listen)
    if not 0 < port < 65_536:
        raise SettingsError(f"'{listen}' has no port that can be listened at")


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
