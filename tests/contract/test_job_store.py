"""Submitting, finding and cancelling jobs, on both databases (L5, X1)."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from sqlalchemy import Connection, Engine

from strongroom.core.clock import ManualClock
from strongroom.core.secret import Secret
from strongroom.database import DocumentError, read, transact, write
from strongroom.jobs import (
    BadJobError,
    FencedError,
    Job,
    JobEndedError,
    JobFilter,
    JobId,
    JobLiveError,
    JobNotFoundError,
    JobState,
    JobStore,
    LogLine,
    NewJob,
    Progress,
)
from strongroom.jobs import attempts as job_attempts
from strongroom.jobs.attempts import MOST_LOG_LINES
from strongroom.jobs.endings import Ending, after_cancel, after_result

EXECUTOR = b"e" * 16


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> JobStore:
    return JobStore(clock)


def submit(database: Engine, store: JobStore, job: NewJob) -> JobId:
    return transact(database, lambda connection: store.submit(connection, job)).id


def get(database: Engine, store: JobStore, job_id: JobId) -> Job:
    with read(database) as connection:
        return store.get(connection, job_id)


def begin(database: Engine, store: JobStore, job_id: JobId) -> Job:
    return transact(database, lambda c: job_attempts.begin(c, job_id, EXECUTOR, store.clock.now()))


def end(database: Engine, store: JobStore, job: Job, state: JobState = JobState.DONE) -> None:
    def decide(found: Job) -> Ending:
        return after_result(found, {"n": 1}) if state is JobState.DONE else after_cancel(found)

    transact(database, lambda c: job_attempts.end(c, job.id, job.attempt, decide, store.clock.now()))


def test_submitted_job_has_a_small_rising_number(database: Engine, store: JobStore) -> None:
    numbers = [submit(database, store, NewJob("backup", "client 'a'", {"n": n})) for n in range(3)]
    assert numbers == [1, 2, 3]
    job = get(database, store, numbers[1])
    assert (job.kind, job.subject, job.params, job.state) == (
        "backup",
        "client 'a'",
        {"n": 1},
        JobState.QUEUED,
    )
    assert (job.attempt, job.created, job.fence) == (0, store.clock.now(), None)


def test_job_of_a_transaction_that_fails_does_not_exist(database: Engine, store: JobStore) -> None:
    def fail_late(connection: Connection) -> None:
        store.submit(connection, NewJob("backup"))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        transact(database, fail_late)
    with read(database) as connection:
        assert store.find(connection) == []


def test_same_work_is_queued_once_while_it_is_live(database: Engine, store: JobStore) -> None:
    job = NewJob("replication", unique_key="image 7 to b")
    first = submit(database, store, job)
    assert submit(database, store, job) == first
    end(database, store, begin(database, store, first))
    assert submit(database, store, job) == first + 1


def test_same_work_submitted_at_once_is_queued_once(database: Engine, store: JobStore) -> None:
    numbers: list[JobId] = []
    barrier = threading.Barrier(4)

    def submit_one() -> None:
        barrier.wait(10)
        numbers.append(submit(database, store, NewJob("gc", unique_key="pool 1")))

    threads = [threading.Thread(target=submit_one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(numbers) == 4
    assert len(set(numbers)) == 1


@pytest.mark.parametrize(
    "job",
    [
        NewJob(""),
        NewJob("k" * 65),
        NewJob("backup", "s" * 501),
        NewJob("backup", "line\nbreak"),
        NewJob("backup", unique_key=""),
        NewJob("backup", parent_id=JobId(99)),
    ],
)
def test_bad_job_is_refused(database: Engine, store: JobStore, job: NewJob) -> None:
    with pytest.raises(BadJobError):
        submit(database, store, job)


def test_secret_cannot_be_a_parameter(database: Engine, store: JobStore) -> None:
    with pytest.raises(DocumentError) as caught:
        submit(database, store, NewJob("backup", params={"key": Secret(b"hidden")}))
    assert "hidden" not in str(caught.value)


def test_unknown_job_is_not_found(database: Engine, store: JobStore) -> None:
    with pytest.raises(JobNotFoundError), read(database) as connection:
        store.get(connection, JobId(7))


def test_list_is_filtered_and_goes_on_page_by_page(database: Engine, store: JobStore) -> None:
    for n in range(6):
        submit(database, store, NewJob("backup" if n % 2 else "verify", f"s{n}"))
    with write(database) as connection:
        store.request_cancel(connection, JobId(2))
    with read(database) as connection:

        def numbers(which: JobFilter) -> list[int]:
            return [job.id for job in store.find(connection, which)]

        assert numbers(JobFilter()) == [6, 5, 4, 3, 2, 1]
        assert numbers(JobFilter(kinds=["backup"], states=[JobState.QUEUED])) == [6, 4]
        assert numbers(JobFilter(states=[JobState.CANCELLED])) == [2]
        assert numbers(JobFilter(subject="s0")) == [1]
        assert numbers(JobFilter(limit=2)) == [6, 5]
        assert numbers(JobFilter(limit=2, before_id=JobId(5))) == [4, 3]
        assert numbers(JobFilter(created_from=store.clock.now() + timedelta(seconds=1))) == []
        with pytest.raises(BadJobError):
            numbers(JobFilter(limit=0))


def test_cancel_reaches_the_whole_family(database: Engine, store: JobStore) -> None:
    parent = submit(database, store, NewJob("policy"))
    child = submit(database, store, NewJob("backup", parent_id=parent))
    grandchild = submit(database, store, NewJob("duplicate", parent_id=child))
    other = submit(database, store, NewJob("backup"))
    begin(database, store, child)
    cancelled = transact(database, lambda connection: store.request_cancel(connection, parent))
    assert (cancelled.state, cancelled.ended) == (JobState.CANCELLED, store.clock.now())
    running = get(database, store, child)
    assert (running.state, running.cancel_requested) == (JobState.RUNNING, True)
    assert get(database, store, grandchild).state is JobState.CANCELLED
    assert get(database, store, other).state is JobState.QUEUED


def test_ended_job_cannot_be_cancelled(database: Engine, store: JobStore) -> None:
    job_id = submit(database, store, NewJob("backup"))
    end(database, store, begin(database, store, job_id))
    with pytest.raises(JobEndedError), write(database) as connection:
        store.request_cancel(connection, job_id)


def test_cancelled_job_can_be_resumed_once_its_like_is_not_live(database: Engine, store: JobStore) -> None:
    job = NewJob("backup", unique_key="a")
    first = submit(database, store, job)
    with write(database) as connection:
        store.request_cancel(connection, first)
    second = submit(database, store, job)
    with pytest.raises(JobLiveError), write(database) as connection:
        store.resume(connection, first)
    with write(database) as connection:
        store.request_cancel(connection, second)
    with write(database) as connection:
        resumed = store.resume(connection, first)
    assert (resumed.state, resumed.cancel_requested, resumed.ended) == (JobState.QUEUED, False, None)
    with pytest.raises(JobLiveError), write(database) as connection:
        store.resume(connection, first)


def test_fence_lets_only_the_current_attempt_pass(database: Engine, store: JobStore) -> None:
    job_id = submit(database, store, NewJob("backup"))
    first = begin(database, store, job_id)
    with write(database) as connection:
        assert store.check_fence(connection, job_id, 1) == first.fence
    end(database, store, first, JobState.CANCELLED)
    with write(database) as connection:
        store.resume(connection, job_id)
    second = begin(database, store, job_id)
    assert first.fence is not None
    assert second.fence is not None
    assert second.fence > first.fence
    with write(database) as connection:
        store.check_fence(connection, job_id, 2)
        for stale in (1, 3):
            with pytest.raises(FencedError) as caught:
                store.check_fence(connection, job_id, stale)
            assert caught.value.code == "jobs.fenced"
    with pytest.raises(FencedError):
        end(database, store, first)
    assert get(database, store, job_id).state is JobState.RUNNING


def test_taking_over_waits_for_an_effect_under_the_fence(database: Engine, store: JobStore) -> None:
    job = begin(database, store, submit(database, store, NewJob("backup")))
    done: list[str] = []

    def take_over() -> None:
        end(database, store, job, JobState.CANCELLED)
        done.append("taken over")

    with write(database) as connection:
        store.check_fence(connection, job.id, job.attempt)
        thread = threading.Thread(target=take_over)
        thread.start()
        thread.join(0.3)
        done.append("effect")
    thread.join()
    assert done == ["effect", "taken over"]


def test_effect_is_had_once_by_whatever_attempt(database: Engine, store: JobStore) -> None:
    job_id = submit(database, store, NewJob("backup"))

    def effect(attempt: int, step: str) -> bool:
        return transact(database, lambda c: store.record_effect(c, job_id, attempt, step, {"by": attempt}))

    first = begin(database, store, job_id)
    assert effect(1, "index")
    assert not effect(1, "index")
    end(database, store, first, JobState.CANCELLED)
    with pytest.raises(FencedError):
        effect(1, "catalog")
    with write(database) as connection:
        store.resume(connection, job_id)
    begin(database, store, job_id)
    assert not effect(2, "index")
    assert effect(2, "catalog")
    with read(database) as connection:
        assert store.effects(connection, job_id) == {"index": {"by": 1}, "catalog": {"by": 2}}


def test_effect_that_is_rolled_back_was_not_had(database: Engine, store: JobStore) -> None:
    job = begin(database, store, submit(database, store, NewJob("backup")))

    def fail_late(connection: Connection) -> None:
        store.record_effect(connection, job.id, 1, "index")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        transact(database, fail_late)
    with write(database) as connection:
        assert store.record_effect(connection, job.id, 1, "index")


def test_log_keeps_the_newest_lines(database: Engine, store: JobStore) -> None:
    job = begin(database, store, submit(database, store, NewJob("backup")))

    def line(n: int) -> LogLine:
        return LogLine(1, store.clock.now(), "info", f"line {n}", {"n": n})

    def log(connection: Connection) -> None:
        for start in (0, 400):
            lines = [line(n) for n in range(start, start + 400)]
            job_attempts.write_progress(connection, job.id, 1, Progress(bytes_done=start), lines)

    transact(database, log)
    with read(database) as connection:
        lines = store.log_lines(connection, job.id)
    assert len(lines) == MOST_LOG_LINES
    assert (lines[0].facts, lines[-1]) == ({"n": 300}, line(799))
    assert get(database, store, job.id).progress == Progress(bytes_done=400)


def test_old_jobs_are_removed_with_all_that_is_theirs(database: Engine, store: JobStore, clock: ManualClock) -> None:
    parent = submit(database, store, NewJob("policy"))
    child = submit(database, store, NewJob("backup", parent_id=parent))
    job = begin(database, store, parent)
    with write(database) as connection:
        store.record_effect(connection, parent, 1, "index")
    end(database, store, job)
    clock.advance(timedelta(days=2))
    with write(database) as connection:
        assert store.remove_ended(connection, clock.now() - timedelta(days=3)) == 0
    with write(database) as connection:
        assert store.remove_ended(connection, clock.now() - timedelta(days=1)) == 1
    with read(database) as connection:
        assert [job.id for job in store.find(connection)] == [child]
        assert store.get(connection, child).parent_id is None
        assert store.attempts(connection, parent) == []
        assert store.effects(connection, parent) == {}
