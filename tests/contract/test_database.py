"""What the code above the database relies on, on both kinds of it (X1)."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

import strongroom.audit.tables
import strongroom.catalog.tables
import strongroom.jobs.tables
import strongroom.lifecycle.tables
import strongroom.people.tables
import strongroom.pki.tables
import strongroom.replication.tables
import strongroom.services.primary.tables
import strongroom.trust.tables  # noqa: F401 - they put their tables on the metadata
from strongroom.core.secret import Secret
from strongroom.database import (
    DatabaseBusyError,
    DatabaseNewerError,
    Document,
    DocumentError,
    Identity,
    Moment,
    is_sqlite,
    latest_version,
    metadata,
    racing,
    read,
    row_id,
    schema_version,
    transact,
    upgrade,
    write,
)
from strongroom.database.columns import ColumnValueError
from strongroom.database.migrate import MIGRATIONS

things = sa.Table(
    "things",
    sa.MetaData(),
    sa.Column("id", row_id(), primary_key=True),
    sa.Column("owner", Identity(16)),
    sa.Column("at", Moment),
    sa.Column("facts", Document(200)),
    sa.Column("amount", sa.Integer),
    sa.Column("name", sa.Text, unique=True),
    sqlite_autoincrement=True,
)


@pytest.fixture
def engine(empty: sa.Engine) -> sa.Engine:
    with write(empty) as connection:
        things.create(connection)
    return empty


def test_names_of_the_revisions_are_those_that_alembic_knows() -> None:
    scripts = ScriptDirectory(str(MIGRATIONS))
    names = {script.name.partition("_")[0] for script in (MIGRATIONS / "versions").glob("[0-9]*.py")}
    assert {script.revision for script in scripts.walk_revisions()} == names
    assert scripts.get_current_head() == latest_version()


def test_schema_after_all_revisions_is_that_of_the_tables(database: sa.Engine) -> None:
    with read(database) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    assert schema_version(database) == latest_version()


def test_upgrade_of_a_current_schema_changes_nothing(database: sa.Engine) -> None:
    assert upgrade(database) == latest_version()


def test_processes_that_upgrade_at_once_do_it_once(empty: sa.Engine) -> None:
    reached: list[str] = []
    threads = [threading.Thread(target=lambda: reached.append(upgrade(empty))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reached == [latest_version()] * 3


def test_newer_schema_is_refused_and_left_alone(database: sa.Engine) -> None:
    with write(database) as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseNewerError) as caught:
        upgrade(database)
    assert (caught.value.code, caught.value.context) == ("database.newer", {"schema": "9999"})
    with pytest.raises(DatabaseNewerError):
        schema_version(database)


def test_empty_database_has_no_version(empty: sa.Engine) -> None:
    assert schema_version(empty) is None


def test_values_come_back_as_they_went_in(engine: sa.Engine) -> None:
    at = datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=timezone(timedelta(hours=5)))
    values = {"owner": b"\0" * 15 + b"\xff", "at": at, "facts": {"name": "a\udcff\0", "n": [1, None]}}
    with write(engine) as connection:
        connection.execute(things.insert().values(**values))
    with read(engine) as connection:
        row = connection.execute(things.select()).one()
    assert (row.owner, row.at, row.facts) == (values["owner"], at, values["facts"])
    assert row.at.tzinfo is UTC


def test_moments_before_1970_keep_their_order(engine: sa.Engine) -> None:
    times = [datetime(1969, 12, 31, 23, 59, 59, n, tzinfo=UTC) for n in (1, 999_999)]
    with write(engine) as connection:
        connection.execute(things.insert(), [{"at": time} for time in reversed(times)])
    with read(engine) as connection:
        assert connection.execute(sa.select(things.c.at).order_by(things.c.at)).scalars().all() == times


@pytest.mark.parametrize(
    ("column", "value", "error"),
    [
        ("owner", b"short", ColumnValueError),
        ("at", datetime(2026, 1, 1), ColumnValueError),  # noqa: DTZ001 - the fault under test
        ("facts", {"key": Secret(b"x")}, DocumentError),
        ("facts", {"rate": float("nan")}, DocumentError),
        ("facts", "x" * 199, DocumentError),
    ],
)
def test_value_that_does_not_fit_is_refused(
    engine: sa.Engine, column: str, value: object, error: type[Exception]
) -> None:
    with pytest.raises(error), write(engine) as connection:
        connection.execute(things.insert().values(**{column: value}))


def test_failed_write_leaves_nothing(engine: sa.Engine) -> None:
    def fail_late(connection: sa.Connection) -> None:
        connection.execute(things.insert().values(amount=1))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        transact(engine, fail_late)
    with read(engine) as connection:
        assert connection.execute(things.select()).all() == []


def test_row_numbers_are_not_used_again(engine: sa.Engine) -> None:
    insert = things.insert().values(amount=1).returning(things.c.id)
    with write(engine) as connection:
        first = connection.execute(insert).scalar_one()
        connection.execute(things.delete())
    with write(engine) as connection:
        assert connection.execute(insert).scalar_one() > first


def test_reader_cannot_write(engine: sa.Engine) -> None:
    with pytest.raises(sa.exc.DBAPIError, match=r"(?i)read-?only"), read(engine) as connection:
        connection.execute(things.insert().values(amount=1))
    with write(engine) as connection:  # and the connection that goes back to the pool can again
        connection.execute(things.insert().values(amount=1))


def test_reader_sees_one_snapshot_and_does_not_wait_for_a_writer(engine: sa.Engine) -> None:
    count = sa.select(sa.func.count()).select_from(things)
    with read(engine) as reader:
        assert reader.execute(count).scalar_one() == 0
        with write(engine) as writer:
            writer.execute(things.insert().values(amount=1))
        assert reader.execute(count).scalar_one() == 0
    with read(engine) as reader:
        assert reader.execute(count).scalar_one() == 1


def test_writers_that_read_first_lose_no_update(engine: sa.Engine) -> None:
    with write(engine) as connection:
        connection.execute(things.insert().values(amount=0))

    def add(connection: sa.Connection) -> None:
        amount = connection.execute(sa.select(things.c.amount)).scalar_one()
        connection.execute(things.update().values(amount=amount + 1))

    def add_ten() -> None:
        for _ in range(10):
            transact(engine, add, tries=50)

    threads = [threading.Thread(target=add_ten) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with read(engine) as connection:
        assert connection.execute(sa.select(things.c.amount)).scalar_one() == 40


def test_two_that_each_check_the_other_cannot_both_pass(engine: sa.Engine) -> None:
    """Write skew: what READ COMMITTED would let through."""
    barrier = threading.Barrier(2, timeout=10)

    def take_last_place(connection: sa.Connection) -> bool:
        taken = connection.execute(sa.select(sa.func.count()).select_from(things)).scalar_one()
        if not is_sqlite(engine) and not barrier.broken:
            try:
                barrier.wait(timeout=1)
            except threading.BrokenBarrierError:
                pass  # the second try comes alone
        if taken >= 1:
            return False
        connection.execute(things.insert().values(amount=1))
        return True

    results: list[bool] = []
    threads = [threading.Thread(target=lambda: results.append(transact(engine, take_last_place))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False, True]


def test_transact_runs_again_when_another_was_in_the_way(engine: sa.Engine) -> None:
    runs: list[int] = []

    def collide(connection: sa.Connection) -> str:
        runs.append(1)
        connection.execute(things.insert().values(amount=len(runs)))
        if len(runs) < 3:
            raise DatabaseBusyError("another transaction was in the way")
        return "done"

    assert transact(engine, collide) == "done"
    with read(engine) as connection:
        assert connection.execute(sa.select(things.c.amount)).scalars().all() == [3]


def test_transact_gives_up_after_its_tries(engine: sa.Engine) -> None:
    runs: list[int] = []

    def collide(connection: sa.Connection) -> None:
        runs.append(1)
        raise DatabaseBusyError("another transaction was in the way")

    with pytest.raises(DatabaseBusyError):
        transact(engine, collide, tries=3)
    assert len(runs) == 3


def test_violated_constraint_is_left_to_the_owner_of_the_table(engine: sa.Engine) -> None:
    for _ in range(2):
        with pytest.raises(sa.exc.IntegrityError), write(engine) as connection:
            connection.execute(things.insert(), [{"name": "a"}, {"name": "a"}])
    with pytest.raises(DatabaseBusyError), write(engine) as connection, racing():
        connection.execute(things.insert(), [{"name": "a"}, {"name": "a"}])


def test_foreign_keys_are_enforced(database: sa.Engine) -> None:
    orphan = sa.text("INSERT INTO job_effects (job_id, step, attempt, at, document) VALUES (1, 'a', 1, 0, '{}')")
    with pytest.raises(sa.exc.IntegrityError), write(database) as connection:
        connection.execute(orphan)
