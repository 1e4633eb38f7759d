"""Jobs about images, with the real engine, catalog and keys; nobody answers at the media server's address."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.core.errors import from_document, to_document
from strongroom.core.secret import Secret
from strongroom.database import read, transact
from strongroom.database.errors import DatabaseDamagedError
from strongroom.jobs import Job, JobEngine, JobFilter, JobState
from strongroom.lifecycle.tables import ReplicationState
from strongroom.replication import targets
from strongroom.replication.errors import as_refusal, from_message, to_message
from strongroom.services.primary.image_work import REPLICATE
from strongroom.trust.state import Decision
from tests.support.images import TARGET, fixed
from tests.support.primaries import OpenPrimary


@pytest.fixture
def north(tmp_path: Path) -> Iterator[OpenPrimary]:
    north = OpenPrimary(tmp_path)
    north.save_backup_policy(TARGET.id)
    yield north
    north.close()


def jobs(north: OpenPrimary) -> list[Job]:
    with read(north.primary.engine) as connection:
        return north.primary.jobs.find(connection, JobFilter(kinds=(REPLICATE,)))


def run_one(north: OpenPrimary) -> Job:
    """Let the engine run until the newest job has ended an attempt."""
    (before, *_) = jobs(north)
    engine = JobEngine(
        north.primary.engine,
        north.images.handlers(),
        north.images.queues(),
        north.primary.clock,
        north.primary.entropy,
    )
    engine.start()
    try:
        deadline = time.monotonic() + 20
        while True:
            (job, *_) = jobs(north)
            if job.attempt > before.attempt and job.state not in (JobState.RUNNING, JobState.QUEUED):
                return job
            assert time.monotonic() < deadline, job
            time.sleep(0.02)
    finally:
        engine.stop()


def test_sending_waits_for_a_suspended_trust_and_says_so_r8(north: OpenPrimary) -> None:
    north.trust(TARGET.id, Decision.SUSPENDED)
    image = north.back_up()
    north.acknowledge(image)
    job = run_one(north)
    assert job.error is not None
    assert (job.state, job.error.code) == (JobState.WAITING, "replication.trust-not-active")
    row = north.replication(image, TARGET.id)
    assert (row.state, row.error_code) == (ReplicationState.FAILED, "replication.trust-not-active")
    assert row.retry_at is not None
    transact(north.primary.engine, lambda c: north.images.submit_due(c, image))
    assert len(jobs(north)) == 1  # planning again makes no second job


def test_sending_without_a_target_waits_until_there_is_one(north: OpenPrimary) -> None:
    north.trust(TARGET.id)
    image = north.back_up()
    north.acknowledge(image)
    job = run_one(north)
    assert job.error is not None
    assert (job.state, job.error.code) == (JobState.WAITING, "storage.target-not-found")
    assert north.replication(image, TARGET.id).state is ReplicationState.FAILED


def test_resuming_a_job_sends_a_refused_image_again(north: OpenPrimary) -> None:
    north.trust(TARGET.id)
    north.add_target(TARGET.id)  # and no secret of its credential: repeating is of no use
    image = north.back_up()
    north.acknowledge(image)
    job = run_one(north)
    assert job.state is JobState.FAILED
    refused = north.replication(image, TARGET.id)
    assert (refused.state, refused.error_code) == (ReplicationState.REFUSED, "primary.service-key-missing")
    transact(north.primary.engine, lambda c: north.images.submit_due(c, image))
    assert len(jobs(north)) == 1  # it waits for an administrator
    transact(north.primary.engine, lambda c: north.primary.jobs.resume(c, job.id))
    run_one(north)
    again = north.replication(image, TARGET.id)
    assert (again.attempts, again.sending) == (2, refused.sending)


def test_promise_stays_when_the_target_has_trouble_of_its_own(
    north: OpenPrimary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its database cannot be read; the word comes over the line, and from our media server as a record."""
    trouble = as_refusal(DatabaseDamagedError("database: database disk image is malformed"))
    told = from_document(to_document(from_message(to_message(trouble))))

    def refused(*_: object) -> None:
        raise told

    monkeypatch.setattr(north.media, "send_image", refused)
    north.trust(TARGET.id)
    north.add_target(TARGET.id)
    with read(north.primary.engine) as connection:
        key_name = targets.of_domain(connection, TARGET.id).key_name
    north.primary.keys.keep(key_name, Secret(fixed("secret")))
    image = north.back_up()
    north.acknowledge(image)
    job = run_one(north)
    assert job.state is JobState.WAITING
    row = north.replication(image, TARGET.id)
    assert (row.state, row.error_code) == (ReplicationState.FAILED, "replication.own-trouble")
    assert row.retry_at is not None


def test_job_whose_image_was_sent_already_is_done(north: OpenPrimary) -> None:
    north.trust(TARGET.id)
    image = north.back_up()
    north.acknowledge(image)
    run_one(north)
    table = north.replication(image, TARGET.id)
    north.mark_sent(image, TARGET.id)
    (job,) = jobs(north)
    transact(north.primary.engine, lambda c: north.primary.jobs.request_cancel(c, job.id))  # it waits for a retry
    transact(north.primary.engine, lambda c: north.primary.jobs.resume(c, job.id))
    assert run_one(north).state is JobState.DONE
    assert north.replication(image, TARGET.id).attempts == table.attempts
