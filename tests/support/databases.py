"""Databases of both kinds: empty ones, and copies of one that has the tables of the product."""

from __future__ import annotations

import functools
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from strongroom.database import open_engine, upgrade

KINDS = ("sqlite", "postgresql")
FILE = "strongroom.db"


@contextmanager
def empty_database(kind: str, folder: Path, postgresql_url: str) -> Iterator[str]:
    """Make an empty database, give its URL, and remove it.

    Args:
        kind: one of ``KINDS``.
        folder: where a file may be made.
        postgresql_url: a database on the server where another may be made.
    """
    if kind == "sqlite":
        yield f"sqlite:///{folder / FILE}"
        return
    with _on_server(postgresql_url) as url:
        yield url


@contextmanager
def made_database(kind: str, folder: Path, postgresql_url: str) -> Iterator[str]:
    """Make a database with the tables of the product, give its URL, and remove it; arguments as above."""
    if kind == "sqlite":
        copy_tables(folder / FILE)
        yield f"sqlite:///{folder / FILE}"
        return
    served = _served(postgresql_url)
    url = served.take()
    yield url
    served.give_back(url)


def copy_tables(file: Path) -> None:
    """Make a SQLite file with the tables of the product."""
    file.write_bytes(_template_file())


@functools.cache
def _template_file() -> bytes:
    with tempfile.TemporaryDirectory(prefix="strongroom-tables-") as folder:
        file = Path(folder) / FILE
        _make_tables(f"sqlite:///{file}")
        return file.read_bytes()


class _Served:
    """Databases of one server that tests use one after the other: to empty one is ten times as fast as to make one.

    Args:
        postgresql_url: a database on the server.
    """

    def __init__(self, postgresql_url: str) -> None:
        self._server = postgresql_url
        self._tables: list[str] = []
        self._triggers: list[tuple[str, str]] = []
        self._first_rows: dict[str, list[str]] = {}
        self._free: list[str] = []

    def take(self) -> str:
        """Give the URL of a database that nobody uses."""
        if self._free:
            return self._free.pop()
        name = f"test_{secrets.token_hex(8)}"
        with _connect(self._server) as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name} STRATEGY file_copy"))
        url = _url_of(self._server, name)
        _make_tables(url)
        with _connect(url) as connection:
            self._tables, self._triggers = _tables_of(connection), _triggers_of(connection)
            rows = ((table, _rows_of(connection, table)) for table in self._tables)
            self._first_rows = {table: found for table, found in rows if found}
        return url

    def give_back(self, url: str) -> None:
        """Make a database what it was; one with other tables or triggers than it had is used no more."""
        with _connect(url) as connection:
            others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            connection.execute(sa.text(f"{others} AND pid <> pg_backend_pid()"))
            if (_tables_of(connection), _triggers_of(connection)) != (self._tables, self._triggers):
                return
            # without triggers, those of foreign keys and those that keep records from being changed
            connection.execute(sa.text("SET session_replication_role = replica"))
            connection.execute(sa.text(";".join(f"DELETE FROM {table}" for table in self._tables)))  # noqa: S608
            for sequence in connection.execute(sa.text("SELECT sequencename FROM pg_sequences")).scalars().all():
                connection.execute(sa.text(f"ALTER SEQUENCE {sequence} RESTART"))
            for table, rows in self._first_rows.items():
                for row in rows:
                    statement = f"INSERT INTO {table} SELECT * FROM json_populate_record(NULL::{table}, :row)"  # noqa: S608
                    connection.execute(sa.text(statement), {"row": row})
        self._free.append(url)


@functools.cache
def _served(postgresql_url: str) -> _Served:
    return _Served(postgresql_url)


def _tables_of(connection: sa.Connection) -> list[str]:
    found = sa.text("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename")
    return list(connection.execute(found).scalars())


def _triggers_of(connection: sa.Connection) -> list[tuple[str, str]]:
    found = sa.text("SELECT tgname, tgenabled::text FROM pg_trigger WHERE NOT tgisinternal ORDER BY tgname")
    return [(row.tgname, row.tgenabled) for row in connection.execute(found)]


def _rows_of(connection: sa.Connection, table: str) -> list[str]:
    return list(connection.execute(sa.text(f"SELECT row_to_json(t)::text FROM {table} t")).scalars())  # noqa: S608


def _make_tables(url: str) -> None:
    engine = open_engine(url)
    upgrade(engine)
    engine.dispose()


@contextmanager
def _on_server(postgresql_url: str) -> Iterator[str]:
    name = f"test_{secrets.token_hex(8)}"
    with _connect(postgresql_url) as connection:
        # A copy of files instead of the log: three times as fast.
        connection.execute(sa.text(f"CREATE DATABASE {name} STRATEGY file_copy"))
    yield _url_of(postgresql_url, name)
    with _connect(postgresql_url) as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))


@contextmanager
def _connect(postgresql_url: str) -> Iterator[sa.Connection]:
    url = sa.make_url(postgresql_url).set(drivername="postgresql+psycopg")
    server = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with server.connect() as connection:
        yield connection


def _url_of(postgresql_url: str, name: str) -> str:
    return postgresql_url.replace(f"/{sa.make_url(postgresql_url).database}", f"/{name}", 1)
