"""``strongroom join``: a media server in a home of its own, whole or not at all.

Order: the primary's root is fetched and compared with the pin, the connection made anew and verified, and only then is
the token sent, with a request for a certificate; the settings come last, because by them a folder is known to be a
home. The home has no catalog, no CA and no key of the KMS: only the certificate, whose key never leaves it.
"""

from __future__ import annotations

import shutil
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from strongroom.core.clock import Clock
from strongroom.core.errors import RefusedError
from strongroom.core.ids import DomainId
from strongroom.core.secret import Secret
from strongroom.pki import bootstrap, messages
from strongroom.pki.ca import to_der
from strongroom.pki.channel import DEFAULT_PORT, Address
from strongroom.pki.fingerprint import Fingerprint
from strongroom.pki.roles import Role
from strongroom.services.identity import Identities
from strongroom.services.media.server import CERTIFICATES
from strongroom.settings.home import Home
from strongroom.settings.media_host import check_joined, write_joined

DEFAULT_LISTEN: Final = f"0.0.0.0:{DEFAULT_PORT + 2}"


class FolderInUseError(RefusedError):
    """There is something at the place of the new home already."""

    code = "join.home-exists"
    default_hint = "choose another folder, or move the old home away"


@dataclass(frozen=True)
class Joined:
    """The media server that was made.

    Attributes:
        domain: that it belongs to.
        name: of the domain, for people.
        host: its id.
    """

    domain: DomainId
    name: str
    host: str


def join(
    home: Home,
    *,
    primary: Address,
    pin: Fingerprint,
    token: Secret,
    host: str | None,
    listen: str | None,
    clock: Clock,
) -> Joined:
    """Make a media server of a domain.

    Args:
        home: where; nothing may be there but an empty folder.
        primary: the primary's peer listener.
        pin: of the domain's root.
        token: of the purpose ``enrol-host`` and the role ``media``; used once.
        host: name or address by which others reach this media server, which no other one has; this machine's name by
            default.
        listen: ``ADDRESS:PORT`` of its listener.
        clock: compared with the primary's.

    Raises:
        FolderInUseError: something is there.
        SettingsError: the address to listen at cannot be.
        WrongFingerprintError, UnreachableError and their fellows: the primary is not the pinned one.
        TokenUnknownError, NameTakenError and their fellows: the primary refuses.
    """
    place, name = listen or DEFAULT_LISTEN, host or socket.getfqdn()
    check_joined(place)
    if home.path.exists() and not (home.path.is_dir() and not any(home.path.iterdir())):
        raise FolderInUseError(f"'{home.path}' exists and is not empty")
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, home.path, ignore_errors=True)
        for folder in (home.path, home.media, home.run, home.logs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
        identities = Identities(home.media / CERTIFICATES)
        pinned, channel = bootstrap.introduce(primary, pin, clock)
        with channel:
            document = messages.decode(channel.get(messages.CA_PATH), messages.CADocument)
            request = messages.EnrolRequest(
                token=token.reveal().decode("utf-8"),
                request=identities.make_request(pinned.domain),
                role=Role.MEDIA.value,
                label=f"{document.name} media {name}"[:253],
                names=[name],
            )
            issued = messages.decode(channel.post(messages.ENROL_PATH, request), messages.IssuedDocument)
        identities.take(pinned.domain, list(issued.chain), [to_der(pinned.root)])
        write_joined(home, domain=document.name, host=name, listen=place, primary=str(primary))
        undo.pop_all()  # it is whole: nothing to undo
    return Joined(pinned.domain, document.name, issued.host)
