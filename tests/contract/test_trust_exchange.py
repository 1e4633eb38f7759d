"""Messages between two primaries, on both databases: each is handled once, whatever is lost or repeated."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Connection, func, select

from strongroom.core.errors import StrongroomError, UnavailableError
from strongroom.core.ids import DomainId
from strongroom.database import open_engine, read, transact
from strongroom.formats import peer_messages as wire
from strongroom.formats.peer_messages import ExchangeRecord, Message, SLPCheck, SLPChecked
from strongroom.trust import home, store
from strongroom.trust.errors import OutboxFullError
from strongroom.trust.exchange import MAX_WAITING, Handler, Reply, answer_to
from strongroom.trust.state import Added, Asked, Decision, Suspended, TrustState
from strongroom.trust.tables import peer_handled, peer_messages
from tests.support.databases import KINDS, made_database
from tests.support.trust import Primary

ACTIVE = frozenset({TrustState.ACTIVE})
KNEW = bytes(16)


class Pair:
    """Two domains whose trust is active, without a network: records are handed over by hand."""

    def __init__(self, urls: Sequence[str], stack: ExitStack) -> None:
        self.handled: list[bytes] = []
        self.busy = False
        engines = [open_engine(url) for url in urls]
        for engine in engines:
            stack.callback(engine.dispose)
        more = {"slp.check": Handler(ACTIVE, self.check), "slp.checked": Handler(ACTIVE, lambda *_: ())}
        self.a, self.b = (Primary(name, engine, more=more) for name, engine in zip("AB", engines, strict=True))
        transact(self.a.engine, lambda c: self.add(c, self.a, self.b))
        transact(self.b.engine, lambda c: self.add(c, self.b, self.a))

    def add(self, connection: Connection, us: Primary, them: Primary) -> None:
        asked = Asked(home.take_number(connection), 1, home.take_number(connection))
        store.happen(connection, them.domain, asked, us.clock, name=them.ours.name)
        added = Added(home.take_number(connection, 10), Decision.ADDED, 5, 1)
        store.happen(connection, them.domain, added, us.clock)

    def check(self, _connection: Connection, _peer: DomainId, message: Message) -> Sequence[Reply]:
        if self.busy:
            raise UnavailableError("not now")
        asked = wire.decode(message.body, SLPCheck)
        self.handled.append(message.id)
        return (Reply("slp.checked", SLPChecked(exists=asked.name == "gold", active=True, data_class="")),)

    def say(self, us: Primary, them: Primary) -> ExchangeRecord:
        return transact(us.engine, lambda c: us.exchange.make_request(c, them.domain))

    def deliver(self, us: Primary, them: Primary, record: ExchangeRecord) -> ExchangeRecord:
        record = wire.decode(wire.encode(record), ExchangeRecord)
        answer = transact(them.engine, lambda c: them.exchange.handle(c, us.domain, record))
        assert not isinstance(answer, StrongroomError), answer
        return answer

    def hear(self, us: Primary, them: Primary, sent: ExchangeRecord, answer: ExchangeRecord) -> None:
        answer = wire.decode(wire.encode(answer), ExchangeRecord)
        assert transact(us.engine, lambda c: us.exchange.take_answer(c, them.domain, sent, answer, knew=KNEW)) is None

    def round(self, us: Primary, them: Primary) -> None:
        sent = self.say(us, them)
        self.hear(us, them, sent, self.deliver(us, them, sent))

    def ask(self, us: Primary, them: Primary, name: str = "gold") -> bytes:
        return transact(us.engine, lambda c: us.exchange.request(c, them.domain, "slp.check", SLPCheck(name=name)))


def answered(primary: Primary, asked: bytes) -> msgspec.Struct | None:
    with read(primary.engine) as connection:
        answer = answer_to(connection, asked)
    return None if answer is None else wire.decode(answer.body, wire.KINDS[answer.kind])


def rows(primary: Primary) -> tuple[int, int]:
    """How many messages wait, and how many ``done`` are owed."""
    with read(primary.engine) as connection:
        waiting = connection.execute(select(func.count()).select_from(peer_messages)).scalar_one()
        owed = select(func.count()).select_from(peer_handled).where(peer_handled.c.owed == 1)
        return waiting, connection.execute(owed).scalar_one()


@pytest.fixture(params=KINDS)
def pair(request: pytest.FixtureRequest, tmp_path: Path, postgresql_url: str) -> Iterator[Pair]:
    with ExitStack() as stack:
        urls = []
        for name in ("a", "b"):
            folder = tmp_path / name
            folder.mkdir()
            urls.append(stack.enter_context(made_database(request.param, folder, postgresql_url)))
        yield Pair(urls, stack)


def test_r5_a_question_is_answered_within_one_round_when_the_asker_calls(pair: Pair) -> None:
    asked = pair.ask(pair.a, pair.b)
    assert answered(pair.a, asked) is None
    pair.round(pair.a, pair.b)
    assert answered(pair.a, asked) == SLPChecked(exists=True, active=True, data_class="")


def test_it_does_not_matter_who_calls(pair: Pair) -> None:
    asked = pair.ask(pair.a, pair.b)
    pair.round(pair.b, pair.a)  # the question comes with the answer
    pair.round(pair.b, pair.a)  # the answer goes with the question
    assert answered(pair.a, asked) is not None
    pair.round(pair.b, pair.a)
    assert (rows(pair.a), rows(pair.b)) == ((0, 0), (0, 0))


def test_r8_a_message_is_handled_once_although_its_answer_was_lost(pair: Pair) -> None:
    asked = pair.ask(pair.a, pair.b)
    for _ in range(3):
        pair.deliver(pair.a, pair.b, pair.say(pair.a, pair.b))  # nothing comes back
    assert rows(pair.a)[0] == 1
    pair.round(pair.a, pair.b)
    assert pair.handled == [asked]
    assert answered(pair.a, asked) is not None
    pair.round(pair.a, pair.b)
    assert (rows(pair.a), rows(pair.b)) == ((0, 0), (0, 0))


def test_a_record_that_comes_twice_counts_once(pair: Pair) -> None:
    pair.ask(pair.a, pair.b)
    record = pair.say(pair.a, pair.b)
    first, second = (pair.deliver(pair.a, pair.b, record) for _ in range(2))
    assert first.messages == second.messages
    assert first.done == second.done == (record.messages[0].id,)
    assert len(pair.handled) == 1


def test_what_cannot_be_done_now_stays_with_its_sender(pair: Pair) -> None:
    pair.busy = True
    asked = pair.ask(pair.a, pair.b)
    pair.round(pair.a, pair.b)
    assert rows(pair.a)[0] == 1
    pair.busy = False
    pair.round(pair.a, pair.b)
    assert answered(pair.a, asked) is not None


def test_a_kind_that_nobody_knows_is_answered_with_unknown_and_that_is_not_answered(pair: Pair) -> None:
    pair.b.more = {}
    pair.b.join()
    asked = pair.ask(pair.a, pair.b)
    pair.round(pair.a, pair.b)
    assert answered(pair.a, asked) == wire.Unknown(kind="slp.check")
    pair.round(pair.a, pair.b)
    assert (rows(pair.a)[0], rows(pair.b)[0]) == (0, 0)


def test_a_kind_that_the_state_does_not_allow_is_refused_with_a_reason(pair: Pair) -> None:
    suspended = Suspended(99)
    transact(pair.b.engine, lambda c: store.happen(c, pair.a.domain, suspended, pair.b.clock))
    asked = pair.ask(pair.a, pair.b)
    pair.round(pair.a, pair.b)
    answer = answered(pair.a, asked)
    assert isinstance(answer, wire.Refused)
    assert answer.code == "trust.not-active"
    assert not pair.handled


def test_a_damaged_body_spoils_no_other_message(pair: Pair) -> None:
    bad, good = pair.ask(pair.a, pair.b), pair.ask(pair.a, pair.b)
    record = pair.say(pair.a, pair.b)
    damaged = msgspec.structs.replace(record.messages[0], body=b"\xc1")
    sent = msgspec.structs.replace(record, messages=(damaged, record.messages[1]))
    pair.hear(pair.a, pair.b, record, pair.deliver(pair.a, pair.b, sent))
    assert isinstance(answered(pair.a, bad), wire.Refused)
    assert isinstance(answered(pair.a, good), SLPChecked)


def test_records_stay_within_their_bound_and_the_rest_follows(pair: Pair) -> None:
    big = wire.ImageReceipt(receipt=secrets.token_bytes(60_000))
    for _ in range(20):
        transact(pair.a.engine, lambda c: pair.a.exchange.enqueue(c, pair.b.domain, "image.receipt", big))
    record = pair.say(pair.a, pair.b)
    assert 10 <= len(record.messages) < 20
    assert len(wire.encode(record)) <= wire.MAX_RECORD_BYTES
    pair.round(pair.a, pair.b)
    pair.round(pair.a, pair.b)
    pair.round(pair.a, pair.b)
    assert rows(pair.a)[0] == 0


def fill(us: Primary, them: Primary) -> None:
    """Let as many messages wait as may."""
    one = {"peer": them.domain, "kind": "slp.check", "re": None, "body": b"", "created": us.clock.now()}
    many = [one | {"id": number.to_bytes(16, "big")} for number in range(MAX_WAITING)]
    transact(us.engine, lambda connection: connection.execute(peer_messages.insert(), many))


def test_the_outbox_is_bounded(pair: Pair) -> None:
    fill(pair.a, pair.b)
    with pytest.raises(OutboxFullError):
        pair.ask(pair.a, pair.b)


def test_a_full_outbox_does_not_stop_the_exchange_that_would_empty_it(pair: Pair) -> None:
    """B would refuse A's question, and has no room for the answer: the question waits, the exchange goes on."""
    fill(pair.b, pair.a)
    transact(pair.b.engine, lambda c: store.happen(c, pair.a.domain, Suspended(home.take_number(c)), pair.b.clock))
    asked = pair.ask(pair.a, pair.b)
    sent = pair.say(pair.a, pair.b)
    answer = pair.deliver(pair.a, pair.b, sent)
    assert (len(answer.messages), answer.done) == (wire.MAX_MESSAGES, ())
    pair.hear(pair.a, pair.b, sent, answer)
    sent = pair.say(pair.a, pair.b)
    assert asked in pair.deliver(pair.a, pair.b, sent).done


def test_a_state_of_a_later_version_lets_nothing_pass(pair: Pair) -> None:
    record = msgspec.structs.replace(pair.say(pair.a, pair.b), state="frozen", number=1_000)
    pair.deliver(pair.a, pair.b, record)
    with read(pair.b.engine) as connection:
        assert not store.get_peer(connection, pair.a.domain).trust.passes_images


def test_a_statement_of_another_domain_is_refused_and_changes_nothing(pair: Pair) -> None:
    ours, theirs = pair.say(pair.a, pair.b), pair.say(pair.b, pair.a)
    mixed = msgspec.structs.replace(ours, statement=theirs.statement, state="removed", number=1_000)
    with pytest.raises(StrongroomError) as caught:
        pair.deliver(pair.a, pair.b, mixed)
    assert caught.value.code == "format.foreign"
    with read(pair.b.engine) as connection:
        assert store.get_peer(connection, pair.a.domain).trust.passes_images
