"""P2: what expires by itself and by hand at a primary, and what stops it; nobody answers at the media server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from strongroom.catalog import guard
from strongroom.catalog.model import CopyState
from strongroom.catalog.tables import copies, expiry_guard
from strongroom.core.ids import ImageId
from strongroom.database import read, transact
from strongroom.jobs import Job, JobEngine, JobFilter, JobState
from strongroom.services.primary.errors import ImageInUseError
from strongroom.services.primary.expiring import EXPIRE, Expiring
from tests.support.primaries import OpenPrimary


@pytest.fixture
def north(tmp_path: Path) -> Iterator[OpenPrimary]:
    north = OpenPrimary(tmp_path)
    north.save_backup_policy()
    yield north
    north.close()


@pytest.fixture
def expiring(north: OpenPrimary) -> Expiring:
    return Expiring(north.primary, north.media)


def due_image(north: OpenPrimary, client: str = "files1") -> ImageId:
    image = north.back_up(client)
    north.acknowledge(image)
    transact(north.primary.engine, lambda c: c.execute(update(copies).values(expires_ns=1)))
    return image


def expire_jobs(north: OpenPrimary) -> list[Job]:
    with read(north.primary.engine) as connection:
        return north.primary.jobs.find(connection, JobFilter(kinds=(EXPIRE,)))


def states(north: OpenPrimary) -> set[str]:
    with read(north.primary.engine) as connection:
        return {row.state for row in connection.execute(copies.select())}


def run_job(north: OpenPrimary, expiring: Expiring) -> Job:
    expiring.go_on()
    engine = JobEngine(
        north.primary.engine, expiring.handlers(), expiring.queues(), north.primary.clock, north.primary.entropy
    )
    engine.start()
    try:
        deadline = time.monotonic() + 20
        while (job := expire_jobs(north)[0]).state in (JobState.QUEUED, JobState.RUNNING):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        engine.stop()
    return job


def test_due_copy_expires_by_a_job(north: OpenPrimary, expiring: Expiring) -> None:
    expiring.go_on()
    assert expire_jobs(north) == []
    due_image(north)
    job = run_job(north, expiring)
    assert (job.state, states(north)) == (JobState.DONE, {CopyState.EXPIRED})
    assert job.result == {"expired": 1, "removed": 0, "stopped": None}  # its tombstone is not written yet
    expiring.go_on()
    assert len(expire_jobs(north)) == 1


def test_image_that_a_restore_reads_or_a_backup_refers_to_does_not_expire_p2(
    north: OpenPrimary, expiring: Expiring
) -> None:
    image = due_image(north)
    transact(north.primary.engine, lambda c: north.clients.start_restore(c, image, None, []))
    expiring.go_on()
    assert expire_jobs(north) == []
    with pytest.raises(ImageInUseError):
        transact(north.primary.engine, lambda c: expiring.expire_image(c, image, None, "no use"))
    assert states(north) == {CopyState.COMPLETE}


def test_nothing_expires_when_an_unusual_share_is_due_until_somebody_confirms_p2(
    north: OpenPrimary, expiring: Expiring
) -> None:
    for number in range(guard.LEAST_UNUSUAL + 1):
        due_image(north, f"files{number}")
    job = run_job(north, expiring)
    assert (job.result or {})["stopped"] == "11 of 11 copies would expire in one pass"
    assert states(north) == {CopyState.COMPLETE}
    expiring.go_on()
    assert len(expire_jobs(north)) == 1
    transact(north.primary.engine, lambda c: guard.confirm(c, now=north.primary.clock.now()))
    job = run_job(north, expiring)
    assert (job.result or {})["expired"] == 11
    with read(north.primary.engine) as connection:
        assert not guard.state(connection, now=north.primary.clock.now()).is_confirmed


def test_nothing_expires_after_the_clock_went_forward_while_nothing_ran_p2(
    north: OpenPrimary, expiring: Expiring
) -> None:
    expiring.go_on()
    due_image(north)
    transact(north.primary.engine, lambda c: c.execute(update(expiry_guard).values(seen_ns=1)))
    expiring.go_on()
    assert expire_jobs(north) == []
    with read(north.primary.engine) as connection:
        assert "the clock went forward" in str(guard.state(connection, now=north.primary.clock.now()).stopped)
