"""What this primary says to other primaries, besides trust itself: storage, import policies, receipts."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from sqlalchemy import Connection, select

from strongroom.catalog.errors import SendingNotFoundError
from strongroom.catalog.model import Medium
from strongroom.core.errors import StrongroomError, UnavailableError
from strongroom.core.ids import DomainId
from strongroom.database import read, transact
from strongroom.formats import peer_messages as wire
from strongroom.formats import signed
from strongroom.formats.peer_messages import (
    Empty,
    ImageReceipt,
    Message,
    SLPCheck,
    SLPChecked,
    StorageListed,
    StorageServer,
)
from strongroom.formats.receipt import RECEIPT
from strongroom.lifecycle import replications
from strongroom.lifecycle.errors import PolicyNotFoundError
from strongroom.lifecycle.policies import get_policy
from strongroom.replication import credentials
from strongroom.services.primary import pools
from strongroom.services.primary.opening import Primary
from strongroom.services.primary.tables import media_beats
from strongroom.settings.domain import split_address
from strongroom.trust import call, certificates, store
from strongroom.trust.builtin import trust_handlers
from strongroom.trust.exchange import Answer, Exchange, Handler, Reply, answer_to
from strongroom.trust.state import TrustState

logger = logging.getLogger(__name__)

ACTIVE: Final = frozenset({TrustState.ACTIVE})
CONFIRMING: Final = frozenset({TrustState.ACTIVE, TrustState.SUSPENDED})
ANSWER_SECONDS: Final = 20.0
ANSWER_POLL_SECONDS: Final = 0.1


class NoAnswerError(UnavailableError):
    """A trusted primary did not answer in time."""

    code = "peer.no-answer"
    default_hint = "check the trust: 'strongroom trust check'"


def _addresses(connection: Connection, primary: Primary, medium: Medium) -> tuple[str, ...]:
    """Tell where the media servers of a pool listen: a sender tries one after the other."""
    told = {row.host: row.address for row in connection.execute(select(media_beats.c.host, media_beats.c.address))}
    _, port = split_address(primary.settings.media.listen)
    beside = f"{primary.settings.host}:{port}"
    return tuple(told.get(host) or beside for host in pools.hosts_of(connection, medium)) or (beside,)


def peer_handlers(primary: Primary) -> Mapping[str, Handler]:
    """Give the handlers of all kinds of messages that this primary understands."""

    def list_storage(connection: Connection, peer: DomainId, message: Message) -> Sequence[Reply]:
        """Only pools for which the asker was given a credential: what it cannot use it need not know."""
        wire.decode(message.body, Empty)
        allowed = {one.medium for one in credentials.list_all(connection) if one.sender == peer and one.revoked is None}
        servers = tuple(
            StorageServer(name=medium.label, medium=medium.medium, media=_addresses(connection, primary, medium))
            for medium in pools.own_pools(connection, primary.domain)
            if medium.medium in allowed
        )
        return (Reply("storage.listed", StorageListed(servers=servers)),)

    def check_slp(connection: Connection, _peer: DomainId, message: Message) -> Sequence[Reply]:
        name = wire.decode(message.body, SLPCheck).name
        try:
            stored = get_policy(connection, name)
        except PolicyNotFoundError:
            return (Reply("slp.checked", SLPChecked(exists=False, active=False, data_class="")),)
        imports = stored.policy.takes_imports
        checked = SLPChecked(exists=imports, active=imports and stored.active, data_class=stored.policy.data_class)
        return (Reply("slp.checked", checked),)

    def take_receipt(connection: Connection, peer: DomainId, message: Message) -> Sequence[Reply]:
        data = wire.decode(message.body, ImageReceipt).receipt
        receipt = signed.verify(RECEIPT, data, pinned=peer)
        try:
            replications.confirm(connection, receipt, now=primary.clock.now())
        except SendingNotFoundError:
            logger.warning("a receipt answers no sending", extra={"event": "receipt-unknown", "peer": peer.hex()})
            raise
        return ()

    return {
        **trust_handlers(primary.clock),
        "storage.list": Handler(ACTIVE, list_storage),
        "slp.check": Handler(ACTIVE, check_slp),
        "image.receipt": Handler(CONFIRMING, take_receipt),
    }


class Talk:
    """Keeps this primary in touch with its peers, and asks them questions.

    Args:
        primary: who speaks.
        exchange: what is said.
    """

    def __init__(self, primary: Primary, exchange: Exchange) -> None:
        self._primary = primary
        self._exchange = exchange
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="talk", daemon=True)

    def start(self) -> None:
        """Begin to exchange with every peer now and then."""
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._stop.set()
        self._wake.set()
        self._thread.join(timeout=5)

    def soon(self) -> None:
        """Exchange now: there is something to say."""
        self._wake.set()

    def send_receipt(self, connection: Connection, peer: DomainId, receipt: bytes) -> None:
        """Put a receipt into the outbox; it goes with the next exchange."""
        self._exchange.enqueue(connection, peer, "image.receipt", ImageReceipt(receipt=receipt))

    def ask(self, peer: DomainId, kind: str, body: msgspec.Struct, *, wait: float = ANSWER_SECONDS) -> Answer:
        """Ask a question and wait for the answer; it does not matter which side calls.

        Raises:
            NoAnswerError: none came in time.
            StrongroomError: the peer could not be reached, and does not call either.
        """
        with read(self._primary.engine) as connection:
            store.require_active(connection, peer)
        identity = transact(self._primary.engine, lambda c: self._exchange.request(c, peer, kind, body))
        failure: StrongroomError | None = None
        try:
            self.exchange_with(peer)
        except StrongroomError as error:
            failure = error
        deadline = self._primary.clock.monotonic() + wait
        while self._primary.clock.monotonic() < deadline:
            with read(self._primary.engine) as connection:
                answer = answer_to(connection, identity)
            if answer is not None:
                return answer
            if failure is not None and failure.retry == "never":
                break
            # The answer comes with an exchange that either side began, in another thread: the row tells.
            if self._stop.wait(ANSWER_POLL_SECONDS):
                break
        raise failure or NoAnswerError(f"the domain '{peer.hex()}' did not answer within {wait:.0f} seconds")

    def exchange_with(self, peer: DomainId) -> None:
        """Exchange one record each way with a peer, now.

        Raises:
            StrongroomError: it could not be reached, or refused; kept with the trust.
        """
        call.exchange(self._primary.engine, self._exchange, peer, self._primary.keys, self._primary.clock)

    def _renew(self, peer: DomainId) -> None:
        """Renew our certificate at a peer in time; whatever fails is tried again in the next round."""
        primary = self._primary
        try:
            certificates.renew_if_due(primary.engine, primary.ours, peer, primary.keys, primary.clock, primary.entropy)
        except StrongroomError as error:
            facts = {"event": "renewal-failed", "peer": peer.hex(), "code": error.code}
            logger.warning("our certificate at a peer is not renewed", extra=facts)

    def _run(self) -> None:
        interval = self._primary.settings.times.exchange.total_seconds()
        while not self._stop.is_set():
            try:
                self._round()
            except Exception:  # noqa: BLE001, RUF100 - a defect met with one peer must not end all talk
                logger.exception("an exchange has a defect", extra={"event": "talk-defect"})
            self._wake.wait(interval)
            self._wake.clear()

    def _round(self) -> None:
        try:
            with read(self._primary.engine) as connection:
                known = [peer.trust for peer in store.peers(connection)]
        except StrongroomError as error:
            logger.warning("peers cannot be read", extra={"event": "talk-failed", "code": error.code})
            return
        for trust in known:
            if not trust.may_call or self._stop.is_set():
                continue
            self._renew(trust.peer)
            try:
                self.exchange_with(trust.peer)
            except StrongroomError as error:
                logger.info(
                    "no exchange with a peer",
                    extra={"event": "exchange-failed", "peer": trust.peer.hex(), "code": error.code},
                )
