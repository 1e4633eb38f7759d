"""``strongroom job``: what the domain does, did and will do."""

from __future__ import annotations

from typing import Any

import click

from strongroom.cli.exits import job_failed
from strongroom.cli.jobs import follow, job_path
from strongroom.cli.session import Session, verb
from strongroom.cli.terminal import safe, size


@click.group()
def command() -> None:
    """List, show, watch, cancel and resume jobs."""


@command.command("list")
@verb
@click.option("--state", help="In this state: queued, waiting, running, done, failed, cancelled.")
@click.option("--kind", help="Of this kind.")
def list_(session: Session, state: str | None, kind: str | None) -> None:
    """List jobs."""
    columns = [
        ("job", "JOB"),
        ("kind", "KIND"),
        ("subject", "SUBJECT"),
        ("state", "STATE"),
        ("attempt", "ATTEMPT"),
        ("created", "CREATED"),
        ("ended", "ENDED"),
    ]
    session.out.table(session.api.pages("/jobs", {"state": state, "kind": kind}), columns, "no jobs")


@command.command()
@verb
@click.argument("job")
def show(session: Session, job: str) -> None:
    """Show one job, its error and its log."""
    found = session.api.get(job_path(job))
    session.out.result(found, None if session.out.as_json else _text(found))


@command.command()
@verb
@click.argument("job")
def watch(session: Session, job: str) -> None:
    """Wait until a job has ended; ends with 11 when it failed or was cancelled."""
    found = follow(session, job)
    if found.get("state") != "done":
        raise job_failed(found)
    session.out.result(found, None if session.out.as_json else _text(found))


@command.command()
@verb
@click.argument("job")
def cancel(session: Session, job: str) -> None:
    """Ask a job to stop; one that runs winds up first."""
    found = session.api.post(f"{job_path(job)}/cancel")
    session.out.result(found, f"job {safe(job)} was asked to stop")


@command.command()
@verb
@click.argument("job")
def resume(session: Session, job: str) -> None:
    """Queue a job anew that failed or was cancelled; what it has done is not done again."""
    found = session.api.post(f"{job_path(job)}/resume")
    session.out.result(found, f"job {safe(job)} is {safe(str(found['state']))}")
    session.out.say(f"next: 'strongroom job watch {job}'")


def _text(found: dict[str, Any]) -> str:
    lines = [f"job {found.get('job')}: {found.get('kind')} {found.get('subject') or ''}".rstrip()]
    lines.append(f"{found.get('state')}, attempt {found.get('attempt', '-')}, created {found.get('created', '-')}")
    progress = found.get("progress") or {}
    if progress:
        of = f" of {size(progress['bytes_total'])}" if progress.get("bytes_total") else ""
        lines.append(f"{size(progress.get('bytes_done') or 0)}{of}, {progress.get('files') or 0} files")
    error = found.get("error") or {}
    if error:
        lines.append(f"error: {error.get('message')} [{error.get('code')}]")
        if error.get("hint"):
            lines.append(f"hint: {error['hint']}")
    for line in found.get("log") or []:
        facts = " ".join(f"{key}={value}" for key, value in (line.get("facts") or {}).items())
        lines.append(f"{line.get('at')} {line.get('level')}: {line.get('message')} {facts}".rstrip())
    return "\n".join(safe(line) for line in lines)
