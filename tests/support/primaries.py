"""A primary that is open, with its parts and nothing that listens: what its media servers say is said by the test."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, insert, update

from strongroom.catalog import rows
from strongroom.catalog.images import ImageFilter, find_images
from strongroom.catalog.media import add_medium
from strongroom.catalog.model import Copy, CopyKey
from strongroom.core.ids import DomainId, HostId, ImageId, MediumId
from strongroom.database import read, transact
from strongroom.formats import fragment, signed
from strongroom.formats.hop import HOP, NO_HOP, Hop
from strongroom.formats.image_header import ImageHeader, header_digest
from strongroom.formats.signed import Verified
from strongroom.jobs import JobFilter
from strongroom.lifecycle import replications
from strongroom.lifecycle.policies import save_policy
from strongroom.lifecycle.policy import Backup, Fixed, Import, Policy, Replication, Target, TargetRetention
from strongroom.lifecycle.tables import ReplicationState
from strongroom.lifecycle.tables import replications as replication_rows
from strongroom.pki import revocation
from strongroom.replication import credentials, targets
from strongroom.replication.targets import StorageTarget
from strongroom.services import messages, sending_messages
from strongroom.services.primary import setup
from strongroom.services.primary.client_hosts import Client
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
from tests.support.images import T0, TAG, Domain, fixed

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
        for authority in self.primary.authorities.values():
            transact(
                self.primary.engine,
                lambda c, one=authority: revocation.issue_crl(c, one, now=clock.now()),  # type: ignore[misc]
            )
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
        begun = transact(self.primary.engine, lambda c: self.clients.start_backup(c, Client(client), [b"/home"], SLP))
        self.clients.commit(self.host, self.stored(begun.job))
        return begun.image

    def stored(self, job: int) -> messages.CommitBackup:
        """What the media server says when everything of a backup is stored but its fragment."""
        stream = messages.Stream(root=fixed("root"), segments=1, bytes=10, chunker=(1, 1, 2, 3))
        return messages.CommitBackup(
            job=job,
            entries=stream,
            payload=stream,
            key_pages=[],
            tags=[],
            files=1,
            content=10,
            problems=0,
            read_bytes=10,
            same_bytes=0,
            added_bytes=10,
        )

    def backups(self) -> list[int]:
        """The jobs of backups."""
        with read(self.primary.engine) as connection:
            return [job.id for job in self.primary.jobs.find(connection, JobFilter(kinds=("backup",)))]

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

    def save_import_policy(self, pool: str, name: str = "from-origin") -> None:
        self.save(
            Policy(name=name, operations=(Import(storage=pool, retention=TargetRetention(otherwise_seconds=60)),))
        )

    def give_credential(self, pool: MediumId, sender: DomainId, name: str = "c") -> tuple[bytes, bytes]:
        """Let a domain write into a pool; give id and secret of the credential."""
        now, entropy = self.primary.clock.now(), self.primary.entropy
        made, text = transact(
            self.primary.engine, lambda c: credentials.create(c, name, pool, sender, now=now, entropy=entropy)
        )
        return made.id, credentials.read_text(text)[1].reveal()

    def offer(
        self, origin: Domain, image: Verified[ImageHeader], credential: tuple[bytes, bytes], *, slp: str = "from-origin"
    ) -> sending_messages.Receive:
        """What the media server says when a domain offers an image of its own."""
        sending = fixed(f"sending of {image.payload.backup_id}", 16)
        said = Hop(
            domain=origin.id,
            to=self.primary.domain,
            image=image.payload.image,
            origin=origin.id,
            header=header_digest(image.data),
            sending=sending,
            slp=slp,
            retention=None,
            at=T0,
            previous=NO_HOP,
            features=(),
        )
        return sending_messages.Receive(
            sender=origin.id,
            host=fixed("their media server", 16),
            credential=credential[0],
            secret=credential[1],
            sending=sending,
            hop=signed.sign(HOP, said, origin.signer),
            copy_header=origin.copy(image).copy.data,
        )

    def commit_received(self, session: sending_messages.Receiving) -> messages.FragmentToWrite:
        said = sending_messages.CommitReceived(session=session.session, tags=[TAG], frames=1, frame_bytes=10)
        return self.receiving.commit(self.host, said)

    def imported(self, told: messages.FragmentToWrite) -> None:
        """Have the import job find a fragment in the pool."""
        found = fragment.verify(told.data, pinned=self.primary.domain)
        transact(self.primary.engine, lambda c: self.receiving.imported(c, found))

    def find_copy(self, image: ImageId, number: int) -> Copy | None:
        with read(self.primary.engine) as connection:
            return rows.find_copy(connection, CopyKey(image, self.primary.domain, number))

    def find_images(self) -> list[ImageId]:
        with read(self.primary.engine) as connection:
            return [image.image for image in find_images(connection, ImageFilter()).images]
