"""``strongroom kms key``: keys, their states, and getting lost ones back."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from strongroom.cli.secret_input import as_text, read_secret, secret_file
from strongroom.cli.session import Session, verb
from strongroom.cli.terminal import safe
from strongroom.core.errors import InputError

_PHRASE = "the pass phrase"
_phrase_file = secret_file("passphrase", "the pass phrase of the key")


@click.group()
def key() -> None:
    """Make keys, change their state, recover them. TAG is the key's tag, 64 hexadecimal digits."""


@key.command()
@verb
@click.argument("name")
@click.option("--group", required=True, help="Its key group.")
@click.option("--description", default="", help="What it is for.")
@click.option(
    "--source",
    type=click.Choice(["random", "passphrase"]),
    help="Random, or made from a pass phrase, with which it can be made again on any machine.  [default: random]",
)
@click.option("--generate", is_flag=True, help="Let the pass phrase be generated, and show it this once.")
@_phrase_file
@click.option("--activate", is_flag=True, help="Encrypt with it from now on; the group's active key becomes inactive.")
@click.option(
    "--sheet", type=click.Path(path_type=Path, dir_okay=False), help="Write the recovery sheet to this new file."
)
def create(
    session: Session,
    name: str,
    group: str,
    description: str,
    source: str | None,
    generate: bool,
    passphrase_file: Path | None,
    activate: bool,
    sheet: Path | None,
) -> None:
    """Make a key, and show its recovery sheet: print it, and keep it away from the machine."""
    if generate and passphrase_file is not None:
        raise InputError("a pass phrase is given or generated, not both")
    of_phrase = generate or passphrase_file is not None
    if source == "random" and of_phrase:
        raise InputError("a random key has no pass phrase", hint="give --source passphrase")
    body: dict[str, object] = {
        "group": group,
        "name": name,
        "description": description,
        "source": "passphrase" if of_phrase or source == "passphrase" else "random",
        "activate": activate,
    }
    if generate:
        body["generate"] = True
    elif body["source"] == "passphrase":
        body["passphrase"] = as_text(read_secret(passphrase_file, "passphrase", _PHRASE, confirm=True), _PHRASE)
    found = session.api.post("/kms/keys", body)
    if sheet is not None:
        _write_sheet(sheet, str(found.get("recovery_sheet", "")))
    session.out.result(found, None if session.out.as_json else _text(found, sheet))
    if not activate:
        session.out.say(f"next: 'strongroom kms key activate {found['tag']}'")


@key.command("list")
@verb
@click.option("--group", help="Only of this key group.")
def list_(session: Session, group: str | None) -> None:
    """List keys; never the keys themselves."""
    columns = [
        ("tag", "TAG"),
        ("group", "GROUP"),
        ("name", "NAME"),
        ("state", "STATE"),
        ("source", "SOURCE"),
        ("created", "CREATED"),
    ]
    session.out.table(session.api.pages("/kms/keys", {"group": group}), columns, "no keys")


@key.command()
@verb
@click.argument("tag")
def show(session: Session, tag: str) -> None:
    """Show one key, without the key itself."""
    session.out.result(session.api.get(_path(tag)))


@key.command()
@verb
@click.argument("tag")
def activate(session: Session, tag: str) -> None:
    """Encrypt with this key from now on; the group's former one becomes inactive, and still reads."""
    _change(session, tag, "activate", "active")


@key.command()
@verb
@click.argument("tag")
def deactivate(session: Session, tag: str) -> None:
    """Encrypt with this key no more; it still reads."""
    _change(session, tag, "deactivate", "inactive")


@key.command()
@verb
@click.argument("tag")
def deprecate(session: Session, tag: str) -> None:
    """Mark an inactive key as one to be replaced; it still reads."""
    _change(session, tag, "deprecate", "deprecated")


@key.command()
@verb
@click.argument("tag")
def terminate(session: Session, tag: str) -> None:
    """Let a deprecated key read no more; 'deprecate' takes that back."""
    _change(session, tag, "terminate", "terminated")


@key.command()
@verb
@click.argument("tag")
@click.option("--yes", is_flag=True, help="Do not ask.")
def destroy(session: Session, tag: str, yes: bool) -> None:
    """Destroy a key that is prelive or terminated. What only it can read is lost, but for its recovery sheet."""
    session.confirm(f"Destroy the key {safe(tag)}? What only it can read is lost.", yes=yes)
    found = session.api.delete(_path(tag))
    session.out.result(found, f"key {safe(tag)} is destroyed")


@key.command()
@verb
@click.argument("tag")
@click.option("--group", required=True, help="The key group that it enters.")
@click.option("--name", required=True, help="Its name there.")
@_phrase_file
def recover(session: Session, tag: str, group: str, name: str, passphrase_file: Path | None) -> None:
    """Make a key again from its tag and its pass phrase; a wrong phrase is refused at once."""
    phrase = as_text(read_secret(passphrase_file, "passphrase", _PHRASE), _PHRASE)
    session.out.result(
        session.api.post("/kms/recover", {"tag": tag, "passphrase": phrase, "group": group, "name": name})
    )
    session.out.say("next: 'strongroom import phase2' reads the images that waited for it")


@key.command()
@verb
@click.argument("tag")
@_phrase_file
def check(session: Session, tag: str, passphrase_file: Path | None) -> None:
    """Check that a pass phrase makes the key of this tag; nothing is changed."""
    phrase = as_text(read_secret(passphrase_file, "passphrase", _PHRASE), _PHRASE)
    found = session.api.post("/kms/check", {"tag": tag, "passphrase": phrase})
    session.out.result(found, "the pass phrase makes this key")


def _change(session: Session, tag: str, change: str, state: str) -> None:
    found = session.api.post(f"{_path(tag)}/{change}")
    session.out.result(found, f"key {safe(tag)} is {state}")


def _write_sheet(path: Path, text: str) -> None:
    """Write a sheet that only the caller can read; never over another."""
    import os

    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text if text.endswith("\n") else text + "\n")
        file.flush()
        os.fsync(file.fileno())


def _text(found: dict[str, Any], sheet: Path | None) -> str:
    lines = [f"tag    {found['tag']}", f"state  {found.get('state', '-')}"]
    if found.get("passphrase"):
        lines.append(f"phrase {found['passphrase']}  (not shown again)")
    lines = [safe(line) for line in lines]
    if sheet is not None:
        lines.append(f"recovery sheet written to '{sheet}'")
    elif found.get("recovery_sheet"):
        lines += ["", *(safe(line) for line in str(found["recovery_sheet"]).splitlines())]
    return "\n".join(lines)


def _path(tag: str) -> str:
    return f"/kms/keys/{quote(tag, safe='')}"
