"""What REST asks for clients: the ports of :mod:`strongroom.api.ports` that begin backups, restores and mounts."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, select

from strongroom.api.ports import DataGrant, MediaListener, StartedBackup, StartedRestore
from strongroom.audit import Actor
from strongroom.catalog.model import Image
from strongroom.core.ids import HostId, ImageId
from strongroom.core.secret import Secret
from strongroom.database import transact
from strongroom.pki import registry
from strongroom.services.primary.client_hosts import Client, registered
from strongroom.services.primary.client_work import MOUNT, RESTORE, ClientWork
from strongroom.services.primary.media_client import MediaClients
from strongroom.services.primary.opening import Primary
from strongroom.services.primary.tables import media_beats


class Backups:
    """Backups of this domain's clients."""

    def __init__(self, primary: Primary, work: ClientWork, media: MediaClients) -> None:
        self._primary = primary
        self._work = work
        self._media = media

    def start(
        self, _actor: Actor, client: str | None, host: HostId | None, paths: Sequence[bytes], slp: str
    ) -> StartedBackup:
        """Begin a backup."""
        silent = self._media.silent()

        def deed(connection: Connection) -> StartedBackup:
            whose = _client(connection, self._primary, client, host)
            begun = self._work.start_backup(connection, whose, paths, slp, silent=silent)
            grant = _grant(connection, self._primary, self._media, begun.grant, begun.host, host)
            return StartedBackup(begun.job, begun.image, grant, begun.previous_started)

        return transact(self._primary.engine, deed)


class Restores:
    """Restores and mounts on this domain's clients."""

    def __init__(self, primary: Primary, work: ClientWork, media: MediaClients) -> None:
        self._primary = primary
        self._work = work
        self._media = media

    def is_of(self, image: Image, host: HostId | None) -> bool:
        """Tell whether an image is of the client on which it would be restored: by its id, and here by its name too."""
        ours = self._primary.ours
        if image.domain != ours.domain or image.client_host != (host or ours.host):
            return False
        return host is not None or image.client == socket.gethostname()

    def start(
        self,
        _actor: Actor,
        image: ImageId,
        copy: int | None,
        host: HostId | None,
        paths: Sequence[bytes],
        *,
        mount: bool,
    ) -> StartedRestore:
        """Begin a restore or mount."""
        kind = MOUNT if mount else RESTORE
        silent = self._media.silent()

        def deed(connection: Connection) -> StartedRestore:
            client = None if host is None else registered(connection, self._primary.domain, host).host
            begun = self._work.start_restore(connection, image, copy, paths, kind=kind, client=client, silent=silent)
            grant = _grant(connection, self._primary, self._media, begun.grant, begun.host, host)
            return StartedRestore(begun.job, grant, begun.image.files, begun.image.content_bytes)

        return transact(self._primary.engine, deed)


def _client(connection: Connection, primary: Primary, name: str | None, host: HostId | None) -> Client:
    if host is not None:
        return registered(connection, primary.domain, host)
    return Client(name or socket.gethostname())


def _grant(
    connection: Connection, primary: Primary, clients: MediaClients, grant: Secret, media: HostId, host: HostId | None
) -> DataGrant:
    """Say where the grant is to be shown: on the media server's own socket, or at its listener."""
    token = Secret(grant.reveal().hex().encode())
    if host is None:
        told = connection.execute(select(media_beats.c.socket).where(media_beats.c.host == media)).scalar_one_or_none()
        return DataGrant(token, told or str(primary.home.media_socket), None)
    now: datetime = primary.clock.now()
    good = [
        one.fingerprint.value.hex()
        for one in registry.certificates(connection, primary.domain, media)
        if one.revoked is None and one.not_before <= now < one.not_after
    ]
    return DataGrant(token, None, MediaListener(media, str(clients.address_of(media)), tuple(good)))
