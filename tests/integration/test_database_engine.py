"""Opening databases, and what is said when one cannot be (X1)."""

from __future__ import annotations

import sqlite3
import stat
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from strongroom.database import (
    DatabaseDamagedError,
    DatabaseFullError,
    DatabaseUnreachableError,
    DatabaseURLError,
    open_engine,
    read,
    transact,
    write,
)


def pragma(engine: sa.Engine, name: str) -> object:
    with read(engine) as connection:
        return connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()


def test_sqlite_is_durable_and_private(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.touch(mode=0o644)
    engine = open_engine(f"sqlite:///{path}")
    assert pragma(engine, "journal_mode") == "wal"
    assert pragma(engine, "synchronous") == 2
    assert pragma(engine, "foreign_keys") == 1
    with write(engine) as connection:
        connection.exec_driver_sql("CREATE TABLE a (b)")
        files = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert set(files) == {"a.db", "a.db-wal", "a.db-shm"}
    assert set(files.values()) == {0o600}
    engine.dispose()


def test_sqlite_writer_takes_the_lock_before_it_reads(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'a.db'}")
    other = sqlite3.connect(tmp_path / "a.db", timeout=0, isolation_level=None)
    with write(engine), pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("BEGIN IMMEDIATE")
    with read(engine):
        other.execute("BEGIN IMMEDIATE")
    other.close()
    engine.dispose()


def test_sqlite_writer_waits_for_another(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'a.db'}")
    locked, release = threading.Event(), threading.Event()

    def hold() -> None:
        with write(engine):
            locked.set()
            release.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    locked.wait(10)
    threading.Timer(0.2, release.set).start()
    with write(engine) as connection:
        connection.exec_driver_sql("CREATE TABLE a (b)")
    thread.join()
    engine.dispose()


@pytest.mark.parametrize(
    "url",
    ["mysql://host/name", "sqlite://", "sqlite:///:memory:", "sqlite:///a?mode=ro", "no url", "oracle://x"],
)
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(DatabaseURLError) as caught:
        open_engine(url)
    assert caught.value.code == "database.bad-url"
    assert "postgresql://" in caught.value.hint


def test_password_of_a_wrong_url_is_not_repeated() -> None:
    with pytest.raises(DatabaseURLError) as caught:
        open_engine("mysql://user:pass-word@host/name")
    assert "pass-word" not in str(caught.value)


def test_missing_folder_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnreachableError) as caught:
        open_engine(f"sqlite:///{tmp_path}/missing/a.db")
    assert caught.value.retry == "later"


def test_missing_server_is_unreachable(tmp_path: Path) -> None:
    engine = open_engine(f"postgresql://user:pass-word@/name?host={tmp_path}")
    with pytest.raises(DatabaseUnreachableError) as caught, read(engine):
        pass
    assert "pass-word" not in str(caught.value)


def test_file_that_is_no_database_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"no database at all" * 1000)
    engine = open_engine(f"sqlite:///{tmp_path / 'a.db'}")
    with pytest.raises(DatabaseDamagedError), read(engine):
        pass


def test_no_space_left_is_said_so(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'a.db'}")

    def fill(connection: sa.Connection) -> None:
        connection.exec_driver_sql("PRAGMA max_page_count=3")
        connection.exec_driver_sql("CREATE TABLE a (b)")
        connection.exec_driver_sql("INSERT INTO a VALUES (zeroblob(100000))")

    with pytest.raises(DatabaseFullError) as caught:
        transact(engine, fill)
    assert (caught.value.code, caught.value.http_status) == ("database.full", 507)
    engine.dispose()
