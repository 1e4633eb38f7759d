"""``strongroom ca``: the root certificate, and the fingerprint that people compare."""

from __future__ import annotations

from typing import Any

import click

from strongroom.cli.session import Session, verb
from strongroom.cli.terminal import safe


@click.group()
def command() -> None:
    """Show the certificate authority of this domain, or of another."""


@command.command()
@verb
def show(session: Session) -> None:
    """Show the fingerprint of the root: to be read out to the other domain's administrator, and compared.

    --server HOST:PORT shows the root of another domain, as your own primary sees it there.
    """
    remote = session.take_remote()
    found = session.api.get("/ca", {"server": remote})
    session.out.result(found, None if session.out.as_json else _text(found))
    if not found.get("verified"):
        session.out.say("nothing vouches for this yet: compare it with what the other administrator reads out to you")


def _text(found: dict[str, Any]) -> str:
    words = found.get("words") or []
    digits = str(found["fingerprint_sha256"]).replace(":", "").upper()
    lines = [
        f"domain       {found.get('name')} ({found.get('domain')})",
        f"subject      {found.get('subject', '-')}",
        f"not after    {found.get('not_after', '-')}",
        "fingerprint  " + ":".join(digits[at : at + 2] for at in range(0, len(digits), 2)),
    ]
    rows = (" ".join(str(word) for word in words[at : at + 9]) for at in range(0, len(words), 9))
    lines += [f"{'words' if number == 0 else '':<13}{row}" for number, row in enumerate(rows)]
    lines.append(f"SHA-1        {found.get('fingerprint_sha1_for_comparison', '-')} (to compare by eye, not accepted)")
    return "\n".join(safe(line) for line in lines)
