"""``strongroom logout``: end a session that ``login`` began."""

from __future__ import annotations

import click

from strongroom.cli import logins
from strongroom.cli.session import Session, verb


@click.command()
@verb
def command(session: Session) -> None:
    """End the session with --server URL (or with the only primary there is), and forget it."""
    from strongroom.core.errors import AuthenticationError, UnavailableError

    ended = True
    with logins.connect(session.server) as api:
        try:
            api.post("/logout")
        except (AuthenticationError, UnavailableError) as error:
            # What cannot be ended there can still be forgotten here.
            ended = False
            session.out.say(f"the primary did not end the session: {error.message}; it ends by itself")
        logins.forget(api.url)
    session.out.result({"server": api.url, "ended": ended}, f"signed out of {api.url}")
