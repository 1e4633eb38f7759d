from __future__ import annotations

import psycopg
import pytest

from tests.support import postgresql


def test_server_answers_on_a_socket_and_on_no_network(postgresql_url: str) -> None:
    with psycopg.connect(postgresql_url) as connection:
        version = connection.info.server_version
        row = connection.execute("SELECT current_setting('listen_addresses')").fetchone()
    assert version >= 150000
    assert row == ("",)


@pytest.mark.parametrize("table", ["one", "two", "three", "four"])
def test_each_worker_has_one_database_for_all_its_tests(postgresql_url: str, worker_id: str, table: str) -> None:
    with psycopg.connect(postgresql_url) as connection:
        connection.execute(f"CREATE TABLE {table} (id int)")
        assert connection.info.dbname == f"strongroom_{worker_id}"


def test_missing_server_is_an_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "PROGRAMS", ("no-such-program",))
    with pytest.raises(postgresql.PostgreSQLUnavailableError, match="scripts/test-deps"):
        postgresql.find_programs()
