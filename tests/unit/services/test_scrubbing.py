"""P2: when a primary has pools scrubbed, where a pass goes on, and what it makes of what is damaged."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, update

from strongroom.catalog.media import get_medium
from strongroom.catalog.tables import copies
from strongroom.core.clock import to_ns
from strongroom.core.ids import HostId, KeyGroupId, to_text
from strongroom.database import read, transact
from strongroom.jobs import Job, JobContext, JobEngine, JobFilter, JobState, NewJob
from strongroom.jobs.tables import jobs as job_rows
from strongroom.services import messages, upkeep_messages
from strongroom.services.primary.collecting import COLLECT
from strongroom.services.primary.errors import NotYoursError
from strongroom.services.primary.image_work import VERIFY
from strongroom.services.primary.key_desk import KeyDesk
from strongroom.services.primary.scrubbing import SCRUB, Scrubbing
from tests.support.images import fixed
from tests.support.primaries import OpenPrimary

WHOLE = upkeep_messages.Scrubbed(objects=9, bytes=1_000, damaged=[], damaged_count=0, images=[], image_count=0)


@pytest.fixture
def north(tmp_path: Path) -> Iterator[OpenPrimary]:
    north = OpenPrimary(tmp_path)
    north.save_backup_policy()
    yield north
    north.close()


@pytest.fixture
def scrubbing(north: OpenPrimary) -> Scrubbing:
    return Scrubbing(north.primary, north.media, north.images)


def found(north: OpenPrimary, kind: str = SCRUB) -> list[Job]:
    with read(north.primary.engine) as connection:
        return north.primary.jobs.find(connection, JobFilter(kinds=(kind,)))


def written(north: OpenPrimary, at_ns: int) -> None:
    """Have an image in the pool that was written at a time."""
    north.acknowledge(north.back_up("files1"))
    transact(north.primary.engine, lambda c: c.execute(update(copies).values(written_ns=at_ns)))


def submit(north: OpenPrimary, scrubbing: Scrubbing, rate: int | None = None) -> int:
    def deed(connection: Connection) -> int:
        return scrubbing.submit(connection, get_medium(connection, north.pool), bytes_per_second=rate)

    return transact(north.primary.engine, deed)


def end(north: OpenPrimary, job: int, state: JobState) -> None:
    now = north.primary.clock.now()
    transact(
        north.primary.engine,
        lambda c: c.execute(
            update(job_rows).where(job_rows.c.id == job).values(state=state, ended=now, unique_key=None)
        ),
    )


def run_job(north: OpenPrimary, scrubbing: Scrubbing) -> Job:
    engine = JobEngine(
        north.primary.engine, scrubbing.handlers(), scrubbing.queues(), north.primary.clock, north.primary.entropy
    )
    engine.start()
    try:
        deadline = time.monotonic() + 60
        while (job := found(north)[0]).state in (JobState.QUEUED, JobState.RUNNING):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        engine.stop()
    return job


def test_pool_is_scrubbed_when_its_first_image_is_old_enough_and_then_again_after_as_long(
    north: OpenPrimary, scrubbing: Scrubbing, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[upkeep_messages.ScrubPool] = []

    def answer(_: HostId, request: upkeep_messages.ScrubPool, __: JobContext) -> upkeep_messages.Scrubbed:
        asked.append(request)
        return WHOLE

    monkeypatch.setattr(north.media, "scrub_pool", answer)
    scrubbing.go_on()
    assert found(north) == []  # nothing is in it
    written(north, to_ns(north.primary.clock.now()))
    scrubbing.go_on()
    assert found(north) == []
    transact(north.primary.engine, lambda c: c.execute(update(copies).values(written_ns=1)))
    scrubbing.go_on()
    scrubbing.go_on()
    assert len(found(north)) == 1
    job = run_job(north, scrubbing)
    assert (job.state, (job.result or {})["damaged"]) == (JobState.DONE, 0)
    assert asked[0].bytes_per_second == 50 << 20
    scrubbing.go_on()
    assert len(found(north)) == 1
    with read(north.primary.engine) as connection:
        following = scrubbing.next_at(connection, get_medium(connection, north.pool))
    assert job.ended is not None
    assert following == job.ended + north.primary.settings.upkeep.scrub


@pytest.mark.parametrize("how", [JobState.CANCELLED, JobState.FAILED])
def test_scrub_after_one_that_was_cut_off_goes_on_with_its_pass(
    north: OpenPrimary, scrubbing: Scrubbing, how: JobState
) -> None:
    end(north, submit(north, scrubbing), how)
    submit(north, scrubbing, rate=1_000)
    second, first = found(north)
    assert second.params["since_ns"] == first.params["since_ns"]
    assert second.params["bytes_per_second"] == 1_000
    end(north, second.id, JobState.DONE)
    submit(north, scrubbing)
    assert found(north)[0].params["since_ns"] > second.params["since_ns"]


def test_damage_is_told_in_the_log_and_the_images_that_need_it_are_verified(
    north: OpenPrimary, scrubbing: Scrubbing, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = north.back_up("files1")
    north.acknowledge(image)
    damaged = upkeep_messages.Scrubbed(
        objects=9,
        bytes=1_000,
        damaged=[
            upkeep_messages.DamagedObject(key="containers/ab/abcd", at_ns=5, problem="format.damaged: its digest")
        ],
        damaged_count=1,
        images=[
            upkeep_messages.DamagedImage(name="images/aa/aa", image=image, problems=["payload: 1 frames are lost"])
        ],
        image_count=1,
    )
    monkeypatch.setattr(north.media, "scrub_pool", lambda *_: damaged)
    submit(north, scrubbing)
    job = run_job(north, scrubbing)
    result = job.result or {}
    assert (result["damaged"], result["images_damaged"]) == (1, 1)
    assert result["verify_jobs"] == [one.id for one in found(north, VERIFY)]
    with read(north.primary.engine) as connection:
        log = [line.message for line in north.primary.jobs.log_lines(connection, job.id)]
    assert any("containers/ab/abcd" in line for line in log)
    assert any("images/aa/aa" in line for line in log)


def test_naming_key_for_rewriting_is_given_to_a_collection_that_runs_there_and_to_nobody_else(
    north: OpenPrimary,
) -> None:
    keys = KeyDesk(north.primary, north.clients, north.images)
    group = KeyGroupId(fixed("group", 16))

    def begun(connection: Connection, kind: str, state: JobState) -> int:
        params = {"medium": to_text(north.pool), "dry_run": False}
        job = north.primary.jobs.submit(connection, NewJob(kind, params=params)).id
        connection.execute(update(job_rows).where(job_rows.c.id == job).values(state=state))
        return job

    kinds = ((COLLECT, JobState.RUNNING), (COLLECT, JobState.DONE), (SCRUB, JobState.RUNNING))
    ids = [transact(north.primary.engine, partial(begun, kind=kind, state=state)) for kind, state in kinds]
    asked = [messages.MarkingKey(job=job, group=group, envelopes=[]) for job in ids]
    assert keys.marking_key(north.host, asked[0]).key is None  # no envelope: and none is made
    with pytest.raises(NotYoursError):
        keys.marking_key(HostId(fixed("other host", 16)), asked[0])
    for ended_or_other in asked[1:]:
        with pytest.raises(NotYoursError):
            keys.marking_key(north.host, ended_or_other)
