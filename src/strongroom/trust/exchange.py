"""The exchange: what is said between two primaries, whoever calls.

Each record carries the speaker's state, so one record each way brings both up to date. Beside that are messages: an
outbox keeps each until the peer says that it is done, an inbox makes sure that each is handled once.

    caller                                  called
    1  make_request  (home; state; outbox;  2  handle  (home; state; done: drop from the outbox; handle
       what we owe them in ``done``)           messages; answer: state, outbox, ``done`` of this request)
    3  take_answer   (home; state; done; handle messages, and owe their ``done`` until the next request)

Each number is one transaction. After a loss at any point the same messages travel again, and are handled no more.

Source: ``docs/reference/protocols/peer.md``, section *Exchange*.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import msgspec
from sqlalchemy import Connection, delete, func, insert, select, update

from strongroom.core.clock import Clock
from strongroom.core.entropy import Entropy
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import UUID_BYTES, DomainId
from strongroom.formats import peer_messages as wire
from strongroom.formats import signed
from strongroom.formats.domain_statement import DOMAIN_STATEMENT
from strongroom.formats.errors import DamagedError
from strongroom.formats.peer_messages import ErrorRecord, ExchangeRecord, Message
from strongroom.trust import home, store
from strongroom.trust.errors import NotActiveError, NotPossibleError, OlderStartError, OutboxFullError, RemovedError
from strongroom.trust.home import OurDomain
from strongroom.trust.state import NO_INSTANCE, Decision, Heard, Home, Reached, RefusedThere, Spoke, TrustState
from strongroom.trust.tables import peer_handled, peer_messages, peer_requests

MAX_WAITING: Final = 4_096
MAX_HANDLED: Final = 65_536
KEEP_HANDLED: Final = timedelta(days=30)
KEEP_REQUESTS: Final = timedelta(days=1)
MAX_ERROR_BYTES: Final = 1_024


@dataclass(frozen=True)
class Reply:
    """A message that answers another."""

    kind: str
    body: msgspec.Struct


@dataclass(frozen=True)
class Handler:
    """What is done with one kind of message.

    Args:
        states: of the trust, in which it is done; anything else is answered with ``refused``.
        function: works in the given transaction and nowhere else. A :class:`StrongroomError` that may be tried
            later leaves the message with its sender; any other is answered with ``refused``.
    """

    states: Collection[TrustState]
    function: Callable[[Connection, DomainId, Message], Sequence[Reply]]


@dataclass(frozen=True)
class Answer:
    """What a peer answered to a request of ours."""

    kind: str
    body: bytes


class Exchange:
    """What one primary says, and does with what it hears.

    Args:
        ours: this domain.
        clock: for times.
        entropy: for the ids of messages.
        handlers: by kind.
    """

    def __init__(self, ours: OurDomain, clock: Clock, entropy: Entropy, handlers: Mapping[str, Handler]) -> None:
        self._ours = ours
        self._clock = clock
        self._entropy = entropy
        self._handlers = dict(handlers)

    # ------------------------------------------------------------ sending

    def enqueue(
        self, connection: Connection, peer: DomainId, kind: str, body: msgspec.Struct, re: bytes | None = None
    ) -> bytes:
        """Put a message into the outbox, in the transaction of what it tells about.

        Returns:
            Its id.

        Raises:
            OutboxFullError: more than 4,096 messages wait for this peer.
            OutOfBoundsError: the body is longer, or otherwise not, what its page allows.
        """
        table = peer_messages.c
        waiting = connection.execute(select(func.count()).where(table.peer == peer)).scalar_one()
        if waiting >= MAX_WAITING:
            raise OutboxFullError(f"{waiting} messages wait for the domain '{peer.hex()}'")
        identity = self._entropy.bytes(UUID_BYTES)
        connection.execute(
            insert(peer_messages).values(
                id=identity, peer=peer, kind=kind, re=re, body=wire.encode(body), created=self._clock.now()
            )
        )
        return identity

    def request(self, connection: Connection, peer: DomainId, kind: str, body: msgspec.Struct) -> bytes:
        """Ask something; the answer comes with some later exchange, whoever calls.

        Returns:
            The id, for :func:`answer_to`.
        """
        identity = self.enqueue(connection, peer, kind, body)
        now = self._clock.now()
        connection.execute(insert(peer_requests).values(id=identity, peer=peer, kind=kind, created=now))
        connection.execute(delete(peer_requests).where(peer_requests.c.created < now - KEEP_REQUESTS))
        return identity

    def make_request(self, connection: Connection, peer: DomainId) -> ExchangeRecord:
        """Make the record with which we call a peer.

        Raises:
            TrustNotFoundError: there is no trust.
            NotPossibleError: we would not talk to its home before our administrator has confirmed it.
        """
        known = store.get_peer(connection, peer)
        if not known.trust.may_call:
            raise NotPossibleError(
                f"the home of '{known.name}' must be confirmed first ('{known.trust.broken}')",
                hint="ask the other administrator what happened, then confirm it: 'strongroom trust confirm PEER'",
            )
        table = peer_handled.c
        owed = connection.execute(
            select(table.id)
            .where(table.peer == peer, table.owed == 1)
            .order_by(table.at, table.id)
            .limit(wire.MAX_DONE)
        )
        return self._record(connection, peer, tuple(owed.scalars()))

    def _record(self, connection: Connection, peer: DomainId, done: tuple[bytes, ...]) -> ExchangeRecord:
        trust = store.get_peer(connection, peer).trust
        speaking = home.speaking(connection, self._ours.incarnation)
        return ExchangeRecord(
            version=wire.VERSION,
            capabilities=(),
            incarnation=speaking.incarnation,
            start=speaking.start,
            instance=speaking.instance,
            state=trust.ours.value,
            number=trust.our_number,
            statement=home.publish(connection, self._ours, self._clock),
            messages=self._outgoing(connection, peer),
            done=done,
            newer=None if trust.newer == NO_INSTANCE else trust.newer,
        )

    def _outgoing(self, connection: Connection, peer: DomainId) -> tuple[Message, ...]:
        """Take the oldest messages, as many as fit: the first always does."""
        room = wire.MAX_RECORD_BYTES - wire.SPEAKER_RESERVE_BYTES
        chosen: list[Message] = []
        query = select(peer_messages).where(peer_messages.c.peer == peer)
        for row in connection.execute(query.order_by(peer_messages.c.position).limit(wire.MAX_MESSAGES)):
            message = Message(id=row.id, kind=row.kind, re=row.re, body=bytes(row.body))
            room -= wire.message_size(message)
            if room < 0:
                break
            chosen.append(message)
        return tuple(chosen)

    # ------------------------------------------------------------ receiving

    def handle(
        self, connection: Connection, peer: DomainId, record: ExchangeRecord
    ) -> ExchangeRecord | StrongroomError:
        """Handle the record with which a peer called.

        Args:
            connection: of a writing transaction, which must be committed whatever comes back.
            peer: who called, from the registry row of its certificate.
            record: what it said.

        Returns:
            Our record; or why we do not exchange, to be told with :meth:`error_record`.

        Raises:
            TrustNotFoundError: there is no trust.
            IntegrityError: the statement does not hold, or is another domain's; undo the transaction.
        """
        known = store.get_peer(connection, peer)
        if known.trust.ours is Decision.REMOVED:
            return RemovedError("the trust was removed here")
        refusal = self._hear(connection, peer, record, record.newer or NO_INSTANCE)
        if refusal is not None:
            return refusal
        for message in record.messages:
            self._receive(connection, peer, message, owed=False)
        handled = self._handled(connection, peer, [message.id for message in record.messages])
        self._prune(connection, peer)
        return self._record(connection, peer, tuple(i.id for i in record.messages if i.id in handled))

    def take_answer(
        self, connection: Connection, peer: DomainId, sent: ExchangeRecord, answer: ExchangeRecord, *, knew: bytes
    ) -> StrongroomError | None:
        """Handle what came back to :meth:`make_request`.

        Args:
            connection: of a writing transaction.
            peer: who answered, verified.
            sent: our request.
            answer: what it said.
            knew: instance of the peer's home as it was known before the request was sent. An older home that still
                answers is alive; one whose answer a newer home overtook may not be.

        Returns:
            Why we do not believe the other's home; the transaction must be committed all the same.
        """
        refusal = self._hear(connection, peer, answer, knew)
        if refusal is not None:
            return refusal
        table = peer_handled.c
        connection.execute(update(peer_handled).where(table.peer == peer, table.id.in_(sent.done)).values(owed=0))
        for message in answer.messages:
            self._receive(connection, peer, message, owed=True)
        self._prune(connection, peer)
        return None

    def take_refusal(self, connection: Connection, peer: DomainId, refused: ErrorRecord) -> None:
        """Note that the peer's primary, verified, refused our request."""
        heard = None
        if refused.state is not None and refused.number is not None:
            heard = Heard(Decision.read(refused.state), refused.number)
        event = RefusedThere(refused.code, heard, refused.newer, later=refused.retry == "later")
        store.happen(connection, peer, event, self._clock)

    def error_record(self, connection: Connection, error: StrongroomError, peer: DomainId | None = None) -> ErrorRecord:
        """Write a refusal for a caller; one that is known learns what we have decided about it.

        One that is refused as older learns which home is newer: when it names that one, it is alive.
        """
        known = None if peer is None else store.find_peer(connection, peer)
        return ErrorRecord(
            code=error.code,
            message=_bounded(error.message),
            hint=_bounded(error.hint),
            retry=error.retry,
            state=known.trust.ours.value if known else None,
            number=known.trust.our_number if known else None,
            newer=known.trust.instance if known and isinstance(error, OlderStartError) else None,
        )

    def _hear(
        self, connection: Connection, peer: DomainId, record: ExchangeRecord, after: bytes
    ) -> StrongroomError | None:
        statement = signed.verify(DOMAIN_STATEMENT, record.statement, pinned=peer).payload
        speaking = Home(record.incarnation, record.start, record.instance)
        step = store.happen(connection, peer, Spoke(speaking, after), self._clock)
        if step.refusal is not None:
            return step.refusal
        if statement.incarnation != record.incarnation:
            raise DamagedError("the statement is of another incarnation than the record that brings it")
        home.keep_statement(connection, statement, record.statement, self._clock)
        store.happen(connection, peer, Heard(Decision.read(record.state), record.number), self._clock)
        store.happen(connection, peer, Reached(self._clock.now()), self._clock)
        table = peer_messages.c
        connection.execute(delete(peer_messages).where(table.peer == peer, table.id.in_(record.done)))
        return None

    def _receive(self, connection: Connection, peer: DomainId, message: Message, *, owed: bool) -> None:
        table = peer_handled.c
        mine = (table.peer == peer) & (table.id == message.id)
        if connection.execute(select(table.id).where(mine)).first() is not None:
            if owed:
                connection.execute(update(peer_handled).where(mine).values(owed=1))
            return
        try:
            with connection.begin_nested():
                for reply in self._dispatch(connection, peer, message):
                    self.enqueue(connection, peer, reply.kind, reply.body, message.id)
                self._note_answer(connection, peer, message)
        except StrongroomError as error:
            if error.retry == "later":
                return  # stays in the other's outbox, and comes again
            if message.re is None:
                try:
                    self.enqueue(connection, peer, "refused", _refused(message.kind, error), message.id)
                except OutboxFullError:
                    return  # as above; and what the other says is done must make room, not be undone with this
        connection.execute(insert(peer_handled).values(peer=peer, id=message.id, owed=int(owed), at=self._clock.now()))

    def _dispatch(self, connection: Connection, peer: DomainId, message: Message) -> Sequence[Reply]:
        handler = self._handlers.get(message.kind)
        if handler is None:
            # An answer is never answered: two who do not know each other's words would go on for ever.
            return () if message.re else (Reply("unknown", wire.Unknown(kind=message.kind)),)
        state = store.get_peer(connection, peer).trust.state
        if state not in handler.states:
            raise NotActiveError(f"'{message.kind}' is not done while the trust is '{state}'")
        return handler.function(connection, peer, message)

    def _note_answer(self, connection: Connection, peer: DomainId, message: Message) -> None:
        if message.re is None:
            return
        table = peer_requests.c
        connection.execute(
            update(peer_requests)
            .where(table.id == message.re, table.peer == peer, table.answered.is_(None))
            .values(answered=self._clock.now(), answer_kind=message.kind, answer_body=message.body)
        )

    def _handled(self, connection: Connection, peer: DomainId, ids: Sequence[bytes]) -> set[bytes]:
        table = peer_handled.c
        rows = connection.execute(select(table.id).where(table.peer == peer, table.id.in_(ids)))
        return set(rows.scalars())

    def _prune(self, connection: Connection, peer: DomainId) -> None:
        """Forget what the peer has long known to be done; in any case keep the table bounded."""
        table = peer_handled.c
        old = (table.peer == peer) & (table.owed == 0)
        connection.execute(delete(peer_handled).where(old, table.at < self._clock.now() - KEEP_HANDLED))
        oldest_kept = connection.execute(
            select(table.at).where(table.peer == peer).order_by(table.at.desc()).offset(MAX_HANDLED).limit(1)
        ).scalar_one_or_none()
        if oldest_kept is not None:
            connection.execute(delete(peer_handled).where(table.peer == peer, table.at <= oldest_kept))


def answer_to(connection: Connection, identity: bytes) -> Answer | None:
    """Give the first answer to a request of ours, if it has come; it is kept for a day."""
    row = connection.execute(select(peer_requests).where(peer_requests.c.id == identity)).one_or_none()
    if row is None or row.answered is None:
        return None
    return Answer(row.answer_kind, bytes(row.answer_body))


def _refused(kind: str, error: StrongroomError) -> wire.Refused:
    return wire.Refused(kind=kind, code=error.code, message=_bounded(error.message), hint=_bounded(error.hint))


def _bounded(text: str) -> str:
    """Make any text fit a field of a record, whatever a stranger's name or path brought into it."""
    clean = "".join(letter for letter in text if letter.isprintable())
    return clean.encode("utf-8", errors="ignore")[:MAX_ERROR_BYTES].decode("utf-8", errors="ignore")
