"""C3: the log of a pool: the rule of the commit, what may be removed, and what is forgotten; who serves a pool."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, create_engine, delete, insert
from sqlalchemy.pool import StaticPool

from strongroom.catalog.copies import abandon_copy, begin_copy, session_epoch
from strongroom.catalog.media import add_medium, advance_epoch, get_medium
from strongroom.catalog.model import CameBy
from strongroom.core.ids import DomainId, HostId, ImageId, MediumId
from strongroom.database import metadata
from strongroom.pki import registry
from strongroom.pki.errors import HostNotFoundError
from strongroom.pki.names import HostNames
from strongroom.pki.roles import Role
from strongroom.services.primary import pool_log, pool_servers, pools
from strongroom.services.primary.errors import PoolServersError, StaleIndexError
from strongroom.services.primary.tables import client_work, media_beats
from tests.support.images import fixed

DOMAIN = DomainId(fixed("domain", 32))
POOL = MediumId(fixed("pool", 16))
FOLDER = MediumId(fixed("folder", 16))
FIRST, SECOND = HostId(fixed("first", 16)), HostId(fixed("second", 16))
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ONE, TWO = "containers/aa/one", "containers/bb/two"


@pytest.fixture
def db() -> Iterator[Connection]:
    """A catalog with a pool in a bucket, one in a folder, and two media servers, of which the first serves both."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    metadata.create_all(engine)
    with engine.begin() as connection:
        for medium, label, location in ((POOL, "cloud", "s3://bucket/x"), (FOLDER, "local", "/pools/local")):
            add_medium(connection, medium, kind="pool", label=label, domain=DOMAIN, location=location, host=FIRST)
        for host, name in ((FIRST, "one"), (SECOND, "two")):
            registry.enter_host(connection, DOMAIN, host, Role.MEDIA, name, HostNames.read((name,)), NOW)
        yield connection
    engine.dispose()


@pytest.fixture
def shared(db: Connection) -> Connection:
    pool_servers.attach(db, get_medium(db, POOL), SECOND)
    return db


def begin(db: Connection, name: str) -> bytes:
    session = fixed(name, 16)
    begin_copy(
        db,
        ImageId(session),
        session=session,
        domain=DOMAIN,
        medium=POOL,
        came_by=CameBy.BACKUP,
        now=NOW,
        deadline=NOW + timedelta(days=1),
    )
    return session


def beat(db: Connection, host: HostId, followed: int, *, at: datetime = NOW) -> None:
    db.execute(delete(media_beats).where(media_beats.c.host == host))
    told = [{"medium": POOL.hex(), "followed": followed}]
    db.execute(insert(media_beats).values(host=host, at=at, version="1", pools=told, address="", socket=""))


def log(db: Connection, after: int = 0) -> list[tuple[str, str, int]]:
    return [(row.name, row.state, row.number) for row in pool_log.follow(db, POOL, after).rows]


def test_a_session_that_began_after_a_condemning_of_which_its_server_had_not_heard_does_not_commit(
    shared: Connection,
) -> None:
    pool_log.condemn(shared, POOL, [ONE])
    heard = pool_log.follow(shared, POOL, 0).last
    advance_epoch(shared, POOL)
    epoch = session_epoch(shared, begin(shared, "later"))
    with pytest.raises(StaleIndexError):
        pool_log.require_followed(shared, POOL, epoch, heard - 1)
    pool_log.require_followed(shared, POOL, epoch, heard)
    # that it goes meanwhile changes the row, and not what the session could find
    assert pool_log.remove(shared, POOL, [ONE]) == [ONE]
    pool_log.require_followed(shared, POOL, epoch, heard)


def test_a_session_that_began_before_a_condemning_commits_and_keeps_the_container(shared: Connection) -> None:
    session = begin(shared, "earlier")
    pool_log.condemn(shared, POOL, [ONE])
    advance_epoch(shared, POOL)
    pool_log.require_followed(shared, POOL, session_epoch(shared, session), 0)
    assert pool_log.remove(shared, POOL, [ONE]) == []
    abandon_copy(shared, session)
    assert pool_log.remove(shared, POOL, [ONE]) == [ONE]


def test_nothing_goes_in_the_epoch_in_which_it_was_condemned_nor_what_was_taken_back(shared: Connection) -> None:
    pool_log.condemn(shared, POOL, [ONE, TWO])
    assert pool_log.remove(shared, POOL, [ONE, TWO]) == []
    advance_epoch(shared, POOL)
    pool_log.reprieve(shared, POOL, [ONE])
    assert pool_log.remove(shared, POOL, [ONE, TWO, "containers/cc/unheard-of"]) == [TWO]


