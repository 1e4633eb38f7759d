"""What media servers may do for clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.database import transact
from strongroom.services import messages
from strongroom.services.primary.client_hosts import Client
from strongroom.services.primary.errors import GrantError, NotYoursError
from tests.support.images import fixed
from tests.support.primaries import OpenPrimary


@pytest.fixture
def north(tmp_path: Path) -> Iterator[OpenPrimary]:
    north = OpenPrimary(tmp_path)
    north.save_backup_policy()
    yield north
    north.close()


def test_restore_commits_nothing(north: OpenPrimary) -> None:
    image = north.back_up()
    north.acknowledge(image)
    begun = transact(north.primary.engine, lambda c: north.clients.start_restore(c, image, None, []))
    with pytest.raises(NotYoursError):
        north.clients.commit(north.host, north.stored(begun.job))


def test_commit_that_is_asked_for_again_gives_the_same_fragment(north: OpenPrimary) -> None:
    north.back_up()
    (waiting,) = north.desk.beat(north.host, messages.Beat(version="1", pools=[])).fragments
    (job,) = north.backups()
    assert north.clients.commit(north.host, north.stored(job)) == waiting


def test_grant_is_that_of_its_job_and_is_not_shown(north: OpenPrimary) -> None:
    begun = transact(
        north.primary.engine, lambda c: north.clients.start_backup(c, Client("files1"), [b"/home"], "daily")
    )
    said = messages.Redeem(job=begun.job, grant=begun.grant.reveal())
    assert repr(begun.grant.reveal()) not in repr(said)
    assert north.clients.redeem(north.host, said).image == begun.image
    with pytest.raises(GrantError):
        north.clients.redeem(north.host, messages.Redeem(job=begun.job, grant=fixed("guess")))
