"""``strongroom cert``: certificates that this domain issued, and those that others issued to it."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import quote

import click

from strongroom.cli.secret_input import as_text, read_secret, secret_file
from strongroom.cli.session import Session, verb
from strongroom.cli.values import HostPort

REASONS: Final = (
    "unspecified",
    "keyCompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "privilegeWithdrawn",
)
"""Words of RFC 5280, section 5.3.1."""


@click.group()
def command() -> None:
    """List, get and revoke certificates of hosts."""


@command.command("list")
@verb
@click.option("--owner", type=click.Choice(["issued", "held"]), help="Issued by this domain, or held by its hosts.")
def list_(session: Session, owner: str | None) -> None:
    """List certificates: own, and those that other domains issued to hosts of this one."""
    found = (item for item in session.api.pages("/certificates") if owner in (None, item.get("owner")))
    columns = [
        ("owner", "OWNER"),
        ("host", "HOST"),
        ("for_domain", "FOR DOMAIN"),
        ("issuer", "ISSUER"),
        ("serial", "SERIAL"),
        ("not_after", "NOT AFTER"),
    ]
    session.out.table(found, columns, "no certificates")


@command.command()
@verb
@click.option("--to", "address", type=HostPort(), required=True, metavar="HOST:PORT", help="The other primary.")
@click.option("--fingerprint", required=True, metavar="F", help="SHA-256 of its root: 64 digits or 26 words.")
@secret_file("token", "its token of the purpose 'enrol-foreign-media'")
def issue(session: Session, address: str, fingerprint: str, token_file: Path | None) -> None:
    """Get a certificate of another domain for this domain's media server, without trust between them."""
    token = read_secret(token_file, "token", "the token")
    body = {"server": address, "fingerprint": fingerprint, "token": as_text(token, "the token")}
    session.out.result(session.api.post("/certificates/media", body))
    session.out.say("next: 'strongroom storage target add', with the storage credential that the other domain made")


@command.command()
@verb
@click.argument("serial")
@click.option("--reason", type=click.Choice(REASONS), default="unspecified", show_default=True, help="Why.")
def revoke(session: Session, serial: str, reason: str) -> None:
    """Revoke a certificate; connections that use it are closed."""
    found = session.api.post(f"/certificates/{quote(serial, safe='')}/revoke", {"reason": reason})
    session.out.result(found, f"certificate {serial} is revoked")
