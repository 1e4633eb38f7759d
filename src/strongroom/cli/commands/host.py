"""``strongroom host``: the hosts of the domain, and those of others that it knows."""

from __future__ import annotations

from typing import Any

import click

from strongroom.cli.session import Session, verb
from strongroom.core.errors import NotFoundError


class HostNotFoundError(NotFoundError):
    """No host has this id or name."""

    code = "cli.host-not-found"
    default_hint = "see 'strongroom host list'"


@click.group()
def command() -> None:
    """List hosts and their certificates."""


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
