"""``strongroom user``: accounts of people."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from strongroom.cli.secret_input import as_text, read_secret, secret_file
from strongroom.cli.session import Session, verb

ROLES: Final = ("administrator", "security", "operator")


@click.group()
def command() -> None:
    """Make and list accounts."""


@command.command("list")
@verb
def list_(session: Session) -> None:
    """List accounts and their roles."""
    columns = [("name", "NAME"), ("roles", "ROLES"), ("uids", "UIDS"), ("enabled", "ENABLED")]
    session.out.table(session.api.pages("/users"), columns, "no accounts")


@command.command()
@verb
@click.argument("name")
@click.option("--role", "roles", type=click.Choice(ROLES), multiple=True, required=True, help="May be repeated.")
@click.option("--uid", type=click.IntRange(0), help="System account of the primary's host that signs in as this one.")
@secret_file("password", "the password")
def create(session: Session, name: str, roles: tuple[str, ...], uid: int | None, password_file: Path | None) -> None:
    """Make an account: with a password, with a system account (--uid), or both."""
    body: dict[str, object] = {"name": name, "roles": list(roles)}
    if uid is not None:
        body["uid"] = uid
    if password_file is not None or uid is None:
        password = read_secret(password_file, "password", "the password", confirm=True)
        body["password"] = as_text(password, "the password")
    session.out.result(session.api.post("/users", body))
