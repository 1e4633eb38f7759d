"""What the CA of a domain signs, judged by OpenSSL's command as well as by our own reading (T1, T5)."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from strongroom.core.clock import ManualClock
from strongroom.core.ids import DomainId, HostId
from strongroom.pki import ca, keys
from strongroom.pki.errors import CertificateDamagedError, CertificateRequestError, IssuerError
from strongroom.pki.names import HostNames
from tests.support.domains import CA, ENTROPY

NOW = ManualClock().now()
ONE = CA.make(1, NOW)


def openssl_verify(
    folder: Path, leaf: x509.Certificate, issuer: x509.Certificate, purpose: str, crl: bytes | None = None
) -> tuple[int, str]:
    """Let OpenSSL judge a chain, strictly, at the time of the test."""
    for name, certificate in {"root": ONE.root.certificate, "issuer": issuer, "leaf": leaf}.items():
        (folder / name).write_bytes(certificate.public_bytes(Encoding.PEM))
    command = [
        "openssl",
        "verify",
        "-x509_strict",
        "-purpose",
        purpose,
        "-attime",
        str(int(NOW.timestamp()) + 60),
    ]
    command += ["-CAfile", folder / "root", "-untrusted", folder / "issuer"]  # type: ignore[list-item]
    if crl is not None:
        (folder / "crl").write_bytes(x509.load_der_x509_crl(crl).public_bytes(Encoding.PEM))
        command += ["-crl_check", "-CRLfile", folder / "crl"]  # type: ignore[list-item]
    done = subprocess.run([*command, folder / "leaf"], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("purpose", ["sslserver", "sslclient"])
def test_openssl_accepts_a_listening_host_for_both_purposes(tmp_path: Path, purpose: str) -> None:
    leaf, _ = ONE.leaf(NOW)
    assert openssl_verify(tmp_path, leaf, ONE.hosts.certificate, purpose)[0] == 0


def test_openssl_accepts_host_that_does_not_listen_as_client_only(tmp_path: Path) -> None:
    leaf, _ = ONE.leaf(NOW, listens=False)
    assert openssl_verify(tmp_path, leaf, ONE.hosts.certificate, "sslclient")[0] == 0
    assert openssl_verify(tmp_path, leaf, ONE.hosts.certificate, "sslserver")[0] != 0


def test_openssl_accepts_foreign_host_as_client_only(tmp_path: Path) -> None:
    leaf, _ = ONE.leaf(NOW, listens=False, foreign_home=DomainId(bytes(32)))
    assert openssl_verify(tmp_path, leaf, ONE.foreign.certificate, "sslclient")[0] == 0
    assert openssl_verify(tmp_path, leaf, ONE.foreign.certificate, "sslserver")[0] != 0


def test_foreign_issuer_cannot_make_a_server_even_if_its_key_is_misused(tmp_path: Path) -> None:
    """The limit is in the issuer's own certificate, so it binds whoever stole the key."""
    key = keys.load_key(keys.make_host_key())
    forged = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "primary")]))
        .issuer_name(ONE.foreign.certificate.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(keys.load_key(ONE.foreign.key), hashes.SHA256())
    )
    code, said = openssl_verify(tmp_path, forged, ONE.foreign.certificate, "sslserver")
    assert code != 0
    assert "purpose" in said


def test_openssl_finds_a_revoked_certificate_in_the_list(tmp_path: Path) -> None:
    leaf, _ = ONE.leaf(NOW)
    other, _ = ONE.leaf(NOW)
    crl = ca.make_crl(ONE.hosts, 1, [ca.Revocation(leaf.serial_number, NOW, x509.ReasonFlags.key_compromise)], now=NOW)
    assert openssl_verify(tmp_path, other, ONE.hosts.certificate, "sslserver", crl)[0] == 0
    code, said = openssl_verify(tmp_path, leaf, ONE.hosts.certificate, "sslserver", crl)
    assert code != 0
    assert "revoked" in said


