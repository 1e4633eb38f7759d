"""Authorization tokens, on both databases (T3)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa

from strongroom.core.clock import ManualClock
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import DomainId, HostId
from strongroom.core.secret import Secret
from strongroom.database import read, transact
from strongroom.pki import tokens
from strongroom.pki.errors import NameTakenError, TokenNotFoundError, TokenUsedUpError
from strongroom.pki.roles import Role
from strongroom.pki.tables import pki_tokens
from strongroom.pki.tokens import Purpose, TokenOrder, TokenRequestError
from tests.support.domains import ENTROPY

CLOCK = ManualClock()
NOW = CLOCK.now()
DOMAIN, OTHER = DomainId(b"d" * 32), DomainId(b"e" * 32)
HOST = HostId(b"h" * 16)


def create(engine: sa.Engine, order: TokenOrder) -> Secret:
    return transact(
        engine,
        lambda connection: tokens.create(connection, order, created_by="admin", now=NOW, entropy=ENTROPY),
    )


def trust(name: str = "t", **more: object) -> TokenOrder:
    return TokenOrder(name=name, purpose=Purpose.TRUST, reason="test", **more)  # type: ignore[arg-type]


def redeem(
    engine: sa.Engine,
    token: Secret,
    purpose: Purpose = Purpose.TRUST,
    *,
    after: timedelta = timedelta(0),
    domain: DomainId | None = None,
    host: HostId | None = None,
    role: Role | None = None,
) -> tokens.Token:
    return transact(
        engine,
        lambda connection: tokens.redeem(
            connection, token, purpose, now=NOW + after, domain=domain, host=host, role=role
        ),
    )


def test_token_is_stored_as_a_hash_only(database: sa.Engine) -> None:
    text = create(database, trust()).reveal().decode()
    assert len(text.replace("-", "")) * 5 - 15 >= 160
    with read(database) as connection:
        row = connection.execute(sa.select(pki_tokens)).one()
    digits = text.replace("-", "")[3:]
    for value in row:
        assert digits.lower() not in str(value).lower()
        assert digits[:12].encode() not in (value if isinstance(value, bytes) else b"")


def test_token_is_read_whatever_was_done_to_its_spelling(database: sa.Engine) -> None:
    text = create(database, trust(max_uses=2)).reveal().decode()
    redeem(database, Secret(f" {text.lower()}\n".encode()))
    assert redeem(database, Secret(text.replace("-", "").encode())).uses == 2


def test_each_misuse_is_its_own_error_and_spends_nothing(database: sa.Engine) -> None:
    plain = create(database, trust("plain"))
    bound = create(database, trust("bound", domain=DOMAIN))
    reissue = create(database, TokenOrder("re", Purpose.REISSUE, "test", domain=DOMAIN, host=HOST))
    media = create(database, TokenOrder("media", Purpose.ENROL_HOST, "test", role=Role.MEDIA))
    withdrawn = create(database, trust("withdrawn"))
    transact(database, lambda connection: tokens.revoke(connection, "withdrawn", now=NOW))
    day = timedelta(days=1)
    misuses: list[tuple[str, Callable[[], object]]] = [
        ("token.unknown", lambda: redeem(database, Secret(b"SRT-" + b"A" * 40))),
        ("token.unknown", lambda: redeem(database, Secret(b"hello"))),
        ("token.unknown", lambda: redeem(database, Secret("ß".encode()))),
        ("token.wrong-purpose", lambda: redeem(database, plain, Purpose.ENROL_HOST, role=Role.CLIENT)),
        ("token.wrong-binding", lambda: redeem(database, bound)),
        ("token.wrong-binding", lambda: redeem(database, bound, domain=OTHER)),
        ("token.wrong-binding", lambda: redeem(database, reissue, Purpose.REISSUE, domain=DOMAIN)),
        (
            "token.wrong-binding",
            lambda: redeem(database, reissue, Purpose.REISSUE, domain=DOMAIN, host=HostId(bytes(16))),
        ),
        ("token.wrong-binding", lambda: redeem(database, media, Purpose.ENROL_HOST, role=Role.CLIENT)),
        ("token.expired", lambda: redeem(database, plain, after=day)),
        ("token.revoked", lambda: redeem(database, withdrawn)),
    ]
    for code, misuse in misuses:
        with pytest.raises(StrongroomError) as raised:
            misuse()
        assert raised.value.code == code
        assert raised.value.hint
    with read(database) as connection:
        assert [token.uses for token in tokens.tokens(connection)] == [0] * 5
    assert redeem(database, plain, after=day - timedelta(seconds=1)).uses == 1
    assert redeem(database, bound, domain=DOMAIN).uses == 1
    assert redeem(database, reissue, Purpose.REISSUE, domain=DOMAIN, host=HOST).uses == 1
    assert redeem(database, media, Purpose.ENROL_HOST, role=Role.MEDIA).uses == 1
    with pytest.raises(TokenUsedUpError):
        redeem(database, plain)


def test_use_is_given_back_when_what_it_was_for_fails(database: sa.Engine) -> None:
    token = create(database, trust())

    def spend_and_fail(connection: sa.Connection) -> None:
        tokens.redeem(connection, token, Purpose.TRUST, now=NOW)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        transact(database, spend_and_fail)
    assert redeem(database, token).uses == 1


def test_last_use_is_spent_once_however_many_come_at_once(database: sa.Engine) -> None:
    token = create(database, trust(max_uses=3))
    outcomes: list[str] = []
    gate = threading.Barrier(6)

    def come() -> None:
        gate.wait()
        try:
            redeem(database, token)
        except TokenUsedUpError as error:
            outcomes.append(error.code)
        else:
            outcomes.append("spent")

    threads = [threading.Thread(target=come) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["spent"] * 3 + ["token.used-up"] * 3


def test_two_tokens_do_not_share_a_name(database: sa.Engine) -> None:
    create(database, trust())
    with pytest.raises(NameTakenError):
        create(database, trust())
    with pytest.raises(TokenNotFoundError):
        transact(database, lambda connection: tokens.revoke(connection, "other", now=NOW))


@pytest.mark.parametrize(
    "order",
    [
        trust(name=""),
        trust(name="-x"),
        trust(validity=timedelta(0)),
        trust(validity=timedelta(days=1000)),
        trust(max_uses=0),
        trust(role=Role.MEDIA),
        TokenOrder("t", Purpose.TRUST, " "),
        TokenOrder("t", Purpose.ENROL_HOST, "r"),
        TokenOrder("t", Purpose.ENROL_HOST, "r", role=Role.PRIMARY),
        TokenOrder("t", Purpose.REISSUE, "r"),
        TokenOrder("t", Purpose.REISSUE, "r", domain=DOMAIN, host=HOST, max_uses=2),
        TokenOrder("t", Purpose.ENROL_FOREIGN_MEDIA, "r"),
    ],
)
def test_order_that_nobody_can_want_is_refused(order: TokenOrder) -> None:
    with pytest.raises(TokenRequestError):
        order.check()
