"""Every test here that asks for a database runs on each kind of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from strongroom.database import open_engine
from strongroom.people import passwords
from tests.support.databases import KINDS, empty_database, made_database


@pytest.fixture(autouse=True)
def _cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords that are compared in no time: what they cost is tested in ``tests/unit/people``."""
    monkeypatch.setattr(passwords, "ITERATIONS", 1)
    monkeypatch.setattr(passwords, "MEMORY_KIB", 256)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of database."""
    return str(request.param)


@pytest.fixture
def server_url(request: pytest.FixtureRequest, kind: str) -> str:
    """A database on the server of this kind; nothing where there is none."""
    return str(request.getfixturevalue("postgresql_url")) if kind == "postgresql" else ""


@pytest.fixture
def empty(kind: str, server_url: str, tmp_path: Path) -> Iterator[Engine]:
    """An engine of an empty database."""
    with empty_database(kind, tmp_path, server_url) as url:
        yield from _engine_of(url)


@pytest.fixture
def database(kind: str, server_url: str, tmp_path: Path) -> Iterator[Engine]:
    """An engine of a database with the tables of the product."""
    with made_database(kind, tmp_path, server_url) as url:
        yield from _engine_of(url)


def _engine_of(url: str) -> Iterator[Engine]:
    engine = open_engine(url)
    yield engine
    engine.dispose()
