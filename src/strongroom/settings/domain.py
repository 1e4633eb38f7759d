"""What an administrator sets: ``HOME/strongroom.toml``, overridden by ``STRONGROOM_*`` in the environment.

An unknown key is an error, so that a slip of the pen does not leave a default in force.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from strongroom.settings.errors import NoHomeError, SettingsError
from strongroom.settings.home import Home

_ADDRESS: Final = re.compile(r"^(?P<host>\[[0-9A-Fa-f:]+\]|[^:\s]+):(?P<port>\d{1,5})$")


def _checked_address(text: str) -> str:
    match = _ADDRESS.match(text)
    if match is None or not 0 < int(match["port"]) < 65_536:
        raise ValueError(f"'{text}' is not ADDRESS:PORT")
    return text


Address = Annotated[str, AfterValidator(_checked_address)]


def split_address(address: str) -> tuple[str, int]:
    """Split ``ADDRESS:PORT``; an IPv6 address loses its brackets."""
    match = _ADDRESS.match(address)
    if match is None:
        raise SettingsError(f"'{address}' is not ADDRESS:PORT")
    return match["host"].strip("[]"), int(match["port"])


class Section(BaseModel):
    """A table of the file; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PrimarySection(Section):
    """The primary: catalog, CA, KMS."""

    listen_peer: Address = Field(description="where hosts of this and other domains connect")
    listen_people: Address = Field(description="where the REST interface is")
    database: str = Field(default="", description="URL of a PostgreSQL database; empty: SQLite in the home")


class MediaSection(Section):
    """The media server of this host."""

    listen: Address = Field(description="where the primary, clients, and media servers of other domains connect")


# Not infinite: that is a number to TOML, and no duration.
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class TimesSection(Section):
    """How often things are looked at."""

    exchange_seconds: Seconds = Field(default=15.0, description="between two exchanges with a trusted primary")
    beat_seconds: Seconds = Field(default=10.0, description="between two beats of a media server")
    retry_seconds: Seconds = Field(default=10.0, description="before the first retry of a job; it doubles")

    @property
    def exchange(self) -> timedelta:
        """The same as a duration."""
        return timedelta(seconds=self.exchange_seconds)

    @property
    def beat(self) -> timedelta:
        """The same as a duration."""
        return timedelta(seconds=self.beat_seconds)

    @property
    def retry(self) -> timedelta:
        """The same as a duration."""
        return timedelta(seconds=self.retry_seconds)


class UpkeepSection(Section):
    """What a domain does to its pools by itself."""

    collect_hours: Annotated[float, Field(gt=0, le=8_760)] = Field(
        default=24.0, description="between two collections of a pool"
    )
    rewrite_percent: Annotated[int, Field(ge=0, le=100)] = Field(
        default=50, description="a container of whose bytes less is needed is rewritten; 0: none is"
    )
    rewrite_gib: Annotated[float, Field(gt=0, le=1_048_576)] = Field(
        default=64.0, description="that one collection copies at most, in GiB"
    )
    rewrite_mib_per_second: Annotated[float, Field(gt=0, le=1_048_576)] = Field(
        default=100.0, description="at which a collection copies at most, in MiB"
    )
    scrub_days: Annotated[float, Field(gt=0, le=3_650)] = Field(
        default=30.0, description="between two scrubs of a pool"
    )
    scrub_mib_per_second: Annotated[float, Field(gt=0, le=1_048_576)] = Field(
        default=50.0, description="at which a scrub reads at most, in MiB"
    )
    expiry_jump_hours: Annotated[float, Field(gt=0, le=8_760)] = Field(
        default=72.0, description="by how much the clock may go forward unseen before expiry stops"
    )
    expiry_share_percent: Annotated[int, Field(ge=1, le=100)] = Field(
        default=30, description="of all copies that may expire in one pass before expiry stops"
    )

    @property
    def collect(self) -> timedelta:
        """Between two collections, as a duration."""
        return timedelta(hours=self.collect_hours)

    @property
    def rewrite_bytes(self) -> int:
        """What one collection may copy, in bytes."""
        return int(self.rewrite_gib * (1 << 30))

    @property
    def rewrite_bytes_per_second(self) -> int:
        """How fast it may copy, in bytes a second."""
        return max(1, int(self.rewrite_mib_per_second * (1 << 20)))

    @property
    def scrub(self) -> timedelta:
        """Between two scrubs, as a duration."""
        return timedelta(days=self.scrub_days)

    @property
    def scrub_bytes_per_second(self) -> int:
        """How fast a scrub may read, in bytes a second."""
        return max(1, int(self.scrub_mib_per_second * (1 << 20)))

    @property
    def expiry_jump(self) -> timedelta:
        """How far the clock may jump, as a duration."""
        return timedelta(hours=self.expiry_jump_hours)


