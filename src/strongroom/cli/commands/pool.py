"""``strongroom pool``: where images are stored."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import click

from strongroom.cli.session import Session, verb
from strongroom.cli.terminal import sized


@click.group()
def command() -> None:
    """Make and list pools."""


@command.command()
@verb
@click.argument("name")
@click.option(
    "--path", type=click.Path(path_type=Path), help="Folder on the media server; without it, one in its home."
)
def create(session: Session, name: str, path: Path | None) -> None:
    """Make a pool."""
    body: dict[str, object] = {"name": name}
    if path is not None:
        body["path"] = str(path.absolute())
    session.out.result(session.api.post("/pools", body))
    session.out.say(f"next: 'strongroom slp create SLP --backup {name} --retention 30d --key-group GROUP'")


@command.command("list")
@verb
def list_(session: Session) -> None:
    """List pools."""
    items = session.api.pages("/pools")
    columns = [
        ("name", "NAME"),
        ("state", "STATE"),
        ("images", "IMAGES"),
        ("stored_bytes", "STORED"),
        ("free_bytes", "FREE"),
        ("path", "PATH"),
    ]
    if not session.out.as_json:
        items = sized(items, "stored_bytes", "free_bytes")
    session.out.table(items, columns, "no pools; make one with 'strongroom pool create NAME'")


@command.command()
@verb
@click.argument("name")
def show(session: Session, name: str) -> None:
    """Show one pool."""
    session.out.result(session.api.get(f"/pools/{quote(name, safe='')}"))
