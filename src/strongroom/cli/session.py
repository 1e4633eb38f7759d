"""What every verb shares: which domain it speaks to, and how it shows its result."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from strongroom.cli import logins
from strongroom.cli.api_client import ApiClient, local_session
from strongroom.cli.output import Output
from strongroom.core.errors import InputError
from strongroom.settings.home import Home

F = TypeVar("F", bound=Callable[..., Any])


class NotConfirmedError(InputError):
    """What cannot be undone was not confirmed."""

    code = "cli.not-confirmed"
    default_hint = "give --yes when you are sure"


class Session:
    """One command's view of the world.

    Args:
        home: the home of a domain on this host, if the caller named one.
        server: the address of a primary that the caller has logged in to, if named.
        out: where results go.
    """

    def __init__(self, home: Path | None, server: str | None, out: Output) -> None:
        self._home = home
        self.server = server
        self.out = out
        self._api: ApiClient | None = None

    @property
    def home(self) -> Home:
        """The home of the domain on this host.

        Raises:
            InputError: none was named.
        """
        if self._home is None:
            raise InputError("no home was named", hint="give --home HOME, or set STRONGROOM_HOME")
        return Home(self._home.absolute())

    def take_remote(self) -> str | None:
        """Take ``--server`` as another domain's peer address, if it is ``HOST:PORT`` and not an URL.

        The session is then with the caller's own primary, which asks the other one.
        """
        if self.server is None or "://" in self.server:
            return None
        remote, self.server = self.server, None
        return remote

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask before what cannot be undone.

        Args:
            question: names what will happen.
            yes: the caller has answered already, with ``--yes``.

        Raises:
            NotConfirmedError: nobody said yes.
        """
        if yes:
            return
        if not sys.stdin.isatty():
            raise NotConfirmedError("this cannot be undone, and there is no terminal to ask on")
        if not click.confirm(question, err=True):
            raise NotConfirmedError("it was not confirmed; nothing was done")

    def renew(self) -> None:
        """Get another session with the next request; one of the Unix socket is short."""
        self.close()
        self._api = None

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._api is not None:
            self._api.close()

    @property
    def is_local(self) -> bool:
        """Whether the session is of a home on this host."""
        return self.server is None and self._home is not None

    @property
    def api(self) -> ApiClient:
        """A session with the primary: of --server, else of this host's home, else of the only login there is."""
        if self._api is None:
            if self.is_local:
                self._api = local_session(self.home.session_socket)
            else:
                self._api = logins.connect(self.server)
        return self._api


def alone(function: F) -> F:
    """Give a command that asks no server ``--json``, and an :class:`Output` as its first argument."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
    @functools.wraps(function)
    def wrapped(as_json: bool, **words: Any) -> Any:
        click.get_current_context().meta["strongroom.json"] = as_json
        return function(Output(as_json=as_json), **words)

    return wrapped  # type: ignore[return-value]  # click's decorators keep the type of what they wrap


def verb(function: F) -> F:
    """Give a command ``--home``, ``--server`` and ``--json``, and a :class:`Session` as its first argument."""

    @click.option("--home", type=click.Path(path_type=Path), envvar="STRONGROOM_HOME", help="Home of the domain.")
    @click.option("--server", metavar="URL", help="A primary that you have logged in to, instead of a home.")
    @functools.wraps(function)
    def wrapped(out: Output, home: Path | None, server: str | None, **words: Any) -> Any:
        context = click.get_current_context()
        typed = context.get_parameter_source("home") is ParameterSource.COMMANDLINE
        if typed and server is not None and "://" in server:
            raise InputError("a command speaks to one domain", hint="give --home HOME or --server URL, not both")
        session = Session(home, server, out)
        context.call_on_close(session.close)
        return function(session, **words)

    return alone(wrapped)  # type: ignore[return-value]  # click's decorators keep the type of what they wrap