def test_lifetimes_and_curves_are_the_documented_ones() -> None:
    foreign, _ = ONE.leaf(NOW, listens=False, foreign_home=DomainId(bytes(32)))
    own, _ = ONE.leaf(NOW)
    assert ONE.root.certificate.not_valid_after_utc - NOW >= timedelta(days=3650)
    assert own.not_valid_after_utc - NOW == timedelta(days=365)
    assert foreign.not_valid_after_utc - NOW == timedelta(days=90)
    root_key, issuer_key = ONE.root.certificate.public_key(), ONE.hosts.certificate.public_key()
    assert isinstance(root_key, ec.EllipticCurvePublicKey)
    assert isinstance(issuer_key, ec.EllipticCurvePublicKey)
    assert (root_key.curve.name, issuer_key.curve.name) == ("secp384r1", "secp256r1")


def test_certificate_does_not_outlive_its_issuer() -> None:
    late = ONE.hosts.certificate.not_valid_after_utc - timedelta(days=10)
    leaf, _ = ONE.leaf(late)
    assert leaf.not_valid_after_utc == ONE.hosts.certificate.not_valid_after_utc
    with pytest.raises(IssuerError, match="ended"):
        ONE.leaf(ONE.hosts.certificate.not_valid_after_utc)


def test_issuers_refuse_what_is_not_theirs() -> None:
    public = keys.read_request(keys.make_request(keys.make_host_key()))
    listener = ca.Subject(ONE.domain, HostId(bytes(16)), HostNames(), listens=True)
    for authority in (ONE.root, ONE.foreign):
        with pytest.raises(IssuerError):
            ca.issue(authority, listener, public, now=NOW, entropy=ENTROPY)
    not_at_home = ca.Subject(ONE.domain, HostId(bytes(16)), HostNames(), True, DomainId(bytes(32)))
    with pytest.raises(IssuerError):
        ca.issue(ONE.hosts, not_at_home, public, now=NOW, entropy=ENTROPY)
    with pytest.raises(IssuerError):
        ca.make_issuer(ONE.hosts, ca.IssuerKind.FOREIGN, now=NOW, entropy=ENTROPY)


def test_only_the_public_key_is_taken_from_a_request() -> None:
    """A request that asks for a CA certificate with the primary's name gets neither."""
    key = keys.make_host_key()
    greedy = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "primary")]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("primary.example")]), critical=False)
        .sign(keys.load_key(key), hashes.SHA256())
        .public_bytes(Encoding.DER)
    )
    subject = ca.Subject(ONE.domain, HostId(bytes(16)), HostNames.read(["me.example"]), listens=False)
    leaf = ca.issue(ONE.hosts, subject, keys.read_request(greedy), now=NOW, entropy=ENTROPY)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["me.example"]
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert "primary" not in leaf.subject.rfc4514_string()


def test_request_without_proof_of_possession_is_refused() -> None:
    request = bytearray(keys.make_request(keys.make_host_key()))
    request[-5] ^= 1
    with pytest.raises(CertificateRequestError):
        keys.read_request(bytes(request))


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)])
def test_request_with_another_kind_of_key_is_refused(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
) -> None:
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    with pytest.raises(CertificateRequestError, match="P-256"):
        keys.read_request(request.public_bytes(Encoding.DER))


def test_authority_is_restored_only_with_its_own_key() -> None:
    data = ca.to_der(ONE.hosts.certificate)
    root = ca.to_der(ONE.root.certificate)
    assert ca.restore(ca.IssuerKind.HOSTS, data, ONE.hosts.key, root).fingerprint == ONE.hosts.fingerprint
    with pytest.raises(IssuerError, match="does not belong"):
        ca.restore(ca.IssuerKind.HOSTS, data, ONE.foreign.key, root)


def test_oversized_certificate_is_not_even_parsed() -> None:
    with pytest.raises(CertificateDamagedError, match="too long"):
        ca.load_certificate(bytes(20_000))
