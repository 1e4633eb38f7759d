"""Keys for the job in hand: what a media server may have of the KMS.

A media server gets frame keys, never data keys or KMS keys, and only for a job of its own: for writing, fresh ones of
the job's group; for reading, those that an envelope of the job's image holds.
"""

from __future__ import annotations

from sqlalchemy import Connection

from strongroom.catalog.images import get_image
from strongroom.core.ids import DataKeyId, DomainId, HostId, ImageId, KeyGroupId, MediumId
from strongroom.core.secret import Secret
from strongroom.database import read
from strongroom.formats import key_envelope, signed
from strongroom.formats.key_envelope import KEY_ENVELOPE, Purpose
from strongroom.kms.errors import KeyNotFoundError, KeyStateError
from strongroom.services import messages
from strongroom.services.primary.client_work import BACKUP, ClientWork
from strongroom.services.primary.collecting import collected_on
from strongroom.services.primary.errors import NotYoursError
from strongroom.services.primary.image_work import ImageWork
from strongroom.services.primary.opening import Primary


class KeyDesk:
    """Gives media servers the keys of their jobs.

    Args:
        primary: whose KMS.
        clients: knows what clients do.
        images: knows what media servers do by themselves: list files, verify.
    """

    def __init__(self, primary: Primary, clients: ClientWork, images: ImageWork) -> None:
        self._primary = primary
        self._clients = clients
        self._images = images

    def issue(self, host: HostId, said: messages.IssueKeys) -> messages.IssuedKeys:
        """Make data keys for a backup.

        Raises:
            GrantError, NotYoursError: it is not this media server's job.
            NoActiveKeyError, KeystoreLockedError: there is no key: there must be no backup then.
        """
        with read(self._primary.engine) as connection:
            row = self._clients.work(connection, host, said.job)
        if row.kind != BACKUP:
            raise NotYoursError(f"the job {said.job} writes nothing")
        batch = self._primary.kms.data_keys.issue(KeyGroupId(row.key_group), said.count)
        rows = [
            messages.FrameKeyRow(id=identity, key=key_envelope.frame_key(key).reveal()) for identity, key in batch.keys
        ]
        return messages.IssuedKeys(envelope=batch.envelope, keys=rows)

    def naming_key(self, host: HostId, said: messages.NamingKey) -> messages.NamingKeyAnswer:
        """Give the naming key of a backup's group and pool: the newest that opens, or a new one."""
        with read(self._primary.engine) as connection:
            row = self._clients.work(connection, host, said.job)
        if row.kind != BACKUP:
            raise NotYoursError(f"the job {said.job} writes nothing")
        group, medium = KeyGroupId(row.key_group), MediumId(row.medium)
        for envelope in said.envelopes:
            key = self._open_naming_key(envelope, group, medium)
            if key is not None:
                return messages.NamingKeyAnswer(key=key.reveal(), envelope=None)
        batch = self._primary.kms.data_keys.issue_naming_key(group, medium)
        ((_, key),) = batch.keys
        return messages.NamingKeyAnswer(key=key.reveal(), envelope=batch.envelope)

    def marking_key(self, host: HostId, said: messages.MarkingKey) -> messages.MarkingKeyAnswer:
        """Give the naming key that the next backup of a group will have, to mark what a collection rewrites.

        None is made: without one nothing in the pool is found again anyhow.

        Raises:
            NotYoursError: it is not a collection that runs on this media server.
            KeystoreLockedError: nobody can tell now whether there is one.
        """
        with read(self._primary.engine) as connection:
            medium = collected_on(connection, host, said.job)
        for envelope in said.envelopes:
            key = self._open_naming_key(envelope, KeyGroupId(said.group), medium)
            if key is not None:
                return messages.MarkingKeyAnswer(key=key.reveal())
        return messages.MarkingKeyAnswer(key=None)

    def unwrap(self, host: HostId, said: messages.Unwrap) -> messages.Unwrapped:
        """Open data keys of a job's image.

        Raises:
            NotYoursError: the job is another's, or of another image.
            KeyNotFoundError, KeyStateError: the KMS has no usable key; names the tags.
            ForeignError: the envelopes are of another origin or key group than the image.
        """
        with read(self._primary.engine) as connection:
            origin, group = self._image_of(connection, host, said)
        keys = self._primary.kms.data_keys.unwrap(
            said.envelopes, [DataKeyId(key) for key in said.keys], origin=origin, group=group
        )
        return messages.Unwrapped(
            keys=[
                messages.FrameKeyRow(id=identity, key=key_envelope.frame_key(key).reveal())
                for identity, key in keys.items()
            ]
        )

    def _image_of(self, connection: Connection, host: HostId, said: messages.Unwrap) -> tuple[DomainId, KeyGroupId]:
        allowed = self._images.images_of(connection, host, said.job) or self._client_images(connection, host, said.job)
        if ImageId(said.image) not in allowed:
            raise NotYoursError(f"the job {said.job} does not read that image")
        image = get_image(connection, ImageId(said.image))
        return image.domain, image.key_group

    def _client_images(self, connection: Connection, host: HostId, job: int) -> set[ImageId]:
        row = self._clients.work(connection, host, job)
        allowed = {ImageId(row.image)}
        if row.details.get("previous"):
            allowed.add(ImageId(bytes.fromhex(row.details["previous"][0].replace("-", ""))))
        return allowed

    def _open_naming_key(self, envelope: bytes, group: KeyGroupId, medium: MediumId) -> Secret | None:
        payload = signed.verify(KEY_ENVELOPE, envelope, pinned=self._primary.domain).payload
        wanted = [DataKeyId(row.key) for row in payload.keys if _names(row, medium)]
        if not wanted:
            return None
        try:
            opened = self._primary.kms.data_keys.unwrap([envelope], wanted, origin=self._primary.domain, group=group)
        except (KeyNotFoundError, KeyStateError):
            return None  # its KMS key is gone: segments begin to be named anew
        return next(iter(opened.values()))


def _names(row: key_envelope.WrappedKey, medium: MediumId) -> bool:
    return row.purpose == Purpose.NAMES and row.medium == medium
