"""``strongroom host``: the hosts of the domain, and those of others that it knows."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import click

from strongroom.cli.client_host import folder_of, takes_client_home
from strongroom.cli.output import Output
from strongroom.cli.secret_input import read_secret, secret_file
from strongroom.cli.session import Session, alone, verb
from strongroom.cli.terminal import safe
from strongroom.cli.values import HostPort
from strongroom.core.errors import InputError, NotFoundError


class HostNotFoundError(NotFoundError):
    """No host has this id or name."""

    code = "cli.host-not-found"
    default_hint = "see 'strongroom host list'"


@click.group()
def command() -> None:
    """List hosts and their certificates; enrol this one as a client."""


@command.command("list")
@verb
def list_(session: Session) -> None:
    """List hosts: their role, home domain and state."""
    columns = [
        ("host", "HOST"),
        ("names", "NAMES"),
        ("role", "ROLE"),
        ("home_domain", "HOME DOMAIN"),
        ("state", "STATE"),
    ]
    session.out.table(session.api.pages("/hosts"), columns, "no hosts")


@command.command()
@verb
@click.argument("host")
def show(session: Session, host: str) -> None:
    """Show one host, by id or by its only name, with its certificates."""
    session.out.result(find_host(session, host))


@command.command()
@alone
@click.option(
    "--to", "address", type=HostPort(), required=True, metavar="HOST:PORT", help="The primary's peer address."
)
@click.option("--fingerprint", required=True, metavar="F", help="SHA-256 of the domain's root: 64 digits or 26 words.")
@click.option("--name", metavar="NAME", help="Of this host in the catalog, a DNS name.  [default: the host's own]")
@click.option("--again", metavar="HOST", help="Come back as this client, by its id, with a token to reissue.")
@takes_client_home
@secret_file("token", "the token of the purpose 'enrol-host' for a client, or with --again 'reissue'")
def enrol(
    out: Output,
    address: str,
    fingerprint: str,
    name: str | None,
    again: str | None,
    client_home: Path | None,
    token_file: Path | None,
) -> None:
    """Make this host a client of a domain: it gets a certificate, with which it backs up over the network.

    The private key is made here and stays in the client folder. The token is sent only after the primary's certificate
    was found to come from the root that --fingerprint names.
    """
    import uuid

    from strongroom.core.ids import HostId, to_text
    from strongroom.pki.channel import Address
    from strongroom.pki.fingerprint import read_pin
    from strongroom.services.client import enrolment
    from strongroom.services.client.identity import ClientFolder
    from strongroom.settings.system import SystemClock

    if again is not None and name is not None:
        raise InputError("a client that comes back keeps its name", hint="leave --name out")
    folder, primary, pin = ClientFolder(folder_of(client_home)), Address.read(address), read_pin(fingerprint)
    try:
        host = None if again is None else HostId(uuid.UUID(again).bytes)
    except ValueError as error:
        raise InputError(f"'{again}' is no id of a host", hint="see 'strongroom host list'") from error
    token = read_secret(token_file, "token", "the token")
    if host is not None:
        made = enrolment.come_back(folder, primary, pin, token, host, SystemClock())
    else:
        made = enrolment.enrol(folder, primary, pin, token, name or socket.gethostname(), SystemClock())
    found = {
        "host": to_text(made.host),
        "name": made.name,
        "domain": made.domain.hex(),
        "not_after": made.not_after.isoformat(),
        "client_home": str(folder.path),
    }
    out.result(found, safe(f"this host is the client '{made.name}', {found['host']}, until {made.not_after:%Y-%m-%d}"))
    out.say(
        "next: 'strongroom login --server https://HOST:PORT --fingerprint F', then 'strongroom backup PATH --slp S'"
    )


def find_host(session: Session, host: str, *, role: str | None = None) -> dict[str, Any]:
    """Look a host up by its id, or by a name that no other host of the role has.

    Raises:
        HostNotFoundError: there is none, or several have the name.
    """
    found = [
        item
        for item in session.api.pages("/hosts")
        if (host == item["host"] or host in (item.get("names") or [])) and role in (None, item["role"])
    ]
    if not found:
        raise HostNotFoundError(f"no host has the id or name '{host}'")
    if len(found) > 1:
        ids = ", ".join(str(item["host"]) for item in found)
        raise HostNotFoundError(f"{len(found)} hosts have the name '{host}': {ids}", hint="name one by its id")
    (one,) = found
    return dict(one)
