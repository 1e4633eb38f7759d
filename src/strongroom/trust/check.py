"""``trust check``: each leg of the way to a peer, tried one after the other, with the cure of what is wrong.

Legs that depend on a broken one are left untried. What other packages know (media servers, credentials, the import
SLP) comes in as further legs.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

from sqlalchemy import Engine

from strongroom.core.clock import Clock, from_ns, to_ns
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import DomainId
from strongroom.database import read, transact
from strongroom.formats import peer_messages as wire
from strongroom.formats.errors import DamagedError
from strongroom.formats.peer_messages import DomainRecord, TrustCheck, TrustChecked
from strongroom.pki import bootstrap
from strongroom.pki.bootstrap import PinnedDomain
from strongroom.pki.ca import load_certificate
from strongroom.pki.channel import Address
from strongroom.pki.crl import MAX_CRL_BYTES, MAX_SKEW, CRLStore
from strongroom.pki.errors import (
    ClockSkewError,
    ExpiredError,
    NotThePrimaryError,
    NotYetValidError,
    UnreachableError,
    WrongNameError,
)
from strongroom.pki.fingerprint import fingerprint_of
from strongroom.pki.messages import CRL_PATH
from strongroom.pki.tls import check_server
from strongroom.trust import call, store
from strongroom.trust.call import DOMAIN_PATH, RefusedThereError
from strongroom.trust.certificates import RENEW_BEFORE
from strongroom.trust.exchange import Exchange, answer_to
from strongroom.trust.state import Broken, TrustState
from strongroom.trust.store import CredentialKeys, Peer

RENEWED_BY_NOW: Final = RENEW_BEFORE - timedelta(days=5)
CRL_TYPE: Final = "application/pkix-crl"


class Verdict(StrEnum):
    """What came of one leg."""

    GOOD = "good"
    BAD = "bad"
    UNTRIED = "untried"


@dataclass(frozen=True)
class Leg:
    """One leg.

    Args:
        name: of the leg, stable.
        verdict: what came of it.
        finding: the facts, one sentence.
        cure: what to do, one sentence; empty when it is good.
    """

    name: str
    verdict: Verdict
    finding: str
    cure: str = ""


NAMES: Final = (
    "name",
    "port",
    "fingerprint",
    "chain",
    "certificate-name",
    "clock",
    "crl",
    "our-certificate",
    "peer-record",
    "state",
)
"""The legs, in the order in which they are tried."""

MoreLegs = Callable[[Peer], Sequence[Leg]]


class _Broken(Exception):
    """Ends the tries; what depends on this leg cannot be tried."""

    def __init__(self, leg: Leg) -> None:
        super().__init__(leg.name)
        self.leg = leg


class TrustChecker:
    """Tries the way to peers.

    Args:
        engine: the primary's database.
        exchange: what this primary says.
        keys: of our certificates at peers.
        clock: compared with the peer's.
        more: further legs, tried when the way is good.
    """

    def __init__(
        self,
        engine: Engine,
        exchange: Exchange,
        keys: CredentialKeys,
        clock: Clock,
        more: Sequence[MoreLegs] = (),
    ) -> None:
        self._engine = engine
        self._exchange = exchange
        self._keys = keys
        self._clock = clock
        self._more = more

    def check(self, domain: DomainId) -> list[Leg]:
        """Try every leg.

        Returns:
            The legs in order; after a bad one those that need it are ``untried``.

        Raises:
            TrustNotFoundError: there is no trust.
        """
        with read(self._engine) as connection:
            peer = store.get_peer(connection, domain)
        legs: list[Leg] = []
        try:
            if not peer.roots:
                raise _Broken(_state_leg(peer))
            legs.extend(self._tries(peer))
            for further in self._more:
                legs.extend(further(peer))
        except _Broken as broken:
            legs.append(broken.leg)
        tried = {leg.name for leg in legs}
        reason = "an earlier leg is broken"
        return legs + [Leg(name, Verdict.UNTRIED, reason) for name in NAMES if name not in tried]

    def _tries(self, peer: Peer) -> Iterator[Leg]:
        address = Address.read(peer.address)
        yield _resolve(address)
        yield _reach(address)
        pinned, leg = self._fingerprint(address, peer)
        yield leg
        yield from self._verified(address, peer, pinned)
        yield self._our_certificate(peer)
        yield self._peer_record(peer)
        with read(self._engine) as connection:
            yield _state_leg(store.get_peer(connection, peer.domain))

    def _fingerprint(self, address: Address, peer: Peer) -> tuple[PinnedDomain, Leg]:
        try:
            claimed = bootstrap.fetch_ca(address, self._clock)
        except StrongroomError as error:
            raise _Broken(_bad("port", error)) from error
        root = load_certificate(peer.roots[0])
        pin = fingerprint_of(root)
        try:
            pinned = bootstrap.confirm(claimed, pin, domain=peer.domain)
        except ClockSkewError as error:
            raise _Broken(_bad("clock", error)) from error
        except StrongroomError as error:
            raise _Broken(_bad("fingerprint", error)) from error
        return pinned, Leg("fingerprint", Verdict.GOOD, f"the root is the pinned one, '{pin}'")

    def _verified(self, address: Address, peer: Peer, pinned: PinnedDomain) -> Iterator[Leg]:
        try:
            channel = bootstrap.connect(address, pinned, self._clock)
        except (WrongNameError, NotThePrimaryError) as error:
            raise _Broken(_bad("certificate-name", error)) from error
        except (ClockSkewError, ExpiredError, NotYetValidError) as error:
            raise _Broken(_bad("clock", error)) from error
        except StrongroomError as error:
            raise _Broken(_bad("chain", error)) from error
        with channel:
            yield Leg("chain", Verdict.GOOD, "the certificate of the primary leads to the pinned root")
            finding = f"the certificate has the name '{address.host}' and is the primary's"
            yield Leg("certificate-name", Verdict.GOOD, finding)
            try:
                record = call.fetch(channel, DOMAIN_PATH, DomainRecord, max_bytes=wire.MAX_INTRODUCTION_BYTES)
            except (StrongroomError, RefusedThereError) as error:
                raise _Broken(_bad("clock", _as_error(error))) from error
            yield _clock_leg(from_ns(record.time) - self._clock.now())
            certificate = channel.server_certificate
            try:
                lists = CRLStore(self._clock)
                for issuer in pinned.issuers:
                    lists.trust(issuer, pinned.root)
                    path = f"{CRL_PATH}/{fingerprint_of(issuer).value.hex()}"
                    status, data = channel.ask("GET", path, content_type=CRL_TYPE, max_bytes=MAX_CRL_BYTES)
                    if status == 200:
                        lists.accept(data)
                check_server(certificate, primary_of=peer.domain, crls=lists)
            except StrongroomError as error:
                raise _Broken(_bad("crl", error)) from error
            yield Leg("crl", Verdict.GOOD, f"{len(lists.lists())} current lists, and the primary is in none")

    def _our_certificate(self, peer: Peer) -> Leg:
        with read(self._engine) as connection:
            held = store.credential_view(connection, peer.domain)
        if held is None:
            raise _Broken(
                Leg(
                    "our-certificate",
                    Verdict.BAD,
                    f"'{peer.name}' has issued no certificate to this domain",
                    "make the trust again with 'strongroom trust add' and a new token of the other domain",
                )
            )
        left = held.not_after - self._clock.now()
        finding = f"the certificate that '{peer.name}' issued ends on {held.not_after:%Y-%m-%d}"
        if left <= timedelta():
            cure = "make the trust again with 'strongroom trust add': an expired certificate cannot renew itself"
            raise _Broken(Leg("our-certificate", Verdict.BAD, finding, cure))
        if left < RENEWED_BY_NOW:
            cure = "look in the log why it was not renewed; it should have been already"
            return Leg("our-certificate", Verdict.BAD, finding, cure)
        return Leg("our-certificate", Verdict.GOOD, finding)

    def _peer_record(self, peer: Peer) -> Leg:
        """Ask how it looks from there; one exchange brings the question and its answer."""
        try:
            asked = transact(
                self._engine,
                lambda connection: self._exchange.request(
                    connection, peer.domain, "trust.check", TrustCheck(time=to_ns(self._clock.now()))
                ),
            )
            call.exchange(self._engine, self._exchange, peer.domain, self._keys, self._clock)
        except StrongroomError as error:
            raise _Broken(_bad("peer-record", error)) from error
        with read(self._engine) as connection:
            answer = answer_to(connection, asked)
        if answer is None or answer.kind != "trust.checked":
            cure = "try again; if it stays so, compare the releases of both primaries"
            return Leg("peer-record", Verdict.BAD, "the other primary gave no answer", cure)
        try:
            told = wire.decode(answer.body, TrustChecked)
        except DamagedError as error:
            return _bad("peer-record", error)
        if told.state == TrustState.ACTIVE.value:
            return Leg("peer-record", Verdict.GOOD, "the other domain holds the trust for active")
        cure = _CURES.get(told.state, "look at it in the other domain with 'strongroom trust show'")
        return Leg("peer-record", Verdict.BAD, f"the other domain holds the trust for '{told.state}'", cure)


_CURES: Final = {
    "asked": "let the other administrator add this domain with 'strongroom trust add'",
    "waiting": "the other domain has not heard that we added it: try again, then make the trust again here",
    "suspended": "let the other administrator resume the trust",
    "removed": "agree with the other administrator, then make the trust again in both domains",
}

_OUR_CURES: Final = {
    TrustState.NONE: "add the other domain with 'strongroom trust add'",
    TrustState.ASKED: "add the other domain with 'strongroom trust add', if this is wanted",
    TrustState.WAITING: "let the other administrator add this domain",
    TrustState.SUSPENDED: "resume the trust",
    TrustState.SUSPENDED_BY_PEER: "let the other administrator resume the trust",
    TrustState.REMOVED: "make the trust again in both domains, if this is wanted",
    TrustState.REMOVED_BY_PEER: "agree with the other administrator, then make the trust again in both domains",
}

_CONFIRM: Final = "'strongroom trust confirm PEER'"
_BROKEN_CURES: Final = {
    Broken.RESTORED: f"ask the other administrator whether the primary was restored, then confirm it: {_CONFIRM}",
    Broken.TWO_HOMES: f"let the other administrator stop the wrong primary, then confirm the other: {_CONFIRM}",
    Broken.WAITS_FOR_PEER: "let the other administrator confirm that this primary was restored",
    Broken.WE_ARE_OLDER: "shut this primary down: a newer one of this domain has spoken",
    Broken.WE_ARE_TWO: "find the second primary of this domain and stop it; the other administrator then confirms",
    Broken.REFUSED: "read the finding of 'peer-record'; if our certificate was revoked, make the trust again",
}


def _state_leg(peer: Peer) -> Leg:
    trust = peer.trust
    if trust.broken is not None:
        finding = f"the trust is '{trust.state}' and broken ('{trust.broken}')"
        return Leg("state", Verdict.BAD, finding, _BROKEN_CURES[trust.broken])
    finding = f"the trust is '{trust.state}'"
    if trust.state is TrustState.ACTIVE:
        return Leg("state", Verdict.GOOD, finding)
    return Leg("state", Verdict.BAD, finding, _OUR_CURES[trust.state])


def _resolve(address: Address) -> Leg:
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError as error:
        finding = f"the name '{address.host}' cannot be resolved: {error.strerror}"
        cure = "enter the name in the DNS or in /etc/hosts of this primary"
        raise _Broken(Leg("name", Verdict.BAD, finding, cure)) from error
    addresses = sorted({str(item[4][0]) for item in found})
    return Leg("name", Verdict.GOOD, f"'{address.host}' is {', '.join(addresses)}")


def _reach(address: Address) -> Leg:
    try:
        socket.create_connection((address.host, address.port), timeout=10).close()
    except OSError as error:
        refused = UnreachableError(f"'{address}' cannot be reached: {error.strerror or error}")
        raise _Broken(_bad("port", refused)) from error
    return Leg("port", Verdict.GOOD, f"something listens at '{address}'")


def _clock_leg(skew: timedelta) -> Leg:
    seconds = skew.total_seconds()
    finding = f"the clocks differ by {abs(seconds):.0f} seconds"
    if abs(skew) > MAX_SKEW:
        return Leg("clock", Verdict.BAD, finding, "set both clocks by NTP")
    return Leg("clock", Verdict.GOOD, finding)


def _bad(name: str, error: StrongroomError) -> Leg:
    cure = error.hint or "see the log of both primaries"
    return Leg(name, Verdict.BAD, error.message, cure)


def _as_error(error: StrongroomError | RefusedThereError) -> StrongroomError:
    return call.as_error(error.record) if isinstance(error, RefusedThereError) else error
