"""The primary, as its media server asks it: records over TLS with the certificates of the own domain."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from strongroom.core.clock import Clock
from strongroom.core.errors import StrongroomError, to_document
from strongroom.core.ids import DataKeyId, ImageId, MediumId, to_text
from strongroom.core.secret import Secret
from strongroom.pki.errors import UnreachableError
from strongroom.pool.keys import FrameKey
from strongroom.pool.place import BucketKey
from strongroom.services import messages, sending_messages, upkeep_messages
from strongroom.services.record_http import RecordClient

T = TypeVar("T", bound=msgspec.Struct)

PREFIX: Final = "/v1/media/"
LONG_SECONDS: Final = 3_600.0
ATTEND_SECONDS: Final = 10.0
PATIENCE_SECONDS: Final = 120.0
"""How long the work of a client waits for a primary that is away; longer than a primary takes to start again."""
_PAUSE_SECONDS: Final = 1.0

logger = logging.getLogger(__name__)


class PrimaryClient:
    """Asks the primary; may be shared by threads, each of which keeps a connection of its own.

    All methods raise :class:`~strongroom.pki.errors.UnreachableError` when the primary does not answer, and what it
    refused with.

    Args:
        client: how it is reached.
        uploads: the same on connections of their own, for bodies that ask the primary for keys while they are made.
    """

    def __init__(self, client: RecordClient, uploads: RecordClient) -> None:
        self._client = client
        self._uploads = uploads

    def attend(self, said: messages.Attend) -> None:
        """Say which clients' sessions live."""
        self._client.ask(PREFIX + "attend", said, messages.Nothing, timeout=ATTEND_SECONDS)

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()
        self._uploads.close()

    def beat(self, said: messages.Beat) -> messages.BeatAnswer:
        """Give a sign of life; learn what to serve and to write."""
        return self._ask("beat", said, messages.BeatAnswer)

    def bucket_key(self, medium: MediumId) -> BucketKey:
        """Get the access key for the bucket of a pool."""
        row = self._ask("bucket-key", messages.AskBucketKey(medium=medium), messages.BucketKeyRow)
        return BucketKey(row.access_key, Secret(row.secret))

    def stored(self, medium: MediumId, names: list[str]) -> None:
        """Say for the other media servers of a pool that objects are stored in it."""
        self._ask("stored", upkeep_messages.Stored(medium=medium, names=names), messages.Nothing)

    def follow(self, medium: MediumId, after: int) -> upkeep_messages.Followed:
        """Learn what other media servers of a pool did."""
        return self._ask("follow", upkeep_messages.Follow(medium=medium, after=after), upkeep_messages.Followed)

    def mark_containers(self, said: upkeep_messages.MarkContainers) -> list[str]:
        """Have containers condemned, reprieved or removed in a pool's log; give those of which it is so."""
        return self._ask("mark-containers", said, upkeep_messages.Marked).names

    def redeem(self, job: int, grant: Secret, shown: bytes | None) -> messages.JobSpec:
        """Learn what a client that showed a grant, and over TLS a certificate, may have done."""
        return self._ask("redeem", messages.Redeem(job=job, grant=grant.reveal(), shown=shown), messages.JobSpec)

    def issue_keys(self, job: int, count: int) -> messages.IssuedKeys:
        """Get fresh data keys."""
        return self._ask("issue-keys", messages.IssueKeys(job=job, count=count), messages.IssuedKeys)

    def naming_key(self, said: messages.NamingKey) -> messages.NamingKeyAnswer:
        """Get the naming key of a job's group and pool."""
        return self._ask("naming-key", said, messages.NamingKeyAnswer)

    def marking_key(self, said: messages.MarkingKey) -> messages.MarkingKeyAnswer:
        """Get the naming key with which a collection marks what it rewrites."""
        return self._ask("marking-key", said, messages.MarkingKeyAnswer)

    def unwrap(self, said: messages.Unwrap) -> messages.Unwrapped:
        """Have data keys opened."""
        return self._ask("unwrap", said, messages.Unwrapped)

    def commit(self, said: messages.CommitBackup) -> messages.FragmentToWrite:
        """Have an image signed that is stored."""
        return self._ask("commit", said, messages.FragmentToWrite)

    def receive(self, said: sending_messages.Receive) -> sending_messages.Receiving:
        """Ask whether an image of another domain may come."""
        return self._ask("receive", said, sending_messages.Receiving)

    def commit_received(self, said: sending_messages.CommitReceived) -> messages.FragmentToWrite:
        """Have a copy signed of an image that came from another domain and is stored."""
        return self._ask("commit-received", said, messages.FragmentToWrite)

    def written(self, said: messages.Written) -> sending_messages.WrittenAnswer:
        """Say that a fragment, or a journal batch, is on stable storage."""
        return self._ask("written", said, sending_messages.WrittenAnswer)

    def progress(self, said: messages.Advance) -> bool:
        """Say how far a job is; learn whether to go on."""
        return self._ask("progress", said, messages.Continue).go_on

    def done(self, said: messages.Done) -> None:
        """Say that a restore was sent whole."""
        self._ask("done", said, messages.Nothing)

    def fail(self, job: int, error: StrongroomError) -> None:
        """Say that a job failed here."""
        self._ask("fail", messages.Failed(job=job, document=to_document(error)), messages.Nothing)

    def file_list(self, job: int, image: ImageId, entries: Iterator[bytes]) -> None:
        """Send the entries of an image, as they are in it."""
        path = f"{PREFIX}file-list?job={job}&image={to_text(image)}"
        self._uploads.send(path, entries, messages.Nothing, timeout=LONG_SECONDS)

    def _ask(self, call: str, said: msgspec.Struct, kind: type[T]) -> T:
        return self._client.ask(PREFIX + call, said, kind)


