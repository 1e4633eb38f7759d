"""Explains any file of strongroom by its magic: offline, without a key, without a server.

A format is added by a row in :data:`EXPLAINERS`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from strongroom.core.errors import IntegrityError
from strongroom.formats import copy_header, fragment, records, root_key, signed
from strongroom.formats.copy_header import COPY_HEADER, CheckedCopy, CopyHeader
from strongroom.formats.domain_statement import DOMAIN_STATEMENT, DomainStatement
from strongroom.formats.errors import DamagedError, NewerFormatError, RevokedError
from strongroom.formats.explain_locks import LOCKS
from strongroom.formats.explain_sealed import SEALED
from strongroom.formats.explain_stored import STORED
from strongroom.formats.explanation import (
    BytesSource,
    Explainer,
    Explanation,
    Knowledge,
    Outcome,
    Rest,
    SignatureReport,
    Source,
    show_record,
)
from strongroom.formats.hop import HOP
from strongroom.formats.identity import REVOCATION_LIST, check_revocation
from strongroom.formats.image_header import IMAGE_HEADER, header_digest
from strongroom.formats.journal import BATCH, Batch
from strongroom.formats.key_envelope import KEY_ENVELOPE
from strongroom.formats.media_header import MEDIA_HEADER
from strongroom.formats.receipt import RECEIPT
from strongroom.formats.signed import ARCHIVE_CERTIFICATE, MAGIC_BYTES, Kind, P, Verified
from strongroom.formats.trailer import TRAILER
from strongroom.formats.trust_binding import TRUST_BINDING

MAX_OBJECTS: Final = 64
"""So many objects of one file are explained."""


def explain(
    source: Source, knowledge: Knowledge | None = None, explainers: Mapping[bytes, Explainer] | None = None
) -> Explanation:
    """Explain a file. Never raises for what is wrong with the bytes: that stands in the explanation.

    Args:
        source: the file.
        knowledge: domains and revocation lists that the reader was given.
        explainers: by name of format (its magic without the version); all known ones by default.
    """
    told = knowledge or Knowledge()
    known = EXPLAINERS if explainers is None else explainers
    first = _one(source, told, known)
    if first.length >= source.size:
        return first
    parts, offset, problems = [first], first.length, list[str]()
    while offset < source.size and len(parts) < MAX_OBJECTS and parts[-1].length:
        rest = Rest(source, offset)
        if _explainer(rest.read(0, MAGIC_BYTES), known) is None:
            problems.append(f"{rest.size} bytes that are no object begin at {offset}")
            break
        parts.append(_one(rest, told, known))
        offset += parts[-1].length
    else:
        if offset < source.size:
            problems.append(f"{source.size - offset} bytes from {offset} on were not looked at")
    whole = Explanation(
        "file of several objects", first.magic, source.size, problems=tuple(problems), parts=tuple(parts)
    )
    is_fragment = [part.magic for part in parts] == [COPY_HEADER.magic.decode(), TRAILER.magic.decode()]
    return _as_fragment(whole, source) if is_fragment else whole


def _one(source: Source, knowledge: Knowledge, explainers: Mapping[bytes, Explainer]) -> Explanation:
    """Explain the object with which a source begins."""
    magic = source.read(0, MAGIC_BYTES)
    text = magic.decode("ascii", "backslashreplace")
    explainer = _explainer(magic, explainers)
    if explainer is None:
        # The bytes are not quoted: they may be a bare key that somebody put there.
        return Explanation("unknown", "", source.size, problems=("no format of strongroom begins like this",))
    try:
        return explainer(source, knowledge)
    except IntegrityError as error:
        return Explanation("unreadable", text, source.size, problems=(error.message,))


def _explainer(magic: bytes, explainers: Mapping[bytes, Explainer]) -> Explainer | None:
    """Find the format whose name the magic begins with; a digit, the version, must follow."""
    for name, explainer in explainers.items():
        if magic.startswith(name) and magic[len(name) : len(name) + 1].isdigit():
            return explainer
    return None


def _as_fragment(whole: Explanation, source: Source) -> Explanation:
    problems = whole.problems
    if not any(part.problems for part in whole.parts):
        problems += _problems(lambda: fragment.verify(source.read(0, fragment.MAX_BYTES + 1)))
    return replace(whole, what="fragment of a copy in a pool", problems=problems)


def _signed(kind: Kind[Any]) -> Explainer:
    """Make the explainer of one kind of signed object."""

    def explainer(source: Source, knowledge: Knowledge) -> Explanation:
        data = source.read(0, kind.max_bytes)
        magic = data[:MAGIC_BYTES].decode("ascii", "backslashreplace")
        try:
            data = data[: signed.length_at(kind, data)]
            verified = signed.verify(kind, data)
        except IntegrityError as error:
            report = SignatureReport(_outcome(error), reason=error.message)
            fields = _claimed(kind, data)
            return Explanation(kind.what, magic, len(data), fields, report, (error.message,))
        report = _report(verified, knowledge)
        problems = (report.reason,) if report.reason else ()
        fields = show_record(_plain(kind, data), kind.payload)
        inside, parts = _inside(verified, knowledge)
        if kind is IMAGE_HEADER:
            fields |= {"(digest of this header)": header_digest(data).hex()}
        if isinstance(verified.payload, DomainStatement):
            roots = verified.payload.roots
            fields |= {"(fingerprints of the roots)": [hashlib.sha256(root).hexdigest() for root in roots]}
        return Explanation(kind.what, magic, len(data), fields, report, problems + inside, parts)

    return explainer


def _inside(verified: Verified[P], knowledge: Knowledge) -> tuple[tuple[str, ...], tuple[Explanation, ...]]:
    """Explain the objects that an object embeds; say what is wrong with how they belong together."""
    match verified.payload:
        case CopyHeader(hops=hops, header=header):
            parts = [_embedded(IMAGE_HEADER, header, knowledge)]
            parts += [_embedded(HOP, hop, knowledge) for hop in hops]
            return _problems(lambda: copy_header.verify(verified.data)), tuple(parts)
        case Batch(records=rows):
            kinds: dict[str, Kind[Any]] = {"receipt": RECEIPT, "hop": HOP}
            objects = [(kinds[row.kind], row.object) for row in rows if row.object and row.kind in kinds]
            return (), tuple(_embedded(kind, data, knowledge) for kind, data in objects)
        case _:
            return (), ()


def _embedded(kind: Kind[Any], data: bytes, knowledge: Knowledge) -> Explanation:
    found = _signed(kind)(BytesSource(data), knowledge)
    if found.length < len(data):
        return replace(found, problems=(*found.problems, f"something follows the {kind.what}"))
    return found


def _report(verified: Verified[P], knowledge: Knowledge) -> SignatureReport:
    outcome = Outcome.PINNED if verified.signer in knowledge.pinned else Outcome.UNKNOWN
    reason = ""
    if verified.signer in knowledge.revocations:
        try:
            check_revocation(verified, knowledge.revocations[verified.signer])
        except RevokedError as error:
            outcome, reason = Outcome.REVOKED, error.message
    return SignatureReport(outcome, verified.signer, verified.archive_number, reason)


def _outcome(error: IntegrityError) -> Outcome:
    return Outcome.NEWER if isinstance(error, NewerFormatError) else Outcome.INVALID


def _problems(check: Callable[[], CheckedCopy]) -> tuple[str, ...]:
    try:
        check()
    except IntegrityError as error:
        return (error.message,)
    return ()


def _plain(kind: Kind[Any], data: bytes) -> object:
    length = int.from_bytes(data[MAGIC_BYTES : MAGIC_BYTES + 4], "big")
    body = data[MAGIC_BYTES + 4 : MAGIC_BYTES + 4 + length]
    return records.decode_plain(body, max_bytes=kind.max_payload_bytes, what=kind.what)


def _claimed(kind: Kind[Any], data: bytes) -> Mapping[str, Any]:
    """Give what a broken object says, if it can be read at all."""
    try:
        return show_record(_plain(kind, data), kind.payload)
    except DamagedError:
        return {}


def _root_key(source: Source, knowledge: Knowledge) -> Explanation:
    """Explain a root key file: its head is all that can be read without the pass phrase."""
    del knowledge  # nothing is signed in it
    data = source.read(0, root_key.MAX_BYTES + 1)
    head = root_key.read_head(data)
    plain = {name: getattr(head, name) for name in head.__struct_fields__}
    return Explanation("root key file, sealed to a pass phrase", root_key.MAGIC.decode(), len(data), show_record(plain))


_SIGNED_KINDS: Final[tuple[Kind[Any], ...]] = (
    ARCHIVE_CERTIFICATE,
    REVOCATION_LIST,
    MEDIA_HEADER,
    IMAGE_HEADER,
    COPY_HEADER,
    HOP,
    TRAILER,
    BATCH,
    RECEIPT,
    KEY_ENVELOPE,
    DOMAIN_STATEMENT,
    TRUST_BINDING,
)
EXPLAINERS: Final[dict[bytes, Explainer]] = {
    **{kind.magic[:6]: _signed(kind) for kind in _SIGNED_KINDS},
    root_key.MAGIC[:6]: _root_key,
    **SEALED,
    **STORED,
    **LOCKS,
}
"""By name of format: its magic without the digits of the version."""
