"""What the drivers say, in the words of our errors (X1)."""

from __future__ import annotations

import sqlite3

import psycopg
import pytest
import sqlalchemy as sa

from strongroom.database import (
    DatabaseBusyError,
    DatabaseDamagedError,
    DatabaseFullError,
    DatabaseUnreachableError,
)
from strongroom.database.errors import translate


class Refusal(psycopg.OperationalError):
    def __init__(self, state: str) -> None:
        super().__init__("no")
        self.sqlstate = state


@pytest.mark.parametrize(
    ("state", "error"),
    [
        ("40001", DatabaseBusyError),
        ("40P01", DatabaseBusyError),
        ("55P03", DatabaseBusyError),
        ("53100", DatabaseFullError),
        ("53300", DatabaseUnreachableError),
        ("57P01", DatabaseUnreachableError),
        ("XX001", DatabaseDamagedError),
    ],
)
def test_postgresql_states_have_their_errors(state: str, error: type[Exception]) -> None:
    assert type(translate(sa.exc.OperationalError("SELECT", {}, Refusal(state)))) is error


def test_wrong_statement_is_no_error_of_the_database() -> None:
    assert translate(sa.exc.OperationalError("SELECT", {}, Refusal("42601"))) is None


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (sqlite3.SQLITE_BUSY_SNAPSHOT, DatabaseBusyError),
        (sqlite3.SQLITE_IOERR_WRITE, DatabaseFullError),
        (sqlite3.SQLITE_CORRUPT_INDEX, DatabaseDamagedError),
        (sqlite3.SQLITE_CANTOPEN_ISDIR, DatabaseUnreachableError),
    ],
)
def test_varieties_of_a_sqlite_code_have_its_error(code: int, error: type[Exception]) -> None:
    refusal = sqlite3.OperationalError("no")
    refusal.sqlite_errorcode = code
    assert type(translate(sa.exc.OperationalError("SELECT", {}, refusal))) is error
