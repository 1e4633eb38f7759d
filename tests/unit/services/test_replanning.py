"""Planning again: every image has its turn, whatever is wrong with the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, delete, update

from strongroom.catalog.tables import copies
from strongroom.database import read, transact
from strongroom.jobs import JobFilter
from strongroom.jobs.tables import jobs
from strongroom.lifecycle.tables import image_lifecycles
from strongroom.lifecycle.tables import replications as replication_rows
from strongroom.services.primary import replanning
from strongroom.services.primary.image_work import REPLICATE
from strongroom.services.primary.replanning import Replanning
from tests.support.images import TARGET
from tests.support.primaries import OpenPrimary


@pytest.fixture
def north(tmp_path: Path) -> Iterator[OpenPrimary]:
    north = OpenPrimary(tmp_path)
    north.save_backup_policy(TARGET.id)
    yield north
    north.close()


def sends(north: OpenPrimary) -> int:
    with read(north.primary.engine) as connection:
        return len(north.primary.jobs.find(connection, JobFilter(kinds=(REPLICATE,))))


def test_image_whose_policy_is_missing_holds_up_no_other_one(
    north: OpenPrimary, caplog: pytest.LogCaptureFixture
) -> None:
    images = sorted(north.back_up(f"files{number}") for number in range(3))
    for image in images:
        north.acknowledge(image)

    def as_after_a_rebuild(connection: Connection) -> None:
        for table in (image_lifecycles, replication_rows, jobs):
            connection.execute(delete(table))
        lost = update(copies).where(copies.c.image == images[0]).values(slp="lost")
        connection.execute(lost)

    transact(north.primary.engine, as_after_a_rebuild)
    assert sends(north) == 0
    again = Replanning(north.primary, north.images)
    again.go_on()
    again.go_on()
    assert sends(north) == 2
    assert [record.message for record in caplog.records] == [
        "an image cannot be planned: there is no lifecycle policy 'lost' in version 1"
    ]


def test_every_image_has_its_turn_when_there_are_more_than_one_look_takes(
    north: OpenPrimary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replanning, "AT_ONCE", 2)
    for number in range(5):
        north.acknowledge(north.back_up(f"files{number}"))
    transact(north.primary.engine, lambda connection: connection.execute(delete(jobs)))
    again = Replanning(north.primary, north.images)
    seen = []
    for _ in range(4):
        again.go_on()
        seen.append(sends(north))
    assert seen == [2, 4, 5, 5]
