"""Sessions with primaries on other hosts, kept for the caller in a file that only the caller can read."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from strongroom.cli.api_client import ApiClient
from strongroom.core.errors import AuthenticationError, InputError
from strongroom.core.secret import Secret


class NotLoggedInError(AuthenticationError):
    """There is no session with that primary."""

    code = "cli.not-logged-in"
    default_hint = "run 'strongroom login --server URL --fingerprint F', or name a home with --home"


def folder() -> Path:
    """Give the folder of what this program keeps for the caller."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "strongroom"


def _file() -> Path:
    return folder() / "logins.json"


def _load() -> dict[str, dict[str, str]]:
    try:
        with _file().open("rb") as file:
            document = json.load(file)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise InputError(f"'{_file()}' is damaged", hint="remove it and log in again") from error
    if not isinstance(document, dict) or not all(map(_is_login, document.values())):
        raise InputError(f"'{_file()}' is damaged", hint="remove it and log in again")
    return document


def _is_login(kept: object) -> bool:
    return isinstance(kept, dict) and all(isinstance(kept.get(key), str) for key in ("token", "ca"))


def _store(document: dict[str, dict[str, str]]) -> None:
    path = _file()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent)  # for the caller alone, and for this process alone
    with os.fdopen(descriptor, "w") as file:
        json.dump(document, file)
        file.flush()
        os.fsync(file.fileno())  # or a loss of power could leave an empty file in place of all logins
    Path(temporary).rename(path)


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
    return None if kept is None else kept["ca"]


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
    if url not in document:
        raise NotLoggedInError(f"you are not logged in to '{url}'")
    kept = document[url]
    return ApiClient(url, Secret(kept["token"].encode("ascii")), kept["ca"])
