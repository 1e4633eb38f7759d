"""Bringing the schema up to what this program needs. The revisions are in ``migrations/versions``, named by number.

Alembic is loaded only when there is something to do: every process looks whether there is.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from strongroom.database.engine import is_sqlite
from strongroom.database.errors import DatabaseNewerError
from strongroom.database.transactions import read, transact

MIGRATIONS = Path(__file__).parent / "migrations"
VERSION_TABLE = "alembic_version"
UPGRADE_LOCK = 0x5374726F6E67  # any number that nobody else uses as an advisory lock in this database


def upgrade(engine: Engine) -> str:
    """Bring the schema to the newest revision, in one transaction; does nothing when it is there already.

    Processes that start together wait for one another.

    Returns:
        The revision reached.

    Raises:
        DatabaseNewerError: a newer program has changed the schema; nothing was done.
        DatabaseBusyError, DatabaseFullError, DatabaseUnreachableError: as the database says.
    """
    newest = latest_version()
    if schema_version(engine) != newest:
        if not is_sqlite(engine):
            # After waiting for the lock, what the other process did must be seen, not the snapshot before it.
            engine = engine.execution_options(isolation_level="READ COMMITTED")
        transact(engine, _upgrade)
    return newest


def schema_version(engine: Engine) -> str | None:
    """Tell the revision of the schema; None for an empty database.

    Raises:
        DatabaseNewerError: this program does not know the revision.
    """
    with read(engine) as connection:
        return _known_version(connection)


def latest_version() -> str:
    """Tell the newest revision that this program knows."""
    return max(_versions())


def _upgrade(connection: Connection) -> None:
    if not is_sqlite(connection.engine):
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": UPGRADE_LOCK})
    _known_version(connection)
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _known_version(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608 - a name of ours
    version: str | None = found.scalar_one_or_none()
    if version is not None and version not in _versions():
        raise DatabaseNewerError(
            f"the schema of the database is '{version}', which is newer than this program",
            context={"schema": version},
        )
    return version


def _versions() -> set[str]:
    return {script.name.partition("_")[0] for script in (MIGRATIONS / "versions").glob("[0-9]*.py")}
