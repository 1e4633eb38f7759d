"""``strongroom audit``: who did what, and the proof that nothing was taken out."""

from __future__ import annotations

import click

from strongroom.cli.exits import DAMAGED, leave
from strongroom.cli.session import Session, verb


@click.group()
def command() -> None:
    """Read and verify the evidence of each use of authority."""


@command.command("list")
@verb
def list_(session: Session) -> None:
    """List the evidence."""
    items = session.api.pages("/audit")
    if session.out.as_json:
        session.out.stream(items)
        return
    columns = [
        ("number", "NUMBER"),
        ("at", "AT"),
        ("actor", "ACTOR"),
        ("action", "ACTION"),
        ("object", "OBJECT"),
        ("outcome", "OUTCOME"),
        ("facts", "FACTS"),
    ]
    session.out.table(items, columns, "no evidence")


@command.command()
@verb
def verify(session: Session) -> None:
    """Check the chain from its first entry to its last; ends with 6 when it does not hold."""
    found = session.api.get("/audit/verify")
    ok = bool(found["ok"])
    text = f"{found['entries']} entries, the chain holds" if ok else f"{found['entries']} entries: THE CHAIN IS BROKEN"
    session.out.result(found, text)
    if not ok:
        session.out.say("somebody has changed or taken out evidence: keep a copy, and compare with an older one")
        leave(DAMAGED)
