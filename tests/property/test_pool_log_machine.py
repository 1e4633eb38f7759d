"""C3: two media servers on one bucket, against a small model of it. Whatever order their backups, restarts, deaths and
collections come in: no image that was committed loses a container, and each server can read every image.

The primary's log and the media servers' following are the product's; bucket, index and images are sets.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule
from sqlalchemy import Connection, create_engine, delete, insert
from sqlalchemy.pool import StaticPool

from strongroom.catalog.copies import abandon_copy, begin_copy, session_epoch
from strongroom.catalog.media import add_medium, advance_epoch, get_medium, open_epochs
from strongroom.catalog.model import CameBy
from strongroom.catalog.tables import copies, copy_facts, copy_leases, media
from strongroom.core.ids import ContainerId, DomainId, HostId, ImageId, MediumId
from strongroom.database import metadata
from strongroom.formats.container import Content
from strongroom.pool import collection, names
from strongroom.pool.collection import Epochs
from strongroom.pool.containers import Contents
from strongroom.pool.index import RefreshReport
from strongroom.pool.survey import Survey, Surveyed
from strongroom.services import upkeep_messages
from strongroom.services.media.following import Follower
from strongroom.services.primary import pool_log
from strongroom.services.primary.errors import StaleIndexError
from strongroom.services.primary.tables import media_beats, pool_logs, pool_objects, pool_servers
from tests.support.images import fixed

DOMAIN = DomainId(fixed("domain", 32))
POOL = MediumId(fixed("pool", 16))
HOSTS = (HostId(fixed("first", 16)), HostId(fixed("second", 16)))
NOW = datetime(2026, 1, 1, tzinfo=UTC)
TABLES = [media, copies, copy_facts, copy_leases, media_beats, pool_servers, pool_logs, pool_objects]
T = TypeVar("T")
picks = st.integers(0, 1_000)
servers = st.sampled_from((0, 1))


@dataclass
class FakeIndex:
    """What a media server believes: containers that it knows, and those in which it finds nothing."""

    known: set[ContainerId] = field(default_factory=set)
    hidden: dict[ContainerId, int] = field(default_factory=dict)

    def knows(self, container: ContainerId) -> bool:
        return container in self.known

    def add(self, contents: Contents) -> None:
        self.known.add(cast("ContainerId", contents))

    def remove(self, container: ContainerId) -> None:
        self.known.discard(container)
        self.hidden.pop(container, None)

    def purge(self) -> None:
        pass

    def condemn(self, containers: Collection[ContainerId], epoch: int) -> None:
        for container in set(containers) & self.known:
            self.hidden.setdefault(container, epoch)

    def reprieve(self, containers: Collection[ContainerId]) -> None:
        for container in list(containers):
            self.hidden.pop(container, None)

    def condemned(self) -> dict[ContainerId, int]:
        return dict(self.hidden)

    def findable(self) -> list[ContainerId]:
        return sorted(self.known - self.hidden.keys())


@dataclass
class Bucket:
    """The objects."""

    objects: set[str] = field(default_factory=set)

    def remove(self, name: str, *, lift: bool = False) -> None:
        self.objects.discard(name)


class Taking(Follower):
    """Reads no footers: a container is its id."""

    def _contents(self, container: ContainerId) -> Contents | None:
        bucket = cast("Any", self._pool).store
        return cast("Contents", container) if names.container_key(container) in bucket.objects else None


@dataclass
class Server:
    """A media server's process."""

    index: FakeIndex
    follower: Taking


@dataclass
class Session:
    """A backup: what it found, what it stored, and how far its server had followed when it began."""

    host: int
    session: bytes
    followed: int
    began: int
    found: set[ContainerId] = field(default_factory=set)
    stored: set[ContainerId] = field(default_factory=set)
    previous: int | None = None


@dataclass
class Collecting:
    """A collection that has looked, and not acted yet."""

    attempt: int
    host: int
    epochs: Epochs
    done: collection.Sorted


class FencedError(Exception):
    """Another attempt has taken over."""


