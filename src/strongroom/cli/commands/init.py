"""``strongroom init``: a new domain in a new home."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from strongroom.cli.output import Output
from strongroom.cli.secret_input import as_text, read_secret
from strongroom.cli.session import alone

_PHRASE: Final = "the pass phrase of the root key"


@click.command("init")
@alone
@click.argument("home", type=click.Path(path_type=Path))
@click.option("--domain", required=True, help="Name of the domain, for people.")
@click.option("--host", help="Name or address by which other hosts reach this one.  [default: this machine's name]")
@click.option("--listen", metavar="ADDR:PORT", help="Where the peer listener is; two more ports follow behind it.")
@click.option(
    "--root-passphrase-file",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE|-",
    help="File with the pass phrase of the root key; '-' reads standard input.  [default: one is made and shown once]",
)
@click.option("--database", metavar="URL", default="", help="An empty PostgreSQL database.  [default: SQLite in HOME]")
def command(
    out: Output,
    home: Path,
    domain: str,
    host: str | None,
    listen: str | None,
    root_passphrase_file: Path | None,
    database: str,
) -> None:
    """Make a new domain in HOME: its root key, CA, KMS, catalog and first administrator."""
    from strongroom.formats.passphrase import normalise
    from strongroom.services.primary.setup import init
    from strongroom.settings.home import Home
    from strongroom.settings.system import SystemClock, SystemEntropy

    phrase = None
    if root_passphrase_file is not None:
        given = read_secret(root_passphrase_file, "root-passphrase", _PHRASE)
        phrase = normalise(as_text(given, _PHRASE))
    made = init(
        Home(home.absolute()),
        name=domain,
        host=host,
        listen=listen,
        root_phrase=phrase,
        database=database,
        clock=SystemClock(),
        entropy=SystemEntropy(),
    )
    shown_phrase = made.root_phrase.reveal().decode("utf-8") if made.root_phrase is not None else None
    value = {
        "domain": made.domain.hex(),
        "name": domain,
        "fingerprint_sha256": made.fingerprint.hex,
        "root_key": str(made.root_key),
        "root_passphrase": shown_phrase,
        "administrator": made.administrator,
    }
    lines = [
        f"domain       {made.domain.hex()}",
        f"fingerprint  {made.fingerprint.hex}",
        f"             {made.fingerprint.words}",
        f"administrator  {made.administrator} (system account of this host)",
        "",
        f"The root key lies in '{made.root_key}'. Carry it away from this host, and its pass phrase elsewhere:",
        *([f"    {shown_phrase}"] if shown_phrase is not None else ["    (the one you gave)"]),
        "It is not shown again.",
        "",
        f"Next: strongroom serve {home}",
    ]
    out.result(value, "\n".join(lines))
