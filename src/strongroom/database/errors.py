"""Errors of the database, and their translation from what the drivers raise.

database.bad-url       the URL names no database this program can use
database.bad-document  a value is not JSON, or is too long
database.busy          another writer was in the way, even after waiting; may be tried again
database.unreachable   the file or the server is not there
database.full          no space left, or writing failed
database.damaged       the file is not a database, or its pages contradict each other
database.newer         the schema was written by a newer program
"""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import DBAPIError, DontWrapMixin
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from strongroom.core.errors import (
    InputError,
    IntegrityError,
    RefusedError,
    ResourceError,
    StrongroomError,
    UnavailableError,
)


class DatabaseURLError(InputError):
    """The URL names no database that this program can use."""

    code = "database.bad-url"
    default_hint = "Use 'sqlite:////path/to/file' or 'postgresql://user@host/name'."


# Without the mixin SQLAlchemy would hide the error in one of its own.
class DocumentError(InputError, DontWrapMixin):
    """A value is not JSON, or longer than its column allows."""

    code = "database.bad-document"


class DatabaseBusyError(UnavailableError):
    """Another transaction was in the way; nothing was changed."""

    code = "database.busy"
    default_hint = "Try again; if it persists, look for a transaction that stays open."


class DatabaseUnreachableError(UnavailableError):
    """The file or the server cannot be reached."""

    code = "database.unreachable"
    default_hint = "Check that the database is running, and that this host may connect to it."


class DatabaseFullError(ResourceError):
    """The database could not write: no space is left, or the disk fails."""

    code = "database.full"
    default_hint = "Free space on the disk that holds the database."


class DatabaseDamagedError(IntegrityError):
    """The file is not a database, or its pages contradict each other."""

    code = "database.damaged"
    default_hint = "Stop the services, keep a copy of the file, and restore from the latest DR package."


class DatabaseNewerError(RefusedError):
    """A newer version of the program has changed the schema."""

    code = "database.newer"
    default_hint = "Start the newer version, or restore the database that belongs to this one."


_SQLITE: dict[int, type[StrongroomError]] = {
    sqlite3.SQLITE_BUSY: DatabaseBusyError,
    sqlite3.SQLITE_LOCKED: DatabaseBusyError,
    sqlite3.SQLITE_FULL: DatabaseFullError,
    sqlite3.SQLITE_IOERR: DatabaseFullError,
    sqlite3.SQLITE_CANTOPEN: DatabaseUnreachableError,
    sqlite3.SQLITE_PERM: DatabaseUnreachableError,
    sqlite3.SQLITE_AUTH: DatabaseUnreachableError,
    sqlite3.SQLITE_CORRUPT: DatabaseDamagedError,
    sqlite3.SQLITE_NOTADB: DatabaseDamagedError,
}

# SQLSTATE, or its first two characters, which name the class of the condition.
_POSTGRESQL: dict[str, type[StrongroomError]] = {
    "40001": DatabaseBusyError,  # serialization failure
    "40P01": DatabaseBusyError,  # deadlock
    "55P03": DatabaseBusyError,  # lock time-out
    "57014": DatabaseBusyError,  # statement time-out
    "25P03": DatabaseBusyError,  # the transaction stayed idle too long, and was ended
    "53100": DatabaseFullError,
    "53": DatabaseUnreachableError,  # too many connections, out of memory
    "57": DatabaseUnreachableError,  # shut down, or starting
    "08": DatabaseUnreachableError,
    "28": DatabaseUnreachableError,  # the server refuses this user
    "3D": DatabaseUnreachableError,  # no database of this name
    "58": DatabaseFullError,  # the server's disk failed
    "XX": DatabaseDamagedError,
}


def translate(error: DBAPIError | PoolTimeoutError) -> StrongroomError | None:
    """Find the error of our tree for one that SQLAlchemy raised; None leaves it as it is.

    Violated constraints and wrong statements are left: the first are for the caller to judge, the second are
    defects.
    """
    if isinstance(error, PoolTimeoutError):
        return DatabaseBusyError("no connection to the database became free in time")
    kind: type[StrongroomError] | None = None
    if isinstance(error.orig, sqlite3.Error):
        code = getattr(error.orig, "sqlite_errorcode", None)
        kind = None if code is None else _SQLITE.get(code & 0xFF)  # the rest of the code tells the variety
    else:
        kind = _postgresql_kind(error.orig)
    return None if kind is None else kind(f"database: {_first_line(error.orig)}")


def _postgresql_kind(error: BaseException | None) -> type[StrongroomError] | None:
    import psycopg  # not with the module: who has SQLite never needs it, and it takes a tenth of a second to load

    if not isinstance(error, psycopg.Error):
        return None
    state = error.sqlstate
    if state is not None:
        return _POSTGRESQL.get(state) or _POSTGRESQL.get(state[:2])
    # No word from the server: it could not be asked, or went away.
    return DatabaseUnreachableError if isinstance(error, psycopg.OperationalError) else None


def _first_line(error: BaseException | None) -> str:
    return str(error).strip().partition("\n")[0].strip()