class TwoServers(RuleBasedStateMachine):
    sessions = Bundle("sessions")
    looks = Bundle("looks")

    @initialize()
    def make(self) -> None:
        self.engine = create_engine("sqlite://", poolclass=StaticPool)
        metadata.create_all(self.engine, tables=TABLES)
        self.bucket = Bucket()
        self.images: list[set[ContainerId]] = []
        self.expired: set[int] = set()
        self.clock = 0
        self.created: dict[ContainerId, int] = {}
        self.open: list[Session] = []
        self.attempt = 0
        self.late: list[str] = []

        def enter(connection: Connection) -> None:
            add_medium(
                connection, POOL, kind="pool", label="main", domain=DOMAIN, location="s3://bucket/x", host=HOSTS[0]
            )
            connection.execute(insert(pool_servers).values(medium=POOL, host=HOSTS[1]))

        self._transact(enter)
        self.servers: list[Server] = []
        for _ in HOSTS:
            self.servers.append(self._process(FakeIndex()))

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.engine.dispose()

    # ------------------------------------------------------------ media servers

    @rule(host=servers, loses_index=st.booleans(), forgets=picks)
    def restart(self, host: int, loses_index: bool, forgets: int) -> None:
        """A process dies, its sessions with it; the next one has an index that may have lost its last words."""
        for session in [one for one in self.open if one.host == host]:
            self._end(session)
        kept = self.servers[host].index
        index = FakeIndex() if loses_index else FakeIndex(set(kept.known), dict(kept.hidden))
        if index.hidden and forgets % 3 == 0:  # a power cut: the last marks were not on the disk
            index.hidden.clear()
        self.servers[host] = self._process(index)

    @rule(host=servers)
    def beat(self, host: int) -> None:
        """It takes a part of the log in, and says how far it is; the primary forgets what all have."""
        self.servers[host].follower.follow_some()
        number = self.servers[host].follower.number

        def hear(connection: Connection) -> None:
            connection.execute(delete(media_beats).where(media_beats.c.host == HOSTS[host]))
            told = [{"medium": POOL.hex(), "followed": number}]
            connection.execute(
                insert(media_beats).values(host=HOSTS[host], at=NOW, version="1", pools=told, address="", socket="")
            )
            pool_log.forget(connection, POOL)

        self._transact(hear)

    # ------------------------------------------------------------ backups

    @rule(target=sessions, host=servers, follows=st.sampled_from((True, True, False)), pick=picks)
    def backup(self, host: int, follows: bool, pick: int) -> Session:
        """A backup gets its lease, and its server follows; or, which no server of ours does, it does not."""
        return self.begin(host, follows=follows, pick=pick)

    def begin(self, host: int, *, follows: bool, pick: int) -> Session:
        self.clock += 1
        session = self.clock.to_bytes(16, "big")

        def lease(connection: Connection) -> None:
            begin_copy(
                connection,
                ImageId(session),
                session=session,
                domain=DOMAIN,
                medium=POOL,
                came_by=CameBy.BACKUP,
                now=NOW,
                deadline=NOW + timedelta(days=7),
            )

        self._transact(lease)
        server = self.servers[host]
        if follows:
            server.follower.follow()
        begun = Session(host, session, server.follower.number, self.clock)
        there = [number for number in range(len(self.images)) if number not in self.expired]
        if follows and there:
            begun.previous = there[pick % len(there)]
            assert self.images[begun.previous] <= server.index.known, "a previous image cannot be read"
        self.open.append(begun)
        return begun

    @rule(session=sessions)
    def store(self, session: Session) -> None:
        """A container is sealed: it is in the bucket, then in the log, then in the index."""
        if session not in self.open:
            return
        self.clock += 1
        container = ContainerId(self.clock.to_bytes(16, "big"))
        self.bucket.objects.add(names.container_key(container))
        self.created[container] = self.clock
        self._stored([names.container_key(container)])
        self.servers[session.host].index.known.add(container)
        session.stored.add(container)

    @rule(host=servers)
    def leave_behind(self, host: int) -> None:
        """A backup stored a container and was given up: no image needs it."""
        session = self.begin(host, follows=True, pick=0)
        self.store(session)
        self._end(session)

    @rule(session=sessions, pick=picks)
    def find(self, session: Session, pick: int) -> None:
        """Something is found that is stored already."""
        if session not in self.open:
            return
        there = self.servers[session.host].index.findable()
        unneeded = [container for container in there if container not in self._needed()]
        if there:
            among = unneeded or there  # what may go soon is the better test
            session.found.add(among[pick % len(among)])

    @rule(session=consumes(sessions))
    def commit(self, session: Session) -> None:
        """The image is made, in one transaction that has the last word."""
        if session not in self.open:
            return

        def deed(connection: Connection) -> None:
            epoch = session_epoch(connection, session.session)
            pool_log.require_followed(connection, POOL, epoch, session.followed)

        try:
            self._transact(deed)
        except StaleIndexError:
            pass
        else:
            previous = set() if session.previous is None else self.images[session.previous]
            self.images.append(session.found | session.stored | previous)
        self._end(session)

    @rule(session=consumes(sessions))
    def give_up(self, session: Session) -> None:
        """The client goes away; what was stored stays, and no image needs it."""
        if session in self.open:
            self._end(session)

    @precondition(lambda self: self.images)
    @rule(pick=picks)
    def expire(self, pick: int) -> None:
        """An image goes that no backup has as its previous one."""
        number = pick % len(self.images)
        if number not in {session.previous for session in self.open}:
            self.expired.add(number)

    # ------------------------------------------------------------ collections

    @rule(target=looks, host=servers)
    def begin_to_collect(self, host: int) -> Collecting:
        """A job's next attempt: the primary's snapshot, then the media server marks and sorts."""
        return self.look(host)

    def look(self, host: int) -> Collecting:
        self.attempt += 1
        with self.engine.begin() as connection:
            epoch = get_medium(connection, POOL).epoch
            closed_before = min(open_epochs(connection, POOL) | {epoch})
        young = min((session.began for session in self.open), default=None)
        server = self.servers[host]
        server.follower.follow()
        needed = self._needed()
        assert needed <= server.index.known, "what an image needs cannot be marked"
        survey = Survey()
        for container in sorted(server.index.known):
            if names.container_key(container) in self.bucket.objects:
                found = Surveyed(
                    container, DOMAIN, Content.FRAMES, 1, self.created[container], server.index.hidden.get(container), 0
                )
                found.needed = int(container in needed)
                survey.containers.append(found)
        epochs = Epochs(epoch, closed_before, young)
        return Collecting(self.attempt, host, epochs, collection.sort(survey, epochs))

    @rule(look=consumes(looks), dies_after=st.integers(0, 8), is_slow=st.booleans())
    def go_on_collecting(self, look: Collecting, dies_after: int, is_slow: bool) -> None:
        """It does what it decided, unless another attempt has taken over; it may die, or delete late."""
        self.act(look, dies_after=dies_after, is_slow=is_slow)

    def act(self, look: Collecting, *, dies_after: int, is_slow: bool) -> None:
        left = dies_after
        index = self.servers[look.host].index

        def step(which: str, containers: list[ContainerId]) -> list[str]:
            nonlocal left
            if look.attempt != self.attempt or left == 0:
                raise FencedError
            left -= 1
            keys = [names.container_key(one) for one in containers]
            return self._mark(which, keys)

        try:
            reprieve, condemn = ([one.id for one in which] for which in (look.done.reprieve, look.done.condemn))
            step("reprieve", reprieve)
            index.reprieve(reprieve)
            step("condemn", condemn)
            index.condemn(condemn, look.epochs.now)
            for one in look.done.remove:
                if one.id in index.condemned() and step("remove", [one.id]):
                    self.late.append(names.container_key(one.id))
                    if not is_slow:
                        self._delete()
                        index.remove(one.id)
            if condemn or look.done.wait:
                step("reprieve", [])
                self._transact(lambda connection: advance_epoch(connection, POOL))
        except FencedError:
            pass

    @rule(host=servers)
    def collect(self, host: int) -> None:
        """A whole collection, which nothing disturbs."""
        self.act(self.look(host), dies_after=1_000, is_slow=False)

    @precondition(lambda self: self.late)
    @rule()
    def delete_late(self) -> None:
        """Whoever was allowed to delete, does."""
        self._delete()

    def _delete(self) -> None:
        for name in self.late:
            self.bucket.remove(name)
        self.late.clear()

    # ------------------------------------------------------------ what must hold

    @invariant()
    def nothing_is_lost(self) -> None:
        """Every container that an image needs is in the bucket."""
        if hasattr(self, "bucket"):
            lost = {one for one in self._needed() if names.container_key(one) not in self.bucket.objects}
            assert not lost

    # ------------------------------------------------------------ within

    def _needed(self) -> set[ContainerId]:
        return {one for number, image in enumerate(self.images) if number not in self.expired for one in image}

    def _process(self, index: FakeIndex) -> Server:
        listed = {found for name in self.bucket.objects if (found := names.container_of(name)) is not None}
        report = RefreshReport(added=sorted(listed - index.known))
        for container in index.known - listed:
            index.remove(container)
        index.known |= listed
        primary = SimpleNamespace(follow=self._follow, stored=lambda _, keys: self._stored(keys))
        envelopes = SimpleNamespace(take=lambda _: [], refresh=list)
        checks = SimpleNamespace(forget=lambda _: None)
        pool = SimpleNamespace(
            medium=POOL, index=index, store=self.bucket, envelopes=envelopes, checks=checks, refreshed=report
        )
        return Server(index, Taking(cast("Any", primary), cast("Any", pool)))

    def _follow(self, medium: MediumId, after: int) -> upkeep_messages.Followed:
        with self.engine.begin() as connection:
            return pool_log.follow(connection, medium, after)

    def _stored(self, keys: list[str]) -> None:
        self._transact(lambda connection: pool_log.stored(connection, POOL, keys))

    def _mark(self, which: str, keys: list[str]) -> list[str]:
        def deed(connection: Connection) -> list[str]:
            if which == "remove":
                return pool_log.remove(connection, POOL, keys)
            (pool_log.condemn if which == "condemn" else pool_log.reprieve)(connection, POOL, keys)
            return keys

        return self._transact(deed)

    def _transact(self, deed: Callable[[Connection], T]) -> T:
        with self.engine.begin() as connection:
            return deed(connection)

    def _end(self, session: Session) -> None:
        self._transact(lambda connection: abandon_copy(connection, session.session))
        self.open.remove(session)


TestTwoServers = TwoServers.TestCase
TestTwoServers.settings = settings(
    max_examples=20,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
