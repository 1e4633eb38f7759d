"""``strongroom pool``: where images are stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from strongroom.cli.jobs import job_id, wait_for
from strongroom.cli.session import Session, verb
from strongroom.cli.terminal import size, sized


@click.group()
def command() -> None:
    """Make, list and collect pools."""


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


@command.command()
@verb
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Tell what would be freed, and change nothing.")
@click.option("--wait", is_flag=True, help="Wait for the outcome.")
def collect(session: Session, name: str, dry_run: bool, wait: bool) -> None:
    """Free what no image of a pool needs; also done by itself, see upkeep.collect_hours in the settings."""
    started = session.api.post(f"/pools/{quote(name, safe='')}/collect", {"dry_run": dry_run})
    job = job_id(started)
    if not wait and not dry_run:
        session.out.result(started, f"job {job}")
        session.out.say(f"next: 'strongroom job watch {job}'")
        return
    found = wait_for(session, job)
    session.out.result(found, None if session.out.as_json else _collected(found["result"], dry_run=dry_run))


def _collected(result: dict[str, Any], *, dry_run: bool) -> str:
    lines = [f"{result['images']} copies stay, in {result['containers']} containers of {size(result['bytes'])}"]
    if dry_run:
        lines.append(f"{result['images_expired']} copies are expired, or due to expire")
        lines.append(f"to be freed: {result['unneeded_containers']} containers of {size(result['unneeded_bytes'])}")
    else:
        lines.append(f"freed: {result['removed_containers']} containers of {size(result['removed_bytes'])}")
        if result["waiting_containers"]:
            lines.append(
                f"to be freed when the backups and replications that run have ended: {result['waiting_containers']}"
                f" containers of {size(result['waiting_bytes'])}"
            )
    lines.append(f"not needed, in containers that stay: {size(result['sparse_bytes'])}")
    if result["unread_containers"]:
        lines.append(f"{result['unread_containers']} containers cannot be read, and stay; the job's log names them")
    return "\n".join(lines)
