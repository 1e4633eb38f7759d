"""The application, on each kind of database."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from tests.support.api import Stage


@pytest.fixture
def stage(database: Engine, tmp_path: Path) -> Stage:
    """One primary."""
    return Stage(database, tmp_path)


@pytest.fixture
def admin(stage: Stage) -> TestClient:
    """An administrator's client."""
    return stage.as_()
