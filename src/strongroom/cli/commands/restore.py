"""``strongroom restore``: files of an image, into a folder or as a tar stream."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from strongroom.cli.client_host import door_of, takes_client_home, this_client
from strongroom.cli.exits import WITH_PROBLEMS, leave
from strongroom.cli.session import Session, verb
from strongroom.cli.terminal import encode_path, safe, size
from strongroom.core.errors import InputError, RefusedError


class TargetExistsError(RefusedError):
    """What would be written is there already."""

    code = "cli.target-exists"
    default_hint = "choose another name, or give --overwrite always"


@click.command()
@verb
@click.argument("image")
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option(
    "--to", "target", type=click.Path(path_type=Path), metavar="DIR", help="Below this folder; '/': in place."
)
@click.option(
    "--tar", "tar", type=click.Path(path_type=Path, allow_dash=True), metavar="FILE|-", help="As tar; '-' is stdout."
)
@click.option(
    "--overwrite",
    type=click.Choice(["never", "older", "always"]),
    default="never",
    show_default=True,
    help="Replace what is there: never, when it was modified before the file of the image, or always.",
)
@click.option("--copy", type=click.IntRange(1), metavar="N", help="From this copy; without it, from the best one.")
@click.option("--owners-by-name", is_flag=True, help="Give files to owners by name, where this host knows the name.")
@takes_client_home
def command(
    session: Session,
    image: str,
    paths: tuple[str, ...],
    target: Path | None,
    tar: Path | None,
    overwrite: str,
    copy: int | None,
    owners_by_name: bool,
    client_home: Path | None,
) -> None:
    """Restore an IMAGE, or the PATHs of it with all below them.

    Ends with 10 when some files could not be restored as they were; a file is never there in part.
    """
    from strongroom.cli.jobs import report, working_for
    from strongroom.cli.progress import Progress
    from strongroom.cli.restoring import Order, restore_files, restore_tar, restore_tar_file
    from strongroom.cli.troubles import Troubles
    from strongroom.client.restorer import Overwrite
    from strongroom.client.selection import Selection
    from strongroom.core.ids import to_text
    from strongroom.core.secret import Secret

    to_stdout = tar is not None and str(tar) == "-"
    _check(session, target, tar, to_stdout=to_stdout, overwrite=overwrite, by_name=owners_by_name)
    wanted = [os.fsencode(path) for path in paths]
    selection = Selection(wanted)
    body: dict[str, object] = {"image": image}
    if wanted:
        body["paths_b64"] = [encode_path(path) for path in wanted]
    if copy is not None:
        body["copy"] = copy
    here = this_client(session, client_home)
    if here is not None:
        body["host"] = to_text(here.host)
    given = session.api.post("/restores", body)
    order = Order(
        job=str(given["job"]),
        token=Secret(str(given["token"]).encode("ascii")),
        media=door_of(given, here),
        selection=selection,
    )
    troubles = Troubles(session.out)
    found: dict[str, Any] = {"image": image, "job": order.job}
    with (
        working_for(session, order.job),
        Progress("restore", shown=not session.out.as_json, total_bytes=given.get("bytes")) as progress,
    ):
        if target is not None:
            totals = restore_files(
                order, os.fsencode(target), troubles, progress, overwrite=Overwrite(overwrite), by_name=owners_by_name
            )
            found |= {"to": str(target), "files": totals.files, "content_bytes": totals.content}
        elif tar is not None and not to_stdout:
            length = restore_tar_file(order, tar, troubles, progress, overwrite=overwrite == "always")
            found |= {"tar": str(tar), "tar_bytes": length}
        else:
            restore_tar(order, sys.stdout.buffer, troubles, progress)
            sys.stdout.buffer.flush()
    troubles.finish()
    report(session, order.job, troubles.for_job())
    found |= troubles.to_json()
    if not to_stdout:
        session.out.result(found, None if session.out.as_json else _text(found))
    if found["problems"]:
        leave(WITH_PROBLEMS)


def _check(
    session: Session, target: Path | None, tar: Path | None, *, to_stdout: bool, overwrite: str, by_name: bool
) -> None:
    if (target is None) == (tar is None):
        raise InputError("a restore goes to one place", hint="give --to DIR, or --tar FILE|-")
    if tar is not None and by_name:
        raise InputError("who unpacks a tar chooses its owners", hint="leave --owners-by-name out")
    if tar is not None and overwrite == "older":
        raise InputError("a tar is replaced always or never", hint="give --overwrite always, or leave it out")
    if to_stdout and session.out.as_json:
        raise InputError("standard output holds the tar or the JSON, not both", hint="give --tar FILE")
    if to_stdout and sys.stdout.isatty():
        raise InputError("a tar is not written to a terminal", hint="redirect it, or give --tar FILE")
    if tar is not None and not to_stdout and overwrite == "never" and tar.exists():
        raise TargetExistsError(f"'{tar}' is there already")


def _text(found: dict[str, Any]) -> str:
    if "tar" in found:
        return safe(f"{found['tar']}: {size(found['tar_bytes'])}")
    return safe(f"{found['files']} files, {size(found['content_bytes'])}, below {found['to']}")
