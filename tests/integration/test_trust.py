"""Two primaries with real TLS on loopback make trust and use it (T4, T5)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Engine, func, select

import strongroom.trust.tables as t
from strongroom.core.errors import StrongroomError
from strongroom.database import DatabaseFullError, read, transact
from strongroom.formats import peer_messages as wire
from strongroom.formats.peer_messages import ExchangeRecord
from strongroom.pki import keys, messages, registry, revocation, tokens
from strongroom.pki.ca import load_certificate
from strongroom.pki.channel import Address, open_channel
from strongroom.pki.enrol import Application
from strongroom.pki.fingerprint import Fingerprint
from strongroom.pki.roles import Role
from strongroom.pki.tables import pki_certificates, pki_hosts
from strongroom.pki.tls import Credential, client_context
from strongroom.pki.tokens import Purpose
from strongroom.trust import call, certificates, home, store
from strongroom.trust.making import Invitation
from strongroom.trust.state import Broken, TrustState
from tests.support.trust import ADMIN, ENTROPY, Listener, Primary
from tests.support.two_primaries import Two, code_of, desk, move, peer

HALF = (t.trusts, t.trust_credentials, t.trust_requests, t.peer_messages, t.peer_handled)


def contents(engine: Engine) -> list[int]:
    """What a half-made trust would leave: rows of trust, foreign hosts, their certificates, spent tokens."""
    with read(engine) as connection:
        counts = [connection.execute(select(func.count()).select_from(table)).scalar_one() for table in HALF]
        foreign = select(func.count()).select_from(pki_hosts).where(pki_hosts.c.role == "foreign-primary")
        counts.append(connection.execute(foreign).scalar_one())
        counts.append(connection.execute(select(func.count()).select_from(pki_certificates)).scalar_one())
        counts.append(sum(token.uses for token in tokens.tokens(connection)))
    return counts


# ---------------------------------------------------------------- making


def test_t4_trust_is_active_in_both_domains_after_both_have_added(two: Two) -> None:
    two.a.maker.add(two.b.invitation(two.at_b), ADMIN)
    assert two.states() == (TrustState.WAITING, TrustState.ASKED)
    assert code_of(lambda: require_active(two.b, two.a)) == "trust.not-active"
    two.b.maker.add(two.a.invitation(two.at_a), ADMIN)
    assert two.states() == (TrustState.ACTIVE, TrustState.ACTIVE)
    require_active(two.a, two.b)


def require_active(us: Primary, them: Primary) -> None:
    with read(us.engine) as connection:
        store.require_active(connection, them.domain)


def wrong_fingerprint(two: Two) -> Invitation:
    return replace(two.b.invitation(two.at_b), pin=Fingerprint(bytes(32)))


def wrong_token(two: Two) -> Invitation:
    return replace(two.b.invitation(two.at_b), token=two.a.token())


def used_token(two: Two) -> Invitation:
    invitation = two.b.invitation(two.at_b)
    transact(two.b.engine, lambda c: tokens.redeem(c, invitation.token, Purpose.TRUST, now=two.b.clock.now()))
    return invitation


def expired_token(two: Two) -> Invitation:
    return two.b.invitation(two.at_b, two.b.token(validity=timedelta(microseconds=1)))


def token_for_something_else(two: Two) -> Invitation:
    return two.b.invitation(two.at_b, two.b.token(Purpose.ENROL_HOST, role=Role.CLIENT))


def token_for_another_domain(two: Two) -> Invitation:
    return two.b.invitation(two.at_b, two.b.token(domain=bytes(32)))


def wrong_name(two: Two) -> Invitation:
    return two.b.invitation(Address("localhost", two.at_b.port))


def wrong_clock(two: Two) -> Invitation:
    two.a.clock.shift = timedelta(minutes=10)
    return two.b.invitation(two.at_b)


def own_domain(two: Two) -> Invitation:
    return two.a.invitation(two.at_a)


@pytest.mark.parametrize(
    ("mistake", "code"),
    [
        (wrong_fingerprint, "pki.wrong-fingerprint"),
        (wrong_token, "token.unknown"),
        (used_token, "token.used-up"),
        (expired_token, "token.expired"),
        (token_for_something_else, "token.wrong-purpose"),
        (token_for_another_domain, "token.wrong-binding"),
        (wrong_name, "pki.wrong-name"),
        (wrong_clock, "pki.clock-skew"),
        (own_domain, "trust.to-itself"),
    ],
)
def test_t4_each_mistake_is_an_error_of_its_own_and_leaves_no_half_trust(
    two: Two, mistake: Callable[[Two], Invitation], code: str
) -> None:
    invitation = mistake(two)
    before = contents(two.a.engine), contents(two.b.engine)
    assert code_of(lambda: two.a.maker.add(invitation, ADMIN)) == code
    assert (contents(two.a.engine), contents(two.b.engine)) == before
    assert not two.a.keys.kept


def test_t4_a_token_found_by_a_stranger_does_not_make_it_another_domain(two: Two, tmp_path: Path) -> None:
    """The statement of A is public; without A's archive key it does not go with a stranger's key."""
    token = two.b.token()
    with ExitStack() as stack:
        mallory = two._primary("Mallory", tmp_path, stack)
        request = mallory.maker._request(two.b.domain, token, keys.make_request(keys.make_host_key()))
    public = transact(two.a.engine, lambda c: home.publish(c, two.a.ours, two.a.clock))
    before = contents(two.b.engine)
    forged = wire.encode(msgspec.structs.replace(request, statement=public))
    assert code_of(lambda: two.b.maker.accept(forged, ADMIN)) == "format.foreign"
    assert contents(two.b.engine) == before


def test_t4_a_token_found_by_a_stranger_does_not_enrol_it_as_another_domains_primary(two: Two) -> None:
    """B waits for A. A stranger with a token of B, and A's public statement, does not become A by enrolment."""
    two.b.maker.add(two.a.invitation(two.at_a), ADMIN)
    key = keys.make_host_key()
    stranger = Application(
        two.b.token(), keys.make_request(key), Role.FOREIGN_PRIMARY, "A", home=two.a.domain, host=two.a.ours.host
    )
    assert code_of(lambda: two.b.registrar.enrol(stranger, ADMIN)) == "pki.bad-enrolment"
    with read(two.b.engine) as connection:
        assert not registry.hosts(connection, role=Role.FOREIGN_PRIMARY)
        assert [one.uses for one in tokens.tokens(connection)] == [0]


