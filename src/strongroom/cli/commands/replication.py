"""``strongroom replication``: what is on its way to other domains, and what has arrived."""

from __future__ import annotations

import click

from strongroom.cli.session import Session, verb
from strongroom.cli.terminal import sized, span


@click.group()
def command() -> None:
    """Watch copies between domains."""


@command.command()
@verb
def status(session: Session) -> None:
    """Show each image and target: its state, how much was sent, how much was there already."""
    items = list(session.api.pages("/replications"))
    columns = [
        ("image", "IMAGE"),
        ("target_name", "TARGET"),
        ("state", "STATE"),
        ("bytes_sent", "SENT"),
        ("bytes_already_there", "ALREADY THERE"),
        ("attempts", "ATTEMPTS"),
        ("age_seconds", "AGE"),
        ("error", "ERROR"),
    ]
    if not session.out.as_json:
        items = [
            item | {"age_seconds": span(item.get("age_seconds")), "error": _short(item.get("error"))}
            for item in sized(items, "bytes_sent", "bytes_already_there")
        ]
    session.out.table(items, columns, "nothing to replicate; a policy with --replicate-to sends copies")


def _short(error: object) -> object:
    return error.get("message") if isinstance(error, dict) else error
