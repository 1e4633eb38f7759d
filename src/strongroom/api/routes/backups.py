"""Starting backups and restores; the data goes between the client and its media server."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from strongroom.api.errors import BadRequestError
from strongroom.api.fields import LARGEST_INT, UUID, Answer, Body, Name, PathBytes, text
from strongroom.api.policies import PolicyName
from strongroom.api.ports import MediaListener, StartedBackup, StartedRestore
from strongroom.api.routing import Routes
from strongroom.api.security import CallerDep
from strongroom.catalog.images import get_image
from strongroom.core.ids import HostId, ImageId, to_text
from strongroom.database import read
from strongroom.kms.errors import NoActiveKeyError
from strongroom.lifecycle import policies
from strongroom.lifecycle.policy import Backup
from strongroom.people.sessions import authorise

routes = Routes("backups")
MAX_PATHS = 10_000

Paths = Annotated[list[PathBytes], Field(max_length=MAX_PATHS)]


HostField = Annotated[
    UUID | None,
    Field(description="registered client that sends or gets the data over TLS; null is one on the media server's host"),
]


class BackupRequest(Body):
    """What to back up, and what is to become of it."""

    client: Name | None = Field(
        default=None, description="name in the catalog; null is the primary's host. A registered client has its own"
    )
    host: HostField = None
    paths_b64: Annotated[Paths, Field(min_length=1, description="absolute paths, base64 of their bytes")]
    slp: PolicyName


class MediaListenerShown(Answer):
    """Where a registered client finds the media server, and the certificates by which it knows it."""

    host: str
    address: str
    certificates: list[str] = Field(description="SHA-256, hexadecimal: those that count now")


class BackupStarted(Answer):
    """The client now sends its stream to the media server, with the token."""

    job: int
    image: str
    token: str = Field(description="for this job and client alone, shown once")
    media_socket: str | None = Field(description="of the media server's host; null for a registered client")
    media: MediaListenerShown | None
    previous: bool = Field(description="whether the media server gives the records of an earlier image first")
    previous_started: datetime | None = Field(description="when that one began")


class RestoreRequest(Body):
    """What to restore."""

    image: UUID
    copy_number: int | None = Field(default=None, alias="copy", ge=1, le=LARGEST_INT, description="null takes the best")
    paths_b64: Annotated[Paths | None, Field(description="null restores everything")] = None
    mount: bool = Field(default=False, description="keep the image open for any read, until the client ends it")
    host: HostField = None


class RestoreStarted(Answer):
    """The client now takes its stream from the media server, with the token."""

    job: int
    token: str = Field(description="for this job and client alone, shown once")
    media_socket: str | None = Field(description="of the media server's host; null for a registered client")
    media: MediaListenerShown | None
    files: int
    bytes: int


@routes.post("/backups", "image.backup", on="slp:{slp}", status=201)
def start_backup(body: BackupRequest, caller: CallerDep) -> BackupStarted:
    """Start a backup.

    When the policy asks for encryption and its key group has no active key, nothing is begun: there is never a clear
    backup instead.
    """
    parts = caller.parts
    host = None if body.host is None else HostId(body.host)
    if host is not None and body.client is not None:
        raise BadRequestError("'client': a registered client has its name from the registry")

    def start() -> StartedBackup:
        with read(parts.engine) as connection:
            stored = policies.require_active(connection, body.slp)
        first = stored.policy.operations[0]
        if not isinstance(first, Backup):
            raise BadRequestError(f"'slp': the lifecycle policy '{body.slp}' imports, and takes no backups")
        if first.key_group is not None and parts.open_kms().group(first.key_group).active is None:
            raise NoActiveKeyError(f"the key group '{first.key_group}' has no active key")
        return parts.backups.start(caller.actor, body.client, host, body.paths_b64, body.slp)

    started = caller.act(
        start,
        facts={"client": body.client, "host": _shown(host), "paths": len(body.paths_b64)},
        describe=lambda made: {"job": made.job, "image": to_text(made.image)},
    )
    return BackupStarted(
        job=started.job,
        image=to_text(started.image),
        token=text(started.grant.token),
        media_socket=started.grant.socket,
        media=_listener(started.grant.listener),
        previous=started.previous_started is not None,
        previous_started=started.previous_started,
    )


@routes.post("/restores", "image.restore", on="image:{image}", status=201)
def start_restore(body: RestoreRequest, caller: CallerDep) -> RestoreStarted:
    """Start a restore, or a mount.

    Files of another client, or of another domain, are restored here only by those who may also ``image.redirect``.
    """
    parts, image = caller.parts, ImageId(body.image)
    host = None if body.host is None else HostId(body.host)
    if body.mount and body.paths_b64 is not None:
        raise BadRequestError("'paths_b64': a mount has everything")

    def start() -> tuple[StartedRestore, bool]:
        with read(parts.engine) as connection:
            redirected = not parts.restores.is_of(get_image(connection, image), host)
        if redirected:
            authorise(caller.session, "image.redirect", caller.object)
        paths = body.paths_b64 or ()
        begun = parts.restores.start(caller.actor, image, body.copy_number, host, paths, mount=body.mount)
        return begun, redirected

    started, _ = caller.act(
        start,
        facts={
            "copy": body.copy_number,
            "host": _shown(host),
            "paths": len(body.paths_b64 or ()),
            "mount": body.mount,
        },
        describe=lambda made: {"job": made[0].job, "redirected": made[1]},
    )
    return RestoreStarted(
        job=started.job,
        token=text(started.grant.token),
        media_socket=started.grant.socket,
        media=_listener(started.grant.listener),
        files=started.files,
        bytes=started.bytes,
    )


def _shown(host: HostId | None) -> str | None:
    return None if host is None else to_text(host)


def _listener(found: MediaListener | None) -> MediaListenerShown | None:
    if found is None:
        return None
    return MediaListenerShown(host=to_text(found.host), address=found.address, certificates=list(found.certificates))
