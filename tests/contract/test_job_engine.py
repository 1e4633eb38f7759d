"""Running jobs, on both databases (L5, X1). Killed processes are in tests/fault."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text

from strongroom.core.clock import ManualClock
from strongroom.core.errors import InputError, UnavailableError
from strongroom.database import DatabaseBusyError, DatabaseFullError, is_sqlite, open_engine, read, transact, write
from strongroom.jobs import (
    EngineRunningError,
    FencedError,
    Handler,
    Intervals,
    JobContext,
    JobEngine,
    JobState,
    JobStore,
    Queue,
    RetryPolicy,
    executors,
)
from strongroom.jobs import attempts as job_attempts
from strongroom.jobs import runner as job_runner
from strongroom.jobs.endings import after_cut_off
from tests.support.job_bench import Bench, Run


@pytest.fixture
def bench(database: Engine) -> Iterator[Bench]:
    bench = Bench(database)
    yield bench
    bench.stop()


def nothing(context: JobContext) -> dict[str, Any]:
    return {}


def until_stopped(context: JobContext) -> dict[str, Any]:
    pause = threading.Event()
    while True:
        context.check()
        pause.wait(0.005)


class Unreachable(UnavailableError):
    code = "test.unreachable"


def test_job_is_done_with_result_progress_and_log(bench: Bench) -> None:
    def work(context: JobContext) -> dict[str, Any]:
        context.progress(bytes_done=50, bytes_total=100, message="half")
        context.log("begins", size=100)
        context.progress(bytes_done=100, files=3)
        return {"image": context.params["image"], "attempt": context.attempt}

    bench.start({"work": work})
    job = bench.wait(bench.submit(params={"image": "a"}))
    assert (job.state, job.result, job.attempt) == (JobState.DONE, {"image": "a", "attempt": 1}, 1)
    assert job.progress is not None
    assert (job.progress.bytes_done, job.progress.bytes_total, job.progress.files) == (100, 100, 3)
    assert job.started is not None
    assert job.ended is not None
    assert job.created <= job.started <= job.ended
    with read(bench.database) as connection:
        assert [line.message for line in bench.store.log_lines(connection, job.id)] == ["begins"]
        (attempt,) = bench.store.attempts(connection, job.id)
    assert (attempt.outcome, attempt.fence, attempt.ended) == ("done", job.fence, job.ended)


def test_progress_is_seen_while_the_job_runs(bench: Bench) -> None:
    go_on = threading.Event()

    def work(context: JobContext) -> dict[str, Any]:
        context.progress(bytes_done=7)
        go_on.wait(10)
        return {}

    bench.start({"work": work})
    job_id = bench.submit()
    pause = threading.Event()
    while (progress := bench.get(job_id).progress) is None:
        pause.wait(0.01)
    assert progress.bytes_done == 7
    go_on.set()
    bench.wait(job_id)


def test_jobs_start_by_priority_then_age(bench: Bench) -> None:
    order: list[int] = []
    numbers = [bench.submit(priority=priority) for priority in (0, 5, 0, 9)]

    def work(context: JobContext) -> dict[str, Any]:
        order.append(context.job_id)
        return {}

    bench.start({"work": work}, queues=[Queue("all", 1)])
    for number in numbers:
        bench.wait(number)
    assert order == [numbers[3], numbers[1], numbers[0], numbers[2]]


def test_each_queue_keeps_its_limit(bench: Bench) -> None:
    lock = threading.Lock()
    now = {"small": 0, "large": 0}
    most = {"small": 0, "large": 0}

    def work(context: JobContext) -> dict[str, Any]:
        kind = context.job.kind
        with lock:
            now[kind] += 1
            most[kind] = max(most[kind], now[kind])
        threading.Event().wait(0.05)
        with lock:
            now[kind] -= 1
        return {}

    numbers = [bench.submit(kind) for kind in ("small", "large") for _ in range(6)]
    bench.start({"small": Handler(work, "s"), "large": Handler(work, "l")}, queues=[Queue("s", 1), Queue("l", 3)])
    for number in numbers:
        bench.wait(number)
    assert most == {"small": 1, "large": 3}


def test_kind_without_handler_is_left_for_another_engine(bench: Bench) -> None:
    foreign, own = bench.submit("foreign"), bench.submit("own")
    bench.start({"own": nothing})
    bench.wait(own)
    assert bench.get(foreign).state is JobState.QUEUED


def test_handler_needs_a_queue_that_exists(bench: Bench) -> None:
    with pytest.raises(InputError, match="'other'"):
        bench.make({"work": Handler(nothing, "other")})


def test_error_that_may_pass_is_tried_again_when_its_time_has_come(bench: Bench) -> None:
    clock = ManualClock()
    bench.store = JobStore(clock)

    def work(context: JobContext) -> dict[str, Any]:
        if context.attempt < 3:
            raise Unreachable("host 'b' does not answer", hint="Look at the line.")
        return {"attempt": context.attempt}

    policy = RetryPolicy(first=timedelta(minutes=1))
    engine = bench.start({"work": Handler(work, "all", policy)}, clock=clock)
    job_id = bench.submit()
    job = bench.wait(job_id, JobState.WAITING)
    assert job.not_before == clock.now() + timedelta(minutes=1)
    assert job.error is not None
    assert (job.error.code, job.error.hint, job.error.retry) == (
        "test.unreachable",
        "Look at the line.",
        "later",
    )
    clock.advance(timedelta(minutes=1))
    engine.wake()
    job = bench.wait(job_id, JobState.WAITING, JobState.RUNNING)
    while (job := bench.wait(job_id, JobState.WAITING)).attempt < 2:
        pass
    assert job.not_before == clock.now() + timedelta(minutes=2)
    clock.advance(timedelta(minutes=2))
    assert bench.wait(job_id).result == {"attempt": 3}
    assert bench.get(job_id).error is None


def test_error_fails_the_job_after_the_last_try(bench: Bench) -> None:
    def work(context: JobContext) -> dict[str, Any]:
        raise Unreachable("host 'b' does not answer")

    policy = RetryPolicy(failures=2, first=timedelta(0))
    bench.start({"work": Handler(work, "all", policy)})
    job = bench.wait(bench.submit())
    assert (job.state, job.attempt) == (JobState.FAILED, 2)


def test_error_that_cannot_pass_fails_the_job_at_once(bench: Bench) -> None:
    def work(context: JobContext) -> dict[str, Any]:
        raise InputError("no such path: 'a'")

    bench.start({"work": work})
    job = bench.wait(bench.submit())
    assert (job.state, job.attempt) == (JobState.FAILED, 1)
    assert job.error is not None
    assert job.error.code == "core.bad-input"


@pytest.mark.parametrize("defect", [RuntimeError("secret detail"), SystemExit(3)])
def test_defect_fails_the_job_and_is_told_only_to_the_log(
    bench: Bench, caplog: pytest.LogCaptureFixture, defect: BaseException
) -> None:
    def work(context: JobContext) -> dict[str, Any]:
        raise defect

    engine = bench.start({"work": work})
    job = bench.wait(bench.submit())
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error.code == "jobs.internal"
    assert "secret detail" not in job.error.message
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info is not None
    engine.stop()


def test_result_that_is_no_json_fails_the_job(bench: Bench) -> None:
    def work(context: JobContext) -> dict[str, Any]:
        return {"data": b"bytes"}

    bench.start({"work": work})
    job = bench.wait(bench.submit())
    assert job.error is not None
    assert job.error.code == "database.bad-document"


def test_running_job_is_cancelled_when_its_handler_notices(bench: Bench) -> None:
    bench.start({"work": until_stopped})
    job_id = bench.submit()
    bench.wait(job_id, JobState.RUNNING)
    bench.cancel(job_id)
    job = bench.wait(job_id)
    assert (job.state, job.error) == (JobState.CANCELLED, None)


def test_running_job_keeps_its_place_until_its_handler_stops(bench: Bench) -> None:
    stopped = threading.Event()

    def work(context: JobContext) -> dict[str, Any]:
        stopped.wait(10)
        context.check()
        return {}

    bench.start({"work": work}, queues=[Queue("all", 1)])
    first, second = bench.submit(), bench.submit()
    bench.wait(first, JobState.RUNNING)
    bench.cancel(first)
    threading.Event().wait(0.2)
    assert bench.get(second).state is JobState.QUEUED
    stopped.set()
    assert bench.wait(first).state is JobState.CANCELLED
    assert bench.wait(second).state is JobState.DONE


def test_stopped_engine_gives_its_jobs_back(bench: Bench) -> None:
    engine = bench.start({"work": until_stopped})
    job_id = bench.submit()
    bench.wait(job_id, JobState.RUNNING)
    engine.stop()
    job = bench.get(job_id)
    assert (job.state, job.attempt, job.interruptions) == (JobState.QUEUED, 1, 0)
    with read(bench.database) as connection:
        assert executors.beats(connection) == {}
    bench.start({"work": nothing})
    assert bench.wait(job_id).attempt == 2


def test_handler_that_does_not_stop_is_fenced_off(bench: Bench) -> None:
    go_on, refused = threading.Event(), threading.Event()

    def work(context: JobContext) -> dict[str, Any]:
        go_on.wait(10)
        try:
            transact(bench.database, lambda connection: context.effect(connection, "index"))
        except FencedError:
            refused.set()
            raise
        return {}

    engine = bench.start({"work": work})
    job_id = bench.submit()
    bench.wait(job_id, JobState.RUNNING)
    engine.stop(timedelta(milliseconds=50))
    assert bench.get(job_id).state is JobState.QUEUED
    go_on.set()
    assert refused.wait(10)
    bench.start({"work": nothing})
    assert bench.wait(job_id).result == {}


def test_second_engine_on_a_file_is_refused(bench: Bench) -> None:
    if not is_sqlite(bench.database):
        pytest.skip("PostgreSQL is shared")
    engine = bench.start({"work": nothing})
    with pytest.raises(EngineRunningError) as caught:
        bench.start({"work": nothing})
    assert "PostgreSQL" in caught.value.hint
    engine.stop()
    bench.start({"work": nothing})


def test_engine_on_another_name_of_the_file_is_refused(bench: Bench, tmp_path: Path) -> None:
    if not is_sqlite(bench.database):
        pytest.skip("PostgreSQL is shared")
    bench.start({"work": nothing})
    (tmp_path / "other.db").symlink_to("strongroom.db")
    other = Bench(open_engine(f"sqlite:///{tmp_path / 'other.db'}"))
    with pytest.raises(EngineRunningError):
        other.start({"work": nothing})


def test_engines_share_a_server_and_its_limits(bench: Bench) -> None:
    if is_sqlite(bench.database):
        pytest.skip("a file has one engine")
    lock, both = threading.Lock(), set[bytes]()
    now = most = 0

    def work_of(which: list[JobEngine]) -> Run:
        def work(context: JobContext) -> dict[str, Any]:
            nonlocal now, most
            with lock:
                now += 1
                most = max(most, now)
                both.add(which[0].executor_id)
            threading.Event().wait(0.03)
            with lock:
                now -= 1
            return {}

        return work

    numbers = [bench.submit() for _ in range(20)]
    for _ in range(2):
        which: list[JobEngine] = []
        which.append(bench.make({"work": work_of(which)}, queues=[Queue("all", 3, per_executor=2)]))
        which[0].start()
    for number in numbers:
        assert bench.wait(number).attempt == 1
    assert most <= 3
    assert len(both) == 2


def test_job_of_an_executor_without_a_row_is_begun_anew(bench: Bench) -> None:
    """What remains of the engine's memory after a crash: nothing; the table of jobs is enough."""
    job_id = bench.submit()
    transact(bench.database, lambda c: job_attempts.begin(c, job_id, b"x" * 16, bench.clock.now()))
    bench.start({"work": nothing})
    job = bench.wait(job_id)
    assert (job.state, job.attempt, job.interruptions) == (JobState.DONE, 2, 1)
    with read(bench.database) as connection:
        outcomes = [attempt.outcome for attempt in bench.store.attempts(connection, job_id)]
        (line,) = bench.store.log_lines(connection, job_id)
    assert outcomes == ["cut-off", "done"]
    assert "the process ended in the middle" in line.message


