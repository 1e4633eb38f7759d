"""A primary that is open, with its parts and nothing that listens: what its media servers say is said by the test."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, insert, update

from strongroom.catalog.media import add_medium
from strongroom.core.ids import DomainId, HostId, ImageId, MediumId
from strongroom.database import read, transact
from strongroom.lifecycle import replications
from strongroom.lifecycle.policies import save_policy
from strongroom.lifecycle.policy import Backup, Fixed, Policy, Replication, Target
from strongroom.lifecycle.tables import ReplicationState
from strongroom.lifecycle.tables import replications as replication_rows
from strongroom.replication import targets
from strongroom.replication.targets import StorageTarget
from strongroom.services import messages
from strongroom.services.primary import setup
from strongroom.services.primary.client_work import ClientWork
from strongroom.services.primary.image_work import ImageWork
from strongroom.services.primary.media_client import MediaClients
from strongroom.services.primary.media_desk import MediaDesk
from strongroom.services.primary.opening import open_primary
from strongroom.services.primary.receiving import Receiving
from strongroom.settings.domain import DomainSettings
from strongroom.settings.home import Home
from strongroom.settings.system import SystemClock, SystemEntropy
from strongroom.trust.state import Decision
from strongroom.trust.tables import trusts
from tests.support.images import fixed

POOL = "main"
SLP = "daily"


class OpenPrimary:
    """A new domain, whose primary is open and serves nobody.

    Args:
        folder: where its home is made.
    """

    def __init__(self, folder: Path) -> None:
        clock, entropy = SystemClock(), SystemEntropy()
        home = Home(folder / "north")
        setup.init(
            home,
            name="north",
            host="localhost",
            listen="127.0.0.1:1",  # nobody answers there
            root_phrase=None,
            clock=clock,
            entropy=entropy,
        )
        self.primary = open_primary(home, DomainSettings.load(home), clock, entropy)
        self.media = MediaClients(self.primary)
        self.images = ImageWork(self.primary, self.media)
        self.clients = ClientWork(self.primary, self.images.acknowledged)
        self.receipts: list[tuple[DomainId, bytes]] = []
        self.receiving = Receiving(self.primary, self.images.acknowledged, self._take_receipt)
        self.images.arrived = self.receiving
        self.desk = MediaDesk(self.primary, self.clients, self.receiving)
        (self.host,) = self.media.hosts()
        self.pool = self.add_pool(POOL)

    def _take_receipt(self, _connection: Connection, peer: DomainId, receipt: bytes) -> None:
        self.receipts.append((peer, receipt))

    def close(self) -> None:
        self.primary.engine.dispose()

    def add_pool(self, name: str, host: HostId | None = None) -> MediumId:
        medium = MediumId(fixed(f"pool {name}", 16))
        transact(
            self.primary.engine,
            lambda c: add_medium(
                c,
                medium,
                kind="pool",
                label=name,
                domain=self.primary.domain,
                location=f"/srv/{name}",
                host=host or self.host,
            ),
        )
        return medium

    def save(self, policy: Policy) -> None:
        transact(self.primary.engine, lambda c: save_policy(c, policy, now=self.primary.clock.now()))

    def save_backup_policy(self, *to: DomainId) -> None:
        replicate = [Replication(source=1, to=Target(peer.hex(), "from-north")) for peer in to]
        first = Backup(storage=POOL, retention=Fixed(3600))
        self.save(Policy(name=SLP, operations=(first, *replicate)))

    def trust(self, peer: DomainId, decision: Decision = Decision.ADDED) -> None:
        """Have a trust as both sides' administrators made it; for one that is there, change our side's decision."""
        values = {
            "name": "south",
            "address": "localhost:2",
            "root": b"root",
            "our_number": 1,
            "theirs": Decision.ADDED,
            "their_number": 1,
            "incarnation": 1,
            "offered": 1,
            "start": 1,
            "instance": bytes(16),
            "newer": bytes(16),
            "created": self.primary.clock.now(),
            "changed": self.primary.clock.now(),
        }

        def deed(connection: Connection) -> None:
            changed = connection.execute(update(trusts).where(trusts.c.peer == peer).values(ours=decision))
            if not changed.rowcount:
                connection.execute(insert(trusts).values(peer=peer, ours=decision, **values))

        transact(self.primary.engine, deed)

    def add_target(self, peer: DomainId, name: str = "south-pool") -> None:
        target = StorageTarget(
            name=name,
            domain=peer,
            server="pool",
            medium=MediumId(fixed("their pool", 16)),
            addresses=("localhost:3",),
            credential=fixed("credential", 16),
            added=self.primary.clock.now(),
        )
        transact(self.primary.engine, lambda c: targets.add(c, target))

    def back_up(self, client: str = "files1") -> ImageId:
        """Make a clear backup of which the media server says that it is stored; it is not acknowledged yet."""
        begun = transact(self.primary.engine, lambda c: self.clients.start_backup(c, client, [b"/home"], SLP))
        stream = messages.Stream(root=fixed("root"), segments=1, bytes=10)
        self.clients.commit(
            self.host,
            messages.CommitBackup(
                job=begun.job,
                entries=stream,
                payload=stream,
                chunker=(1, 1, 2, 3),
                key_pages=[],
                tags=[],
                files=1,
                content=10,
                problems=0,
                read_bytes=10,
                same_bytes=0,
                added_bytes=10,
            ),
        )
        return begun.image

    def acknowledge(self, image: ImageId, copy: int = 1) -> None:
        """Have the media server say that the headers of a copy lie in the pool."""
        self.desk.written(self.host, messages.Written(medium=self.pool, image=image, copy=copy))

    def replication(self, image: ImageId, target: DomainId) -> replications.Replicated:
        with read(self.primary.engine) as connection:
            return replications.get_replication(connection, image, target)

    def mark_sent(self, image: ImageId, target: DomainId) -> None:
        """Have the row say that the target has everything, as after a crash before the job's end was recorded."""
        table = replication_rows
        here = (table.c.image == image, table.c.target == target)
        transact(
            self.primary.engine,
            lambda c: c.execute(update(table).where(*here).values(state=ReplicationState.SENT)),
        )
