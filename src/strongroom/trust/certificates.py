"""Certificates that peers issue to us: checked, kept with their keys, and renewed before they end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final, TypeVar

import msgspec
from sqlalchemy import Connection, Engine

from strongroom import audit
from strongroom.audit import Actor, ActorKind
from strongroom.core.clock import Clock
from strongroom.core.entropy import Entropy
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import UUID_BYTES, DomainId
from strongroom.core.secret import Secret
from strongroom.database import read
from strongroom.pki import messages
from strongroom.pki.bootstrap import check_issued
from strongroom.pki.ca import load_certificate
from strongroom.pki.errors import NotStrongroomError
from strongroom.pki.keys import make_host_key, make_request
from strongroom.trust import call, store
from strongroom.trust.errors import NotPossibleError
from strongroom.trust.home import OurDomain
from strongroom.trust.state import Decision
from strongroom.trust.store import CredentialKeys, Peer

RENEW_BEFORE: Final = timedelta(days=30)
"""A third of the time for which a foreign primary's certificate is issued: two thirds may pass, one is to try again."""

T = TypeVar("T")


def keep_with_key(engine: Engine, keys: CredentialKeys, identity: bytes, key: Secret, deed: Callable[[], T]) -> T:
    """Keep the key of a certificate, then do what keeps the certificate; neither stays without the other.

    Args:
        engine: the primary's database.
        keys: where the key is kept.
        identity: of the row that ``deed`` makes.
        key: of the certificate.
        deed: one transaction with :func:`strongroom.trust.store.keep_credential`.
    """
    keys.keep(store.key_name(identity), key)
    try:
        done = deed()
    except StrongroomError:
        # Look first: a connection that was lost at the commit does not tell whether it took place.
        with read(engine) as connection:
            if not store.has_credential(connection, identity):
                keys.drop(store.key_name(identity))
        raise
    store.sweep_keys(engine, keys)
    return done


def renew_if_due(
    engine: Engine, ours: OurDomain, domain: DomainId, keys: CredentialKeys, clock: Clock, entropy: Entropy
) -> bool:
    """Let a peer issue the next certificate to us, with a new key, when the present one ends within thirty days.

    Returns:
        Whether there is a new one.

    Raises:
        TrustNotFoundError: there is no trust.
        StrongroomError: the peer cannot be reached or refuses; the present certificate stays in use.
    """
    with read(engine) as connection:
        peer = store.get_peer(connection, domain)
        held = store.credential_view(connection, domain)
    if held is None or peer.trust.ours is Decision.REMOVED or not peer.trust.may_call:
        return False
    # One that has ended opens no connection on which it could be renewed.
    if not timedelta() < held.not_after - clock.now() < RENEW_BEFORE:
        return False
    key = make_host_key()
    with call.connect(peer, held, keys) as channel:
        chain = _asked(channel.post(messages.RENEW_PATH, messages.RenewRequest(request=make_request(key))), peer)
    roots = [load_certificate(root) for root in peer.roots]
    check_issued(chain, roots, key, home=ours.domain, host=ours.host)
    identity = entropy.bytes(UUID_BYTES)

    def keep(connection: Connection) -> None:
        if store.get_peer(connection, domain).trust.ours is Decision.REMOVED:
            raise NotPossibleError("the trust was removed while its certificate was being renewed")
        store.keep_credential(connection, identity, domain, chain, clock.now())

    actor, object_ = Actor(ActorKind.SYSTEM, "trust"), f"domain:{domain.hex()}"
    keep_with_key(
        engine, keys, identity, key, lambda: audit.exercise(engine, clock, actor, "trust.renew", object_, keep)
    )
    return True


def _asked(answer: bytes, peer: Peer) -> Sequence[bytes]:
    try:
        return messages.decode(answer, messages.IssuedDocument).chain
    except msgspec.DecodeError as error:
        raise NotStrongroomError(f"the primary of '{peer.name}' answered with no certificate") from error
