"""Which host a client's job is for, and that no other one gets at it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cryptography.x509 import ReasonFlags

from strongroom.audit import Actor, ActorKind
from strongroom.catalog.images import get_image
from strongroom.core.errors import AuthenticationError
from strongroom.core.ids import HostId
from strongroom.database import read, transact
from strongroom.pki import registry, revocation, tokens
from strongroom.pki.ca import load_certificate
from strongroom.pki.enrol import Application
from strongroom.pki.errors import RevokedError
from strongroom.pki.fingerprint import fingerprint_of
from strongroom.pki.keys import make_host_key, make_request
from strongroom.pki.roles import HostState, Role
from strongroom.pki.tokens import Purpose, TokenOrder
from strongroom.services import messages
from strongroom.services.identity import Identities
from strongroom.services.primary.client_hosts import Client, registered
from strongroom.services.primary.client_ports import Restores
from strongroom.services.primary.client_work import StartedBackup
from strongroom.services.primary.errors import GrantError, NotAClientError, WrongClientError
from tests.support.images import fixed
from tests.support.primaries import SLP, OpenPrimary

NOBODY = HostId(bytes(16))


@pytest.fixture(scope="module")
def north(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenPrimary]:
    north = OpenPrimary(tmp_path_factory.mktemp("primary"))
    north.save_backup_policy()
    yield north
    north.close()


class Enrolled:
    """A client of a primary, with its certificate."""

    def __init__(self, north: OpenPrimary, name: str) -> None:
        order = TokenOrder(name=f"t-{name}", purpose=Purpose.ENROL_HOST, reason="a test", role=Role.CLIENT)
        primary = north.primary
        token = transact(
            primary.engine,
            lambda c: tokens.create(c, order, created_by="a", now=primary.clock.now(), entropy=primary.entropy),
        )
        application = Application(token, make_request(make_host_key()), Role.CLIENT, name, (name,))
        issued = primary.registrar.enrol(application, Actor(ActorKind.SYSTEM, "test"))
        self.host, self.certificate = issued.host.id, issued.chain[0]
        self.client = Client(name, self.host)


def begin(north: OpenPrimary, client: Client) -> StartedBackup:
    return transact(north.primary.engine, lambda c: north.clients.start_backup(c, client, [b"/home"], SLP))


def redeem(north: OpenPrimary, begun: StartedBackup, shown: bytes | None, grant: bytes = b"") -> messages.JobSpec:
    said = messages.Redeem(job=begun.job, grant=grant or begun.grant.reveal(), shown=shown)
    return north.clients.redeem(north.host, said)


def test_grant_of_a_registered_client_is_redeemed_for_it_alone_t1(north: OpenPrimary) -> None:
    """A stolen grant is of no use on another host, nor on the media server's own."""
    one, other = Enrolled(north, "one.example"), Enrolled(north, "other.example")
    begun = begin(north, one.client)
    for shown in (None, other.certificate):
        with pytest.raises(WrongClientError):
            redeem(north, begun, shown)
    with pytest.raises(GrantError):
        redeem(north, begun, one.certificate, grant=fixed("guess"))
    spec = redeem(north, begun, one.certificate)
    assert (spec.image, spec.client) == (begun.image, one.host)


def test_grant_of_the_own_host_is_not_redeemed_over_the_network_t1(north: OpenPrimary) -> None:
    same_name = Enrolled(north, "local.example")
    begun = begin(north, Client("local.example"))
    with pytest.raises(WrongClientError):
        redeem(north, begun, same_name.certificate)
    assert redeem(north, begun, None).client is None


def test_registry_and_no_certificate_says_who_is_a_client_t3(north: OpenPrimary) -> None:
    primary = north.primary
    media = Identities(primary.home.media / "certificates").get(primary.domain).credential.chain[0]
    begun = begin(north, Enrolled(north, "files.example").client)
    with pytest.raises(NotAClientError):
        redeem(north, begun, media)
    for host in (north.host, NOBODY):
        with pytest.raises(NotAClientError), read(primary.engine) as connection:
            registered(connection, primary.domain, host)


def test_suspended_and_revoked_clients_are_refused_with_the_next_grant_t5(north: OpenPrimary) -> None:
    primary, now = north.primary, north.primary.clock.now()
    laptop = Enrolled(north, "laptop.example")
    begun = begin(north, laptop.client)

    def become(state: HostState) -> None:
        transact(primary.engine, lambda c: registry.set_host_state(c, primary.domain, laptop.host, state, now=now))

    become(HostState.SUSPENDED)
    with pytest.raises(AuthenticationError, match="suspended"):
        redeem(north, begun, laptop.certificate)
    with pytest.raises(NotAClientError, match="suspended"), read(primary.engine) as connection:
        registered(connection, primary.domain, laptop.host)
    become(HostState.ACTIVE)
    redeem(north, begun, laptop.certificate)
    fingerprint = fingerprint_of(load_certificate(laptop.certificate))
    transact(
        primary.engine, lambda c: revocation.revoke_certificate(c, fingerprint, ReasonFlags.key_compromise, now=now)
    )
    with pytest.raises(RevokedError):
        redeem(north, begun, laptop.certificate)


def test_image_is_compared_with_that_of_the_same_host_and_not_of_the_same_name(north: OpenPrimary) -> None:
    """Who has the name that another had before must not learn that one's file names from the previous image."""
    mail = Enrolled(north, "mail.example")
    north.acknowledge(north.back_up("mail.example"))
    begun = begin(north, mail.client)
    assert begun.previous_started is None
    north.clients.commit(north.host, north.stored(begun.job))
    north.acknowledge(begun.image)
    with read(north.primary.engine) as connection:
        image = get_image(connection, begun.image)
    assert (image.client, image.client_host) == ("mail.example", mail.host)
    assert begin(north, mail.client).previous_started is not None
    assert begin(north, Client("mail.example", NOBODY)).previous_started is None
    restores = Restores(north.primary, north.clients, north.media)
    assert restores.is_of(image, mail.host)
    assert not restores.is_of(image, None)
    assert not restores.is_of(image, NOBODY)
