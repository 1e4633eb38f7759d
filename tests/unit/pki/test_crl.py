"""Revocation lists as a host sees them (T9)."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from cryptography import x509

from strongroom.core.clock import ManualClock
from strongroom.pki.ca import Revocation, make_crl
from strongroom.pki.crl import CRLStore
from strongroom.pki.errors import (
    CRLDamagedError,
    CRLExpiredError,
    CRLMissingError,
    CRLOlderError,
    ExpiredError,
    RevokedError,
    UnknownIssuerError,
)
from tests.support.domains import CA

START = ManualClock().now()
ONE = CA.make(1, START)
TWO = CA.make(2, START)


def crl(number: int, *serials: int, by: CA = ONE, now: datetime = START) -> bytes:
    return make_crl(
        by.hosts,
        number,
        [Revocation(serial, now, x509.ReasonFlags.unspecified) for serial in serials],
        now=now,
    )


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def store(clock: ManualClock) -> CRLStore:
    store = CRLStore(clock)
    store.trust(ONE.hosts.certificate, ONE.root.certificate)
    return store


def test_good_certificate_passes_until_next_update_and_then_no_more(store: CRLStore, clock: ManualClock) -> None:
    leaf, _ = ONE.leaf(START)
    store.accept(crl(1))
    store.check(leaf)
    clock.advance(timedelta(days=7) - timedelta(seconds=1))
    store.check(leaf)
    clock.advance(timedelta(seconds=1))
    with pytest.raises(CRLExpiredError):
        store.check(leaf)
    store.accept(crl(2, now=clock.now()))
    store.check(leaf)


def test_revoked_certificate_is_refused(store: CRLStore) -> None:
    leaf, _ = ONE.leaf(START)
    store.accept(crl(1, leaf.serial_number))
    with pytest.raises(RevokedError):
        store.check(leaf)


def test_a_certificate_that_has_ended_is_refused_on_an_open_connection(store: CRLStore, clock: ManualClock) -> None:
    leaf, _ = ONE.leaf(START)
    clock.advance(leaf.not_valid_after_utc - START - timedelta(seconds=1))
    store.accept(crl(1, now=clock.now()))
    store.check(leaf)
    clock.advance(timedelta(seconds=1))
    with pytest.raises(ExpiredError):
        store.check(leaf)


def test_without_a_list_nothing_passes(store: CRLStore) -> None:
    with pytest.raises(CRLMissingError):
        store.check(ONE.leaf(START)[0])


def test_older_list_does_not_bring_a_revoked_certificate_back(store: CRLStore) -> None:
    leaf, _ = ONE.leaf(START)
    store.accept(crl(2, leaf.serial_number))
    with pytest.raises(CRLOlderError):
        store.accept(crl(1))
    with pytest.raises(RevokedError):
        store.check(leaf)


def test_list_of_another_domain_is_refused(store: CRLStore) -> None:
    with pytest.raises(UnknownIssuerError):
        store.accept(crl(1, by=TWO))
    with pytest.raises(UnknownIssuerError):
        store.check(TWO.leaf(START)[0])
    with pytest.raises(UnknownIssuerError):
        store.trust(TWO.hosts.certificate, ONE.root.certificate)


def test_changed_list_is_refused(store: CRLStore) -> None:
    leaf, _ = ONE.leaf(START)
    data = bytearray(crl(1, leaf.serial_number))
    data[data.index(leaf.serial_number.to_bytes(16, "big")) + 3] ^= 1
    with pytest.raises(CRLDamagedError, match="signature"):
        store.accept(bytes(data))


def test_list_from_the_future_is_refused(store: CRLStore) -> None:
    with pytest.raises(CRLDamagedError, match="future"):
        store.accept(crl(1, now=START + timedelta(minutes=6)))
    store.accept(crl(1, now=START + timedelta(minutes=4)))


def test_lists_survive_a_restart(store: CRLStore, clock: ManualClock) -> None:
    leaf, _ = ONE.leaf(START)
    store.accept(crl(3, leaf.serial_number))
    again = CRLStore(clock)
    again.trust(ONE.hosts.certificate, ONE.root.certificate)
    for held in store.lists():
        again.accept(held.data)
    with pytest.raises(RevokedError):
        again.check(leaf)
