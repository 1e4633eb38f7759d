"""Sessions with primaries on other hosts, kept for the caller in a file that only the caller can read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from strongroom.cli.api_client import ApiClient
from strongroom.core.errors import AuthenticationError, InputError
from strongroom.core.secret import Secret


class NotLoggedInError(AuthenticationError):
    """There is no session with that primary."""

    code = "cli.not-logged-in"
    default_hint = "run 'strongroom login --server URL --fingerprint F', or name a home with --home"


def _file() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "strongroom" / "logins.json"


def _load() -> dict[str, Any]:
    try:
        with _file().open("rb") as file:
            document = json.load(file)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise InputError(f"'{_file()}' cannot be read", hint="remove it and log in again") from error
    return document if isinstance(document, dict) else {}


def _store(document: dict[str, Any]) -> None:
    path = _file()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(document, file)
    temporary.rename(path)


def remember(url: str, token: Secret, ca_pem: str, user: str) -> None:
    """Keep a session."""
    document = _load()
    document[url] = {"token": token.reveal().decode("ascii"), "ca": ca_pem, "user": user}
    _store(document)


def forget(url: str) -> None:
    """Drop a session, if there is one."""
    document = _load()
    if document.pop(url, None) is not None:
        _store(document)


def root_of(url: str) -> str | None:
    """Give the root with which a kept session was made."""
    kept = _load().get(url)
    return str(kept["ca"]) if isinstance(kept, dict) and "ca" in kept else None


def connect(url: str | None) -> ApiClient:
    """Use a session that was kept; without a URL, the only one there is.

    Raises:
        NotLoggedInError: there is none, or more than one and none was named.
    """
    document = _load()
    if url is None:
        if len(document) != 1:
            raise NotLoggedInError("no primary was named" if document else "you are not logged in to any primary")
        url = next(iter(document))
    kept = document.get(url)
    if not isinstance(kept, dict):
        raise NotLoggedInError(f"you are not logged in to '{url}'")
    return ApiClient(url, Secret(str(kept["token"]).encode("ascii")), str(kept["ca"]))
