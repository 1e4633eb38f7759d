"""Every test here that asks for a database runs on each kind of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from strongroom.database import open_engine, upgrade
from tests.support.databases import KINDS, empty_database


@pytest.fixture(params=KINDS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database."""
    server = request.getfixturevalue("postgresql_url") if request.param == "postgresql" else ""
    with empty_database(request.param, tmp_path, server) as url:
        yield url


@pytest.fixture
def empty(database_url: str) -> Iterator[Engine]:
    """An engine of an empty database."""
    engine = open_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def database(empty: Engine) -> Engine:
    """An engine of a database with the tables of the product."""
    upgrade(empty)
    return empty
