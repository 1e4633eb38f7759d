"""``strongroom trust``: domains that this one trusts."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import click

from strongroom.cli.exits import WITH_PROBLEMS, leave
from strongroom.cli.secret_input import as_text, read_secret, secret_file
from strongroom.cli.session import Session, verb
from strongroom.cli.terminal import safe
from strongroom.cli.values import HostPort

_NONE = "no trusts; make one with 'strongroom trust add HOST:PORT --fingerprint F --token-file FILE'"


@click.group()
def command() -> None:
    """Make, watch and end trust with other domains. PEER is a domain id, its unique name, or HOST:PORT."""


@command.command()
@verb
@click.argument("address", type=HostPort(), metavar="HOST:PORT")
@click.option("--fingerprint", required=True, metavar="F", help="SHA-256 of its root: 64 digits or 26 words.")
@secret_file("token", "its token of the purpose 'trust'")
def add(session: Session, address: str, fingerprint: str, token_file: Path | None) -> None:
    """Trust the domain whose primary is at HOST:PORT."""
    token = read_secret(token_file, "token", "the token")
    body = {"server": address, "fingerprint": fingerprint, "token": as_text(token, "the token")}
    found = session.api.post("/trusts", body)
    session.out.result(found)
    if found.get("state") != "active":
        session.out.say("trust is active when the other administrator has added this domain too: ask for that next")
    else:
        session.out.say("trust is active; 'strongroom trust check' tries every leg of it")


@command.command("list")
@verb
def list_(session: Session) -> None:
    """List trusts, their state and their health."""
    columns = [
        ("name", "NAME"),
        ("domain", "DOMAIN"),
        ("state", "STATE"),
        ("health", "HEALTH"),
        ("server", "SERVER"),
        ("last_exchange", "LAST EXCHANGE"),
    ]
    session.out.table(session.api.pages("/trusts"), columns, _NONE)


@command.command()
@verb
@click.argument("peer")
def show(session: Session, peer: str) -> None:
    """Show one trust, with the certificates that each side issued."""
    session.out.result(session.api.get(_path(peer)))


@command.command()
@verb
@click.argument("peer")
def check(session: Session, peer: str) -> None:
    """Try every leg of a trust now; ends with 10 when one does not hold."""
    found = session.api.post(f"{_path(peer)}/check")
    lines = []
    for leg in found["legs"]:
        lines.append(f"{'ok    ' if leg['ok'] else 'FAILED'}  {leg['name']}: {leg.get('detail') or '-'}")
        if not leg["ok"] and leg.get("cure"):
            lines.append(f"        {leg['cure']}")
    session.out.result(found, "\n".join(safe(line) for line in lines))
    if not found["ok"]:
        leave(WITH_PROBLEMS)


@command.command()
@verb
@click.argument("peer")
def suspend(session: Session, peer: str) -> None:
    """Let no image pass, in either direction, until 'resume'."""
    found = session.api.post(f"{_path(peer)}/suspend")
    session.out.result(found, f"trust with '{peer}' is suspended")


@command.command()
@verb
@click.argument("peer")
def resume(session: Session, peer: str) -> None:
    """End a suspension of this side."""
    found = session.api.post(f"{_path(peer)}/resume")
    session.out.result(found, f"this side has resumed trust with '{peer}'")


@command.command()
@verb
@click.argument("peer")
@click.option("--yes", is_flag=True, help="Do not ask.")
def confirm(session: Session, peer: str, yes: bool) -> None:
    """Say that a primary that was restored, or seen twice, is the right one; stop the wrong one first."""
    session.confirm(f"Is the primary that now speaks for '{peer}' the right one?", yes=yes)
    found = session.api.post(f"{_path(peer)}/confirm")
    session.out.result(found, f"the primary of '{peer}' is confirmed")


@command.command()
@verb
@click.argument("peer")
@click.option("--force", is_flag=True, help="Even if lifecycle policies or storage depend on it.")
@click.option("--dry-run", is_flag=True, help="Only tell what depends on it.")
def remove(session: Session, peer: str, force: bool, dry_run: bool) -> None:
    """End trust for good; what depends on it is named."""
    query = {"force": "true" if force else None, "dry_run": "true" if dry_run else None}
    found = session.api.delete(_path(peer), query)
    session.out.result(found, f"trust with '{peer}' {'would be' if dry_run else 'is'} removed")
    if found["dependants"]:
        names = ", ".join(f"{one['kind']} '{one['name']}'" for one in found["dependants"])
        session.out.say(f"these depend on it: {safe(names)}")


def _path(peer: str) -> str:
    return f"/trusts/{quote(peer, safe='')}"
