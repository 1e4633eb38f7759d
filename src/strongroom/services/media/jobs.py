"""What backups and restores have in common: the client's grant, the job's thread, and what the primary hears of it."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, TypeVar

from aiohttp import web

from strongroom.core.clock import Clock
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import ImageId, KeyTag
from strongroom.core.secret import Secret
from strongroom.formats.algorithms import Cipher
from strongroom.formats.fragment import Fragment
from strongroom.images.open_pool import OpenPool
from strongroom.images.stored_image import StoredImage, envelopes_of
from strongroom.pki.errors import UnreachableError
from strongroom.services import messages
from strongroom.services.media.attending import Sessions
from strongroom.services.media.clients import Caller
from strongroom.services.media.errors import CancelledError, NoGrantError, WrongClientError, WrongJobError
from strongroom.services.media.pools import Pools
from strongroom.services.media.primary import ImageKeys, PatientPrimary, PrimaryClient

logger = logging.getLogger(__name__)

BACKUP: Final = "backup"
RESTORE: Final = "restore"
MOUNT: Final = "mount"
_REPORT_SECONDS: Final = 5.0
_GRANT: Final = re.compile(r"Bearer ([0-9a-f]{64})")

T = TypeVar("T")


@dataclass(frozen=True)
class MediaServer:
    """What the routes work with.

    Attributes:
        primary: the own primary, asked once.
        pools: what is served.
        clock: for progress.
        patient: the own primary, waited for while it is away.
        sessions: of clients.
    """

    primary: PrimaryClient
    pools: Pools
    clock: Clock
    patient: PatientPrimary
    sessions: Sessions

    def redeem(self, job: int, grant: Secret, kind: str, caller: Caller) -> messages.JobSpec:
        """Learn from the primary what a client may have done.

        Raises:
            WrongJobError: the grant is for other work.
            WrongClientError: it is for another client.
            StrongroomError: the primary refused it, or is not there.
        """
        spec = self.primary.redeem(job, grant, caller.certificate)
        if spec.client != caller.host:  # a primary of an earlier release does not look at the certificate
            raise WrongClientError(f"the job {job} is another client's")
        if spec.kind != kind:
            raise WrongJobError(f"the job {job} is a '{spec.kind}', not a '{kind}'")
        return spec

    def open_previous(
        self, spec: messages.JobSpec, pool: OpenPool
    ) -> tuple[StoredImage | None, StrongroomError | None]:
        """Open the image that a backup may refer to; none if there is none that it may, and why it cannot be read.

        It must be as encrypted as the new one, and all its data keys must have a wrap that is in use: else its
        contents are read and stored anew.
        """
        if spec.previous is None:
            return None, None
        image = ImageId(spec.previous.image)
        try:
            fragment = pool.fragments.read(image, spec.previous.copy)
            if not _may_be_referred_to(pool, fragment, spec):
                return None, None
        except StrongroomError as error:
            logger.warning(
                "the previous image is of no use: %s",
                error.message,
                extra={"event": "previous-unusable", "job": spec.job, "image": image.hex(), "code": error.code},
            )
            return None, error
        return StoredImage(pool, fragment, ImageKeys(self.patient, spec.job, image)), None

    def fail(self, job: int, error: StrongroomError) -> None:
        """Tell the primary that a job failed; if it cannot be told, it ends the job that nobody attends to."""
        logger.warning("a job failed: %s", error.message, extra={"event": "job-failed", "job": job, "code": error.code})
        try:
            self.primary.fail(job, error)
        except StrongroomError as silent:
            logger.warning(
                "the primary could not be told of a failed job: %s",
                silent.message,
                extra={"event": "failure-not-told", "job": job, "code": silent.code},
            )


class Reporter:
    """Tells the primary every few seconds how far a job is, and whether to go on; for the job's thread."""

    def __init__(self, server: MediaServer, job: int, check: Callable[[], None]) -> None:
        self._server = server
        self._job = job
        self._check = check
        self._last = server.clock.monotonic()

    def report(self, progress: Callable[[], tuple[int, int]]) -> None:
        """Report if it is time.

        Args:
            progress: gives files and bytes.

        A primary that is away hears it another time: the work goes on.

        Raises:
            CancelledError: the job is to stop.
            StrongroomError: the job has ended, or its client may not be served any more.
        """
        now = self._server.clock.monotonic()
        if now - self._last < _REPORT_SECONDS:
            return
        self._last = now
        self._check()
        files, done = progress()
        try:
            go_on = self._server.primary.progress(messages.Advance(job=self._job, bytes=done, files=files))
        except UnreachableError as error:
            facts = {"event": "progress-not-told", "job": self._job, "code": error.code}
            logger.warning("the primary does not hear how far a job is: %s", error.message, extra=facts)
            return
        if not go_on:
            raise CancelledError(f"the job {self._job} was cancelled")


class JobThread:
    """One thread for one job, awaited from the event loop."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What runs in it ends by itself; the loop must not wait for it.
        self._executor.shutdown(wait=False)

    def start(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Run a function in the thread, after those that were given before."""
        return asyncio.get_running_loop().run_in_executor(self._executor, function)

    def later(self, function: Callable[[], None]) -> None:
        """Have a function run after what was given before, and do not wait for it."""
        self._executor.submit(function)


def job_of(request: web.Request) -> tuple[int, Secret]:
    """Read job and grant from a request.

    Raises:
        NoGrantError: there is none.
    """
    found = _GRANT.fullmatch(request.headers.get("Authorization", ""))
    job = request.match_info["job"]
    if found is None or not job.isdecimal() or len(job) > 18:
        raise NoGrantError("the request names no job, or shows no grant of 64 hexadecimal digits")
    return int(job), Secret(bytes.fromhex(found[1]))


def _may_be_referred_to(pool: OpenPool, fragment: Fragment, spec: messages.JobSpec) -> bool:
    header = fragment.image.payload
    if fragment.image.signer != pool.domain or (header.cipher, header.key_group) != (spec.cipher, spec.group):
        return False
    if spec.cipher == Cipher.NONE:
        return True
    tags = pool.envelopes.tags(pool.domain, envelopes_of(pool, fragment))
    return {KeyTag(tag) for tag in spec.tags}.issuperset(tags)
