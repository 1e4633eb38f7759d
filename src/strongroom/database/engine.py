"""Opening a database: every connection is set up here, and nowhere else."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from strongroom.database.errors import DatabaseUnreachableError, DatabaseURLError

FILE_MODE = 0o600
BUSY_TIMEOUT = timedelta(seconds=10)
LOCK_TIMEOUT = timedelta(seconds=10)
STATEMENT_TIMEOUT = timedelta(seconds=60)
# A process that was stopped in the middle of a transaction must not hold its locks for long.
IDLE_IN_TRANSACTION_TIMEOUT = timedelta(seconds=30)
CONNECT_TIMEOUT = timedelta(seconds=10)
POOL_SIZE = 8
POOL_OVERFLOW = 32

_READ_OPTION = "strongroom_read"


def open_engine(url: str, *, statement_timeout: timedelta = STATEMENT_TIMEOUT) -> Engine:
    """Open the database that a URL names; a missing SQLite file is created, readable by its owner only.

    Args:
        url: ``sqlite:///relative``, ``sqlite:////absolute`` or ``postgresql://user@host/name``.
        statement_timeout: how long one statement may take; PostgreSQL only.

    Returns:
        An engine for :func:`~strongroom.database.transactions.read` and its fellows; dispose of it at the
        end. On PostgreSQL nothing has been connected yet.

    Raises:
        DatabaseURLError: the URL cannot be read, or names another kind of database.
        DatabaseUnreachableError: the folder of the file is missing, or may not be written.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise DatabaseURLError("the database URL cannot be read") from error  # it may hold a password
    match parsed.get_backend_name():
        case "sqlite":
            return _open_sqlite(parsed)
        case "postgresql":
            return _open_postgresql(parsed, statement_timeout)
        case other:
            raise DatabaseURLError(f"'{other}' databases are not supported")


def is_sqlite(engine: Engine) -> bool:
    """Tell whether the database is a file of this machine, so that a file lock can guard it."""
    return engine.dialect.name == "sqlite"


def read_options(engine: Engine) -> dict[str, Any]:
    """Give the execution options of a connection that only reads, from one snapshot."""
    if is_sqlite(engine):
        return {_READ_OPTION: True}
    return {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}


def _open_sqlite(url: URL) -> Engine:
    if not url.database or url.database == ":memory:" or url.query:
        raise DatabaseURLError("a database in memory, or one with options, is not supported")
    path = Path(url.database)
    try:
        # Before SQLite does: its journal files take the mode of this one.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            os.fchmod(descriptor, FILE_MODE)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise DatabaseUnreachableError(
            f"the database '{path}' cannot be opened: {error.strerror}",
            hint="Check that its folder exists and belongs to the user who runs strongroom.",
        ) from error
    engine = create_engine(
        url.set(drivername="sqlite+pysqlite"),
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
        pool_timeout=BUSY_TIMEOUT.total_seconds(),
    )
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # sqlite3 must not begin transactions by itself; _begin_sqlite does
    for pragma in (
        f"busy_timeout={BUSY_TIMEOUT // timedelta(milliseconds=1)}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "trusted_schema=OFF",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    if connection.get_execution_options().get(_READ_OPTION):
        connection.exec_driver_sql("PRAGMA query_only=ON")
        connection.exec_driver_sql("BEGIN")
    else:
        connection.exec_driver_sql("PRAGMA query_only=OFF")
        # Take the write lock now: a transaction that reads first and writes later would fail at the write,
        # without waiting, if another had written meanwhile.
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _open_postgresql(url: URL, statement_timeout: timedelta) -> Engine:
    options = {
        "timezone": "UTC",
        "statement_timeout": _milliseconds(statement_timeout),
        "lock_timeout": _milliseconds(LOCK_TIMEOUT),
        "idle_in_transaction_session_timeout": _milliseconds(IDLE_IN_TRANSACTION_TIMEOUT),
    }
    told = url.query.get("options", "")
    told = told if isinstance(told, str) else " ".join(told)
    url = url.set(drivername="postgresql+psycopg").difference_update_query(["options"])
    return create_engine(
        url,
        isolation_level="SERIALIZABLE",
        pool_pre_ping=True,  # a restarted server must not fail the first transaction of every connection
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
        pool_timeout=BUSY_TIMEOUT.total_seconds(),
        connect_args={
            "application_name": "strongroom",
            "connect_timeout": int(CONNECT_TIMEOUT.total_seconds()),
            # What the URL says comes last, and wins.
            "options": " ".join([*(f"-c {name}={value}" for name, value in options.items()), told]).strip(),
        },
    )


def _milliseconds(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)
