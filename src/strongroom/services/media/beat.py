"""The beat: a sign of life, and what the primary wants written on the pools."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta

import strongroom
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import ImageId, MediumId, to_text
from strongroom.formats import signed
from strongroom.formats.errors import DamagedError
from strongroom.formats.journal import BATCH
from strongroom.pool.names import journal_key
from strongroom.services import messages, sending_messages
from strongroom.services.media.callers import Callers
from strongroom.services.media.pools import Pools
from strongroom.services.media.primary import PrimaryClient

logger = logging.getLogger(__name__)


class Beat:
    """Beats until it is stopped.

    Args:
        primary: who is told.
        pools: what is served; kept as the primary says.
        callers: gets the revocation lists.
        every: time between two beats.
        address: where the primary, and other domains, reach this media server.
        socket: where clients of this machine do.
    """

    def __init__(
        self,
        primary: PrimaryClient,
        pools: Pools,
        callers: Callers,
        every: timedelta,
        *,
        address: str,
        socket: str,
    ) -> None:
        self._primary = primary
        self._pools = pools
        self._callers = callers
        self._every = every
        self._address = address
        self._socket = socket
        self._stopped = threading.Event()

    def run(self) -> None:
        """Beat in this thread until :meth:`stop`."""
        while not self._stopped.wait(self._every.total_seconds()):
            self.try_once()

    def stop(self) -> None:
        """Let :meth:`run` return."""
        self._stopped.set()

    def try_once(self) -> bool:
        """Beat once; tell whether the primary answered. What failed is in the log, and done at the next beat."""
        try:
            self.once()
        except StrongroomError as error:
            logger.warning("a beat failed: %s", error.message, extra={"event": "beat-failed", "code": error.code})
            return False
        return True

    def once(self) -> None:
        """Beat once, and do what the answer asks for.

        Raises:
            UnreachableError: the primary does not answer.
            StrongroomError: what it refused with.
        """
        self._pools.keep_clocks()
        said = messages.Beat(
            version=strongroom.__version__, pools=self._pools.states(), address=self._address, socket=self._socket
        )
        answer = self._primary.beat(said)
        self._callers.take_lists(answer.crls)
        self._pools.serve(answer.pools)
        self._pools.follow_some()
        for fragment in answer.fragments:
            self._write_fragment(fragment)
        for batch in answer.batches:
            self._write_batch(batch)

    def _write_fragment(self, told: messages.FragmentToWrite) -> None:
        facts = {"medium": to_text(told.medium), "image": to_text(told.image), "copy": told.copy}
        try:
            write_fragment(self._pools, self._primary, told)
        except StrongroomError as error:
            logger.warning(
                "a fragment was not written: %s",
                error.message,
                extra={"event": "fragment-not-written", "code": error.code, **facts},
            )
        else:
            logger.info("a fragment was written", extra={"event": "fragment-written", **facts})

    def _write_batch(self, told: messages.BatchToWrite) -> None:
        facts = {"medium": to_text(told.medium), "sequence": told.sequence}
        try:
            pool = self._pools.get(MediumId(told.medium))
            batch = signed.verify(BATCH, told.data, pinned=pool.domain).payload
            if (batch.medium, batch.sequence) != (pool.medium, told.sequence):
                raise DamagedError("the journal batch is of another place than it is to be written to")
            pool.journal.append(told.sequence, told.data)
            pool.locks.fix(journal_key(told.sequence))
            self._primary.written(messages.Written(medium=told.medium, sequence=told.sequence))
        except StrongroomError as error:
            logger.warning(
                "a journal batch was not written: %s",
                error.message,
                extra={"event": "batch-not-written", "code": error.code, **facts},
            )
        else:
            logger.info("a journal batch was written", extra={"event": "batch-written", **facts})


def write_fragment(
    pools: Pools, primary: PrimaryClient, told: messages.FragmentToWrite
) -> sending_messages.WrittenAnswer:
    """Make a fragment durable, lock what its image needs if the pool locks, and only then say so; may be repeated.

    Raises:
        PoolNotOpenError: the pool is not served here.
        DamagedError, SignatureError, ForeignError: it is not a fragment of this pool.
        ObjectExistsError: another fragment has its place.
        PoolFullError, PoolWriteError: the storage refused.
        FrameMissingError, PageMissingError: the pool locks, and has not all that the image needs.
        UnreachableError: it is written, and the primary does not know yet.
    """
    pool = pools.get(MediumId(told.medium))
    fragment = pool.fragments.write(ImageId(told.image), told.copy, told.data)
    until_ns = pools.locker(pool.medium).lock(fragment)
    return primary.written(
        messages.Written(medium=told.medium, image=told.image, copy=told.copy, locked_until_ns=until_ns)
    )