def test_attempt_that_nobody_runs_is_found(bench: Bench) -> None:
    """As after a commit whose answer was lost: the table says it runs here, and it does not."""
    engine = bench.start({"work": nothing, "other": nothing})
    job_id = bench.submit("other", not_before=bench.clock.now() + timedelta(days=1))
    transact(bench.database, lambda c: job_attempts.begin(c, job_id, engine.executor_id, bench.clock.now()))
    assert bench.wait(job_id).attempt == 2


def test_executor_declared_dead_drops_its_jobs_and_begins_anew(bench: Bench) -> None:
    if is_sqlite(bench.database):
        pytest.skip("a file has one engine")
    dropped = threading.Event()

    def work(context: JobContext) -> dict[str, Any]:
        if context.attempt > 1:
            return {}
        try:
            return until_stopped(context)
        finally:
            dropped.set()

    engine = bench.start({"work": work})
    job_id = bench.submit()
    bench.wait(job_id, JobState.RUNNING)
    was = engine.executor_id
    transact(bench.database, lambda connection: executors.remove(connection, {was}))
    assert bench.wait(job_id).attempt == 2
    assert dropped.wait(10)
    assert engine.executor_id != was


def test_job_cut_off_too_often_fails(bench: Bench) -> None:
    job_id = bench.submit()
    for _ in range(3):
        transact(bench.database, lambda c: job_attempts.begin(c, job_id, b"x" * 16, bench.clock.now()))
        transact(
            bench.database,
            lambda c: executors.take_over(
                c,
                lambda found: after_cut_off(found, RetryPolicy(interruptions=2), bench.clock.now()),
                bench.clock.now(),
            ),
        )
    job = bench.get(job_id)
    assert job.error is not None
    assert (job.state, job.error.code) == (JobState.FAILED, "jobs.cut-off")


