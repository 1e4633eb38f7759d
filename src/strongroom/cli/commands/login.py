"""``strongroom login``: a session with a primary on another host."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.cli.secret_input import as_text, read_secret, secret_file
from strongroom.cli.session import Session, verb


@click.command()
@verb
@click.option("--user", metavar="NAME", help="Name of the account; without it you are asked.")
@click.option("--fingerprint", metavar="F", help="SHA-256 fingerprint of the domain's root: 64 digits or 26 words.")
@click.option(
    "--ca", "ca_file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="The root itself, PEM."
)
@secret_file("password", "the password of the account")
def command(
    session: Session, user: str | None, fingerprint: str | None, ca_file: Path | None, password_file: Path | None
) -> None:
    """Sign in to the primary at --server URL, and keep the session.

    The primary is believed only when its certificate comes from the root that --fingerprint or --ca names;
    only then the password is sent. 'strongroom ca show' at the domain tells its fingerprint.
    """
    from strongroom.cli import logins, roots
    from strongroom.cli.api_client import ApiClient
    from strongroom.core.errors import InputError
    from strongroom.core.secret import Secret

    url = session.server
    if url is None:
        raise InputError("no primary was named", hint="give --server https://HOST:PORT")
    if ca_file is not None:
        root = roots.read_root(ca_file, fingerprint)
    elif fingerprint is not None:
        root = roots.fetch_root(url, fingerprint)
    else:
        root = roots.kept_root(url)
    name = user or click.prompt("User", err=True)
    password = read_secret(password_file, "password", "the password")
    with ApiClient(url, None, root) as api:
        answer = api.post("/login", {"user": name, "password": as_text(password, "the password")})
    logins.remember(url, Secret(answer["token"].encode("ascii")), root, name)
    session.out.result(
        {"server": url, "user": answer["user"], "expires": answer["expires"]},
        f"signed in to {url} as {name} until {answer['expires']}",
    )
