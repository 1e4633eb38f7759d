"""``strongroom pool``: where images are stored."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import click

from strongroom.cli.bucket_key import read_bucket_key
from strongroom.cli.session import Session, verb
from strongroom.cli.terminal import sized
from strongroom.pool.place import DEFAULT_REGION


@click.group()
def command() -> None:
    """Make and list pools."""


@command.command()
@verb
@click.argument("name")
@click.option(
    "--path", type=click.Path(path_type=Path), help="Folder on the media server; without it, one in its home."
)
@click.option("--bucket", metavar="s3://BUCKET/PREFIX", help="Bucket of an object storage, instead of a folder.")
@click.option("--endpoint", metavar="URL", help="Of the object storage: https://HOST[:PORT].")
@click.option("--region", metavar="REGION", help=f"Of the bucket.  [default: {DEFAULT_REGION}]")
@click.option(
    "--credentials-file",
    type=click.Path(path_type=Path, allow_dash=True, dir_okay=False),
    metavar="FILE|-",
    help="File with the access key for the bucket, as ~/.aws/credentials has it; '-' reads standard input.",
)
def create(
    session: Session,
    name: str,
    path: Path | None,
    bucket: str | None,
    endpoint: str | None,
    region: str | None,
    credentials_file: Path | None,
) -> None:
    """Make a pool."""
    body: dict[str, object] = {"name": name}
    if path is not None:
        body["path"] = str(path.absolute())
    if bucket is not None:
        if endpoint is None or credentials_file is None:
            raise click.UsageError("--bucket wants --endpoint and --credentials-file")
        place = {"url": bucket, "endpoint": endpoint, "region": region or DEFAULT_REGION}
        body["bucket"] = {**place, **read_bucket_key(credentials_file)}
    elif endpoint or region or credentials_file:
        raise click.UsageError("--endpoint, --region and --credentials-file are for a --bucket")
    session.out.result(session.api.post("/pools", body))
    session.out.say(f"next: 'strongroom slp create SLP --backup {name} --retention 30d --key-group GROUP'")


@command.command()
@verb
@click.argument("name")
@click.option(
    "--credentials-file",
    type=click.Path(path_type=Path, allow_dash=True, dir_okay=False),
    metavar="FILE|-",
    required=True,
    help="File with the new access key for the bucket; '-' reads standard input.",
)
def rekey(session: Session, name: str, credentials_file: Path) -> None:
    """Replace the access key of a pool in a bucket."""
    body = read_bucket_key(credentials_file)
    session.out.result(session.api.post(f"/pools/{quote(name, safe='')}/key", body))


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
