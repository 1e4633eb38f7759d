"""``strongroom expiry``: whether images expire by themselves."""

from __future__ import annotations

import click

from strongroom.cli.session import Session, verb
from strongroom.cli.terminal import safe


@click.group()
def command() -> None:
    """Show whether images expire by themselves, and let it go on when it has stopped."""


@command.command()
@verb
def show(session: Session) -> None:
    """Show whether copies expire, by what time, and how many are due."""
    session.out.result(session.api.get("/expiry"))


@command.command()
@verb
@click.option("--pool", help="Let the copies of this pool expire that wait for a person's word after an import.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def confirm(session: Session, pool: str | None, yes: bool) -> None:
    """Let expiry go on that stopped because of a jump of the clock, or of too many copies at once.

    The clock of the primary must be right: what is due by it goes for ever.
    """
    session.confirm("Let every copy expire that is due by the clock?", yes=yes)
    found = session.api.post("/expiry/confirm", {"pool": pool})
    if pool is not None:
        text = f"{found['unblocked']} copies of pool {safe(pool)} may expire"
    elif found["stopped"] is None:
        text = "expiry had not stopped"
    else:
        text = f"expiry goes on; it had stopped because {safe(found['stopped'])}"
    session.out.result(found, text)
