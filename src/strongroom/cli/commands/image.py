"""``strongroom image``: backups, wherever they came from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from strongroom.cli.client_host import door_of, takes_client_home, this_client
from strongroom.cli.jobs import job_id, wait_for
from strongroom.cli.session import Session, verb
from strongroom.cli.terminal import encode_path, path_of, safe, size, sized
from strongroom.core.errors import InputError, StrongroomError
from strongroom.core.ids import to_text

_FILE_COLUMNS = [("type", "TYPE"), ("size", "SIZE"), ("mtime", "MODIFIED"), ("path", "PATH")]
_FILES_IN_PAGE = 1_000  # as many as the server gives: an image may have a million


@click.group()
def command() -> None:
    """List, browse, verify, hold and expire images. IMAGE is the id of an image."""


@command.command("list")
@verb
@click.option("--client", help="Of this client.")
@click.option("--policy", help="Of this backup policy.")
@click.option("--slp", help="With this lifecycle policy.")
@click.option("--state", help="In this state.")
@click.option("--origin", metavar="DOMAIN", help="That began in this domain.")
@click.option("--since", metavar="TIME", help="Started at or after, RFC 3339.")
@click.option("--until", metavar="TIME", help="Started before, RFC 3339.")
@click.option("--waiting-for-tag", metavar="TAG", help="That wait for this key.")
def list_(session: Session, **filters: str | None) -> None:
    """List images."""
    items = session.api.pages("/images", filters)
    columns = [
        ("image", "IMAGE"),
        ("origin_name", "ORIGIN"),
        ("client", "CLIENT"),
        ("started", "STARTED"),
        ("files", "FILES"),
        ("content_bytes", "SIZE"),
        ("encrypted", "ENCRYPTED"),
        ("state", "STATE"),
        ("copies", "COPIES"),
    ]
    rows = items if session.out.as_json else _with_few_words(items)
    session.out.table(rows, columns, "no images; make one with 'strongroom backup PATH --slp SLP'")


@command.command()
@verb
@click.argument("image")
@click.option("--receipts", is_flag=True, help="What targets have signed for it, instead.")
def show(session: Session, image: str, receipts: bool) -> None:
    """Show one image and its copies, or the receipts of the domains that it was sent to."""
    if receipts:
        columns = [("target_name", "TARGET"), ("received", "RECEIVED"), ("state", "STATE"), ("verified", "VERIFIED")]
        session.out.table(
            session.api.pages(f"{_path(image)}/receipts"), columns, "no receipts; see 'strongroom replication status'"
        )
        return
    found = session.api.get(_path(image))
    session.out.result(found, None if session.out.as_json else _text(found))


@command.command()
@verb
@click.argument("image")
@click.argument("folder", required=False)
def files(session: Session, image: str, folder: str | None) -> None:
    """List what is in a FOLDER of an image; without one, at its top."""
    query: dict[str, object] = {"folder_b64": encode_path(os.fsencode(folder))} if folder is not None else {}
    _show_files(session, image, query)


@command.command()
@verb
@click.argument("image")
@click.argument("pattern")
def find(session: Session, image: str, pattern: str) -> None:
    """Find files of an image by a PATTERN such as '*.pdf'; quote it, or the shell reads it."""
    _show_files(session, image, {"find": pattern})


@command.command()
@verb
@click.argument("image")
@click.option("--wait", is_flag=True, help="Wait for the outcome.")
def verify(session: Session, image: str, wait: bool) -> None:
    """Read an image back, and check every byte of it."""
    found = session.api.post(f"{_path(image)}/verify")
    job = job_id(found)
    if wait:
        found = wait_for(session, job)
        session.out.result(found, f"image {safe(image)} is whole")
        return
    session.out.result(found, f"job {job}")
    session.out.say(f"next: 'strongroom job watch {job}'")


@command.command()
@verb
@click.argument("image")
@click.option("--reason", required=True, help="Why; kept in the audit.")
def hold(session: Session, image: str, reason: str) -> None:
    """Keep an image whatever its retention, until 'release'."""
    found = session.api.post(f"{_path(image)}/hold", {"reason": reason})
    session.out.result(found, f"image {safe(image)} is held")


@command.command()
@verb
@click.argument("image")
def release(session: Session, image: str) -> None:
    """End a hold: the image's retention counts again."""
    found = session.api.post(f"{_path(image)}/release")
    session.out.result(found, f"image {safe(image)} is not held any more")


