"""This host as a client of a domain: whether it is one, and the way to the media server that follows from it.

A command with a home of this host uses the socket of the media server here. One with a logged-in server looks into the
client folder: if this host is enrolled in that domain, the job is begun for it, and the data go over TLS.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from strongroom.cli import logins
from strongroom.cli.media_door import MediaDoor, SocketDoor
from strongroom.cli.session import Session
from strongroom.cli.terminal import safe
from strongroom.core.errors import StrongroomError

if TYPE_CHECKING:
    from strongroom.services.client.identity import ClientIdentity

FOLDER: Final = "client"

F = TypeVar("F", bound=Callable[..., Any])


def takes_client_home(function: F) -> F:
    """Give a command ``--client-home DIR``."""
    return click.option(
        "--client-home",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="STRONGROOM_CLIENT_HOME",
        metavar="DIR",
        help="Folder with the certificates of this host as a client; without it, beside the logins.",
    )(function)


def folder_of(named: Path | None) -> Path:
    """Give the client folder."""
    return named or logins.folder() / FOLDER


def this_client(session: Session, named: Path | None) -> ClientIdentity | None:
    """Tell as which client this host has a job begun; its certificate is renewed when that is due.

    Returns:
        ``None`` for the host of the media server: with a home here, or when no client folder was named and none is
        enrolled.

    Raises:
        NotEnrolledError: a client folder was named, and has no client of this domain.
        OpenToOthersError, DamagedError: its file cannot be trusted.
        ExpiredError: its certificate has ended.
    """
    if session.is_local:
        return None
    from cryptography import x509

    from strongroom.pki.names import read_domain
    from strongroom.services.client.identity import ClientFolder
    from strongroom.settings.system import SystemClock

    folder, clock = ClientFolder(folder_of(named)), SystemClock()
    domain = read_domain(x509.load_pem_x509_certificate(session.api.root.encode("ascii")))
    held = folder.find(domain) if named is None else folder.get(domain)
    if held is None:
        return None
    held.require_valid(clock.now())
    if not held.is_due(clock.now()):
        return held
    from strongroom.services.client.enrolment import renew

    try:
        return renew(folder, held, clock)
    except StrongroomError as error:
        session.out.say(
            f"the client's certificate, good until {held.not_after:%Y-%m-%d}, was not renewed: {safe(error.message)}"
        )
        return held


def door_of(given: dict[str, Any], client: ClientIdentity | None) -> MediaDoor:
    """Give the way to the media server of a job that was begun.

    Args:
        given: the primary's answer.
        client: for whom it was begun; see :func:`this_client`.
    """
    if client is None:
        return SocketDoor(Path(given["media_socket"]))
    from strongroom.cli.tls_door import TLSDoor
    from strongroom.core.ids import HostId, from_text
    from strongroom.pki.channel import Address
    from strongroom.pki.tls import client_context

    media = given["media"]
    return TLSDoor(
        address=Address.read(media["address"]),
        context=client_context([client.root], client.credential),
        host=HostId(from_text(media["host"])),
        certificates=frozenset(media["certificates"]),
    )
