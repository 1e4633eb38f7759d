"""What a primary and its media servers say: records in the bodies of HTTP requests.

Source: ``docs/reference/protocols/media-server.md``. Both ends are of one domain, and of releases that follow each
other, so unknown keys are ignored and new keys have defaults.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeVar

import msgspec

from strongroom.formats import records
from strongroom.formats.copy_header import MAX_TAGS
from strongroom.formats.fragment import MAX_BYTES as MAX_FRAGMENT_BYTES
from strongroom.formats.journal import BATCH
from strongroom.formats.key_envelope import KEY_ENVELOPE
from strongroom.formats.records import Bytes16, Bytes32, Count
from strongroom.pki.ca import MAX_CERTIFICATE_BYTES

MAX_RECORD_BYTES: Final = 8 << 20
CONTENT_TYPE: Final = "application/vnd.strongroom.record"

Text = Annotated[str, msgspec.Meta(max_length=1_024)]
_Secret32 = Bytes32
T = TypeVar("T", bound=msgspec.Struct)


class Nothing(msgspec.Struct, frozen=True, kw_only=True):
    """An answer, or a question, without content."""


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """Root, references and bytes of one stream."""

    root: Bytes32
    segments: Count
    bytes: Count
    chunker: tuple[Count, Count, Count, Count]


class PreviousImage(msgspec.Struct, frozen=True, kw_only=True):
    """The image that a backup may refer to."""

    image: Bytes16
    copy: Count


class Redeem(msgspec.Struct, frozen=True, kw_only=True):
    """A client has shown a grant; over TLS also its certificate, DER."""

    job: Count
    grant: _Secret32
    shown: Annotated[bytes, msgspec.Meta(max_length=MAX_CERTIFICATE_BYTES)] | None = None

    def __repr__(self) -> str:
        return f"Redeem(job={self.job}, ***)"


class JobSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What the media server may do for a job: write an image, or read one; ``client`` is the host that it is for."""

    job: Count
    kind: str
    image: Bytes16
    medium: Bytes16
    copy: Count
    group: Bytes16
    cipher: int
    tags: Annotated[list[Bytes32], msgspec.Meta(max_length=MAX_TAGS)] = []
    previous: PreviousImage | None = None
    paths: list[bytes] = []
    client: Bytes16 | None = None


class IssueKeys(msgspec.Struct, frozen=True, kw_only=True):
    """Data keys are needed for a job."""

    job: Count
    count: Annotated[int, msgspec.Meta(ge=1, le=1_024)]


class FrameKeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """A data key's id and its frame key."""

    id: Bytes16
    key: _Secret32

    def __repr__(self) -> str:
        return "FrameKeyRow(***)"


class IssuedKeys(msgspec.Struct, frozen=True, kw_only=True):
    """A new envelope, and the frame keys of what is in it; for purpose *names* the naming key itself."""

    envelope: Annotated[bytes, msgspec.Meta(max_length=KEY_ENVELOPE.max_bytes)]
    keys: Annotated[list[FrameKeyRow], msgspec.Meta(max_length=1_024)]


class NamingKey(msgspec.Struct, frozen=True, kw_only=True):
    """The naming key of a job's group and pool is needed; these envelopes with one lie in the pool, newest first."""

    job: Count
    envelopes: Annotated[
        list[Annotated[bytes, msgspec.Meta(max_length=KEY_ENVELOPE.max_bytes)]], msgspec.Meta(max_length=16)
    ]


class NamingKeyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The naming key; with a new envelope when none of those in the pool opens."""

    key: _Secret32
    envelope: Annotated[bytes, msgspec.Meta(max_length=KEY_ENVELOPE.max_bytes)] | None

    def __repr__(self) -> str:
        return "NamingKeyAnswer(***)"


class MarkingKey(msgspec.Struct, frozen=True, kw_only=True):
    """A collection rewrites containers of a key group: these envelopes have its naming keys, newest first."""

    job: Count
    group: Bytes16
    envelopes: Annotated[
        list[Annotated[bytes, msgspec.Meta(max_length=KEY_ENVELOPE.max_bytes)]], msgspec.Meta(max_length=16)
    ]


class MarkingKeyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The naming key with which the next backup of the group will look; ``None`` when none of them opens."""

    key: _Secret32 | None

    def __repr__(self) -> str:
        return "MarkingKeyAnswer(***)"