def test_what_is_removed_stays_so(shared: Connection) -> None:
    pool_log.condemn(shared, POOL, [ONE])
    advance_epoch(shared, POOL)
    pool_log.remove(shared, POOL, [ONE])
    before = log(shared)
    pool_log.reprieve(shared, POOL, [ONE])
    pool_log.condemn(shared, POOL, [ONE])
    pool_log.stored(shared, POOL, [ONE])
    assert log(shared) == before
    assert pool_log.remove(shared, POOL, [ONE]) == [ONE]  # whoever asks again may delete again


def test_rows_are_forgotten_when_all_servers_took_them_in_but_those_that_are_condemned(shared: Connection) -> None:
    pool_log.condemn(shared, POOL, [ONE])
    pool_log.stored(shared, POOL, [TWO])
    beat(shared, FIRST, 2)
    pool_log.forget(shared, POOL)
    assert [name for name, *_ in log(shared)] == [ONE, TWO]  # the second has said nothing yet
    beat(shared, SECOND, 2)
    pool_log.forget(shared, POOL)
    assert log(shared) == [(ONE, "condemned", 1)]
    pool_log.stored(shared, POOL, ["containers/dd/new"])
    assert log(shared, 2) == [("containers/dd/new", "stored", 3)]  # numbers go on


def test_a_pool_with_one_server_notes_what_is_condemned_and_nothing_else(db: Connection) -> None:
    pool_log.stored(db, POOL, [TWO])
    pool_log.condemn(db, POOL, [ONE])
    assert log(db) == [(ONE, "condemned", 1)]


def test_a_log_of_any_length_is_followed_in_pages_and_in_order(
    shared: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_log, "_PAGE", 3)
    names = [f"containers/aa/{number}" for number in range(7)]
    pool_log.stored(shared, POOL, names)
    seen, after, more = [], 0, True
    while more:
        page = pool_log.follow(shared, POOL, after)
        seen += [row.name for row in page.rows]
        after, more = page.rows[-1].number, page.more
    assert seen == names


def test_only_a_bucket_and_only_active_media_servers_are_joined(shared: Connection) -> None:
    with pytest.raises(PoolServersError):
        pool_servers.attach(shared, get_medium(shared, FOLDER), SECOND)
    with pytest.raises(PoolServersError):
        pool_servers.attach(shared, get_medium(shared, POOL), SECOND)
    with pytest.raises(HostNotFoundError):
        pool_servers.attach(shared, get_medium(shared, POOL), HostId(fixed("nobody", 16)))


def test_any_server_of_several_is_detached_and_the_last_one_stays(shared: Connection) -> None:
    assert pools.hosts_of(shared, get_medium(shared, POOL)) == [FIRST, SECOND]
    pool_servers.detach(shared, get_medium(shared, POOL), FIRST)
    assert pools.hosts_of(shared, get_medium(shared, POOL)) == [SECOND]
    with pytest.raises(PoolServersError):
        pool_servers.detach(shared, get_medium(shared, POOL), SECOND)
    pool_servers.attach(shared, get_medium(shared, POOL), FIRST)
    assert pools.hosts_of(shared, get_medium(shared, POOL)) == [SECOND, FIRST]


def test_work_goes_to_the_server_that_lives_answers_and_has_least_to_do(shared: Connection) -> None:
    pool, since = get_medium(shared, POOL), NOW - timedelta(seconds=60)
    beat(shared, FIRST, 0)
    beat(shared, SECOND, 0)
    assert pools.host_of(shared, pool, since=since) == FIRST
    assert pools.host_of(shared, pool, since=since, busy={FIRST: 1}) == SECOND
    shared.execute(
        insert(client_work).values(
            job=1,
            kind="backup",
            digest=bytes(32),
            host=FIRST,
            medium=POOL,
            image=bytes(16),
            copy=1,
            key_group=bytes(16),
            details={},
        )
    )
    assert pools.host_of(shared, pool, since=since) == SECOND
    assert pools.host_of(shared, pool, since=since, without={SECOND}) == FIRST
    beat(shared, SECOND, 0, at=NOW - timedelta(seconds=61))
    assert pools.host_of(shared, pool, since=since) == FIRST
    assert pools.host_of(shared, get_medium(shared, FOLDER), since=since, without={FIRST}) == FIRST  # the only one