def test_old_jobs_go_by_themselves(bench: Bench) -> None:
    clock = ManualClock()
    bench.store = JobStore(clock)
    old = bench.submit()
    bench.cancel(old)
    clock.advance(timedelta(days=100))
    young = bench.submit()
    bench.cancel(young)
    bench.start({"work": nothing}, clock=clock)
    pause = threading.Event()
    for _ in range(500):
        with read(bench.database) as connection:
            left = [job.id for job in bench.store.find(connection)]
        if left == [young]:
            return
        pause.wait(0.01)
    raise AssertionError(f"jobs {left} are left")


def test_job_starts_soon_after_its_commit(bench: Bench) -> None:
    """Intervals as delivered: 0.2 s between two looks, so well under the half second allowed here."""
    bench.start({"work": nothing}, intervals=Intervals())
    threading.Event().wait(0.3)
    for _ in range(3):
        job = bench.wait(bench.submit())
        assert job.started is not None
        assert job.started - job.created < timedelta(seconds=0.5)


def test_end_that_cannot_be_recorded_is_recorded_later(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full for a while: the work is done, and must not be done again."""
    refusals = iter([DatabaseFullError("no space left"), DatabaseBusyError("another transaction was in the way")])
    runs: list[int] = []

    def full(database: Engine, function: Callable[[Connection], Any]) -> object:
        if threading.current_thread().name.startswith("job-") and (refusal := next(refusals, None)):
            raise refusal
        return transact(database, function)

    def work(context: JobContext) -> dict[str, Any]:
        runs.append(context.attempt)
        return {}

    monkeypatch.setattr(job_runner, "transact", full)
    monkeypatch.setattr(job_runner, "SETTLE_AGAIN_SECONDS", 0.02)
    bench.start({"work": work})
    assert bench.wait(bench.submit()).state is JobState.DONE
    assert runs == [1]


def test_engine_outlives_its_connections(bench: Bench) -> None:
    """The server restarts, or a proxy ends what it finds idle."""
    if is_sqlite(bench.database):
        pytest.skip("there is no server")
    go_on = threading.Event()

    def work(context: JobContext) -> dict[str, Any]:
        go_on.wait(10)
        return {}

    engine = bench.start({"work": work})
    job_id = bench.submit()
    bench.wait(job_id, JobState.RUNNING)
    with write(bench.database) as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    go_on.set()
    assert bench.wait(job_id).attempt == 1
    assert bench.wait(bench.submit()).state is JobState.DONE
    assert engine.trouble is None


def test_engine_says_nothing_on_its_own(
    bench: Bench, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO):
        engine = bench.start({"work": nothing})
        bench.wait(bench.submit())
        engine.stop()
    assert [record.name for record in caplog.records if not record.name.startswith("strongroom.")] == []
    assert capfd.readouterr() == ("", "")


def test_lock_of_the_file_is_private(bench: Bench, tmp_path: Path) -> None:
    if not is_sqlite(bench.database):
        pytest.skip("there is no file")
    bench.start({"work": nothing})
    assert (tmp_path / "strongroom.db.jobs-lock").stat().st_mode & 0o777 == 0o600