class Unwrap(msgspec.Struct, frozen=True, kw_only=True):
    """Data keys of a job's image are needed, which lie in these envelopes."""

    job: Count
    image: Bytes16
    envelopes: Annotated[
        list[Annotated[bytes, msgspec.Meta(max_length=KEY_ENVELOPE.max_bytes)]], msgspec.Meta(max_length=2_048)
    ]
    keys: Annotated[list[Bytes16], msgspec.Meta(max_length=4_096)]


class Unwrapped(msgspec.Struct, frozen=True, kw_only=True):
    """Frame keys."""

    keys: list[FrameKeyRow]


class CommitBackup(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of a backup is on stable storage but its fragment."""

    job: Count
    entries: Stream
    payload: Stream
    key_pages: list[Bytes32]
    tags: list[Bytes32]
    files: Count
    content: Count
    problems: Count
    read_bytes: Count
    same_bytes: Count
    added_bytes: Count
    followed: Count = 0


class FragmentToWrite(msgspec.Struct, frozen=True, kw_only=True):
    """A fragment that the primary signed; the same bytes each time that it is asked for."""

    medium: Bytes16
    image: Bytes16
    copy: Count
    data: Annotated[bytes, msgspec.Meta(max_length=MAX_FRAGMENT_BYTES)]


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """A fragment is on stable storage, and locked if its pool locks; or, with a sequence, a journal batch."""

    medium: Bytes16
    image: Bytes16 | None = None
    copy: Count = 0
    sequence: Count = 0
    locked_until_ns: Count = 0


class LockState(msgspec.Struct, frozen=True, kw_only=True):
    """How a pool is locked: how strictly, in which steps, where its lock clock is, how much, and until when at most."""

    mode: Annotated[str, msgspec.Meta(max_length=32)] = "none"
    rounding_days: Count = 0
    clock_ns: Count = 0
    objects: Count = 0
    latest_ns: Count = 0


class PoolChecks(msgspec.Struct, frozen=True, kw_only=True):
    """How a pool's objects held at their last checks; ``unchecked`` counts containers that had none."""

    oldest_ns: Count | None
    unchecked: Count
    damaged: Count


class PoolState(msgspec.Struct, frozen=True, kw_only=True):
    """One pool of a media server."""

    medium: Bytes16
    path: Text
    free_bytes: Count | None
    stored_bytes: Count
    journal: Count
    checks: PoolChecks | None = None
    requests: Annotated[dict[Annotated[str, msgspec.Meta(max_length=32)], Count], msgspec.Meta(max_length=32)] = {}
    lock: LockState = LockState()
    followed: Count = 0


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """A media server lives."""

    version: Text
    pools: Annotated[list[PoolState], msgspec.Meta(max_length=1_024)]
    address: Annotated[str, msgspec.Meta(max_length=512)] = ""
    socket: Text = ""


class Attend(msgspec.Struct, frozen=True, kw_only=True):
    """The media server has the clients' sessions of these jobs; with ``began``, its process has just begun."""

    jobs: Annotated[list[Count], msgspec.Meta(max_length=65_536)]
    began: bool = False


class PoolToOpen(msgspec.Struct, frozen=True, kw_only=True):
    """A pool that the media server serves."""

    medium: Bytes16
    path: Text
    shared: bool = False


class BatchToWrite(msgspec.Struct, frozen=True, kw_only=True):
    """A journal batch that the primary signed."""

    medium: Bytes16
    sequence: Count
    data: Annotated[bytes, msgspec.Meta(max_length=BATCH.max_bytes)]


class BeatAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a media server serves, what it must write (again), and whom it must refuse."""

    pools: list[PoolToOpen] = []
    fragments: list[FragmentToWrite] = []
    batches: list[BatchToWrite] = []
    crls: list[bytes] = []


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """A job failed at the media server."""

    job: Count
    document: dict[str, object]


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """A restore was sent whole."""

    job: Count
    files: Count
    bytes: Count


class Advance(msgspec.Struct, frozen=True, kw_only=True):
    """How far a job is."""

    job: Count
    bytes: Count
    files: Count
    message: Text = ""


class Continue(msgspec.Struct, frozen=True, kw_only=True):
    """Whether to go on."""

    go_on: bool


class BucketKeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """The access key for a bucket."""

    access_key: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    secret: Annotated[bytes, msgspec.Meta(min_length=1, max_length=1_024)]

    def __repr__(self) -> str:
        return "BucketKeyRow(***)"


class MakePool(msgspec.Struct, frozen=True, kw_only=True):
    """A pool is to be made: a folder, or with a key in object storage."""

    path: Text
    header: bytes
    revocations: bytes
    key: BucketKeyRow | None = None


class RekeyPool(msgspec.Struct, frozen=True, kw_only=True):
    """A pool in object storage has another access key."""

    medium: Bytes16
    path: Text
    key: BucketKeyRow


class AskBucketKey(msgspec.Struct, frozen=True, kw_only=True):
    """A pool is to be opened, and its bucket wants an access key. The answer is a :class:`BucketKeyRow`."""

    medium: Bytes16


class PoolMade(msgspec.Struct, frozen=True, kw_only=True):
    """A pool folder is there: the media header that lies in it."""

    header: bytes


class ReadFragments(msgspec.Struct, frozen=True, kw_only=True):
    """Fragments of a pool, behind a name, for phase one; or the one of a name."""

    medium: Bytes16
    after: Text
    most: Annotated[int, msgspec.Meta(ge=1, le=1_000)]
    name: Text = ""


class FragmentRow(msgspec.Struct, frozen=True, kw_only=True):
    """A fragment as it lies in the pool."""

    name: Text
    data: Annotated[bytes, msgspec.Meta(max_length=MAX_FRAGMENT_BYTES)]


class Fragments(msgspec.Struct, frozen=True, kw_only=True):
    """Fragments, and whether there are more."""

    rows: list[FragmentRow]
    more: bool


class ReadJournal(msgspec.Struct, frozen=True, kw_only=True):
    """Journal batches of a pool, behind a number."""

    medium: Bytes16
    after: Count
    most: Annotated[int, msgspec.Meta(ge=1, le=1_000)]


class JournalBatches(msgspec.Struct, frozen=True, kw_only=True):
    """Journal batches as they lie in the pool, rising; and whether there are more."""

    rows: list[BatchToWrite]
    more: bool


class PoolStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How is this pool? The answer is a :class:`PoolState`."""

    medium: Bytes16


class ListFiles(msgspec.Struct, frozen=True, kw_only=True):
    """The entries of an image are to be read and sent to the primary; phase two."""

    job: Count
    medium: Bytes16
    image: Bytes16
    copy: Count


class VerifyImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image is to be verified, with its data decrypted or not."""

    job: Count
    medium: Bytes16
    image: Bytes16
    copy: Count
    with_data: bool


class VerifyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with an image; nothing when it is whole."""

    problems: list[Text]


class MakeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The media server is to make a key for its part in another domain, and a certificate request with it."""

    domain: Bytes32


class HostRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate request (PKCS #10, DER)."""

    request: bytes


class HostCertificate(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate that another domain issued to this media server, and that domain's roots."""

    domain: Bytes32
    chain: list[bytes]
    roots: list[bytes]


def encode(message: msgspec.Struct) -> bytes:
    """Write a message."""
    return records.encode(message)


def decode(data: bytes, kind: type[T]) -> T:
    """Read a message.

    Raises:
        DamagedError: it is not one of this kind.
    """
    return records.decode(data, kind, max_bytes=MAX_RECORD_BYTES, what=kind.__name__)
