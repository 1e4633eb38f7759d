"""Registry, enrolment and revocation, on both databases (T1, T5, T6, T9)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa
from cryptography import x509

from strongroom import audit
from strongroom.core.clock import ManualClock
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import HostId
from strongroom.database import read, transact
from strongroom.pki import keys, registry, revocation, tokens
from strongroom.pki.ca import IssuerKind, make_issuer, make_root, to_der
from strongroom.pki.crl import CRLStore
from strongroom.pki.enrol import Application
from strongroom.pki.errors import (
    CertificateNotFoundError,
    CRLMissingError,
    HostKnownError,
    IssuerError,
    NameTakenError,
    NotRegisteredError,
    RevokedError,
    UnknownIssuerError,
)
from strongroom.pki.fingerprint import Fingerprint, fingerprint_of
from strongroom.pki.names import read_identity
from strongroom.pki.registry import RegisteredHost
from strongroom.pki.roles import HostState, Role
from strongroom.pki.tokens import Purpose
from tests.support.domains import ADMIN, CA, ENTROPY, Domain

PEER_HOST = HostId(b"p" * 16)
REASON = x509.ReasonFlags.key_compromise


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def domain(database: sa.Engine, clock: ManualClock) -> Domain:
    return Domain(1, database, clock)


def identify(domain: Domain, certificate: bytes) -> RegisteredHost:
    with read(domain.engine) as connection:
        return registry.identify(connection, certificate, now=domain.clock.now())


def refused(code: str, act: Callable[[], object]) -> None:
    with pytest.raises(StrongroomError) as raised:
        act()
    assert raised.value.code == code
    assert raised.value.hint


def test_enrolled_hosts_are_identified_with_role_from_the_registry(domain: Domain) -> None:
    primary, shown = domain.admit_primary()
    client, client_shown = domain.admit_client("laptop")
    foreign, foreign_shown = domain.admit_foreign(CA.make(2, domain.clock.now()), PEER_HOST)
    assert identify(domain, shown.chain[0]).host == primary.host
    assert primary.host.role is Role.PRIMARY
    assert identify(domain, client_shown.chain[0]).host.role is Role.CLIENT
    known = identify(domain, foreign_shown.chain[0])
    assert (known.host.role, known.host.home, known.host.id) == (
        Role.FOREIGN_PRIMARY,
        bytes([2]) * 32,
        PEER_HOST,
    )
    assert known.authority == domain.ca.foreign.fingerprint
    assert foreign.host.names.texts == ()
    assert client.host.id != primary.host.id


def test_host_certificate_says_who_and_the_primary_alone_says_primary(domain: Domain) -> None:
    primary, _ = domain.admit_primary()
    client, _ = domain.admit_client("laptop")
    assert read_identity(primary.certificate).primary_of == domain.ca.domain
    assert read_identity(client.certificate).primary_of is None
    assert read_identity(client.certificate).host == client.host.id


def test_certificate_of_another_domain_is_an_unknown_issuer(domain: Domain) -> None:
    """T5: a caller shows what the called domain issued, not what its own CA did."""
    leaf, _ = CA.make(2, domain.clock.now()).leaf(domain.clock.now())
    with pytest.raises(UnknownIssuerError):
        identify(domain, to_der(leaf))


def test_certificate_that_our_stolen_key_signed_is_nobody(domain: Domain) -> None:
    domain.admit_primary()
    leaf, _ = domain.ca.leaf(domain.clock.now())
    with pytest.raises(NotRegisteredError):
        identify(domain, to_der(leaf))


def test_revoked_expired_suspended_and_retired_are_four_errors(domain: Domain, clock: ManualClock) -> None:
    names = ["revoked", "suspended", "retired", "expired"]
    issued = {name: domain.admit_client(name)[0] for name in names}

    def with_state(connection: sa.Connection) -> None:
        now = clock.now()
        revocation.revoke_certificate(connection, fingerprint_of(issued["revoked"].certificate), REASON, now=now)
        suspended, retired = issued["suspended"].host, issued["retired"].host
        registry.set_host_state(connection, suspended.home, suspended.id, HostState.SUSPENDED, now=now)
        revocation.retire(connection, retired.home, retired.id, now=now)

    transact(domain.engine, with_state)
    shown = {name: to_der(one.certificate) for name, one in issued.items()}
    identify(domain, shown["expired"])
    refused("pki.certificate-revoked", lambda: identify(domain, shown["revoked"]))
    refused("pki.host-retired", lambda: identify(domain, shown["suspended"]))
    refused("pki.host-retired", lambda: identify(domain, shown["retired"]))
    clock.advance(timedelta(days=365))
    refused("pki.certificate-expired", lambda: identify(domain, shown["expired"]))
    clock.advance(timedelta(days=-366))
    refused("pki.certificate-not-yet-valid", lambda: identify(domain, shown["expired"]))
    refused("pki.bad-certificate", lambda: identify(domain, b"nonsense"))


def test_suspension_is_undone_and_retirement_is_not(domain: Domain) -> None:
    issued, shown = domain.admit_client("laptop")
    home, host = issued.host.home, issued.host.id

    def set_state(state: HostState) -> None:
        transact(
            domain.engine,
            lambda connection: registry.set_host_state(connection, home, host, state, now=domain.clock.now()),
        )

    set_state(HostState.SUSPENDED)
    set_state(HostState.ACTIVE)
    identify(domain, shown.chain[0])
    set_state(HostState.RETIRED)
    refused("pki.host-retired", lambda: set_state(HostState.ACTIVE))


def test_failed_enrolment_leaves_nothing_but_its_evidence(domain: Domain) -> None:
    """T4: the token is still good, no host, no name, no certificate; the audit says what was refused."""
    domain.admit_primary()
    token = domain.token("media", role=Role.MEDIA)
    good = keys.make_request(keys.make_host_key())
    bad = bytearray(good)
    bad[-3] ^= 1
    domain.registrar.enrol(
        Application(domain.token("first", role=Role.MEDIA), good, Role.MEDIA, "first", ("taken.example",)), ADMIN
    )
    before = len(_entries(domain))
    taken = ("fresh.example", "taken.example")
    attempts = {
        "pki.bad-request": Application(token, bytes(bad), Role.MEDIA, "m", ("m.example",)),
        "pki.bad-name": Application(token, good, Role.MEDIA, "m", ("*",)),
        "pki.name-taken": Application(token, good, Role.MEDIA, "m", taken),
        "pki.bad-enrolment": Application(token, good, Role.MEDIA, "m"),
        "token.wrong-binding": Application(token, good, Role.CLIENT, "m", ("m.example",)),
        "token.unknown": Application(domain.token("x", role=Role.MEDIA), good, Role.MEDIA, "m", ("m.example",)),
    }
    transact(domain.engine, lambda connection: connection.execute(sa.text("DELETE FROM pki_tokens WHERE name='x'")))
    for code, application in attempts.items():
        refused(code, lambda application=application: domain.registrar.enrol(application, ADMIN))  # type: ignore[misc]
    with read(domain.engine) as connection:
        assert len(registry.hosts(connection)) == 2
        assert {one.name: one.uses for one in tokens.tokens(connection)}["media"] == 0
        written = audit.entries(connection)[before:]
        assert [entry.facts["code"] for entry in written] == list(attempts)
        assert {entry.outcome for entry in written} == {audit.Outcome.REFUSED}
        audit.verify_chain(connection)
    application = Application(token, good, Role.MEDIA, "m", ("fresh.example",))
    assert domain.registrar.enrol(application, ADMIN).host.names.texts == ("fresh.example",)
    with read(domain.engine) as connection:
        outcomes = [entry.outcome.value for entry in audit.entries(connection)][-2:]
    assert outcomes == ["attempted", "done"]


def _entries(domain: Domain) -> list[audit.Entry]:
    with read(domain.engine) as connection:
        return list(audit.entries(connection))


def test_role_comes_from_the_token_and_nobody_enrols_as_primary(domain: Domain) -> None:
    request = keys.make_request(keys.make_host_key())
    client = domain.token("c")
    refused(
        "token.wrong-binding",
        lambda: domain.registrar.enrol(Application(client, request, Role.MEDIA, "m", ("m.example",)), ADMIN),
    )
    refused(
        "pki.bad-enrolment",
        lambda: domain.registrar.enrol(Application(client, request, Role.PRIMARY, "m", ("m.example",)), ADMIN),
    )
    foreign = Application(
        client, request, Role.FOREIGN_PRIMARY, "m", home=CA.make(2, domain.clock.now()).domain, host=PEER_HOST
    )
    refused("token.wrong-purpose", lambda: transact(domain.engine, lambda c: domain.registrar.enrol_in(c, foreign)))


def test_client_without_a_name_is_refused(domain: Domain) -> None:
    """Its images are listed under it."""
    token, request = domain.token("c"), keys.make_request(keys.make_host_key())
    refused("pki.bad-enrolment", lambda: domain.registrar.enrol(Application(token, request, Role.CLIENT, "c"), ADMIN))


def test_name_of_a_client_is_no_other_clients(domain: Domain) -> None:
    domain.admit_client("db1.example")
    request = keys.make_request(keys.make_host_key())
    second = Application(domain.token("second"), request, Role.CLIENT, "db1", ("DB1.example",))
    refused("pki.name-taken", lambda: domain.registrar.enrol(second, ADMIN))


def test_trust_token_makes_nothing_but_a_foreign_primary(domain: Domain) -> None:
    """T3: restricted access."""
    token = domain.token("t", Purpose.TRUST)
    request = keys.make_request(keys.make_host_key())
    for application in (
        Application(token, request, Role.CLIENT, "c", ("c.example",)),
        Application(token, request, Role.MEDIA, "m", ("m.example",)),
        Application(
            token,
            request,
            Role.FOREIGN_MEDIA,
            "f",
            home=CA.make(2, domain.clock.now()).domain,
            host=PEER_HOST,
        ),
    ):
        refused("token.wrong-purpose", lambda one=application: domain.registrar.enrol(one, ADMIN))  # type: ignore[misc]
    own = Application(token, request, Role.FOREIGN_PRIMARY, "f", home=domain.ca.domain, host=PEER_HOST)
    refused("pki.bad-enrolment", lambda: transact(domain.engine, lambda c: domain.registrar.enrol_in(c, own)))


def test_foreign_media_server_enrols_only_for_the_bound_domain(domain: Domain) -> None:
    """T6"""
    two, three = CA.make(2, domain.clock.now()), CA.make(3, domain.clock.now())
    token = domain.token("fm", Purpose.ENROL_FOREIGN_MEDIA, domain=two.domain, max_uses=2)
    request = keys.make_request(keys.make_host_key())

    def come(home: CA) -> RegisteredHost:
        application = Application(
            token, request, Role.FOREIGN_MEDIA, "their media", home=home.domain, host=HostId(b"m" * 16)
        )
        return identify(domain, domain.registrar.enrol(application, ADMIN).chain[0])

    refused("token.wrong-binding", lambda: come(three))
    assert come(two).host.role is Role.FOREIGN_MEDIA
    refused("pki.host-known", lambda: come(two))


def test_second_primary_of_a_trusted_domain_is_refused_until_the_first_is_retired(domain: Domain) -> None:
    two = CA.make(2, domain.clock.now())
    first, shown = domain.admit_foreign(two, PEER_HOST)
    with pytest.raises(HostKnownError):
        domain.admit_foreign(two, HostId(b"q" * 16))
    transact(
        domain.engine,
        lambda connection: revocation.retire(connection, first.host.home, first.host.id, now=domain.clock.now()),
    )
    domain.admit_foreign(two, PEER_HOST)
    # The host is back, its old certificate is not.
    with pytest.raises(RevokedError):
        identify(domain, shown.chain[0])


def test_renewal_needs_only_the_present_certificate_which_stays_good(domain: Domain, clock: ManualClock) -> None:
    """T9: no job fails because of a renewal."""
    issued, shown = domain.admit_client("laptop")
    clock.advance(timedelta(days=200))
    new = domain.registrar.renew(shown.chain[0], keys.make_request(keys.make_host_key()), ADMIN)
    assert new.host == issued.host
    assert identify(domain, new.chain[0]).host.id == identify(domain, shown.chain[0]).host.id
    assert new.certificate.not_valid_after_utc > issued.certificate.not_valid_after_utc
    clock.advance(timedelta(days=170))
    refused(
        "pki.certificate-expired",
        lambda: domain.registrar.renew(shown.chain[0], keys.make_request(keys.make_host_key()), ADMIN),
    )
    identify(domain, new.chain[0])


def test_reissue_keeps_the_identity_and_revokes_what_was_before(domain: Domain) -> None:
    """T9: bound, single-use."""
    issued, shown = domain.admit_client("laptop")
    other, _ = domain.admit_client("desktop")
    home, host = issued.host.home, issued.host.id
    token = domain.token("re", Purpose.REISSUE, domain=home, host=host)
    request = keys.make_request(keys.make_host_key())
    refused("token.wrong-binding", lambda: domain.registrar.reissue(token, request, other.host.id, home, ADMIN))
    again = domain.registrar.reissue(token, request, host, home, ADMIN)
    assert again.host == issued.host
    identify(domain, again.chain[0])
    with pytest.raises(RevokedError):
        identify(domain, shown.chain[0])
    refused("token.used-up", lambda: domain.registrar.reissue(token, request, host, home, ADMIN))


def test_only_clients_come_back_by_a_reissue_token(domain: Domain) -> None:
    """T3: such a token must not make anybody the primary, or a peer without making trust."""
    issued, shown = domain.admit_primary()
    home, host = issued.host.home, issued.host.id
    token = domain.token("re", Purpose.REISSUE, domain=home, host=host)
    request = keys.make_request(keys.make_host_key())
    refused("pki.bad-enrolment", lambda: domain.registrar.reissue(token, request, host, home, ADMIN))
    assert identify(domain, shown.chain[0]).host == issued.host


def test_revocation_makes_the_list_due_and_the_list_says_it(domain: Domain, clock: ManualClock) -> None:
    """T9: at once after a revocation, otherwise hourly; numbers rise."""
    hosts_ca = domain.ca.hosts
    issued, _ = domain.admit_client("laptop")
    store = CRLStore(clock)
    store.trust(hosts_ca.certificate, domain.ca.root.certificate)

    def due() -> set[Fingerprint]:
        with read(domain.engine) as connection:
            return set(revocation.crls_due(connection, now=clock.now()))

    def issue_all() -> None:
        for authority in (domain.ca.root, hosts_ca, domain.ca.foreign):
            transact(
                domain.engine,
                lambda connection, one=authority: revocation.issue_crl(connection, one, now=clock.now()),  # type: ignore[misc]
            )

    assert len(due()) == 3
    with read(domain.engine) as connection, pytest.raises(CRLMissingError):
        revocation.current_crl(connection, hosts_ca.fingerprint)
    issue_all()
    assert due() == set()
    with read(domain.engine) as connection:
        assert store.accept(revocation.current_crl(connection, hosts_ca.fingerprint)).number == 1
    store.check(issued.certificate)
    transact(
        domain.engine,
        lambda connection: revocation.revoke_certificate(
            connection, fingerprint_of(issued.certificate), REASON, now=clock.now()
        ),
    )
    assert due() == {hosts_ca.fingerprint}
    issue_all()
    with read(domain.engine) as connection:
        data = revocation.current_crl(connection, hosts_ca.fingerprint)
    assert store.accept(data).number == 2
    with pytest.raises(RevokedError):
        store.check(issued.certificate)
    line = x509.load_der_x509_crl(data).get_revoked_certificate_by_serial_number(issued.certificate.serial_number)
    assert line is not None
    assert line.extensions.get_extension_for_class(x509.CRLReason).value.reason is REASON
    clock.advance(revocation.CRL_INTERVAL)
    assert len(due()) == 3


def test_unknown_certificate_and_authority_cannot_be_acted_on(domain: Domain) -> None:
    stranger = CA.make(9, domain.clock.now())
    with pytest.raises(CertificateNotFoundError):
        transact(
            domain.engine,
            lambda connection: revocation.revoke_certificate(
                connection, stranger.root.fingerprint, REASON, now=domain.clock.now()
            ),
        )
    with pytest.raises(IssuerError):
        transact(
            domain.engine,
            lambda connection: revocation.issue_crl(connection, stranger.hosts, now=domain.clock.now()),
        )


def test_new_root_and_old_one_overlap_until_the_old_is_retired(domain: Domain) -> None:
    """T9: CA rollover."""
    now = domain.clock.now()
    _, shown = domain.admit_client("laptop")
    root = make_root(domain.ca.domain, "domain-1", now=now, entropy=ENTROPY)
    hosts_ca = make_issuer(root, IssuerKind.HOSTS, now=now, entropy=ENTROPY)
    with pytest.raises(IssuerError):
        transact(
            domain.engine,
            lambda connection: registry.retire_authority(connection, domain.ca.hosts.fingerprint),
        )
    for authority in (root, hosts_ca):
        transact(
            domain.engine,
            lambda connection, one=authority: registry.install_authority(connection, one, now=now),  # type: ignore[misc]
        )
    with read(domain.engine) as connection:
        roots = registry.believed_authorities(connection, IssuerKind.ROOT)
    assert roots == [root.certificate, domain.ca.root.certificate]
    identify(domain, shown.chain[0])
    transact(
        domain.engine,
        lambda connection: registry.retire_authority(connection, domain.ca.hosts.fingerprint),
    )
    refused("pki.host-retired", lambda: identify(domain, shown.chain[0]))


def test_name_is_free_again_when_its_host_is_retired(domain: Domain) -> None:
    def media(name: str) -> HostId:
        token = domain.token(name, role=Role.MEDIA)
        request = keys.make_request(keys.make_host_key())
        return domain.registrar.enrol(Application(token, request, Role.MEDIA, name, ("media.example",)), ADMIN).host.id

    first = media("one")
    with pytest.raises(NameTakenError, match="'one'"):
        media("two")
    transact(
        domain.engine,
        lambda connection: revocation.retire(connection, domain.ca.domain, first, now=domain.clock.now()),
    )
    assert media("three") != first


def test_crl_keeps_a_revoked_certificate_until_it_expired_everywhere(domain: Domain, clock: ManualClock) -> None:
    issued, _ = domain.admit_client("laptop")
    transact(
        domain.engine,
        lambda connection: revocation.revoke_host(
            connection, issued.host.home, issued.host.id, REASON, now=clock.now()
        ),
    )

    def listed() -> bool:
        data = transact(
            domain.engine,
            lambda connection: revocation.issue_crl(connection, domain.ca.hosts, now=clock.now()),
        )
        crl = x509.load_der_x509_crl(data)
        return crl.get_revoked_certificate_by_serial_number(issued.certificate.serial_number) is not None

    clock.advance(timedelta(days=366))
    assert listed()
    clock.advance(timedelta(days=7))
    assert not listed()
