"""``strongroom token``: what admits a host, or another domain, once."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

import click

from strongroom.cli.session import Session, verb
from strongroom.cli.values import Seconds
from strongroom.core.errors import InputError

PURPOSES: Final = ("trust", "enrol-host", "reissue", "enrol-foreign-media")


@click.group()
def command() -> None:
    """Make and withdraw one-time tokens."""


@command.command()
@verb
@click.argument("name")
@click.option("--purpose", type=click.Choice(PURPOSES), required=True, help="The one thing that it is good for.")
@click.option("--role", type=click.Choice(["media", "client"]), help="Of the host, for the purpose 'enrol-host'.")
@click.option("--reason", default="", help="Why; kept in the audit.  [default: the purpose]")
@click.option("--valid", type=Seconds(), default="1d", show_default=True, metavar="TIME", help="How long it is valid.")
@click.option("--uses", type=click.IntRange(1), default=1, show_default=True, help="How often it can be used.")
@click.option("--for-domain", metavar="DOMAIN", help="Only this domain, by its id, may use it.")
@click.option("--for-host", metavar="HOST", help="Only this host may use it.")
def create(
    session: Session,
    name: str,
    purpose: str,
    role: str | None,
    reason: str,
    valid: int,
    uses: int,
    for_domain: str | None,
    for_host: str | None,
) -> None:
    """Make a token, and show it this once."""
    if (purpose == "enrol-host") != (role is not None):
        raise InputError("a role is for the purpose 'enrol-host', which needs it", hint="give --role media or client")
    body: dict[str, object] = {
        "name": name,
        "reason": reason or purpose,
        "purpose": purpose,
        "role": role,
        "valid_seconds": valid,
        "uses": uses,
        "bound_domain": for_domain,
        "bound_host": for_host,
    }
    found = session.api.post("/tokens", {key: value for key, value in body.items() if value is not None})
    session.out.result(found, str(found["token"]))
    session.out.say(
        f"token '{name}' is valid until {found.get('expires', '-')}; it is not shown again.\n"
        "Give it, and the fingerprint of 'strongroom ca show', to the other administrator by a safe way."
    )


@command.command("list")
@verb
def list_(session: Session) -> None:
    """List tokens that are valid still; never the tokens themselves."""
    columns = [
        ("name", "NAME"),
        ("purpose", "PURPOSE"),
        ("used", "USED"),
        ("uses", "OF"),
        ("expires", "EXPIRES"),
        ("reason", "REASON"),
    ]
    session.out.table(
        session.api.pages("/tokens"), columns, "no tokens; make one with 'strongroom token create NAME --purpose trust'"
    )


@command.command()
@verb
@click.argument("name")
def revoke(session: Session, name: str) -> None:
    """Withdraw a token."""
    session.api.delete(f"/tokens/{quote(name, safe='')}")
    session.out.result({"name": name, "revoked": True}, f"token '{name}' is good for nothing any more")