def test_t4_an_answer_that_was_lost_is_given_again_and_counts_once(two: Two) -> None:
    request = two.a.maker._request(two.b.domain, two.b.token(), keys.make_request(keys.make_host_key()))
    data = wire.encode(request)
    first = two.b.maker.accept(data, ADMIN)
    counted = contents(two.b.engine)
    assert two.b.maker.accept(data, ADMIN) == first
    assert contents(two.b.engine) == counted
    other = replace_key(two, request)
    assert code_of(lambda: two.b.maker.accept(other, ADMIN)) == "format.damaged"


def replace_key(two: Two, request: wire.TrustRequest) -> bytes:
    fresh = keys.make_request(keys.make_host_key())
    return wire.encode(msgspec.structs.replace(request, request=fresh))


def test_t4_a_domain_does_not_write_to_our_terminal_by_its_name(two: Two, tmp_path: Path) -> None:
    with ExitStack() as stack:
        loud = two._primary("Basalt\x1b[2J", tmp_path, stack)
        address = stack.enter_context(Listener(loud)).address
        assert two.a.maker.add(loud.invitation(address), ADMIN).name == "Basalt [2J"


def test_t4_a_trust_removed_while_it_was_being_made_is_not_made(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    two.make()
    agreed = two.a.maker._agree(two.b.invitation(two.at_b))
    desk(two.a).remove(two.b.domain, ADMIN)
    before = dict(two.a.keys.kept)
    monkeypatch.setattr(two.a.maker, "_agree", lambda _invitation: agreed)
    assert code_of(lambda: two.a.maker.add(two.b.invitation(two.at_b), ADMIN)) == "trust.not-possible"
    assert two.a.keys.kept == before
    assert peer(two.a, two.b).trust.state is TrustState.REMOVED


# ---------------------------------------------------------------- presenting


def post_exchange(two: Two, credential: Credential | None) -> str:
    """Call B's exchange route with some certificate; give the code of the refusal."""
    context = client_context([two.b.root.certificate], credential)
    sent = b"not looked at before the certificate"
    with open_channel(two.at_b, context) as channel:
        status, body = channel.ask("POST", call.EXCHANGE_PATH, sent, content_type=wire.CONTENT_TYPE, max_bytes=1 << 20)
    assert status != 200
    return wire.decode(body, wire.ErrorRecord).code


def test_t5_each_presents_the_certificate_that_the_other_issued(two: Two) -> None:
    two.make()
    for us, them, calls in ((two.a, two.b, two.a_calls), (two.b, two.a, two.b_calls)):
        with read(us.engine) as connection:
            view = store.credential_view(connection, them.domain)
        assert view is not None
        load_certificate(view.chain[1]).verify_directly_issued_by(them.root.certificate)
        with read(them.engine) as connection:
            caller = registry.identify(connection, view.chain[0], now=them.clock.now())
        assert (caller.host.home, caller.host.role) == (us.domain, Role.FOREIGN_PRIMARY)
        calls()
        assert peer(us, them).trust.last_exchange is not None


def renew(us: Primary, them: Primary) -> bool:
    return certificates.renew_if_due(us.engine, us.ours, them.domain, us.keys, us.clock, ENTROPY)


def credential(us: Primary, them: Primary) -> store.CredentialView:
    with read(us.engine) as connection:
        view = store.credential_view(connection, them.domain)
    assert view is not None
    return view


def test_t5_the_certificate_at_a_peer_is_renewed_before_it_ends(two: Two) -> None:
    two.make()
    before = credential(two.a, two.b)
    assert not renew(two.a, two.b)
    two.a.clock.shift = timedelta(days=61)
    assert renew(two.a, two.b)
    after = credential(two.a, two.b)
    assert after.chain[0] != before.chain[0]
    assert list(two.a.keys.kept) == [after.key_name]
    two.a.clock.shift = timedelta()
    two.a_calls()
    with read(two.b.engine) as connection:
        assert registry.identify(connection, before.chain[0], now=two.b.clock.now()).host.home == two.a.domain


def test_t5_a_renewal_that_fails_leaves_the_certificate_in_use(two: Two) -> None:
    two.make()
    before = credential(two.a, two.b)
    two.a.clock.shift = timedelta(days=61)
    address = peer(two.a, two.b).address
    move(two.a, "127.0.0.1:1")
    assert code_of(lambda: renew(two.a, two.b)) == "pki.unreachable"
    move(two.a, address)
    transact(two.b.engine, lambda c: revocation.retire(c, two.a.domain, two.a.ours.host, now=two.b.clock.now()))
    assert code_of(lambda: renew(two.a, two.b)) == "pki.host-retired"
    assert credential(two.a, two.b) == before
    assert list(two.a.keys.kept) == [before.key_name]
    two.a.clock.shift = timedelta(days=91)
    assert not renew(two.a, two.b)


def test_t5_a_caller_without_certificate_is_refused(two: Two) -> None:
    two.make()
    assert post_exchange(two, None) == "pki.no-certificate"


def test_t5_a_caller_with_its_own_domains_certificate_is_refused(two: Two) -> None:
    two.make()
    try:
        code = post_exchange(two, two.a.credential)
    except StrongroomError as error:  # the handshake itself ends it
        code = error.code
    assert code in ("pki.not-strongroom", "pki.unreachable")


def test_the_open_routes_are_limited_and_say_so_in_the_words_of_each_protocol(two: Two) -> None:
    two.b.routes.limit._per_minute = 0
    for path, content_type in (("/v1/ca", "application/json"), ("/v1/domain", wire.CONTENT_TYPE)):
        with open_channel(two.at_b, client_context([two.b.root.certificate])) as channel:
            status, body = channel.ask("GET", path, content_type=content_type, max_bytes=1 << 20)
        assert status == 503
        code = "peer.rate-limited"
        if path == "/v1/ca":
            assert messages.decode(body, messages.Problem).code == code
        else:
            assert wire.decode(body, wire.ErrorRecord).code == code


def test_t10_a_peer_that_cannot_answer_now_does_not_break_the_trust(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    two.make()

    def busy(*_: object) -> ExchangeRecord:
        raise DatabaseFullError("no room for a while")

    with monkeypatch.context() as patched:
        patched.setattr(two.b.exchange, "handle", busy)
        assert code_of(two.a_calls) == "trust.refused-there"
    require_active(two.a, two.b)
    two.a_calls()


def test_t5_a_host_of_the_called_domain_that_is_no_foreign_primary_is_refused(two: Two) -> None:
    two.make()
    key = keys.make_host_key()
    token = two.b.token(Purpose.ENROL_HOST, role=Role.CLIENT)
    application = Application(token, keys.make_request(key), Role.CLIENT, "client", ("client",))
    issued = two.b.registrar.enrol(application, ADMIN)
    with read(two.a.engine):
        record = wire.encode(transact(two.a.engine, lambda c: two.a.exchange.make_request(c, two.b.domain)))
    context = client_context([two.b.root.certificate], Credential(issued.chain, key))
    with open_channel(two.at_b, context) as channel:
        _, body = channel.ask("POST", call.EXCHANGE_PATH, record, content_type=wire.CONTENT_TYPE, max_bytes=1 << 20)
    assert wire.decode(body, wire.ErrorRecord).code == "trust.not-a-primary"


def test_t5_a_revoked_certificate_is_refused_at_once_and_on_open_connections(two: Two) -> None:
    two.make()
    with read(two.a.engine) as connection:
        view = store.credential_view(connection, two.b.domain)
        known = store.get_peer(connection, two.b.domain)
    assert view is not None
    with call.connect(known, view, two.a.keys) as channel:
        sent = transact(two.a.engine, lambda c: two.a.exchange.make_request(c, two.b.domain))
        call.post(channel, call.EXCHANGE_PATH, sent, ExchangeRecord, max_bytes=1 << 20)
        transact(
            two.b.engine,
            lambda c: revocation.retire(c, two.a.domain, two.a.ours.host, now=two.b.clock.now()),
        )
        with pytest.raises(call.RefusedThereError) as refused:
            call.post(channel, call.EXCHANGE_PATH, sent, ExchangeRecord, max_bytes=1 << 20)
    assert refused.value.record.code == "pki.host-retired"
    assert code_of(two.a_calls) == "pki.host-retired"
    assert peer(two.a, two.b).trust.broken is Broken.REFUSED


def test_secrets_do_not_show_themselves() -> None:
    request = wire.TrustRequest(version=1, token="SRT-SECRET", statement=b"", request=b"x", binding=b"")
    assert "SECRET" not in repr(request)
