"""The application, on each kind of database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from tests.support.api import Stage


@pytest.fixture(scope="session")
def apps() -> list[FastAPI]:
    """Applications that no test uses."""
    return []


@pytest.fixture(scope="session")
def portal() -> Iterator[BlockingPortal]:
    """An event loop for all requests."""
    with start_blocking_portal() as made:
        yield made


@pytest.fixture
def stage(database: Engine, tmp_path: Path, apps: list[FastAPI], portal: BlockingPortal) -> Iterator[Stage]:
    """One primary."""
    made = Stage(database, tmp_path, app=apps.pop() if apps else None, portal=portal)
    yield made
    apps.append(made.app)


@pytest.fixture
def admin(stage: Stage) -> TestClient:
    """An administrator's client."""
    return stage.as_()
