"""``strongroom whoami``: who the primary thinks you are."""

from __future__ import annotations

import click

from strongroom.cli.session import Session, verb


@click.command()
@verb
def command(session: Session) -> None:
    """Show your account, its roles, and what they permit."""
    session.out.result(session.api.get("/whoami"))
