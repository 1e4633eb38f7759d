"""Making trust: one domain's administrator adds another domain.

    caller (our administrator adds them)            called (they are added to by a stranger with a token)
    1  fetch their CA; compare the pin, in code
    2  connect again, verified; check their statement
    3  take a number; make a key; sign the binding    4  check; redeem the token; issue a certificate;
       that ties request, nonce and both ids              enter the host; note *asked*; keep the answer
    5  check the answer; keep everything

Steps 4 and 5 are one transaction each: whatever goes wrong before their ends leaves nothing but a row of evidence. A
lost answer is asked for again with the same nonce and key, and is the same.

Source: ``docs/reference/protocols/peer.md``, section *Making trust*.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import Connection, Engine, delete, insert, select

from strongroom import audit
from strongroom.audit import Actor, Outcome
from strongroom.core.clock import Clock, to_ns
from strongroom.core.entropy import Entropy
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import UUID_BYTES, DomainId, HostId
from strongroom.core.secret import Secret
from strongroom.database import read, transact
from strongroom.formats import peer_messages as wire
from strongroom.formats import signed
from strongroom.formats.domain_statement import DOMAIN_STATEMENT, DomainStatement, require_root
from strongroom.formats.errors import DamagedError
from strongroom.formats.peer_messages import DomainRecord, TrustAnswer, TrustRequest
from strongroom.formats.trust_binding import TRUST_BINDING, TrustBinding
from strongroom.pki import bootstrap, registry, revocation
from strongroom.pki.bootstrap import PinnedDomain, check_issued
from strongroom.pki.ca import to_der
from strongroom.pki.channel import Address, Channel, first_words
from strongroom.pki.enrol import Application, Registrar
from strongroom.pki.errors import UnreachableError
from strongroom.pki.fingerprint import Fingerprint
from strongroom.pki.keys import make_host_key, make_request
from strongroom.pki.roles import HostState, Role
from strongroom.trust import call, home, store
from strongroom.trust.call import DOMAIN_PATH, TRUST_PATH, RefusedThereError
from strongroom.trust.certificates import keep_with_key
from strongroom.trust.errors import NewerIncarnationError, NonceReusedError, TrustToItselfError, WrongDomainError
from strongroom.trust.home import OurDomain
from strongroom.trust.state import Added, Asked, Asking, Decision, Trust, apply
from strongroom.trust.store import CredentialKeys, Peer
from strongroom.trust.tables import trust_requests

TRIES: Final = 3
KEEP_ANSWERS: Final = timedelta(days=30)


@dataclass(frozen=True)
class Invitation:
    """What the other administrator handed over, person to person.

    Args:
        address: of the other primary's peer listener.
        pin: fingerprint of the other domain's root.
        token: trust token of the other domain.
        domain: its id, if it was handed over too.
    """

    address: Address
    pin: Fingerprint
    token: Secret
    domain: DomainId | None = None


@dataclass(frozen=True)
class _Agreed:
    """Everything that the caller keeps."""

    pinned: PinnedDomain
    statement: DomainStatement
    statement_data: bytes
    answer: TrustAnswer
    key: Secret


class TrustMaker:
    """Makes trust from one primary.

    Args:
        engine: its database.
        ours: its domain.
        registrar: issues certificates to hosts of other domains.
        keys: where the keys of our certificates at peers are kept.
        clock: for times.
        entropy: for nonces and ids.
    """

    def __init__(
        self,
        engine: Engine,
        ours: OurDomain,
        registrar: Registrar,
        keys: CredentialKeys,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._engine = engine
        self._ours = ours
        self._registrar = registrar
        self._keys = keys
        self._clock = clock
        self._entropy = entropy

    # ------------------------------------------------------------ the caller

    def add(self, invitation: Invitation, actor: Actor) -> Peer:
        """Add another domain; what our administrator does.

        Args:
            invitation: what the other administrator handed over.
            actor: our administrator.

        Returns:
            The peer: ``active`` when its administrator has added us already, else ``waiting``.

        Raises:
            WrongFingerprintError, WrongNameError, ClockSkewError: found here; nothing was sent.
            TokenUnknownError, TokenExpiredError, TokenUsedUpError and their fellows: found there.
            UnreachableError, NotStrongroomError: nobody there, or somebody else.
            StrongroomError: any other reason. Whatever the reason, neither side trusts more than before.
        """
        at = f"address:{invitation.address}"
        try:
            agreed = self._agree(invitation)
        except StrongroomError as error:
            facts = {"code": error.code, "reason": error.message}
            now = self._clock.now()
            transact(
                self._engine,
                lambda c: audit.record(c, now, actor, "trust.add", at, Outcome.REFUSED, facts),
            )
            raise
        identity = self._entropy.bytes(UUID_BYTES)
        return keep_with_key(
            self._engine,
            self._keys,
            identity,
            agreed.key,
            lambda: audit.exercise(
                self._engine,
                self._clock,
                actor,
                "trust.add",
                f"domain:{agreed.pinned.domain.hex()}",
                lambda connection: self._keep(connection, invitation, agreed, identity),
                facts={"address": str(invitation.address), "name": agreed.statement.name},
            ),
        )

    def _agree(self, invitation: Invitation) -> _Agreed:
        """Do everything that the other side must do; nothing is kept here but a number."""
        address = invitation.address
        pinned, channel = bootstrap.introduce(address, invitation.pin, self._clock, domain=invitation.domain)
        with channel:
            if pinned.domain == self._ours.domain:
                raise TrustToItselfError(f"'{address}' is this domain's own primary")
            try:
                record = call.fetch(channel, DOMAIN_PATH, DomainRecord, max_bytes=wire.MAX_INTRODUCTION_BYTES)
            except RefusedThereError as refused:
                raise call.as_error(refused.record) from refused
            statement = signed.verify(DOMAIN_STATEMENT, record.statement, pinned=pinned.domain).payload
            require_root(statement, to_der(pinned.root))
            key = make_host_key()
            request = self._request(pinned.domain, invitation.token, make_request(key))
            answer = self._post(channel, address, pinned, request)
        if answer.nonce != signed.verify(TRUST_BINDING, request.binding).payload.nonce:
            raise DamagedError("the answer is to another request")
        check_issued(answer.chain, [pinned.root], key, home=self._ours.domain, host=self._ours.host)
        # The statement that came with the answer: made later than the one before it, and by the same rules.
        statement = signed.verify(DOMAIN_STATEMENT, answer.statement, pinned=pinned.domain).payload
        require_root(statement, to_der(pinned.root))
        return _Agreed(pinned, statement, answer.statement, answer, key)

    def _request(self, to: DomainId, token: Secret, request: bytes) -> TrustRequest:
        def number_it(connection: Connection) -> tuple[int, bytes]:
            # Two: what we say until this is done must count as later than what is asked, should it come to nothing.
            later = home.take_number(connection, 2)
            if store.find_peer(connection, to) is not None:
                store.happen(connection, to, Asking(later), self._clock)
            return later - 1, home.publish(connection, self._ours, self._clock)

        number, statement = transact(self._engine, number_it)
        binding = TrustBinding(
            domain=self._ours.domain,
            to=to,
            nonce=self._entropy.bytes(UUID_BYTES),
            host=self._ours.host,
            number=number,
            request=hashlib.sha256(request).digest(),
            issued=to_ns(self._clock.now()),
            features=(),
        )
        return TrustRequest(
            version=wire.VERSION,
            token=token.reveal().decode("ascii", errors="replace"),
            statement=statement,
            request=request,
            binding=signed.sign(TRUST_BINDING, binding, self._ours.signer),
        )

    def _post(self, channel: Channel, address: Address, pinned: PinnedDomain, request: TrustRequest) -> TrustAnswer:
        """Ask, and ask again with the same nonce when the answer was lost."""
        lost: UnreachableError | None = None
        for attempt in range(TRIES):
            try:
                if attempt == 0:
                    return _ask(channel, request)
                with bootstrap.connect(address, pinned, self._clock) as again:
                    return _ask(again, request)
            except UnreachableError as error:
                lost = error
        assert lost is not None  # noqa: S101 - no other way leads out of the loop
        raise lost

    def _keep(self, connection: Connection, invitation: Invitation, agreed: _Agreed, identity: bytes) -> Peer:
        domain = agreed.pinned.domain
        added = Added(
            number=home.take_number(connection),
            their_state=Decision.read(agreed.answer.state),
            their_number=agreed.answer.number,
            their_incarnation=agreed.statement.incarnation,
        )
        # What a stranger calls itself is shown on our terminals.
        name = first_words(agreed.statement.name) or domain.hex()
        store.happen(connection, domain, added, self._clock, name=name)
        store.keep_peer(
            connection,
            domain,
            name=name,
            address=str(invitation.address),
            root=to_der(agreed.pinned.root),
        )
        home.keep_statement(connection, agreed.statement, agreed.statement_data, self._clock)
        store.keep_credential(connection, identity, domain, agreed.answer.chain, self._clock.now())
        return store.get_peer(connection, domain)

    # ------------------------------------------------------------ the called

    def accept(self, data: bytes, actor: Actor) -> bytes:
        """Handle ``POST /v1/trust``: another domain adds us, with a token of ours.

        Args:
            data: the request, from anybody.
            actor: anonymous, with the address.

        Returns:
            The answer. The same request gets the same one, and counts once.

        Raises:
            DamagedError, SignatureError, WrongDomainError, NonceReusedError: the request is wrong.
            TokenUnknownError and its fellows: the token does not admit it.
            OlderIncarnationError, NewerIncarnationError: the domain that asks was restored, or should not be alive.
        """
        request = wire.decode(data, TrustRequest)
        binding = signed.verify(TRUST_BINDING, request.binding).payload
        asking = DomainId(binding.domain)
        statement = signed.verify(DOMAIN_STATEMENT, request.statement, pinned=asking).payload
        self._check_binding(binding, request)
        with read(self._engine) as connection:
            again = self._answered(connection, binding)
        if again is not None:
            return again
        try:
            return audit.exercise(
                self._engine,
                self._clock,
                actor,
                "trust.accept",
                f"domain:{asking.hex()}",
                lambda connection: self._accept(connection, request, binding, statement),
                facts={"name": statement.name},
            )
        except NewerIncarnationError:
            # Nothing of the request is left; what it showed must be.
            asked = Asked(binding.number, statement.incarnation, 0)
            transact(self._engine, lambda connection: store.happen(connection, asking, asked, self._clock))
            raise

    def _check_binding(self, binding: TrustBinding, request: TrustRequest) -> None:
        if binding.to != self._ours.domain:
            raise WrongDomainError(f"the request is for the domain '{binding.to.hex()}', and this is another")
        if binding.domain == self._ours.domain:
            raise TrustToItselfError("the request comes from this very domain")
        if not hmac.compare_digest(binding.request, hashlib.sha256(request.request).digest()):
            raise DamagedError("the binding is of another certificate request than the one beside it")

    def _answered(self, connection: Connection, binding: TrustBinding) -> bytes | None:
        table = trust_requests.c
        row = connection.execute(select(trust_requests).where(table.nonce == binding.nonce)).one_or_none()
        if row is None:
            return None
        if (row.peer, row.request) != (binding.domain, binding.request):
            raise NonceReusedError("the nonce was used for another request")
        return bytes(row.answer)

    def _accept(
        self, connection: Connection, request: TrustRequest, binding: TrustBinding, statement: DomainStatement
    ) -> bytes:
        repeated = self._answered(connection, binding)
        if repeated is not None:
            return repeated
        asking = DomainId(binding.domain)
        now = self._clock.now()
        asked = Asked(binding.number, statement.incarnation, home.take_number(connection))
        known = store.find_peer(connection, asking)
        refusal = apply(known.trust if known else Trust(asking), asked).refusal
        if refusal is not None:
            raise refusal
        # Whoever asks anew has no use for what was issued before; another host of it would be a second primary.
        for host in registry.hosts(connection, role=Role.FOREIGN_PRIMARY, home=asking):
            if host.state is not HostState.RETIRED:
                revocation.retire(connection, asking, host.id, now=now)
        issued = self._registrar.enrol_in(
            connection,
            Application(
                token=Secret(request.token.encode()),
                request=request.request,
                role=Role.FOREIGN_PRIMARY,
                label=f"primary of {statement.name}",
                home=asking,
                host=HostId(binding.host),
            ),
        )
        step = store.happen(connection, asking, asked, self._clock, name=statement.name)
        home.keep_statement(connection, statement, request.statement, self._clock)
        answer = wire.encode(
            TrustAnswer(
                nonce=binding.nonce,
                chain=issued.chain,
                statement=home.publish(connection, self._ours, self._clock),
                state=step.trust.ours.value,
                number=step.trust.our_number,
            )
        )
        connection.execute(
            insert(trust_requests).values(
                nonce=binding.nonce, peer=asking, request=binding.request, answer=answer, at=now
            )
        )
        connection.execute(delete(trust_requests).where(trust_requests.c.at < now - KEEP_ANSWERS))
        return answer


def _ask(channel: Channel, request: TrustRequest) -> TrustAnswer:
    try:
        return call.post(channel, TRUST_PATH, request, TrustAnswer, max_bytes=wire.MAX_INTRODUCTION_BYTES)
    except RefusedThereError as refused:
        raise call.as_error(refused.record) from refused
