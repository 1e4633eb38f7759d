"""What every test may ask for, and what every run needs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from strongroom.core.garbage import look_seldom
from tests.support.postgresql import PostgreSQL
from tests.support.seaweed import Seaweed

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

SERVER = pytest.StashKey[PostgreSQL]()
STORAGE = pytest.StashKey[Seaweed]()

# A run judges the change, so the same code gets the same examples; HYPOTHESIS_PROFILE=search looks at others each time.
# No deadline: on a busy machine it measures the neighbours; pytest-timeout ends what hangs.
hypothesis.settings.register_profile("strongroom", derandomize=True, print_blob=True, deadline=None)
hypothesis.settings.register_profile("search", derandomize=False, print_blob=True, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "strongroom"))


def pytest_configure(config: pytest.Config) -> None:
    """Make or find the folders of the run's servers, each of which starts when a test first wants it."""
    told = getattr(config, "workerinput", None)
    config.stash[SERVER] = PostgreSQL(Path(told["postgresql"])) if told else PostgreSQL.make_folder()
    config.stash[STORAGE] = Seaweed(Path(told["seaweed"])) if told else Seaweed.make_folder()


@pytest.hookimpl(optionalhook=True)  # xdist's
def pytest_configure_node(node: WorkerController) -> None:
    """Tell a worker where the servers are, or will be."""
    node.workerinput["postgresql"] = str(node.config.stash[SERVER].folder)
    node.workerinput["seaweed"] = str(node.config.stash[STORAGE].folder)


def pytest_collection_finish() -> None:
    """Look for garbage as seldom as a role does: a test's process holds a million objects that stay."""
    look_seldom()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the servers: not in a worker, since the others may still use it, and a worker may crash."""
    if not hasattr(config, "workerinput"):
        config.stash[SERVER].stop()
        config.stash[STORAGE].stop()


@pytest.fixture(scope="session")
def postgresql_url(pytestconfig: pytest.Config, worker_id: str) -> str:
    """A database on a real server, shared by the tests of one worker. Without a server the test fails."""
    server = pytestconfig.stash[SERVER]
    server.ensure_started()
    return server.create_database(f"strongroom_{worker_id}")


@pytest.fixture(scope="session")
def seaweed(pytestconfig: pytest.Config) -> Seaweed:
    """A real object storage that speaks S3. Without one the test fails."""
    server = pytestconfig.stash[STORAGE]
    server.ensure_started()
    return server
