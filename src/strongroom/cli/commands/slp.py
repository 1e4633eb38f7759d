"""``strongroom slp``: lifecycle policies, which say where images go and how long they stay."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from strongroom.cli.session import Session, verb
from strongroom.cli.values import Retention
from strongroom.core.errors import InputError

_SHAPES = "give --backup POOL, --import POOL, or --file FILE"


@click.group()
def command() -> None:
    """Make, activate and list lifecycle policies."""


@command.command()
@verb
@click.argument("name")
@click.option("--backup", "backup_pool", metavar="POOL", help="Images begin here, in this pool.")
@click.option("--import", "import_pool", metavar="POOL", help="Images come from another domain, into this pool.")
@click.option(
    "--retention",
    type=Retention("target", "forever"),
    help="How long: 30d, 12w, 1y; 'forever' of a backup; 'target' of an import: as the sender wants.",
)
@click.option("--key-group", metavar="GROUP", help="Encrypt under the active key of this group.")
@click.option("--unencrypted", is_flag=True, help="Do not encrypt.")
@click.option("--replicate-to", multiple=True, metavar="PEER:IMPORT_SLP", help="Send a copy there; may be repeated.")
@click.option("--data-class", default="", help="A label that both domains' policies must share.")
@click.option("--file", "document", type=click.File("rb"), help="The policy as a JSON document; '-' reads stdin.")
def create(
    session: Session,
    name: str,
    backup_pool: str | None,
    import_pool: str | None,
    retention: str | None,
    key_group: str | None,
    unencrypted: bool,
    replicate_to: tuple[str, ...],
    data_class: str,
    document: Any,
) -> None:
    """Make a policy: for backups, for images that come from another domain, or from a document.

    \b
    strongroom slp create daily --backup main --retention 30d --key-group office --replicate-to paris:daily
    strongroom slp create daily --import from-berlin --retention target
    """  # noqa: D301 - click reads the control character that stands for "as it is written"
    if sum(chosen is not None for chosen in (backup_pool, import_pool, document)) != 1:
        raise InputError("a policy has one shape", hint=_SHAPES)
    if document is not None:
        if retention or key_group or unencrypted or replicate_to or data_class:
            raise InputError("what a document says is not said by options too", hint="write it into the document")
        body = _read(document, name)
    elif backup_pool is not None:
        body = {"operations": _backup(backup_pool, retention, key_group, unencrypted, replicate_to)}
    else:
        if key_group or unencrypted or replicate_to:
            raise InputError("what --import brings is encrypted or not as it comes", hint=_SHAPES)
        body = {"operations": [{"op": "import", "pool": import_pool, "retention": _import_retention(retention)}]}
    found = session.api.post("/slps", {"data_class": data_class} | body | {"name": name})
    session.out.result(found)
    if found.get("state") != "active":
        session.out.say(f"next: 'strongroom slp activate {name}'")


@command.command("list")
@verb
def list_(session: Session) -> None:
    """List policies."""
    columns = [("name", "NAME"), ("version", "VERSION"), ("state", "STATE"), ("data_class", "DATA CLASS")]
    session.out.table(session.api.pages("/slps"), columns, "no policies; make one with 'strongroom slp create'")


@command.command()
@verb
@click.argument("name")
def show(session: Session, name: str) -> None:
    """Show one policy and its operations."""
    session.out.result(session.api.get(_path(name)))


@command.command()
@verb
@click.argument("name")
def activate(session: Session, name: str) -> None:
    """Let a policy be used."""
    found = session.api.post(f"{_path(name)}/activate")
    session.out.result(found, f"policy '{name}' is active")


@command.command()
@verb
@click.argument("name")
def deactivate(session: Session, name: str) -> None:
    """Let no new image use a policy; images that have it keep it."""
    found = session.api.post(f"{_path(name)}/deactivate")
    session.out.result(found, f"policy '{name}' is not active any more")


def _backup(
    pool: str, retention: str | None, key_group: str | None, unencrypted: bool, replicate_to: tuple[str, ...]
) -> list[dict[str, object]]:
    if retention is None or retention == "target":
        raise InputError("a backup needs its own retention", hint="give --retention 30d")
    if (key_group is not None) == unencrypted:
        # Never a default: encrypted by mistake is lost without its key, clear by mistake is lost to a thief.
        raise InputError("say whether images are encrypted", hint="give --key-group GROUP, or --unencrypted")
    found: list[dict[str, object]] = [
        {"op": "backup", "pool": pool, "retention": retention, "key_group": key_group},
    ]
    for where in replicate_to:
        peer, _, import_slp = where.rpartition(":")
        if not peer or not import_slp:
            raise InputError(f"'{where}' is not PEER:IMPORT_SLP", hint="write --replicate-to paris:daily")
        found.append({"op": "replication", "parent": 0, "target": peer, "import_slp": import_slp, "retention": None})
    return found


def _import_retention(retention: str | None) -> str:
    if retention is None or retention == "forever":
        raise InputError("an import needs a retention", hint="give --retention target, or a time such as 90d")
    return retention


def _read(document: Any, name: str) -> dict[str, object]:
    import json

    try:
        body = json.loads(document.read(1 << 20))
    except ValueError as error:
        raise InputError(f"the policy is not a JSON document: {error}") from error
    if not isinstance(body, dict):
        raise InputError("the policy is not a JSON object")
    if body.get("name", name) != name:
        raise InputError(f"the document names the policy '{body['name']}', the command '{name}'")
    return body


def _path(name: str) -> str:
    return f"/slps/{quote(name, safe='')}"
