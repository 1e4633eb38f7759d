"""``strongroom pool``: where images are stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from strongroom.cli.bucket_key import read_bucket_key
from strongroom.cli.jobs import job_id, wait_for
from strongroom.cli.session import Session, verb
from strongroom.cli.terminal import safe, size, sized
from strongroom.cli.values import Rate
from strongroom.pool.place import DEFAULT_REGION


@click.group()
def command() -> None:
    """Make, list, lock, repair, collect and scrub pools."""


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


@command.command()
@verb
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Change nothing; say what would be done.")
def repair(session: Session, name: str, dry_run: bool) -> None:
    """Mend what is damaged in a pool.

    Whole parts of damaged containers go into new ones, and the damaged files are put aside; headers are written again
    from the catalog; the index is brought up to date. Nothing is deleted. Ends with 10 when images stay damaged:
    jobs then verify these, and name the files.
    """
    from strongroom.cli.exits import WITH_PROBLEMS, leave

    started = session.api.post(f"/pools/{quote(name, safe='')}/repair", {"dry_run": dry_run})
    job = wait_for(session, job_id(started))
    found: dict[str, Any] = job.get("result") or {}
    session.out.result(found | {"job": started["job"]}, None if session.out.as_json else _repaired(found))
    for verifying in found.get("verify_jobs") or []:
        session.out.say(f"next: 'strongroom job watch {verifying}' names the files of a damaged image")
    if found.get("images_damaged"):
        leave(WITH_PROBLEMS)


def _repaired(found: dict[str, Any]) -> str:
    lines = [safe(str(line)) for line in found.get("lines") or []]
    if not lines:
        return "the pool is whole"
    if not found.get("images_damaged"):
        lines.append("no image would stay damaged" if found.get("dry_run") else "no image is damaged")
    return "\n".join(lines)


@command.command()
@verb
@click.argument("name")
@click.option("--wait", is_flag=True, help="Wait for the outcome.")
@click.option("--rate", type=Rate(), metavar="RATE", help="Read at most so much in a second, such as 20M.")
def scrub(session: Session, name: str, wait: bool, rate: int | None) -> None:
    """Read everything in a pool and check it; also done by itself, see upkeep.scrub_days in the settings.

    Needs no key and changes nothing. A scrub that was stopped goes on where it was. With --wait it ends with 10 when
    something is damaged, and names the images that need it: jobs then verify these, and name the files.
    """
    from strongroom.cli.exits import WITH_PROBLEMS, leave

    body = {} if rate is None else {"bytes_per_second": rate}
    started = session.api.post(f"/pools/{quote(name, safe='')}/scrub", body)
    job = job_id(started)
    if not wait:
        session.out.result(started, f"job {job}")
        session.out.say(f"next: 'strongroom job watch {job}'")
        return
    found = wait_for(session, job)
    session.out.result(found, None if session.out.as_json else _scrubbed(found["result"]))
    if found["result"]["damaged"]:
        session.out.say(f"next: 'strongroom pool repair {name} --dry-run' tells what can be mended")
        leave(WITH_PROBLEMS)


def _scrubbed(result: dict[str, Any]) -> str:
    lines = [f"checked: {result['objects']} objects of {size(result['bytes'])}"]
    lines += [safe(str(line)) for line in result["lines"]]
    lines.append(f"damaged: {result['damaged']}; images that need it: {result['images_damaged']}")
    return "\n".join(lines)


@command.command()
@verb
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Tell what would be freed, and change nothing.")
@click.option("--wait", is_flag=True, help="Wait for the outcome.")
@click.option("--lift-lock", is_flag=True, help="Also free what governance locks keep; audited.")
@click.option("--reason", default="", help="Why a lock is lifted.")
def collect(session: Session, name: str, dry_run: bool, wait: bool, lift_lock: bool, reason: str) -> None:
    """Free what no image of a pool needs; also done by itself, see upkeep.collect_hours in the settings.

    What is needed of containers that hold mostly what nobody needs is copied into new ones, so that they can go too.
    """
    if lift_lock and not reason.strip():
        raise click.UsageError("--lift-lock wants --reason")
    body: dict[str, object] = {"dry_run": dry_run}
    if lift_lock:
        body |= {"lift_lock": True, "reason": reason}
    started = session.api.post(f"/pools/{quote(name, safe='')}/collect", body)
    job = job_id(started)
    if not wait and not dry_run:
        session.out.result(started, f"job {job}")
        session.out.say(f"next: 'strongroom job watch {job}'")
        return
    found = wait_for(session, job)
    session.out.result(found, None if session.out.as_json else _collected(found["result"], dry_run=dry_run))


@command.command()
@verb
@click.argument("name")
@click.option(
    "--mode",
    type=click.Choice(["governance", "compliance"]),
    required=True,
    help="Governance can be lifted by an administrator, compliance by nobody.",
)
@click.option(
    "--rounding",
    type=click.IntRange(1, 366),
    default=7,
    show_default=True,
    metavar="DAYS",
    help="Ends of locks are rounded up to multiples of this, so that most backups extend few of them.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def lock(session: Session, name: str, mode: str, rounding: int, yes: bool) -> None:
    """Lock every image that is stored in a pool from now on until its retention is over.

    A mode is never made less strict, and no lock ever shorter.
    """
    session.confirm(f"Lock what is stored in pool {safe(name)} from now on, for {mode}, for ever?", yes=yes)
    found = session.api.post(f"/pools/{quote(name, safe='')}/lock", {"mode": mode, "rounding_days": rounding})
    session.out.result(found, f"pool {safe(name)} locks what is stored in it: {mode}")


def _collected(result: dict[str, Any], *, dry_run: bool) -> str:
    lines = [f"{result['images']} copies stay, in {result['containers']} containers of {size(result['bytes'])}"]
    if dry_run:
        lines.append(f"{result['images_expired']} copies are expired, or due to expire")
        lines.append(f"to be freed: {result['unneeded_containers']} containers of {size(result['unneeded_bytes'])}")
        if result["rewritten_containers"]:
            lines.append(
                f"to be rewritten, and freed: {result['rewritten_containers']} containers of"
                f" {size(result['rewritten_bytes'])}, of which {size(result['copied_bytes'])} are copied"
            )
    else:
        lines.append(f"freed: {result['removed_containers']} containers of {size(result['removed_bytes'])}")
        if result["rewritten_containers"]:
            lines.append(
                f"rewritten: {result['rewritten_containers']} containers of {size(result['rewritten_bytes'])}, of which"
                f" {size(result['copied_bytes'])} were copied"
            )
        if result["waiting_containers"]:
            lines.append(
                f"to be freed when the backups and replications that run have ended: {result['waiting_containers']}"
                f" containers of {size(result['waiting_bytes'])}"
            )
    if result.get("locked_containers"):
        lines.append(
            f"not needed, but locked: {result['locked_containers']} containers of {size(result['locked_bytes'])}"
        )
    lines.append(f"not needed, in containers that stay: {size(result['sparse_bytes'])}")
    if result["rewrite_later_containers"]:
        lines.append(f"{result['rewrite_later_containers']} containers are left to be rewritten another time")
    if result["damaged_containers"]:
        lines.append(
            f"{result['damaged_containers']} containers stay because they are damaged; the job's log names them"
        )
    if result["unread_containers"]:
        lines.append(f"{result['unread_containers']} containers cannot be read, and stay; the job's log names them")
    return "\n".join(lines)
