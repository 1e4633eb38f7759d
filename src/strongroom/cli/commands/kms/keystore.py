"""``strongroom kms keystore``: the file that holds the keys, to be copied and carried."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.cli.session import Session, verb


@click.group()
def keystore() -> None:
    """Copy the keystore safely, and take over keys from a carried one."""


@keystore.command()
@verb
def quiesce(session: Session) -> None:
    """Let no key change, so that the keystore can be copied; ends with 'unquiesce'."""
    found = session.api.post("/kms/keystore/quiesce")
    session.out.result(found, "the keystore stands still")
    session.out.say("copy it now, and its key folder by another way; next: 'strongroom kms keystore unquiesce'")


@keystore.command()
@verb
def unquiesce(session: Session) -> None:
    """Let keys change again."""
    found = session.api.post("/kms/keystore/unquiesce")
    session.out.result(found, "keys can change again")


@keystore.command("import")
@verb
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--keys", "keys_path", type=click.Path(path_type=Path), required=True, help="Its key folder, which opens it."
)
def import_(session: Session, path: Path, keys_path: Path) -> None:
    """Take over the keys of a keystore at PATH, with their groups; both paths are of the primary's host."""
    body = {"path": str(path.absolute()), "keys_path": str(keys_path.absolute())}
    found = session.api.post("/kms/keystore/import", body)
    imported, skipped = found.get("imported") or [], found.get("skipped") or []
    session.out.result(found, f"{len(imported)} keys were taken over, {len(skipped)} were here already")
    if imported:
        session.out.say("next: 'strongroom import phase2' reads the images that waited for them")
