"""``strongroom backup``: an image of files of this host."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from strongroom.cli.client_host import door_of, takes_client_home, this_client
from strongroom.cli.exits import WITH_PROBLEMS, leave
from strongroom.cli.session import Session, verb
from strongroom.cli.terminal import encode_path, safe, size


@click.command()
@verb
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--slp", required=True, help="Lifecycle policy of the image.")
@click.option(
    "--client",
    metavar="NAME",
    help="Name of the client in the catalog; without it, that of the host. A client that is enrolled has its own.",
)
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Leave out, such as '*.o'; may be repeated.")
@click.option("--one-file-system", is_flag=True, help="Do not enter other file systems.")
@click.option("--full-read", is_flag=True, help="Read all files again, also those that look unchanged.")
@takes_client_home
def command(
    session: Session,
    paths: tuple[str, ...],
    slp: str,
    client: str | None,
    exclude: tuple[str, ...],
    one_file_system: bool,
    full_read: bool,
    client_home: Path | None,
) -> None:
    """Back up PATHs of this host.

    The image is on stable storage when this ends with 0; with 10, it is too, but some files had problems.
    """
    from datetime import datetime

    from strongroom.cli.backing_up import Order, ReadAnew, back_up
    from strongroom.cli.jobs import report, working_for
    from strongroom.cli.progress import Progress
    from strongroom.cli.troubles import Troubles
    from strongroom.client.exclude import Exclude
    from strongroom.core.errors import InputError
    from strongroom.core.ids import to_text
    from strongroom.core.secret import Secret

    roots = [os.path.abspath(os.fsencode(path)) for path in paths]  # noqa: PTH100 - names may be any bytes
    patterns = [os.fsencode(pattern) for pattern in exclude]
    Exclude(patterns)  # a slip is found before a job is made
    body: dict[str, object] = {"paths_b64": [encode_path(root) for root in roots], "slp": slp}
    here = this_client(session, client_home)
    if here is not None and client is not None:
        raise InputError(f"this client is called '{here.name}' by its domain", hint="leave --client out")
    if here is not None:
        body["host"] = to_text(here.host)
    elif client is not None:
        body["client"] = client
    given = session.api.post("/backups", body)
    started = given.get("previous_started") if given["previous"] and not full_read else None
    order = Order(
        roots=roots,
        exclude=patterns,
        one_file_system=one_file_system,
        job=str(given["job"]),
        token=Secret(str(given["token"]).encode("ascii")),
        media=door_of(given, here),
        previous_started=datetime.fromisoformat(started) if started else None,
    )
    troubles, anew = Troubles(session.out), ReadAnew()
    with working_for(session, order.job), Progress("backup", shown=not session.out.as_json) as progress:
        answer = back_up(order, troubles, anew, progress)
    troubles.finish()
    for line in anew.told():
        session.out.say(f"{safe(line['message'])} [{line['code']}]")
    report(session, order.job, troubles.for_job() + anew.told())
    found = answer | troubles.to_json() | {"job": order.job, "read_anew": anew.told()}
    session.out.result(found, None if session.out.as_json else _text(found))
    if not session.out.as_json:
        session.out.say(
            f"next: 'strongroom image show {found['image']}', 'strongroom restore {found['image']} --to DIR'"
        )
    if found["problems"]:
        leave(WITH_PROBLEMS)


def _text(found: dict[str, Any]) -> str:
    return safe(
        f"image {found['image']}: {found.get('files')} files, {size(found.get('content_bytes'))}; "
        f"read {size(found.get('read_bytes'))}, unchanged {size(found.get('same_bytes'))}, "
        f"new in the pool {size(found.get('added_bytes'))}"
    )
