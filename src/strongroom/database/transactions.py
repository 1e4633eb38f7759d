"""Reading and writing in transactions, with errors of our own tree."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from strongroom.database.engine import read_options
from strongroom.database.errors import DatabaseBusyError, translate

T = TypeVar("T")

TRIES = 10
FIRST_DELAY_SECONDS = 0.005
LONGEST_DELAY_SECONDS = 0.5


@contextmanager
def read(engine: Engine) -> Iterator[Connection]:
    """Give a connection that sees one snapshot and can change nothing.

    Raises:
        DatabaseUnreachableError, DatabaseBusyError, DatabaseDamagedError: as the database says.
    """
    with (
        _translated(),
        engine.connect().execution_options(**read_options(engine)) as connection,
        connection.begin(),
    ):
        yield connection


@contextmanager
def write(engine: Engine) -> Iterator[Connection]:
    """Give a connection in a transaction that is committed at the end, and rolled back on any error.

    Prefer :func:`transact`: this one cannot start again when another writer was in the way.

    Raises:
        DatabaseBusyError: another writer was in the way; nothing was changed.
        DatabaseFullError, DatabaseUnreachableError, DatabaseDamagedError: as the database says.
    """
    with _translated(), engine.begin() as connection:
        yield connection


def transact(engine: Engine, function: Callable[[Connection], T], *, tries: int = TRIES) -> T:
    """Run a function in a transaction, again when another writer was in the way.

    Args:
        engine: from :func:`~strongroom.database.engine.open_engine`.
        function: may run several times, so it must have no effect but on the connection.
        tries: how often at most; the waits between them add up to some two seconds.

    Returns:
        What the function returned in the run that was committed.

    Raises:
        DatabaseBusyError: every try was in another writer's way.
        DatabaseFullError, DatabaseUnreachableError, DatabaseDamagedError: as the database says.
    """
    for failed in range(1, tries + 1):
        try:
            with write(engine) as connection:
                return function(connection)
        except DatabaseBusyError:
            if failed == tries:
                raise
            longest = min(FIRST_DELAY_SECONDS * 2**failed, LONGEST_DELAY_SECONDS)
            # Not one clock for all: two that collided and wait equally long would collide again.
            time.sleep(longest * (50 + secrets.randbelow(50)) / 100)
    raise AssertionError("unreachable: the last try returns or raises")


@contextmanager
def racing() -> Iterator[None]:
    """Take a violated constraint for another writer's doing, which :func:`transact` answers by another try.

    For statements that were preceded, in the same transaction, by a look that found nothing in their way:
    then somebody else has put it there since, and PostgreSQL does not always call that a serialization
    failure.

    Raises:
        DatabaseBusyError: a constraint was violated; the transaction cannot go on.
    """
    try:
        yield
    except IntegrityError as error:
        raise DatabaseBusyError("another transaction has written the same at the same time") from error


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (DBAPIError, PoolTimeoutError) as error:
        known = translate(error)
        if known is None:
            raise
        raise known from error
