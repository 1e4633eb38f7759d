"""What becomes of a job after an attempt, decided without a database (L5)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.jobs import Job, JobError, JobId, JobState, RetryPolicy
from strongroom.jobs.endings import after_cut_off, after_error, after_result, after_stop

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = RetryPolicy(failures=3, first=timedelta(seconds=10), factor=3, longest=timedelta(seconds=60), interruptions=2)
LATER = JobError("database.busy", "the database is busy", "", "later")
NEVER = JobError("kms.refused", "the key is destroyed", "", "never")


def job(*, failures: int = 0, interruptions: int = 0, cancel_requested: bool = False) -> Job:
    return Job(
        id=JobId(1),
        kind="backup",
        subject="",
        state=JobState.RUNNING,
        priority=0,
        unique_key=None,
        parent_id=None,
        params={},
        progress=None,
        result=None,
        error=None,
        cancel_requested=cancel_requested,
        attempt=1,
        failures=failures,
        interruptions=interruptions,
        executor_id=b"e" * 16,
        fence=1,
        created=NOW,
        not_before=NOW,
        started=NOW,
        ended=None,
    )


def test_done_is_done_even_when_a_cancel_came_too_late() -> None:
    assert after_result(job(cancel_requested=True), {}).state is JobState.DONE


def test_error_that_may_pass_waits_longer_each_time_and_then_fails() -> None:
    endings = [after_error(job(failures=n), LATER, POLICY, NOW) for n in range(3)]
    assert [ending.state for ending in endings] == [JobState.WAITING, JobState.WAITING, JobState.FAILED]
    assert [ending.not_before for ending in endings] == [
        NOW + timedelta(seconds=10),
        NOW + timedelta(seconds=30),
        None,
    ]
    assert endings[2].error == LATER


def test_error_that_cannot_pass_fails_at_once() -> None:
    assert after_error(job(), NEVER, POLICY, NOW).state is JobState.FAILED


def test_cancelled_job_is_not_tried_again() -> None:
    assert after_error(job(cancel_requested=True), LATER, POLICY, NOW).state is JobState.CANCELLED
    assert after_stop(job(cancel_requested=True), NOW).state is JobState.CANCELLED
    assert after_cut_off(job(cancel_requested=True), POLICY, NOW).state is JobState.CANCELLED


def test_stop_of_the_engine_costs_no_try() -> None:
    ending = after_stop(job(failures=1, interruptions=1), NOW)
    assert (ending.state, ending.failures, ending.interruptions) == (JobState.QUEUED, 1, 1)


def test_job_that_ends_its_process_again_and_again_is_given_up() -> None:
    assert after_cut_off(job(interruptions=1), POLICY, NOW).state is JobState.QUEUED
    ending = after_cut_off(job(interruptions=2), POLICY, NOW)
    assert ending.state is JobState.FAILED
    assert ending.error is not None
    assert ending.error.code == "jobs.cut-off"


@given(st.integers(1, 10_000), st.floats(1, 100), st.integers(1, 10_000))
def test_delays_never_shrink_and_never_pass_the_longest(failures: int, factor: float, first: int) -> None:
    policy = RetryPolicy(failures=20_000, first=timedelta(seconds=first), factor=factor)
    delay, following = policy.delay(failures), policy.delay(failures + 1)
    assert delay is not None
    assert following is not None
    assert timedelta(0) < delay <= following <= policy.longest


@pytest.mark.parametrize("failures", [3, 4, 100])
def test_no_delay_after_the_last_failure(failures: int) -> None:
    assert POLICY.delay(failures) is None