class PatientPrimary(PrimaryClient):
    """The same for the work of clients: a primary that is away for a while is waited for.

    Each question may be asked again: the primary answers a second ``commit`` as the first, and what it issued in an
    answer that was lost is not used.

    Args:
        client: how it is reached.
        uploads: the same for bodies.
        clock: tells how long it has been waited.
    """

    def __init__(self, client: RecordClient, uploads: RecordClient, clock: Clock) -> None:
        super().__init__(client, uploads)
        self._clock = clock
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Wait no longer: the media server stops."""
        self._stopped.set()

    def _ask(self, call: str, said: msgspec.Struct, kind: type[T]) -> T:
        began = self._clock.monotonic()
        while True:
            try:
                return super()._ask(call, said, kind)
            except UnreachableError as error:
                if self._clock.monotonic() - began > PATIENCE_SECONDS or self._stopped.is_set():
                    raise
                logger.warning(
                    "waiting for the primary: %s",
                    error.message,
                    extra={"event": "primary-away", "call": call, "code": error.code},
                )
            self._stopped.wait(_PAUSE_SECONDS)


class JobKeys:
    """Issues data keys for one backup; a :class:`~strongroom.images.keys.KeyIssuer`."""

    def __init__(self, primary: PrimaryClient, job: int) -> None:
        self._primary = primary
        self._job = job

    def issue(self, count: int) -> tuple[bytes, list[FrameKey]]:
        """Give a new signed envelope, and the frame keys of the data keys in it."""
        issued = self._primary.issue_keys(self._job, count)
        return issued.envelope, [FrameKey(DataKeyId(row.id), Secret(row.key)) for row in issued.keys]


class ImageKeys:
    """Opens data keys of one image for one job; a :class:`~strongroom.images.keys.KeyOpener`."""

    def __init__(self, primary: PrimaryClient, job: int, image: ImageId) -> None:
        self._primary = primary
        self._job = job
        self._image = image

    def open(self, envelopes: Sequence[bytes], wanted: Collection[DataKeyId]) -> Mapping[DataKeyId, Secret]:
        """Give the frame keys of data keys that lie in these envelopes."""
        said = messages.Unwrap(job=self._job, image=self._image, envelopes=list(envelopes), keys=list(wanted))
        return {DataKeyId(row.id): Secret(row.key) for row in self._primary.unwrap(said).keys}
