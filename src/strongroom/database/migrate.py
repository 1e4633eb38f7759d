"""Bringing the schema up to what this program needs. The revisions are in ``migrations/versions``."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from strongroom.database.engine import is_sqlite
from strongroom.database.errors import DatabaseNewerError
from strongroom.database.transactions import read, transact

MIGRATIONS = Path(__file__).parent / "migrations"
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
    head = _scripts().get_current_head()
    assert head is not None  # noqa: S101 - the package ships at least one revision
    return head


def _upgrade(connection: Connection) -> None:
    if not is_sqlite(connection.engine):
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": UPGRADE_LOCK})
    _known_version(connection)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _known_version(connection: Connection) -> str | None:
    version = MigrationContext.configure(connection).get_current_revision()
    if version is not None and version not in {script.revision for script in _scripts().walk_revisions()}:
        raise DatabaseNewerError(
            f"the schema of the database is '{version}', which is newer than this program",
            context={"schema": version},
        )
    return version


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(MIGRATIONS))
