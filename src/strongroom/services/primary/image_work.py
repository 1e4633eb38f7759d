"""What the primary has media servers do by itself, as jobs: send images, import headers, list files, verify.

Each handler can run again at any point: what it changes is guarded by state, and the media server's part is repeatable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol

from sqlalchemy import Connection, select

from strongroom.catalog import keys as catalog_keys
from strongroom.catalog.errors import TombstonedError
from strongroom.catalog.file_list import FileEntry, adopt_file_list, remove_file_list
from strongroom.catalog.images import get_image
from strongroom.catalog.importing import import_fragment
from strongroom.catalog.media import get_medium
from strongroom.catalog.model import Copy, CopyState, Medium, Readability
from strongroom.catalog.rows import get_copy
from strongroom.catalog.tables import copies, file_lists, fragments
from strongroom.core.clock import to_ns
from strongroom.core.errors import IntegrityError, StrongroomError
from strongroom.core.ids import UUID_BYTES, DomainId, HostId, ImageId, KeyTag, MediumId, from_text, to_text
from strongroom.database import read, transact
from strongroom.formats import copy_header, fragment, hop, signed
from strongroom.formats.errors import ForeignError
from strongroom.formats.hop import HOP, Hop
from strongroom.formats.image_header import header_digest
from strongroom.jobs import Handler, JobContext, JobId, JobState, NewJob, Queue, RetryPolicy
from strongroom.jobs.tables import jobs as job_rows
from strongroom.lifecycle import replications
from strongroom.lifecycle.begin import begin_lifecycle, plan_image
from strongroom.lifecycle.planner import Send
from strongroom.lifecycle.tables import ReplicationState
from strongroom.pool import names
from strongroom.replication import targets
from strongroom.replication.errors import TrustNotActiveError
from strongroom.services import messages, sending_messages
from strongroom.services.primary import pools
from strongroom.services.primary.media_client import MediaClients
from strongroom.services.primary.opening import Primary
from strongroom.trust import store as trusts
from strongroom.trust.errors import NotActiveError

REPLICATE: Final = "replicate"
IMPORT: Final = "import"
LIST_FILES: Final = "list-files"
VERIFY: Final = "verify"
PHASE_ONE: Final = "phase-one"
KINDS: Final = frozenset({REPLICATE, IMPORT, LIST_FILES, VERIFY, PHASE_ONE})
_PAGE: Final = 256


class ImageDamagedError(IntegrityError):
    """Verification found something wrong."""

    code = "image.damaged"
    default_hint = "restore from another copy; the job's log names what is wrong"


class Arrivals(Protocol):
    """Who takes images that came from other domains."""

    def imported(self, connection: Connection, found: fragment.Fragment) -> Mapping[str, Any]:
        """Take the headers that were read from the storage."""


class _NoArrivals:
    def imported(self, _connection: Connection, _found: fragment.Fragment) -> Mapping[str, Any]:
        """Nothing arrives before the parts are joined."""
        raise RuntimeError("an import job ran before the primary was put together")


def _nothing_to_say() -> None:
    """Nobody listens before the parts are joined."""


class ImageWork:
    """Jobs about images.

    Args:
        primary: whose.
        media: the domain's media servers.
    """

    def __init__(self, primary: Primary, media: MediaClients) -> None:
        self._primary = primary
        self._media = media
        self.arrived: Arrivals = _NoArrivals()
        self.say_soon: Callable[[], None] = _nothing_to_say

    def queues(self) -> list[Queue]:
        """Give the queues of these jobs."""
        return [Queue("replication", 2), Queue("import", 2), Queue("reading", 2)]

    def handlers(self) -> dict[str, Handler]:
        """Give the handlers of these jobs."""
        retry = RetryPolicy(first=self._primary.settings.times.retry)
        return {
            REPLICATE: Handler(self._replicate, "replication", retry),
            IMPORT: Handler(self._import, "import", retry),
            PHASE_ONE: Handler(self._phase_one, "import", retry),
            LIST_FILES: Handler(self._list_files, "reading", retry),
            VERIFY: Handler(self._verify, "reading", retry),
        }

    def images_of(self, connection: Connection, host: HostId, job: int) -> set[ImageId]:
        """Tell which images a running job of these kinds may read; none when the job is of another kind."""
        row = connection.execute(
            select(job_rows.c.kind, job_rows.c.params, job_rows.c.state).where(job_rows.c.id == job)
        ).one_or_none()
        if row is None or row.kind not in KINDS or row.state != JobState.RUNNING:
            return set()
        medium = get_medium(connection, MediumId(from_text(row.params["medium"])))
        is_served = host in pools.hosts_of(connection, medium)
        return {ImageId(from_text(row.params["image"]))} if is_served and "image" in row.params else set()

    # ------------------------------------------------------------ due work

    def acknowledged(self, connection: Connection, image: ImageId) -> None:
        """Begin the lifecycle of an image that is complete here, and submit what follows."""
        now = self._primary.clock.now()
        defined = [target.domain for target in targets.list_all(connection)]
        begin_lifecycle(connection, image, own=self._primary.domain, targets=defined, now=now)
        self.submit_due(connection, image)

    def submit_due(self, connection: Connection, image: ImageId) -> None:
        """Submit the jobs that are due for an image; what is under way is not submitted twice."""
        now = self._primary.clock.now()
        plan = plan_image(connection, image, own=self._primary.domain, now=now)
        for due in plan.due:
            if isinstance(due, Send):
                self._primary.jobs.submit(
                    connection,
                    NewJob(
                        REPLICATE,
                        subject=f"{to_text(image)} to {due.target.hex()[:16]}",
                        params={"image": to_text(image), "target": due.target.hex()},
                        unique_key=f"replicate {image.hex()} {due.target.hex()}",
                    ),
                )
        for copy in get_image(connection, image).copies:
            self._submit_listing(connection, copy)

    def submit_listing_of(self, connection: Connection, image: ImageId) -> JobId | None:
        """Submit phase two of an image; None when its list is here, or no copy can be read now."""
        for copy in get_image(connection, image).copies:
            job = self._submit_listing(connection, copy)
            if job is not None:
                return job
        return None

    def _submit_listing(self, connection: Connection, copy: Copy) -> JobId | None:
        own = copy.key.domain == self._primary.domain
        if not own or copy.state is not CopyState.COMPLETE or copy.readability is not Readability.READABLE:
            return None
        if has_file_list(connection, copy.key.image):
            return None
        job = NewJob(
            LIST_FILES,
            subject=to_text(copy.key.image),
            params={"image": to_text(copy.key.image), "copy": copy.key.number, "medium": to_text(copy.medium)},
            unique_key=f"list {copy.key.image.hex()}",
        )
        return self._primary.jobs.submit(connection, job).id

    def key_became_usable(self, tag: KeyTag) -> None:
        """Let images go on that waited for a key."""

        def deed(connection: Connection) -> None:
            for key in catalog_keys.release(connection, tag):
                self.submit_due(connection, key.image)

        transact(self._primary.engine, deed)

    def settle_keys(self) -> None:
        """Compare what waits for keys with what the KMS has; nothing changes while it cannot be asked."""
        known = self._primary.known_tags()
        if known is None:
            return

        def deed(connection: Connection) -> None:
            for key in catalog_keys.settle(connection, known):
                self.submit_due(connection, key.image)

        transact(self._primary.engine, deed)

    # ------------------------------------------------------------ sending

    def _replicate(self, context: JobContext) -> Mapping[str, Any]:
        image = ImageId(from_text(context.params["image"]))
        target = DomainId(bytes.fromhex(context.params["target"]))
        fence = transact(self._primary.engine, context.fence)
        row = transact(self._primary.engine, lambda c: self._claim(c, image, target, fence))
        if row.state in (ReplicationState.SENT, ReplicationState.CONFIRMED):
            return {"already": row.state.value}  # a crash came between the row and the end of the job
        try:
            with read(self._primary.engine) as connection:
                request, host = self._request(connection, context.job_id, row)
            sent = self._media.send_image(host, request, context)
        except StrongroomError as error:
            now = self._primary.clock.now()
            failed = error
            transact(
                self._primary.engine,
                lambda c: replications.fail(c, image, target, fence=fence, error=failed, now=now),
            )
            raise
        now = self._primary.clock.now()
        transact(
            self._primary.engine,
            lambda c: replications.mark_sent(c, image, target, fence=fence, sent_bytes=sent.frame_bytes, now=now),
        )
        return {"frames": sent.frames, "frame_bytes": sent.frame_bytes, "pages": sent.pages}

    def _claim(self, connection: Connection, image: ImageId, target: DomainId, fence: int) -> replications.Replicated:
        """Begin an attempt before anything can fail, so that whatever fails is noted in its row."""
        row = replications.get_replication(connection, image, target)
        if row.state in (ReplicationState.SENT, ReplicationState.CONFIRMED):
            return row
        made = self._hop(connection, row)
        return replications.start(connection, image, target, fence=fence, hop=made, now=self._primary.clock.now())

    def _request(
        self, connection: Connection, job: JobId, row: replications.Replicated
    ) -> tuple[sending_messages.SendImage, HostId]:
        try:
            peer = trusts.require_active(connection, row.target)
        except NotActiveError as error:
            raise TrustNotActiveError(error.message) from error  # it goes on by itself when the trust does
        where = targets.of_domain(connection, row.target)
        copy = get_copy(connection, row.source)
        request = sending_messages.SendImage(
            job=job,
            medium=copy.medium,
            image=row.image,
            copy=copy.key.number,
            to=row.target,
            addresses=list(where.addresses),
            roots=list(peer.roots),
            credential=where.credential,
            secret=self._primary.keys.get(where.key_name).reveal(),
            sending=row.sending or b"",
            hop=row.hop or b"",
        )
        return request, self._media.sender_of(connection, get_medium(connection, copy.medium), row.target)

    def _hop(self, connection: Connection, row: replications.Replicated) -> signed.Verified[Hop]:
        """Make the hop of this promise; an attempt that follows another finds the first one's in its row."""
        if row.hop is not None:
            return signed.verify(HOP, row.hop, pinned=self._primary.domain)
        held = get_image(connection, row.image)
        earlier = self._hops_so_far(connection, row)
        said = Hop(
            domain=self._primary.domain,
            to=row.target,
            image=row.image,
            origin=held.domain,
            header=header_digest(held.header),
            sending=self._primary.entropy.bytes(UUID_BYTES),
            slp=row.slp,
            retention=row.retention_seconds,
            at=to_ns(self._primary.clock.now()),
            previous=hop.hop_digest(earlier[-1]) if earlier else hop.NO_HOP,
            features=(),
        )
        data = signed.sign(HOP, said, self._primary.signer)
        return signed.verify(HOP, data, pinned=self._primary.domain)

    def _hops_so_far(self, connection: Connection, row: replications.Replicated) -> tuple[bytes, ...]:
        header = connection.execute(
            select(fragments.c.header)
            .select_from(copies)
            .join(fragments, fragments.c.copy_id == copies.c.id)
            .where(
                copies.c.image == row.image,
                copies.c.domain == row.source.domain,
                copies.c.number == row.source.number,
                fragments.c.number == 1,
            )
        ).scalar_one()
        return copy_header.verify(bytes(header)).copy.payload.hops

    # ------------------------------------------------------------ phase one

    def _import(self, context: JobContext) -> Mapping[str, Any]:
        """Phase one of one image that arrived: from its headers on the storage, and from nothing else."""
        medium = MediumId(from_text(context.params["medium"]))
        image = ImageId(from_text(context.params["image"]))
        copy = context.params["copy"]
        with read(self._primary.engine) as connection:
            where = get_medium(connection, medium)
            host = self._media.host_of(connection, where)
        found = self._media.read_fragment(host, medium, image, copy)
        checked = checked_fragment(names.image_key(image, copy), found, where)
        result = transact(self._primary.engine, lambda c: self.arrived.imported(c, checked))
        self.settle_keys()
        self.say_soon()
        return dict(result)

    def _phase_one(self, context: JobContext) -> Mapping[str, Any]:
        """Phase one of a whole pool: every fragment's headers; needs no key and asks for none."""
        medium = MediumId(from_text(context.params["medium"]))
        with read(self._primary.engine) as connection:
            where = get_medium(connection, medium)
            host = self._media.host_of(connection, where)
        count = refused = 0
        for name, data in self._media.fragments(host, medium):
            context.check()
            try:
                checked = checked_fragment(name, data, where)
                transact(
                    self._primary.engine,
                    lambda c, one=checked: self._enter(c, one),  # type: ignore[misc]
                )
                count += 1
            except TombstonedError:
                continue  # it was expired, and does not come back
            except IntegrityError as error:
                refused += 1
                context.log(f"'{name}' was refused: {error.message}", level="error", code=error.code)
            context.progress(files=count, message=f"{count} images")
        self.settle_keys()
        return {"images": count, "refused": refused}

    def _enter(self, connection: Connection, checked: fragment.Fragment) -> None:
        import_fragment(connection, checked, own=self._primary.domain, known=None)

    # ------------------------------------------------------------ reading

    def _list_files(self, context: JobContext) -> Mapping[str, Any]:
        """Phase two: the media server reads the entries, and sends them here."""
        image = ImageId(from_text(context.params["image"]))
        medium = MediumId(from_text(context.params["medium"]))
        with read(self._primary.engine) as connection:
            if has_file_list(connection, image):
                return {"already": True}
            host = self._media.host_of(connection, get_medium(connection, medium))
        request = messages.ListFiles(job=context.job_id, medium=medium, image=image, copy=context.params["copy"])
        self._media.list_files(host, request)
        with read(self._primary.engine) as connection:
            row = connection.execute(select(file_lists.c.entries).where(file_lists.c.image == image)).one_or_none()
        if row is None:
            raise ImageDamagedError(f"the media server sent no file list of the image '{to_text(image)}'")
        return {"image": to_text(image), "files": row.entries}

    def take_file_list(self, image: ImageId, entries: Iterator[FileEntry]) -> int:
        """Store an image's file list; an older one goes."""
        from strongroom.catalog.file_list_parquet import write_file_list  # with Arrow, which no start waits for

        written = write_file_list(self._primary.file_lists, image, entries, self._primary.entropy)
        now = self._primary.clock.now()
        old = transact(self._primary.engine, lambda c: adopt_file_list(c, written, now=now))
        if old is not None:
            remove_file_list(self._primary.file_lists, image, old)
        return written.entries

    def _verify(self, context: JobContext) -> Mapping[str, Any]:
        image = ImageId(from_text(context.params["image"]))
        medium = MediumId(from_text(context.params["medium"]))
        with read(self._primary.engine) as connection:
            host = self._media.host_of(connection, get_medium(connection, medium))
        request = messages.VerifyImage(
            job=context.job_id,
            medium=medium,
            image=image,
            copy=context.params["copy"],
            with_data=bool(context.params["with_data"]),
        )
        problems = self._media.verify_image(host, request)
        for problem in problems[:100]:
            context.log(problem, level="error")
        if problems:
            raise ImageDamagedError(f"the image '{to_text(image)}' has {len(problems)} problems; first: {problems[0]}")
        return {"problems": 0, "with_data": request.with_data}

    def submit_verify(self, connection: Connection, copy: Copy) -> JobId:
        """Submit the verification of a copy, down to its data if the KMS has the key and can be asked."""
        readable = copy.readability is Readability.READABLE and self._primary.known_tags() is not None
        return self._primary.jobs.submit(
            connection,
            NewJob(
                VERIFY,
                subject=to_text(copy.key.image),
                params={
                    "image": to_text(copy.key.image),
                    "copy": copy.key.number,
                    "medium": to_text(copy.medium),
                    "with_data": readable,
                },
            ),
        ).id

    def submit_verify_of(self, connection: Connection, image: ImageId) -> JobId | None:
        """Submit the verification of the first complete copy of this domain; ``None`` without one."""
        for copy in get_image(connection, image).copies:
            if copy.key.domain == self._primary.domain and copy.state is CopyState.COMPLETE:
                return self.submit_verify(connection, copy)
        return None

    def submit_phase_one(self, connection: Connection, medium: MediumId) -> JobId:
        """Submit phase one of a pool."""
        return self._primary.jobs.submit(
            connection,
            NewJob(
                PHASE_ONE,
                subject=to_text(medium),
                params={"medium": to_text(medium)},
                unique_key=f"phase-one {medium.hex()}",
            ),
        ).id


def checked_fragment(name: str, data: bytes, medium: Medium) -> fragment.Fragment:
    """Check a fragment, and that it lies where its headers say: one from elsewhere is no copy here.

    Raises:
        DamagedError, SignatureError, ForeignError: it does not hold, or is of another place.
    """
    checked = fragment.verify(data, pinned=medium.domain)
    header = checked.copy.payload
    if header.medium != medium.medium or names.image_key(ImageId(header.image), header.copy) != name:
        raise ForeignError(
            f"the fragment is of copy {header.copy} of the image '{to_text(header.image)}' on the medium"
            f" '{to_text(header.medium)}'"
        )
    return checked


def has_file_list(connection: Connection, image: ImageId) -> bool:
    """Tell whether the file list of an image is here."""
    return connection.execute(select(file_lists.c.image).where(file_lists.c.image == image)).first() is not None
