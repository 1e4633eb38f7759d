"""``strongroom kms group``: keys that share what they protect."""

from __future__ import annotations

import click

from strongroom.cli.session import Session, verb


@click.group()
def group() -> None:
    """Make and list key groups."""


@group.command()
@verb
@click.argument("name")
@click.option("--description", default="", help="What it is for.")
def create(session: Session, name: str, description: str) -> None:
    """Make a key group; it encrypts once it has an active key."""
    session.out.result(session.api.post("/kms/groups", {"name": name, "description": description}))
    session.out.say(f"next: 'strongroom kms key create KEY --group {name} --activate'")


@group.command("list")
@verb
def list_(session: Session) -> None:
    """List key groups, and how many keys each has in which state."""
    columns = [("name", "NAME"), ("group", "GROUP"), ("keys", "KEYS"), ("description", "DESCRIPTION")]
    session.out.table(
        session.api.pages("/kms/groups"), columns, "no key groups; make one with 'strongroom kms group create NAME'"
    )