@command.command()
@verb
@click.argument("image")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--copy", type=click.IntRange(1), metavar="N", help="This copy; without it, the best one.")
@takes_client_home
def mount(session: Session, image: str, folder: Path, copy: int | None, client_home: Path | None) -> None:
    """Show an IMAGE below an empty FOLDER, read-only, until it is unmounted.

    Stays in the foreground; Ctrl-C or 'fusermount3 -u FOLDER' ends it. Only what is read is decrypted. Needs FUSE.
    """
    from strongroom.cli.jobs import working_for
    from strongroom.cli.mount_channel import MountChannel
    from strongroom.cli.mounting import mount_at
    from strongroom.client.mounted import MountedImage
    from strongroom.core.secret import Secret

    if any(folder.iterdir()):
        raise InputError(f"'{folder}' is not empty", hint="mount into an empty folder")
    body: dict[str, object] = {"image": image, "mount": True}
    if copy is not None:
        body["copy"] = copy
    here = this_client(session, client_home)
    if here is not None:
        body["host"] = to_text(here.host)
    given = session.api.post("/restores", body)
    job = job_id(given)
    token = Secret(str(given["token"]).encode("ascii"))
    with working_for(session, job), MountChannel(door_of(given, here), job, token) as channel:
        opened = channel.opened
        mounted = MountedImage(channel.ask)
        told: set[str] = set()

        def tell(error: StrongroomError) -> None:
            if error.code not in told:
                told.add(error.code)
                session.out.say(f"{safe(error.message)} [{safe(error.code)}]")

        session.out.say(
            f"{opened.files} files, {size(opened.content)}, below {safe(str(folder))}; "
            f"end it with Ctrl-C or 'fusermount3 -u {safe(str(folder))}'"
        )
        try:
            mount_at(folder.absolute(), mounted, f"strongroom:{image}", tell)
        finally:
            mounted.close()
        channel.end()
    found = {"image": image, "job": job, "folder": str(folder), "files": opened.files, "errors": sorted(told)}
    session.out.result(found, f"{safe(str(folder))} is unmounted")


@command.command()
@verb
@click.argument("image")
@click.option("--copy", type=click.IntRange(1, 65_535), help="This copy alone; without it, all copies of this domain.")
@click.option("--reason", required=True, help="Why; kept in the audit and in the pool's journal.")
@click.option("--lift-lock", is_flag=True, help="Also when a governance lock keeps it; a compliance lock holds.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def expire(session: Session, image: str, copy: int | None, reason: str, lift_lock: bool, yes: bool) -> None:
    """Expire an image before its time. Its data go with the next collection of the pool."""
    session.confirm(f"Expire image {safe(image)} for ever?", yes=yes)
    found = session.api.post(f"{_path(image)}/expire", {"copy": copy, "reason": reason, "lift_lock": lift_lock})
    session.out.result(found, f"image {safe(image)} is expired: copies {', '.join(map(str, found['copies']))}")
    session.out.say("next: 'strongroom pool collect POOL' frees the room")


@command.command()
@verb
@click.argument("image")
@click.option("--days", type=click.IntRange(1, 36_500), required=True, help="How long from now on.")
@click.option("--reason", required=True, help="Why; kept in the audit and in the pool's journal.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def lock(session: Session, image: str, days: int, reason: str, yes: bool) -> None:
    """Lock an image longer, in the pools that lock. A lock that lasts longer stays as it is."""
    session.confirm(f"Lock image {safe(image)} for {days} days? It cannot be made shorter.", yes=yes)
    found = session.api.post(f"{_path(image)}/lock", {"days": days, "reason": reason})
    lines = [f"copy {one['copy']} is locked until {one['locked_until']}" for one in found["copies"]]
    session.out.result(found, safe("\n".join(lines)))


def _show_files(session: Session, image: str, query: dict[str, object]) -> None:
    items = session.api.pages(f"{_path(image)}/files", query | {"limit": _FILES_IN_PAGE})
    if session.out.as_json:
        session.out.stream(items)
        return
    rows = (item | {"path": path_of(item)} for item in items)
    session.out.table(sized(rows, "size"), _FILE_COLUMNS, "no such files in this image")


def _with_few_words(items: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        item | {"copies": len(item.get("copies") or []), "encrypted": bool(item.get("encrypted"))}
        for item in sized(items, "content_bytes")
    ]


def _text(found: dict[str, Any]) -> str:
    (shown_found,) = sized([found], "content_bytes")
    plain = {key: value for key, value in shown_found.items() if key != "copies"}
    width = max(len(key) for key in plain)
    lines = []
    for key, value in plain.items():
        shown = ", ".join(str(one) for one in value) if isinstance(value, list) else value
        lines.append(f"{key.replace('_', ' '):<{width}}  {'-' if shown in (None, '') else shown}")
    for copy in found.get("copies") or []:
        facts = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in copy.items() if key != "copy" and value)
        lines.append(f"copy {copy.get('copy')}: {facts}")
    return "\n".join(safe(line) for line in lines)


def _path(image: str) -> str:
    return f"/images/{quote(image, safe='')}"
