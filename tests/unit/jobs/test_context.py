"""What a handler sees of its attempt."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from strongroom.core.clock import ManualClock
from strongroom.database import DocumentError
from strongroom.jobs import FencedError, JobCancelledError, JobContext, JobStoppingError
from strongroom.jobs.context import StopReason
from tests.unit.jobs.test_endings import job


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def context(clock: ManualClock) -> JobContext:
    return JobContext(job(), clock)


def test_reports_keep_what_they_do_not_mention(context: JobContext) -> None:
    context.progress(bytes_total=100, message="begins")
    context.progress(bytes_done=10, files=2)
    progress, _ = context.unwritten()
    assert progress is not None
    assert (progress.bytes_done, progress.bytes_total, progress.files, progress.message) == (
        10,
        100,
        2,
        "begins",
    )


def test_rate_counts_only_this_attempt(context: JobContext, clock: ManualClock) -> None:
    context.progress(bytes_done=1_000_000)  # a resumed attempt begins where the last one was
    clock.advance(timedelta(seconds=2))
    context.progress(bytes_done=1_000_400)
    progress, _ = context.unwritten()
    assert progress is not None
    assert progress.bytes_per_second == 200
    clock.advance(timedelta(seconds=2))
    context.progress(bytes_done=1_000_800)
    progress, _ = context.unwritten(last=True)
    assert progress is not None
    assert progress.bytes_per_second == 200


def test_written_reports_are_not_written_again(context: JobContext) -> None:
    context.progress(bytes_done=1)
    context.log("one")
    progress, lines = context.unwritten()
    context.log("two")
    context.written(progress, len(lines))
    progress, lines = context.unwritten()
    assert progress is None
    assert [line.message for line in lines] == ["two"]


def test_log_takes_names_that_no_database_would(context: JobContext) -> None:
    context.log("file 'a\udcff\0'", size=3)
    (line,) = context.unwritten()[1]
    assert line.message == "file 'a\\udcff\\x00'"
    assert line.facts == {"size": 3}


def test_log_refuses_facts_that_cannot_be_kept(context: JobContext) -> None:
    wrong: Any = b"bytes"
    with pytest.raises(DocumentError):
        context.log("a", data=wrong)
    assert context.unwritten()[1] == []


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        (StopReason.CANCELLED, JobCancelledError),
        (StopReason.STOPPING, JobStoppingError),
        (StopReason.FENCED, FencedError),
    ],
)
def test_check_raises_the_reason_to_stop(context: JobContext, reason: StopReason, error: type[Exception]) -> None:
    context.check()
    assert not context.cancelled()
    context.stop(reason)
    assert context.obeyed is None  # nobody has looked yet
    with pytest.raises(error):
        context.check()
    assert context.obeyed is reason


def test_first_reason_stays_but_for_a_lost_job(context: JobContext) -> None:
    context.stop(StopReason.CANCELLED)
    context.stop(StopReason.STOPPING)
    with pytest.raises(JobCancelledError):
        context.check()
    context.stop(StopReason.FENCED)
    with pytest.raises(FencedError):
        context.check()
