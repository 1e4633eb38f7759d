"""``strongroom import``: learn what media hold, and then what is in it."""

from __future__ import annotations

import click

from strongroom.cli.exits import WITH_PROBLEMS, leave
from strongroom.cli.jobs import job_id, wait_for
from strongroom.cli.session import Session, verb
from strongroom.cli.terminal import safe, sized
from strongroom.core.errors import InputError


@click.group()
def command() -> None:
    """Import images: headers first (phase 1, needs no key), then contents (phase 2)."""


@command.command()
@verb
@click.argument("pool")
@click.option("--wait", is_flag=True, help="Wait for the outcome.")
def phase1(session: Session, pool: str, wait: bool) -> None:
    """Read the headers of all images in a POOL, encrypted or not, into the catalog.

    With --wait it ends with 10 when a header was refused: damaged, or of another pool.
    """
    found = session.api.post("/imports/phase1", {"pool": pool})
    job = job_id(found)
    if wait:
        done = wait_for(session, job)
        outcome = done.get("result") or {}
        refused = outcome.get("refused", 0)
        session.out.result(done, f"the headers of {outcome.get('images', 0)} images are in the catalog")
        if refused:
            session.out.say(f"{refused} files were refused: 'strongroom job show {safe(job)}' names them, and why")
            leave(WITH_PROBLEMS)
        session.out.say("next: 'strongroom import phase2', and 'strongroom import status --missing-keys'")
        return
    session.out.result(found, f"job {job}")
    session.out.say(f"next: 'strongroom job watch {job}', then 'strongroom import phase2'")


@command.command()
@verb
@click.argument("images", nargs=-1, metavar="[IMAGE]...")
@click.option("--pool", help="All images of this pool that are ready, instead.")
@click.option("--wait", is_flag=True, help="Wait for the outcomes.")
def phase2(session: Session, images: tuple[str, ...], pool: str | None, wait: bool) -> None:
    """Read the contents of images, so that they can be browsed; without words, of all that are ready.

    An image whose key is not here waits for it, and says so.
    """
    if images and pool is not None:
        raise InputError("images are named one by one or by their pool, not both")
    body: dict[str, object] = {"images": list(images)} if images else {"pool": pool} if pool else {}
    jobs = [{"job": job} for job in session.api.post("/imports/phase2", body)["jobs"]]
    if wait:
        jobs = [wait_for(session, job_id(job)) for job in jobs]
    session.out.table(
        jobs, [("job", "JOB"), ("subject", "SUBJECT"), ("state", "STATE")], "nothing to import: see 'import status'"
    )


@command.command()
@verb
@click.option("--missing-keys", is_flag=True, help="Only what waits for keys, key by key.")
def status(session: Session, missing_keys: bool) -> None:
    """Show images that are not imported yet, and the keys they wait for."""
    found = session.api.get("/imports", {"missing_keys": "true"} if missing_keys else None)
    if session.out.as_json:
        session.out.result(found)
        return
    tags = found.get("by_tag") or []
    if not missing_keys:
        columns = [("image", "IMAGE"), ("origin_name", "ORIGIN"), ("client", "CLIENT"), ("state", "STATE")]
        session.out.table(found.get("images") or [], columns, "no image waits for its import")
    columns = [("tag", "TAG"), ("known", "KNOWN"), ("state", "STATE"), ("images", "IMAGES"), ("bytes", "SIZE")]
    session.out.table(sized(tags, "bytes"), columns, "no image waits for a key")
    if any(tag.get("known") is False for tag in tags):
        session.out.say("next: 'strongroom kms key recover TAG', or 'strongroom kms keystore import PATH'")
