"""Tells what the files beside the lasting formats are: they hold no lasting format, and can be made anew or are local.

A host's certificates and private key, databases, file lists, settings, logs. Of a private key nothing is shown.
"""

from __future__ import annotations

import hashlib
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.core.ids import DIGEST_BYTES, to_text
from strongroom.formats import records
from strongroom.formats.errors import DamagedError
from strongroom.formats.explanation import Explanation, Shown, Source, show_bytes

MAX_CERTIFICATES_BYTES: Final = 256 << 10
MAX_CERTIFICATES: Final = 64
"""So many of a list are shown."""
_LOOK: Final = 64
_BEGINNINGS: Final = (
    (b"SQLite format 3\0", "SQLite database: no lasting format"),
    (b"\x37\x7f\x06\x82", "write-ahead log of an SQLite database: no lasting format"),
    (b"\x37\x7f\x06\x83", "write-ahead log of an SQLite database: no lasting format"),
    (b"PARE", "encrypted Parquet file, such as the file list of an image: no lasting format"),
    (b"PAR1", "Parquet file: no lasting format"),
    (b"-----BEGIN CERTIFICATE", "certificate, PEM: no lasting format"),
)
_ENDINGS: Final = (
    (".toml", "settings: no lasting format"),
    (".log", "log: no lasting format"),
    (".crl", "list of revoked certificates, X.509: no lasting format"),
    ("-shm", "shared memory of an SQLite database: no lasting format"),
    ("-wal", "write-ahead log of an SQLite database: no lasting format"),
)
_LOCK: Final = "lock"
_INSTANCE: Final = "instance"
_CERTIFICATES: Final = ("domain", "chain", "roots")


def explain_other(source: Source, name: str) -> Explanation | None:
    """Tell what a file is that no format of strongroom begins.

    Args:
        source: the file.
        name: of the file, without its folder; counts only where the bytes tell nothing.

    Returns:
        ``None`` when this is not known either.
    """
    head = source.read(0, _LOOK)
    if _is_private_key(head):
        return _plain("private key of a host, PKCS #8; it is not shown: no lasting format", source)
    for beginning, what in _BEGINNINGS:
        if head.startswith(beginning):
            return _plain(what, source)
    if name.endswith(_LOCK) and not source.size:
        return _plain("lock: no lasting format", source)
    if name == _INSTANCE and head.startswith(b"{"):
        return _plain("where this home was served last: no lasting format", source)
    for ending, what in _ENDINGS:
        if name.endswith(ending):
            return _plain(what, source)
    return _certificates(source)


def _plain(what: str, source: Source) -> Explanation:
    return Explanation(what, "", source.size)


def _is_private_key(head: bytes) -> bool:
    """Tell the DER of PKCS #8 by its outermost parts: a sequence that begins with version 0 and another sequence."""
    if head[:10].startswith(b"-----BEGIN") and b"PRIVATE KEY" in head:
        return True
    length = 2 if head[1:2] < b"\x80" else 2 + (head[1] & 0x7F)
    return head[:1] == b"\x30" and head[length : length + 4] == b"\x02\x01\x00\x30"


def _certificates(source: Source) -> Explanation | None:
    """Explain the certificates that a domain issued to a host: a record without a magic."""
    if source.size > MAX_CERTIFICATES_BYTES:
        return None
    try:
        plain = records.decode_plain(
            source.read(0, MAX_CERTIFICATES_BYTES), max_bytes=MAX_CERTIFICATES_BYTES, what="file of certificates"
        )
    except DamagedError:
        return None
    if not isinstance(plain, dict) or tuple(plain) != _CERTIFICATES:
        return None
    domain, *lists = plain.values()
    if not isinstance(domain, bytes) or len(domain) != DIGEST_BYTES or not all(isinstance(one, list) for one in lists):
        return None
    fields: dict[str, Shown] = {"domain": to_text(domain)}
    problems = []
    for name, found in zip(_CERTIFICATES[1:], lists, strict=True):
        shown: list[Shown] = []
        for data in found[:MAX_CERTIFICATES]:
            try:
                shown.append(_certificate(data))
            except (TypeError, ValueError, x509.InvalidVersion) as error:
                problems.append(f"a certificate of '{name}' cannot be read: {error}")
        fields[name] = shown
    return Explanation("certificates of a host: no lasting format", "", source.size, fields, problems=tuple(problems))


def _certificate(data: bytes) -> Shown:
    """Show a certificate, DER."""
    found = x509.load_der_x509_certificate(data)
    return {
        "subject": found.subject.rfc4514_string(),
        "issuer": found.issuer.rfc4514_string(),
        "serial number": f"{found.serial_number:x}",
        "not before": f"{found.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}",
        "not after": f"{found.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
        "fingerprint": show_bytes(hashlib.sha256(found.public_bytes(Encoding.DER)).digest()),
    }
