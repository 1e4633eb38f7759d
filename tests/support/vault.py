"""A domain with a real keystore, archive key and pool, that makes and reads images without any server."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from strongroom.client.exclude import Exclude
from strongroom.client.previous import Previous, previous_files
from strongroom.client.problems import Trouble
from strongroom.client.restorer import Restorer, RestoreTotals
from strongroom.client.sender import Sender, Totals
from strongroom.client.walker import Walker
from strongroom.core.clock import to_ns
from strongroom.core.errors import KeyUnavailableError
from strongroom.core.ids import DataKeyId, DomainId, ImageId, KeyGroupId, KeyTag, MediumId
from strongroom.core.secret import Secret
from strongroom.formats import key_envelope, segment, signed
from strongroom.formats.copy_header import CheckedCopy
from strongroom.formats.fragment import Fragment
from strongroom.formats.image_header import Stream
from strongroom.formats.media_header import MEDIA_HEADER, MediaHeader
from strongroom.formats.segment import SegmentNamer
from strongroom.images.backup import BackupResult, BackupSession
from strongroom.images.collect import Rewriting
from strongroom.images.keys import IssuedKeys
from strongroom.images.open_pool import OpenPool
from strongroom.images.previous_listing import previous_listing
from strongroom.images.restore import restore_stream
from strongroom.images.selection import Selection
from strongroom.images.stored_image import StoredImage
from strongroom.kms.data_keys import DataKeys
from strongroom.pool.keys import FrameKey, KeysUsable
from strongroom.pool.manifest import StreamRoot
from strongroom.pool.rewriting import Limits
from strongroom.pool.writer import WriterLimits
from strongroom.settings.system import SystemEntropy
from tests.support.images import Domain, fixed
from tests.support.kms import KmsHome

CHUNKER = (1, *segment.PAYLOAD_CHUNKS)
GROUP = "homes"


class Vault:
    """One domain under a folder: keystore, archive key, one pool.

    Args:
        path: an empty folder, or that of an earlier vault of this name.
        name: of the domain.
    """

    def __init__(self, path: Path, name: str = "origin") -> None:
        self.domain = Domain(name)
        self.kms = KmsHome(path / "kms", name)
        self.kms.keys.create_group(GROUP)
        self.key = self.kms.keys.create_key(GROUP, "first", active=True)
        self.data_keys = DataKeys(self.kms.ring, self.domain.signer, 1, self.kms.clock, self.kms.entropy)
        self.clock = self.kms.clock
        self.entropy = SystemEntropy()
        self.issued: list[int] = []
        self.opened: list[int] = []
        self.path = path / "pool"
        self.pool = OpenPool.create(self.path, self.media_header(), self.clock, self.entropy)

    @property
    def id(self) -> DomainId:
        return self.domain.id

    @property
    def group(self) -> KeyGroupId:
        return self.key.group

    @property
    def medium(self) -> MediumId:
        return self.domain.pool

    def media_header(self) -> bytes:
        header = MediaHeader(
            domain=self.id,
            medium=self.medium,
            kind="pool",
            label="a pool",
            created=to_ns(self.clock.now()),
            features=(),
        )
        return signed.sign(MEDIA_HEADER, header, self.domain.signer)

    def reopen(self) -> None:
        """Close the pool and open it again, as after a restart."""
        self.pool.close()
        self.pool = OpenPool.open(self.path, self.clock, self.entropy)

    def rotate(self, name: str) -> KeyTag:
        """Make another key the active one of the group."""
        self.key = self.kms.keys.create_key(GROUP, name, active=True)
        return self.key.tag

    # -- what a primary gives

    def issue(self, count: int) -> tuple[bytes, list[FrameKey]]:
        self.issued.append(count)
        batch = self.data_keys.issue(self.group, count)
        return batch.envelope, [FrameKey(key, key_envelope.frame_key(secret)) for key, secret in batch.keys]

    def open(self, envelopes: Sequence[bytes], wanted: Collection[DataKeyId]) -> Mapping[DataKeyId, Secret]:
        self.opened.append(len(wanted))
        found = self.data_keys.unwrap(envelopes, wanted, origin=self.id, group=self.group)
        return {key: key_envelope.frame_key(secret) for key, secret in found.items()}

    def naming_key(self) -> Secret:
        held = self.pool.envelopes.naming(origin=self.id, group=self.group, medium=self.medium)
        key = self.open_naming_key(self.group, [self.pool.envelopes.read(one, self.id)[0] for one in held])
        if key is not None:
            return key
        batch = self.data_keys.issue_naming_key(self.group, self.medium)
        self.pool.envelopes.put(batch.envelope)
        return batch.keys[0][1]

    def open_naming_key(self, group: KeyGroupId, envelopes: Sequence[bytes]) -> Secret | None:
        for data in envelopes:
            keys = [DataKeyId(row.key) for row in signed.verify(key_envelope.KEY_ENVELOPE, data).payload.keys]
            try:
                return self.data_keys.unwrap([data], keys, origin=self.id, group=group)[keys[0]]
            except KeyUnavailableError:
                continue  # an older one may open
        return None

    def rewriting(self, percent: int = 100, most_bytes: int = 1 << 40, container_bytes: int = 64 << 20) -> Rewriting:
        """What a collection is told that rewrites: by default all containers that are not needed whole."""
        return Rewriting(Limits(percent, most_bytes, container_bytes), self.open_naming_key, lambda _: None)

    def usable_tags(self) -> list[KeyTag]:
        return [view.tag for view in self.kms.keys.keys(GROUP) if view.state in ("active", "inactive")]

    def usable(self) -> KeysUsable:
        tags = self.usable_tags()
        return lambda keys: self.pool.envelopes.usable(keys, origin=self.id, group=self.group, tags=tags)

    # -- backup and restore

    def session(
        self,
        *,
        encrypted: bool = True,
        previous: StoredImage | None = None,
        limits: WriterLimits | None = None,
        on_problem: Callable[[Any], None] = lambda _: None,
    ) -> BackupSession:
        return BackupSession(
            self.pool,
            namer=SegmentNamer(self.naming_key() if encrypted else segment.clear_naming_key(self.medium)),
            keys=IssuedKeys(self, self.pool.envelopes) if encrypted else None,
            usable=self.usable(),
            previous=previous,
            limits=limits,
            on_problem=on_problem,
        )

    def store(
        self,
        chunks: Iterable[bytes | memoryview],
        *,
        name: str = "image",
        encrypted: bool = True,
        previous: Fragment | None = None,
        limits: WriterLimits | None = None,
    ) -> tuple[Fragment, BackupResult]:
        """Store an image stream as an image, acknowledged."""
        opened = StoredImage(self.pool, previous, self) if previous is not None else None
        try:
            with self.session(encrypted=encrypted, previous=opened, limits=limits) as session:
                for chunk in chunks:
                    session.feed(chunk)
                result = session.finish()
        finally:
            if opened is not None:
                opened.close()
        return self.commit(result, name=name, encrypted=encrypted), result

    def commit(self, result: BackupResult, *, name: str = "image", encrypted: bool = True) -> Fragment:
        """Sign what a primary signs, and write it."""
        header = self.domain.image(
            name,
            encrypted=encrypted,
            key_group=self.group if encrypted else bytes(16),
            entries=stream_of(result.roots.entries),
            payload=stream_of(result.roots.payload),
            files=result.files,
            content=result.content,
            problems=result.problems,
        )
        made = self.domain.copy(
            header, tags=result.tags, key_pages=tuple(result.key_pages), medium=self.medium, journal_medium=self.medium
        )
        data = made.copy.data + made.trailer.data
        return self.pool.fragments.write(ImageId(header.payload.image), 1, data)

    @contextmanager
    def reading(self, copy: CheckedCopy) -> Iterator[StoredImage]:
        with StoredImage(self.pool, copy, self) as image:
            yield image

    def back_up(
        self,
        *roots: Path,
        previous: Fragment | None = None,
        name: str = "image",
        encrypted: bool = True,
        limits: WriterLimits | None = None,
        anew: Callable[[Trouble], None] = lambda _: None,
    ) -> tuple[Fragment, BackupResult, Totals]:
        """Back files up with the client's own code; ``anew`` is told what the pool lost of the previous image."""
        before = Previous((), None)
        if previous is not None:
            with self.reading(previous) as image:
                listing = previous_listing(image, self.pool, self.usable())
                before = Previous(list(previous_files(listing, anew)), None, anew)
        sender = Sender(before, readers=2)
        walker = Walker(sender.report, exclude=Exclude(()))
        blocks = sender.blocks(walker.walk([bytes(root) for root in roots]))
        fragment, result = self.store(blocks, name=name, encrypted=encrypted, previous=previous, limits=limits)
        return fragment, result, sender.totals

    def restore(
        self, copy: CheckedCopy, target: Path, selection: Iterable[bytes] = ()
    ) -> tuple[RestoreTotals, list[Any]]:
        """Restore with the client's own code."""
        problems: list[Any] = []
        restorer = Restorer(bytes(target), problems.append, self.entropy, flush=False)
        with self.reading(copy) as image:
            totals = restorer.restore(restore_stream(image, Selection(selection)))
        return totals, problems


def stream_of(root: StreamRoot) -> Stream:
    return Stream(root=root.page, segments=root.segments, bytes=root.bytes, chunker=CHUNKER)


def random_bytes(name: str, length: int) -> bytes:
    """Bytes that do not compress, and are the same in each run."""
    return fixed(name, length)
