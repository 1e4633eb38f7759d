"""What ``services`` hands to the application."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Engine

from strongroom.api.errors import BusyError, KeystoreLockedError
from strongroom.api.ports import (
    AddressLimit,
    Backups,
    ImageWork,
    Imports,
    MediaServers,
    PeerQueries,
    PoolWork,
    Restores,
    StorageCredentials,
    StorageTargets,
)
from strongroom.catalog.file_list import FileLists
from strongroom.core.clock import Clock
from strongroom.core.entropy import Entropy
from strongroom.core.errors import StrongroomError
from strongroom.jobs import JobStore
from strongroom.kms.service import KeyManagement
from strongroom.people.sessions import Door
from strongroom.trust.check import TrustChecker
from strongroom.trust.decisions import TrustDesk
from strongroom.trust.home import OurDomain
from strongroom.trust.making import TrustMaker

SLOW_AT_ONCE = 2
SLOW_WAIT_SECONDS = 10.0


class Turnstile:
    """Lets a few Argon2 computations run at once: each takes 64 MiB and a good part of a second.

    Args:
        at_once: how many.
        wait_seconds: how long the next one waits.
    """

    def __init__(self, at_once: int = SLOW_AT_ONCE, wait_seconds: float = SLOW_WAIT_SECONDS) -> None:
        self._free = threading.BoundedSemaphore(at_once)
        self._wait_seconds = wait_seconds

    @contextmanager
    def passed(self) -> Iterator[None]:
        """Wait for a turn.

        Raises:
            BusyError: it did not come in time.
        """
        if not self._free.acquire(timeout=self._wait_seconds):
            raise BusyError("too many passwords and pass phrases are being checked at once")
        try:
            yield
        finally:
            self._free.release()


@dataclass
class Parts:
    """The parts of one primary that the routes translate to.

    Args:
        engine: the primary's database.
        ours: its domain.
        door: lets people in.
        kms: ``None`` while the keystore is locked; may be set while the application runs.
        lock: why it is locked, and the cure.
        maker: makes trust.
        desk: takes decisions about trusts.
        checker: tries the way to a peer.
        jobs: the table of jobs.
        file_lists: of the catalog.
        media, backups, restores, imports, images, pools, credentials, targets, peers: see :mod:`strongroom.api.ports`.
        sign_ins: limits attempts to sign in.
        clock: for times.
        entropy: for salts and ids.
        started: when this primary did.
        slow: lets few Argon2 computations run at once.
    """

    engine: Engine
    ours: OurDomain
    door: Door
    kms: KeyManagement | None
    maker: TrustMaker
    desk: TrustDesk
    checker: TrustChecker
    jobs: JobStore
    file_lists: FileLists
    media: MediaServers
    backups: Backups
    restores: Restores
    imports: Imports
    images: ImageWork
    pools: PoolWork
    credentials: StorageCredentials
    targets: StorageTargets
    peers: PeerQueries
    sign_ins: AddressLimit
    clock: Clock
    entropy: Entropy
    started: datetime
    lock: StrongroomError = field(default_factory=lambda: KeystoreLockedError("the keystore is locked"))
    slow: Turnstile = field(default_factory=Turnstile)

    def open_kms(self) -> KeyManagement:
        """Give the key management service.

        Raises:
            KeystoreLockedError: the keystore is locked.
        """
        if self.kms is None:
            raise KeystoreLockedError(self.lock.message, hint=self.lock.hint)
        return self.kms
