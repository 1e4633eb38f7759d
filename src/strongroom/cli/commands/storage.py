"""``strongroom storage``: what lets another domain store images here, and where this one may store there."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import click

from strongroom.cli.secret_input import as_text, read_secret, secret_file
from strongroom.cli.session import Session, verb


@click.group()
def command() -> None:
    """Grant storage to other domains, and use theirs."""


@command.group()
def credential() -> None:
    """At the target: grants for a sending domain to add images to a pool."""


@credential.command("create")
@verb
@click.argument("name")
@click.option("--pool", required=True, help="Where the images go.")
@click.option("--sender", required=True, metavar="PEER", help="The domain that may send: id, unique name or server.")
def create_credential(session: Session, name: str, pool: str, sender: str) -> None:
    """Make a storage credential, and show its secret this once."""
    found = session.api.post("/storage/credentials", {"pool": pool, "sender": sender, "name": name})
    session.out.result(found, str(found["secret"]))
    session.out.say(
        "it is not shown again. At the sender, next: "
        f"'strongroom storage target add NAME --peer PEER --pool {pool} --token-file FILE'"
    )


@credential.command("list")
@verb
def list_credentials(session: Session) -> None:
    """List storage credentials; never their secrets."""
    columns = [("credential", "CREDENTIAL"), ("name", "NAME"), ("pool", "POOL"), ("sender", "SENDER")]
    session.out.table(session.api.pages("/storage/credentials"), columns, "no storage credentials")


@credential.command("revoke")
@verb
@click.argument("credential_id", metavar="CREDENTIAL")
def revoke_credential(session: Session, credential_id: str) -> None:
    """Let its holder send nothing more; images that came stay."""
    session.api.delete(f"/storage/credentials/{quote(credential_id, safe='')}")
    session.out.result({"credential": credential_id, "revoked": True}, f"credential '{credential_id}' is revoked")


@command.group()
def target() -> None:
    """At the source: pools of other domains that images may be sent to."""


@target.command("add")
@verb
@click.argument("name")
@click.option("--peer", required=True, help="The domain: id, unique name or server.")
@click.option("--pool", required=True, help="Name of the pool there.")
@secret_file("token", "the storage credential that the other domain made")
def add_target(session: Session, name: str, peer: str, pool: str, token_file: Path | None) -> None:
    """Define a storage target in a trusted domain."""
    secret = as_text(read_secret(token_file, "token", "the storage credential"), "the storage credential")
    session.out.result(
        session.api.post("/storage/targets", {"name": name, "peer": peer, "pool": pool, "credential": secret})
    )
    session.out.say(
        "next: a lifecycle policy that sends there, 'strongroom slp create … --replicate-to PEER:IMPORT_SLP'"
    )


@target.command("list")
@verb
def list_targets(session: Session) -> None:
    """List storage targets."""
    columns = [("name", "NAME"), ("domain", "DOMAIN"), ("medium", "MEDIUM"), ("media", "MEDIA"), ("state", "STATE")]
    session.out.table(session.api.pages("/storage/targets"), columns, "no storage targets")


@target.command("remove")
@verb
@click.argument("name")
def remove_target(session: Session, name: str) -> None:
    """Send nothing there any more; images that were sent stay."""
    session.api.delete(f"/storage/targets/{quote(name, safe='')}")
    session.out.result({"name": name, "removed": True}, f"storage target '{name}' is removed")
