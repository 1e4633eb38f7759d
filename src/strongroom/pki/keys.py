"""Keys of hosts and issuers, and the certificate requests that carry a host's public key.

The randomness is OpenSSL's: it makes elliptic-curve keys from its own source, and ECDSA draws more with each
signature.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from strongroom.core.secret import Secret
from strongroom.pki.errors import CertificateRequestError, IssuerError

MAX_REQUEST_BYTES: Final = 16_384


def make_host_key() -> Secret:
    """Make the private key of a host: ECDSA P-256, as PKCS #8 DER, not encrypted."""
    return _as_secret(ec.generate_private_key(ec.SECP256R1()))


def make_root_key() -> Secret:
    """Make the private key of a root: ECDSA P-384, as PKCS #8 DER, not encrypted."""
    return _as_secret(ec.generate_private_key(ec.SECP384R1()))


def load_key(key: Secret) -> ec.EllipticCurvePrivateKey:
    """Load a private key.

    Raises:
        IssuerError: the bytes are no elliptic-curve key.
    """
    try:
        loaded = load_der_private_key(key.reveal(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Without the cause: a parser's words about a key are not for logs.
        raise IssuerError("a private key cannot be read") from None
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise IssuerError("a private key is not of an elliptic curve")
    return loaded


def public_bytes(key: ec.EllipticCurvePublicKey) -> bytes:
    """Write a public key as SubjectPublicKeyInfo, DER."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def make_request(key: Secret) -> bytes:
    """Make a certificate request: the public key, signed by the private one, with an empty subject.

    Nothing else is in it, because the issuer would ignore it.

    Returns:
        PKCS #10, DER.
    """
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(load_key(key), hashes.SHA256()).public_bytes(Encoding.DER)


def read_request(data: bytes) -> ec.EllipticCurvePublicKey:
    """Take the public key from a certificate request, after its sender showed that it holds the private one.

    Args:
        data: PKCS #10, DER; names and extensions in it are ignored.

    Raises:
        CertificateRequestError: too long, malformed, of another kind of key, or the signature does not hold.
    """
    if len(data) > MAX_REQUEST_BYTES:
        raise CertificateRequestError(f"a certificate request of {len(data)} bytes is too long")
    try:
        request = x509.load_der_x509_csr(data)
        key = request.public_key()
        proven = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateRequestError("the certificate request cannot be read") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CertificateRequestError("the key in the certificate request is not ECDSA P-256")
    if not proven:
        raise CertificateRequestError("the signature of the certificate request does not hold")
    return key


def _as_secret(key: ec.EllipticCurvePrivateKey) -> Secret:
    return Secret(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
