"""What REST asks of a primary, with its real catalog, jobs and service keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert, update

from strongroom.audit import Actor, ActorKind
from strongroom.catalog.errors import CopyNotFoundError
from strongroom.catalog.tables import copies, copy_tags, file_lists
from strongroom.core.ids import DomainId, ImageId
from strongroom.core.secret import Secret
from strongroom.database import read, transact
from strongroom.formats.peer_messages import StorageServer
from strongroom.lifecycle.policies import set_active
from strongroom.pki.channel import Address
from strongroom.pki.fingerprint import Fingerprint
from strongroom.replication import targets
from strongroom.replication.targets import TargetExistsError, TargetNeededError
from strongroom.services.primary import media_ports, ports
from strongroom.services.primary.collecting import Collecting
from strongroom.services.primary.errors import NoMediaServerError, NotReadableError
from strongroom.services.primary.expiring import Expiring
from strongroom.services.primary.scrubbing import Scrubbing
from strongroom.services.primary.service_keys import ServiceKeyMissingError
from tests.support.images import TARGET, fixed
from tests.support.primaries import OpenPrimary

ACTOR = Actor(ActorKind.SYSTEM, "test")
CREDENTIAL, OTHER_CREDENTIAL = (Secret(f"{fixed(name, 16).hex()}.{fixed(name).hex()}".encode()) for name in "ab")


class Offers:
    """The other domain, as far as it tells of its storage."""

    def servers(self, _peer: DomainId) -> Sequence[StorageServer]:
        return [StorageServer(name="there", medium=fixed("there", 16), media=("localhost:9",))]


@pytest.fixture
def north(tmp_path: Path) -> Iterator[OpenPrimary]:
    north = OpenPrimary(tmp_path)
    north.trust(TARGET.id)
    yield north
    north.close()


@pytest.fixture
def aims(north: OpenPrimary) -> ports.Targets:
    return ports.Targets(north.primary, Offers())  # type: ignore[arg-type]  # the one question that is asked


def secret_of(north: OpenPrimary, name: str) -> bytes:
    with read(north.primary.engine) as connection:
        return north.primary.keys.get(targets.get(connection, name).key_name).reveal()


def test_target_that_is_removed_takes_its_secret_with_it(north: OpenPrimary, aims: ports.Targets) -> None:
    aims.add("t", TARGET.id, "there", CREDENTIAL, ACTOR)
    with read(north.primary.engine) as connection:
        name = targets.get(connection, "t").key_name
    aims.remove("t", ACTOR)
    with pytest.raises(ServiceKeyMissingError):
        north.primary.keys.get(name)


def test_target_that_is_there_keeps_its_secret_when_another_is_refused(north: OpenPrimary, aims: ports.Targets) -> None:
    aims.add("t", TARGET.id, "there", CREDENTIAL, ACTOR)
    slip = Secret(CREDENTIAL.reveal()[:33] + OTHER_CREDENTIAL.reveal()[33:])  # the same id
    with pytest.raises(TargetExistsError):
        aims.add("u", TARGET.id, "there", slip, ACTOR)
    assert secret_of(north, "t") == fixed("a")


def test_target_of_an_active_policy_stays_until_the_policy_is_deactivated(
    north: OpenPrimary, aims: ports.Targets
) -> None:
    north.save_backup_policy(TARGET.id)
    aims.add("t", TARGET.id, "there", CREDENTIAL, ACTOR)
    with pytest.raises(TargetNeededError, match="daily"):
        aims.remove("t", ACTOR)
    assert secret_of(north, "t") == fixed("a")
    now = north.primary.clock.now()
    transact(north.primary.engine, lambda c: set_active(c, "daily", False, now=now))
    aims.remove("t", ACTOR)


def test_domain_without_a_media_server_says_so(north: OpenPrimary, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(north.media, "hosts", list)
    scrubbing = Scrubbing(north.primary, north.media, north.images)
    media = media_ports.Media(north.primary, north.media, Collecting(north.primary, north.media), scrubbing)
    with pytest.raises(NoMediaServerError):
        media.make_pool("p", None, ACTOR)
    with pytest.raises(NoMediaServerError):
        media.enrol_elsewhere(Address("localhost", 9), Fingerprint(bytes(32)), Secret(b"t"), ACTOR)


def wait_for_key(north: OpenPrimary, image: ImageId, tag: bytes) -> None:
    def deed(connection: Connection) -> None:
        copy = copies.c.image == image
        connection.execute(update(copies).where(copy).values(readability="waiting-for-key"))
        found = connection.execute(copies.select().where(copy)).one()
        connection.execute(insert(copy_tags).values(copy_id=found.id, tag=tag, known=False))

    transact(north.primary.engine, deed)


def list_of(north: OpenPrimary, image: ImageId) -> None:
    row = {"image": image, "salt": fixed("salt", 16), "entries": 1, "bytes": 1, "made": north.primary.clock.now()}
    transact(north.primary.engine, lambda c: c.execute(insert(file_lists).values(**row)))


def test_phase_two_tells_of_the_keys_of_its_own_images_alone(
    north: OpenPrimary, monkeypatch: pytest.MonkeyPatch
) -> None:
    north.save_backup_policy()
    listed, waiting = (north.back_up(f"files{number}") for number in range(2))
    list_of(north, listed)
    monkeypatch.setattr(north.images, "settle_keys", lambda: None)  # the KMS has no such key
    wait_for_key(north, waiting, fixed("tag"))
    imports = ports.Imports(north.primary, north.images)
    assert imports.phase_two([listed], None, ACTOR) == []
    with pytest.raises(NotReadableError, match=fixed("tag").hex()):
        imports.phase_two([waiting], None, ACTOR)


def test_phase_two_of_everything_takes_what_has_no_list_first(
    north: OpenPrimary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "MOST_LISTED", 1)
    north.save_backup_policy()
    images = sorted(north.back_up(f"files{number}") for number in range(2))
    for image in images:
        north.acknowledge(image)
    list_of(north, images[0])
    (job,) = ports.Imports(north.primary, north.images).phase_two((), None, ACTOR)
    with read(north.primary.engine) as connection:
        assert bytes.fromhex(north.primary.jobs.get(connection, job).params["image"].replace("-", "")) == images[1]


def test_image_without_a_complete_copy_cannot_be_verified(north: OpenPrimary) -> None:
    north.save_backup_policy()
    image = north.back_up()
    with pytest.raises(CopyNotFoundError):
        ports.Images(north.primary, north.images, Expiring(north.primary, north.media)).verify(image, ACTOR)
