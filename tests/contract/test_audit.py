"""The evidence, on both databases (U3)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa

from strongroom import audit
from strongroom.audit.tables import audit_head, audit_log
from strongroom.core.clock import ManualClock
from strongroom.core.errors import RefusedError
from strongroom.database import is_sqlite, read, transact

CLOCK = ManualClock()
NOW = CLOCK.now()
WHO = audit.Actor(audit.ActorKind.USER, "admin", "192.0.2.1")


def write_rows(engine: sa.Engine, count: int) -> audit.Head:
    head = audit.Head(0, b"")
    for number in range(count):
        head = transact(
            engine,
            lambda connection, number=number: audit.record(  # type: ignore[misc]
                connection,
                NOW + timedelta(seconds=number),
                WHO,
                "image.expire",
                f"image:{number}",
                audit.Outcome.DONE,
                {"copies": number, "forced": False, "note": "ü\n\ud800" if number == 1 else None},
            ),
        )
    return head


def verify(engine: sa.Engine, anchor: audit.Head | None = None) -> audit.Head:
    with read(engine) as connection:
        return audit.verify_chain(connection, anchor)


def tamper(engine: sa.Engine, *statements: sa.Executable) -> None:
    """Do what somebody with the database's own rights can do: take the triggers away first."""

    def act(connection: sa.Connection) -> None:
        if is_sqlite(engine):
            connection.execute(sa.text("DROP TRIGGER audit_log_UPDATE"))
            connection.execute(sa.text("DROP TRIGGER audit_log_DELETE"))
        else:
            connection.execute(sa.text("ALTER TABLE audit_log DISABLE TRIGGER audit_log_refuse"))
        for statement in statements:
            connection.execute(statement)

    transact(engine, act)


def test_rows_are_chained_without_gaps_and_read_as_written(database: sa.Engine) -> None:
    head = write_rows(database, 3)
    assert verify(database) == head
    assert head.number == 3
    with read(database) as connection:
        rows = audit.entries(connection, after=1, limit=1)
    assert [row.number for row in rows] == [2]
    assert rows[0].actor == "user:admin@192.0.2.1"
    assert rows[0].facts == {"copies": 1, "forced": False, "note": "ü\n\ud800"}


def test_empty_audit_is_whole(database: sa.Engine) -> None:
    assert verify(database).number == 0


@pytest.mark.parametrize("verb", ["UPDATE audit_log SET actor = 'user:other'", "DELETE FROM audit_log"])
def test_statement_that_went_wrong_is_refused(database: sa.Engine, verb: str) -> None:
    write_rows(database, 1)
    with pytest.raises(sa.exc.DBAPIError, match="never changed"):
        transact(database, lambda connection: connection.execute(sa.text(verb)))
    assert verify(database).number == 1


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        ([sa.update(audit_log).where(audit_log.c.number == 2).values(actor="user:other")], "row 2"),
        ([sa.update(audit_log).where(audit_log.c.number == 2).values(facts={})], "row 2"),
        ([sa.update(audit_log).where(audit_log.c.number == 2).values(at=NOW)], "row 2"),
        ([sa.delete(audit_log).where(audit_log.c.number == 2)], "row 2 of the audit is missing"),
        ([sa.delete(audit_log).where(audit_log.c.number == 4)], "ends at row 3"),
        ([sa.delete(audit_head)], "head"),
    ],
)
def test_whatever_was_changed_is_found(database: sa.Engine, statements: list[sa.Executable], said: str) -> None:
    write_rows(database, 4)
    tamper(database, *statements)
    with pytest.raises(audit.AuditDamagedError, match=said):
        verify(database)


def test_cut_tail_with_a_forged_head_is_found_by_a_head_that_others_kept(database: sa.Engine) -> None:
    write_rows(database, 4)
    with read(database) as connection:
        kept = audit.current_head(connection)
        third = connection.execute(sa.select(audit_log.c.hash).where(audit_log.c.number == 3)).scalar_one()
    assert verify(database, kept) == kept
    tamper(
        database,
        sa.delete(audit_log).where(audit_log.c.number == 4),
        sa.update(audit_head).values(number=3, hash=third),
    )
    assert verify(database).number == 3
    with pytest.raises(audit.AuditDamagedError, match="checkpoint"):
        verify(database, kept)
    write_rows(database, 1)
    with pytest.raises(audit.AuditDamagedError, match="checkpoint"):
        verify(database, kept)


def test_deed_stands_between_its_rows_in_one_transaction(database: sa.Engine) -> None:
    seen: list[int] = []

    def deed(connection: sa.Connection) -> str:
        seen.append(audit.current_head(connection).number)
        return "made"

    done = audit.exercise(database, CLOCK, WHO, "pool.create", "pool:a", deed, describe=lambda made: {"result": made})
    assert (done, seen) == ("made", [1])
    with read(database) as connection:
        rows = audit.entries(connection, object_="pool:a")
    assert [row.outcome.value for row in rows] == ["attempted", "done"]
    assert rows[1].facts == {"result": "made"}


def test_refused_deed_leaves_one_row_that_says_why(database: sa.Engine) -> None:
    def deed(_connection: sa.Connection) -> None:
        raise RefusedError("there is such a pool")

    with pytest.raises(RefusedError):
        audit.exercise(database, CLOCK, WHO, "pool.create", "pool:a", deed)
    with read(database) as connection:
        rows = audit.entries(connection)
    assert [row.outcome for row in rows] == [audit.Outcome.REFUSED]
    assert rows[0].facts == {"code": "core.refused", "reason": "there is such a pool"}


def test_row_goes_with_the_transaction_it_is_evidence_of(database: sa.Engine) -> None:
    def deed(connection: sa.Connection) -> None:
        audit.record(connection, NOW, WHO, "pool.create", "pool:a", audit.Outcome.DONE)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        transact(database, deed)
    assert verify(database).number == 0


def test_writers_at_once_make_one_chain(database: sa.Engine) -> None:
    errors: list[BaseException] = []

    def guarded(act: Callable[[], object]) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - carried to the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(lambda: write_rows(database, 5),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert verify(database).number == 20
