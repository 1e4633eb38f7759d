"""What can be wrong with settings."""

from __future__ import annotations

from strongroom.core.errors import InputError


class SettingsError(InputError):
    """A setting is unknown, missing, or out of its range."""

    code = "settings.wrong"
    default_hint = "see docs/reference/settings.md, or run 'strongroom init' for a new home"


class NoHomeError(InputError):
    """The folder is not the home of a domain."""

    code = "settings.no-home"
    default_hint = "make one with 'strongroom init HOME --domain NAME'"
