"""Calling a peer's primary: the records of this protocol over a verified connection."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final, TypeVar

import msgspec
from sqlalchemy import Engine

from strongroom.core.clock import Clock
from strongroom.core.errors import RefusedError, StrongroomError
from strongroom.core.ids import DomainId
from strongroom.database import read, transact
from strongroom.formats import peer_messages as wire
from strongroom.formats.errors import DamagedError, NewerFormatError
from strongroom.formats.peer_messages import ErrorRecord, ExchangeRecord
from strongroom.pki import errors as pki_errors
from strongroom.pki.ca import load_certificate
from strongroom.pki.channel import Address, Channel, first_words, open_channel
from strongroom.pki.errors import NotStrongroomError
from strongroom.pki.tls import client_context
from strongroom.trust import errors as trust_errors
from strongroom.trust import store
from strongroom.trust.errors import NotPossibleError
from strongroom.trust.exchange import Exchange
from strongroom.trust.state import Lost
from strongroom.trust.store import CredentialKeys, CredentialView, Peer

DOMAIN_PATH: Final = "/v1/domain"
TRUST_PATH: Final = "/v1/trust"
EXCHANGE_PATH: Final = "/v1/exchange"

T = TypeVar("T", bound=msgspec.Struct)


class PeerError(RefusedError):
    """The other primary refused, for a reason that this program does not know by name."""

    code = "trust.refused-there"
    default_hint = "see the log of the other primary; it may run a newer release"


class RefusedThereError(Exception):
    """Carries a refusal, as it was received, to whoever keeps its consequences."""

    def __init__(self, record: ErrorRecord) -> None:
        super().__init__(record.code)
        self.record = record


def fetch(channel: Channel, path: str, kind: type[T], *, max_bytes: int) -> T:
    """Fetch a record.

    Raises:
        RefusedThereError: the primary refused.
        NotStrongroomError: the answer is not such a record.
        UnreachableError: the connection broke.
    """
    status, body = channel.ask("GET", path, content_type=wire.CONTENT_TYPE, max_bytes=max_bytes)
    return _read(status, body, kind)


def post(channel: Channel, path: str, record: msgspec.Struct, kind: type[T], *, max_bytes: int) -> T:
    """Send a record, and give the one that comes back; raises as :func:`fetch` does."""
    data = wire.encode(record)
    status, body = channel.ask("POST", path, data, content_type=wire.CONTENT_TYPE, max_bytes=max_bytes)
    return _read(status, body, kind)


def connect(peer: Peer, credential: CredentialView, keys: CredentialKeys) -> Channel:
    """Connect to a peer's primary, where our administrator found it, with the certificate that it issued to us.

    Raises:
        UnreachableError and its fellows: see :func:`~strongroom.pki.channel.open_channel`.
        KeyUnavailableError: the key of the certificate is not there.
    """
    roots = [load_certificate(root) for root in peer.roots]
    context = client_context(roots, store.load_credential(credential, keys))
    return open_channel(Address.read(peer.address), context, primary_of=peer.domain)


def exchange(engine: Engine, ours: Exchange, peer: DomainId, keys: CredentialKeys, clock: Clock) -> None:
    """Exchange one record each way with a peer, and keep what follows.

    Raises:
        NotPossibleError: we have no certificate of it, or its home must be confirmed first.
        UnavailableError: it could not be reached; noted.
        StrongroomError: it refused, or its home is refused here; noted.
    """
    with read(engine) as connection:
        known = store.get_peer(connection, peer)
        credential = store.credential_view(connection, peer)
    if credential is None:
        raise NotPossibleError(f"'{known.name}' has issued no certificate to this domain")
    sent = transact(engine, lambda c: ours.make_request(c, peer))
    try:
        with connect(known, credential, keys) as channel:
            answer = post(channel, EXCHANGE_PATH, sent, ExchangeRecord, max_bytes=wire.MAX_RECORD_BYTES)
    except RefusedThereError as refused:
        record = refused.record
        transact(engine, lambda connection: ours.take_refusal(connection, peer, record))
        raise as_error(record) from refused
    except StrongroomError:
        transact(engine, lambda connection: store.happen(connection, peer, Lost(clock.now()), clock))
        raise
    knew = known.trust.instance
    refusal = transact(engine, lambda connection: ours.take_answer(connection, peer, sent, answer, knew=knew))
    if refusal is not None:
        raise refusal


def as_error(record: ErrorRecord) -> StrongroomError:
    """Make the error again that the other primary told of; its branch is this program's, if it knows the code."""
    kind = _BY_CODE.get(record.code)
    message, hint = first_words(record.message or record.code), first_words(record.hint)
    if kind is not None:
        return kind(message, hint=hint)
    error = PeerError(f"the other primary refused with '{first_words(record.code)}': {message}", hint=hint)
    error.retry = "later" if record.retry == "later" else "never"
    return error


def _read(status: int, body: bytes, kind: type[T]) -> T:
    try:
        if status == HTTPStatus.OK:
            return wire.decode(body, kind)
        refused = wire.decode(body, ErrorRecord)
    except (DamagedError, NewerFormatError) as error:
        raise NotStrongroomError(f"the other primary answered with HTTP status {status} and no record") from error
    raise RefusedThereError(refused)


_BY_CODE: Final[dict[str, type[StrongroomError]]] = dict(pki_errors.BY_CODE) | {
    kind.code: kind
    for kind in vars(trust_errors).values()
    if isinstance(kind, type) and issubclass(kind, StrongroomError) and kind.__module__ == trust_errors.__name__
}
