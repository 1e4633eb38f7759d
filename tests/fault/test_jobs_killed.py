"""Processes killed or stopped in the middle of a job: nothing is lost, nothing is done twice (L5, X3)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine

from strongroom.database import is_sqlite, open_engine, read, transact, write
from strongroom.jobs import JobId, JobState, JobStore, NewJob
from strongroom.settings.system import SystemClock
from tests.fault.jobs_worker import harvest
from tests.support.databases import KINDS, made_database

WORKER = Path(__file__).parent / "jobs_worker.py"
SHORT_TRANSACTIONS = "&options=" + quote("-c idle_in_transaction_session_timeout=800")
STORE = JobStore(SystemClock())


class Worker:
    """A process that runs jobs, and what it said so far."""

    def __init__(self, url: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER), url],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(WORKER.parent.parent.parent)},
        )

    def expect(self, *words: object) -> None:
        """Read on until the worker has said it; pytest's time limit ends what never comes."""
        assert self.process.stdout is not None
        wanted = " ".join(map(str, words))
        for line in self.process.stdout:
            if line.strip() == wanted:
                return
        raise AssertionError(f"the worker ended and did not say '{wanted}'")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    server = request.getfixturevalue("postgresql_url") if request.param == "postgresql" else ""
    with made_database(request.param, tmp_path, server) as made:
        yield made


@pytest.fixture
def database(url: str) -> Iterator[Engine]:
    engine = open_engine(url)
    with write(engine) as connection:
        harvest.create(connection)
    yield engine
    engine.dispose()


@pytest.fixture
def start(url: str, database: Engine) -> Iterator[Callable[[], Worker]]:
    with ExitStack() as stack:

        def start(*expected: str) -> Worker:
            worker = Worker(url + SHORT_TRANSACTIONS if url.startswith("postgresql") else url)
            stack.callback(worker.close)
            worker.expect(*(expected or ("ready",)))
            return worker

        yield start


def submit(database: Engine, **params: Any) -> JobId:
    return transact(database, lambda c: STORE.submit(c, NewJob("steps", params=params))).id


def wait_until_done(database: Engine, job_id: JobId) -> None:
    """Wait for the record of the end, which follows the handler's last word; pytest limits the time."""
    while True:
        with read(database) as connection:
            if STORE.get(connection, job_id).state is JobState.DONE:
                return
        threading.Event().wait(0.01)


def harvested(database: Engine) -> list[tuple[int, int]]:
    with read(database) as connection:
        rows = connection.execute(sa.select(harvest.c.step, harvest.c.attempt).order_by(harvest.c.step))
        return [(row.step, row.attempt) for row in rows]


def only_on(database: Engine, kind: str) -> None:
    if is_sqlite(database) != (kind == "sqlite"):
        pytest.skip(f"only {kind}")


def test_job_killed_again_and_again_is_done_once(database: Engine, start: Callable[[], Worker]) -> None:
    job_id = submit(database, steps=400)
    for attempt, step in ((1, 5), (2, 60), (3, 120)):
        worker = start()
        worker.expect("step", step, attempt)
        worker.kill()
    worker = start()
    worker.expect("done", job_id, 4)
    steps = harvested(database)
    assert [step for step, _ in steps] == list(range(400))
    assert {attempt for _, attempt in steps} == {1, 2, 3, 4}


def test_job_killed_before_the_commit_of_a_step_does_it_anew(
    database: Engine, start: Callable[[], Worker], tmp_path: Path
) -> None:
    job_id = submit(database, steps=3, hold=1, inside=True, go=str(tmp_path / "go"))
    worker = start()
    worker.expect("holds", job_id)
    worker.kill()
    start().expect("done", job_id, 2)
    assert harvested(database) == [(0, 1), (1, 2), (2, 2)]


def test_survivor_takes_over_from_a_killed_executor(
    database: Engine, start: Callable[[], Worker], tmp_path: Path
) -> None:
    only_on(database, "postgresql")
    job_id = submit(database, steps=3, hold=1, go=str(tmp_path / "go"))
    first = start()
    first.expect("holds", job_id)
    second = start()
    first.kill()
    second.expect("done", job_id, 2)
    assert harvested(database) == [(0, 1), (1, 2), (2, 2)]


@pytest.mark.parametrize("inside", [False, True])
def test_executor_that_was_stopped_and_goes_on_is_fenced_off(
    database: Engine, start: Callable[[], Worker], tmp_path: Path, inside: bool
) -> None:
    """Inside a step it holds the lock of the fence, until the server ends its transaction."""
    only_on(database, "postgresql")
    job_id = submit(database, steps=3, hold=1, inside=inside, go=str(tmp_path / "go"))
    zombie = start()
    zombie.expect("holds", job_id)
    zombie.process.send_signal(signal.SIGSTOP)
    survivor = start()
    survivor.expect("done", job_id, 2)
    wait_until_done(database, job_id)
    (tmp_path / "go").touch()
    zombie.process.send_signal(signal.SIGCONT)
    zombie.expect("refused", 1, "jobs.fenced")
    survivor.kill()
    other = submit(database, steps=1)
    zombie.expect("done", other, 1)  # under a new lease it works again
    assert harvested(database)[1:] == [(0, 1), (1, 2), (2, 2)]


def test_stopped_process_keeps_its_file(database: Engine, start: Callable[..., Worker], tmp_path: Path) -> None:
    only_on(database, "sqlite")
    job_id = submit(database, steps=2, hold=1, go=str(tmp_path / "go"))
    first = start()
    first.expect("holds", job_id)
    first.process.send_signal(signal.SIGSTOP)
    start("failed", "jobs.engine-running")
    first.kill()
    start().expect("done", job_id, 2)
