"""Names and identities in certificates."""

from __future__ import annotations

import pytest

from strongroom.core.clock import ManualClock
from strongroom.pki.channel import DEFAULT_PORT, Address, AddressError
from strongroom.pki.errors import CertificateDamagedError, HostNameError
from strongroom.pki.names import HostNames, read_domain, read_identity
from tests.support.domains import CA

NOW = ManualClock().now()


def test_names_are_sorted_into_dns_and_addresses_once_each() -> None:
    names = HostNames.read(["Media.Example.", "media.example", "192.0.2.1", "2001:DB8::1", "2001:db8:0::1"])
    assert names.texts == ("media.example", "192.0.2.1", "2001:db8::1")


@pytest.mark.parametrize(
    "name",
    ["", "*.example", "a b", "-a.example", "a..b", "x" * 64, "1.2.3.999", "ü.example", "fe80::1%eth0", "a\0"],
)
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(HostNameError):
        HostNames.read([name])


def test_too_many_names_are_refused() -> None:
    with pytest.raises(HostNameError, match="at most 32"):
        HostNames.read(f"h{number}.example" for number in range(33))


def test_root_names_its_domain_and_host_certificate_its_host() -> None:
    ca = CA.make(1, NOW)
    assert read_domain(ca.root.certificate) == ca.domain
    primary = read_identity(ca.leaf(NOW)[0])
    assert primary.home == ca.domain
    assert primary.primary_of == ca.domain
    assert read_identity(ca.leaf(NOW, primary=False)[0]).primary_of is None


def test_certificate_without_identity_is_refused() -> None:
    ca = CA.make(1, NOW)
    with pytest.raises(CertificateDamagedError):
        read_identity(ca.root.certificate)
    with pytest.raises(CertificateDamagedError):
        read_domain(ca.hosts.certificate)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("p.example", "p.example", DEFAULT_PORT),
        ("p.example:1", "p.example", 1),
        ("[2001:db8::1]:99", "2001:db8::1", 99),
    ],
)
def test_address_is_read(text: str, host: str, port: int) -> None:
    assert Address.read(text) == Address(host, port)


@pytest.mark.parametrize("text", ["", "a:0", "a:70000", "https://a", "2001:db8::1:99", "a b", "u@a", "x" * 400])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        Address.read(text)