class HostSettings(BaseSettings):
    """What the settings of every host have, and how they are read."""

    model_config = SettingsConfigDict(env_prefix="STRONGROOM_", env_nested_delimiter="__", extra="forbid", frozen=True)

    domain: str = Field(min_length=1, max_length=128, description="name of the domain")
    host: str = Field(min_length=1, max_length=255, description="name by which other hosts reach this one")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library calls it with these names
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take the environment first, then the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @classmethod
    def load(cls, home: Home) -> Self:
        """Read the settings of a home.

        Raises:
            NoHomeError: there is no settings file.
            SettingsError: a setting is unknown, missing or out of range; all of them are named.
        """
        if not home.settings_file.is_file():
            raise NoHomeError(f"'{home.path}' is not the home of a domain")

        class FromFile(cls):  # type: ignore[misc, valid-type]  # the library takes the file's name from a class
            model_config = SettingsConfigDict(toml_file=home.settings_file)

        try:
            loaded: Self = FromFile()
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise SettingsError(f"'{home.settings_file}': {faults}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"'{home.settings_file}' is not TOML: {error}") from error
        except OSError as error:
            raise SettingsError(f"'{home.settings_file}' cannot be read: {error.strerror}") from error
        return loaded


class DomainSettings(HostSettings):
    """All settings of the primary's host, the media server there included."""

    primary: PrimarySection
    media: MediaSection
    times: TimesSection = TimesSection()
    upkeep: UpkeepSection = UpkeepSection()


def check_listen(listen: str) -> tuple[str, int]:
    """Read the address of a new home's peer listener, and its port, behind which two more are used.

    Raises:
        SettingsError: the address cannot be read, or leaves no room for three ports.
    """
    address, port = split_address(listen)
    if not 0 < port < 65_533:
        raise SettingsError(f"'{listen}': the port and the two behind it must be below 65,536")
    return address, port


def write_settings(home: Home, *, domain: str, host: str, listen: str, database: str = "") -> None:
    """Write the settings file of a new home; the people's and the media server's ports follow the peer port.

    It is whole and on stable storage as soon as it has its name: by it a folder is known to be a home.

    Raises:
        SettingsError: the address cannot be read, or leaves no room for three ports.
    """
    address, port = check_listen(listen)
    shown = f"[{address}]" if ":" in address else address
    lines = (
        f"domain = {quoted(domain)}",
        f"host = {quoted(host)}",
        "",
        "[primary]",
        f"listen_peer = {quoted(f'{shown}:{port}')}",
        f"listen_people = {quoted(f'{shown}:{port + 1}')}",
        *([f"database = {quoted(database)}"] if database else []),
        "",
        "[media]",
        f"listen = {quoted(f'{shown}:{port + 2}')}",
        "",
    )
    write_file(home, lines)


def write_file(home: Home, lines: Iterable[str]) -> None:
    """Write a settings file, so that it is whole and on stable storage as soon as it has its name."""
    # Never readable by others, not even for a moment: the URL of the database may hold a password.
    unfinished = home.settings_file.with_name(home.settings_file.name + ".new")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write("\n".join(lines))
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(home.settings_file)
    folder = os.open(home.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def quoted(text: str) -> str:
    """Write a text as TOML."""
    return json.dumps(text, ensure_ascii=False)  # a JSON string is a TOML basic string
