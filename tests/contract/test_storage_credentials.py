"""Storage credentials at the target, storage targets at the source, on both databases (R3)."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from strongroom.core.clock import ManualClock
from strongroom.core.ids import DomainId, MediumId
from strongroom.core.secret import Secret
from strongroom.database import read, transact
from strongroom.replication import credentials, targets
from strongroom.replication.credentials import CredentialNameTakenError, CredentialTextError
from strongroom.replication.errors import CredentialRefusedError
from strongroom.replication.tables import storage_credentials
from strongroom.replication.targets import StorageTarget, TargetExistsError, TargetNotFoundError
from tests.support.domains import ENTROPY

NOW = ManualClock().now()
SENDER, OTHER = DomainId(b"s" * 32), DomainId(b"o" * 32)
POOL = MediumId(b"p" * 16)


def made(database: sa.Engine, name: str = "c") -> tuple[bytes, Secret, Secret]:
    one, text = transact(database, lambda c: credentials.create(c, name, POOL, SENDER, now=NOW, entropy=ENTROPY))
    _, secret = credentials.read_text(text)
    return one.id, secret, text


def check(database: sa.Engine, identity: bytes, secret: bytes, sender: DomainId = SENDER) -> credentials.Credential:
    return transact(database, lambda c: credentials.check(c, identity, secret, sender, now=NOW))


def test_a_credential_is_good_for_its_sender_and_notes_its_use(database: sa.Engine) -> None:
    identity, secret, _ = made(database)
    assert check(database, identity, secret.reveal()).medium == POOL
    with read(database) as connection:
        (one,) = credentials.list_all(connection)
    assert (one.used, one.revoked, one.sender) == (NOW, None, SENDER)


def test_a_credential_is_refused_to_anyone_else_and_when_it_is_wrong_or_revoked(database: sa.Engine) -> None:
    identity, secret, _ = made(database)
    for wrong in (
        (identity, bytes(32), SENDER),
        (bytes(16), secret.reveal(), SENDER),
        (identity, secret.reveal(), OTHER),
    ):
        with pytest.raises(CredentialRefusedError):
            check(database, *wrong)
    for hours in (1, 2):
        now = NOW + timedelta(hours=hours)
        revoked = transact(database, lambda c, now=now: credentials.revoke(c, identity, now=now))  # type: ignore[misc]
        assert revoked.revoked == NOW + timedelta(hours=1)
    with pytest.raises(CredentialRefusedError, match="was revoked"):
        check(database, identity, secret.reveal())


def test_the_secret_is_not_in_the_database(database: sa.Engine) -> None:
    _, secret, _ = made(database)
    with read(database) as connection:
        row = connection.execute(sa.select(storage_credentials)).one()
    assert secret.reveal() not in [bytes(value) for value in row if isinstance(value, bytes)]


def test_names_of_credentials_are_unique(database: sa.Engine) -> None:
    made(database)
    with pytest.raises(CredentialNameTakenError):
        made(database)


@pytest.mark.parametrize("text", [b"", b"x", b"00.11", b"zz" * 16 + b"." + b"00" * 32, b"00" * 16 + b"00" * 32])
def test_what_is_no_credential_is_refused_without_showing_it(text: bytes) -> None:
    with pytest.raises(CredentialTextError) as raised:
        credentials.read_text(Secret(text))
    assert raised.value.__cause__ is None
    assert not text or text.decode() not in raised.value.message


def target(name: str = "dr", domain: DomainId = SENDER) -> StorageTarget:
    return StorageTarget(name, domain, "vault", POOL, ("host.example:8712",), b"c" * 16, NOW)


def test_a_target_is_found_by_name_and_by_domain_until_it_is_removed(database: sa.Engine) -> None:
    transact(database, lambda c: targets.add(c, target()))
    with read(database) as connection:
        assert targets.get(connection, "dr") == targets.of_domain(connection, SENDER) == target()
        assert targets.list_all(connection) == [target()]
    assert transact(database, lambda c: targets.remove(c, "dr")) == target()
    with read(database) as connection, pytest.raises(TargetNotFoundError):
        targets.of_domain(connection, SENDER)


@pytest.mark.parametrize("other", [target(domain=OTHER), target(name="second")])
def test_a_domain_has_one_target_and_a_name_too(database: sa.Engine, other: StorageTarget) -> None:
    transact(database, lambda c: targets.add(c, target()))
    with pytest.raises(TargetExistsError):
        transact(database, lambda c: targets.add(c, other))
