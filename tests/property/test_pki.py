"""Readers of pki on bytes and text from anywhere: right, or a named error."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.clock import ManualClock
from strongroom.core.errors import StrongroomError
from strongroom.pki import ca, crl, keys
from strongroom.pki.channel import Address
from strongroom.pki.fingerprint import Fingerprint, read_pin
from strongroom.pki.names import HostNames
from tests.support.domains import CA

NOW = ManualClock().now()
ONE = CA.make(1, NOW)
REAL = (
    ca.to_der(ONE.hosts.certificate),
    keys.make_request(keys.make_host_key()),
    ca.make_crl(ONE.hosts, 1, [], now=NOW),
)


@given(st.binary(min_size=32, max_size=32))
def test_fingerprint_survives_both_ways_of_writing(value: bytes) -> None:
    """T2"""
    shown = Fingerprint(value)
    assert read_pin(shown.hex) == shown
    assert read_pin(shown.words) == shown


@given(st.text(max_size=600))
def test_any_text_is_a_pin_or_a_named_error(text: str) -> None:
    with contextlib.suppress(StrongroomError):
        assert len(read_pin(text).value) == 32
    with contextlib.suppress(StrongroomError):
        Address.read(text)
    with contextlib.suppress(StrongroomError):
        HostNames.read([text])


@given(st.data(), st.sampled_from(REAL))
def test_damaged_der_is_read_or_refused_by_a_named_error(data: st.DataObject, real: bytes) -> None:
    damaged = bytearray(real)
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    store = crl.CRLStore(ManualClock())
    store.trust(ONE.hosts.certificate, ONE.root.certificate)
    for reader in (ca.load_certificate, keys.read_request, store.accept):
        with contextlib.suppress(StrongroomError):
            reader(cut)
