"""``strongroom join``: one more media server of a domain, in a home of its own."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.cli.output import Output
from strongroom.cli.secret_input import read_secret, secret_file
from strongroom.cli.session import alone
from strongroom.cli.values import HostPort


@click.command("join")
@alone
@click.argument("home", type=click.Path(path_type=Path))
@click.option(
    "--to", "address", type=HostPort(), required=True, metavar="HOST:PORT", help="The primary's peer listener."
)
@click.option("--fingerprint", required=True, metavar="F", help="SHA-256 of its root: 64 digits or 26 words.")
@secret_file("token", "a token of the purpose 'enrol-host' and the role 'media'")
@click.option("--host", metavar="NAME", help="Name or address by which others reach it.  [default: this machine's]")
@click.option("--listen", metavar="ADDR:PORT", help="Where it listens.  [default: 0.0.0.0:8712]")
def command(
    out: Output,
    home: Path,
    address: str,
    fingerprint: str,
    token_file: Path | None,
    host: str | None,
    listen: str | None,
) -> None:
    """Make one more media server of a domain in HOME, which has no catalog, no CA and no keys of the KMS.

    It serves no pool before 'strongroom pool attach'.
    """
    from strongroom.pki.channel import Address
    from strongroom.pki.fingerprint import read_pin
    from strongroom.services.media.joining import join
    from strongroom.settings.home import Home
    from strongroom.settings.system import SystemClock

    made = join(
        Home(home.absolute()),
        primary=Address.read(address),
        pin=read_pin(fingerprint),
        token=read_secret(token_file, "token", "the token"),
        host=host,
        listen=listen,
        clock=SystemClock(),
    )
    value = {"domain": made.domain.hex(), "name": made.name, "host": made.host}
    lines = [
        f"domain  {made.domain.hex()} ({made.name})",
        f"host    {made.host}",
        "",
        f"Next: strongroom serve {home}, and 'strongroom pool attach NAME --host {made.host}' at the primary",
    ]
    out.result(value, "\n".join(lines))
