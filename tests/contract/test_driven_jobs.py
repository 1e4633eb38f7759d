"""Jobs that clients drive: running without an executor, ended once, on both databases (L5)."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from strongroom.core.clock import ManualClock
from strongroom.core.errors import UnavailableError
from strongroom.database import read, transact
from strongroom.jobs import ClientJobError, FencedError, JobId, JobState, JobStore, NewJob, Progress, driven, executors

CLOCK = ManualClock()
STORE = JobStore(CLOCK)


def begun(database: sa.Engine) -> JobId:
    return transact(database, lambda c: driven.begin(c, STORE, NewJob("backup", subject="host"), CLOCK.now()))


def test_a_driven_job_runs_at_once_and_no_engine_takes_it_for_an_orphan(database: sa.Engine) -> None:
    job = begun(database)
    with read(database) as connection:
        found = STORE.get(connection, job)
        assert (found.state, found.attempt, found.executor_id) == (JobState.RUNNING, 1, None)
        assert executors.orphans(connection) == []
        assert [one.id for one in driven.running(connection, frozenset({"backup"}))] == [job]


def test_progress_is_kept_and_a_wish_to_cancel_is_told(database: sa.Engine) -> None:
    job = begun(database)
    assert transact(database, lambda c: driven.advance(c, job, Progress(bytes_done=5, files=1)))
    transact(database, lambda c: STORE.request_cancel(c, job))
    assert not transact(database, lambda c: driven.advance(c, job, Progress(bytes_done=6)))


def test_the_end_of_a_driven_job_is_said_once_and_may_be_repeated(database: sa.Engine) -> None:
    job = begun(database)
    for _ in range(2):
        transact(database, lambda c: driven.finish(c, job, {"files": 3}, CLOCK.now()))
    transact(database, lambda c: driven.fail(c, job, UnavailableError("too late"), CLOCK.now()))
    with read(database) as connection:
        found = STORE.get(connection, job)
    assert (found.state, found.result) == (JobState.DONE, {"files": 3})


def test_a_failed_driven_job_says_why_and_is_not_finished_after(database: sa.Engine) -> None:
    job = begun(database)
    transact(database, lambda c: driven.fail(c, job, UnavailableError("gone", hint="wait"), CLOCK.now()))
    with read(database) as connection:
        found = STORE.get(connection, job)
    assert found.state is JobState.FAILED
    assert found.error is not None
    assert (found.error.code, found.error.message) == ("core.unavailable", "gone")
    with pytest.raises(FencedError):
        transact(database, lambda c: driven.finish(c, job, {}, CLOCK.now()))


def test_a_job_whose_client_is_gone_is_not_resumed(database: sa.Engine) -> None:
    job = begun(database)
    transact(database, lambda c: driven.fail(c, job, UnavailableError("gone"), CLOCK.now()))
    with pytest.raises(ClientJobError):
        transact(database, lambda c: STORE.resume(c, job))
    with read(database) as connection:
        assert STORE.get(connection, job).state is JobState.FAILED
