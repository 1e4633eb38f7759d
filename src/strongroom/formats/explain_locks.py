"""Explainers of what a pool keeps about its retention locks.

Source: ``docs/reference/formats/locks.md``.
"""

from __future__ import annotations

from typing import Any, Final

from strongroom.core.ids import DIGEST_BYTES
from strongroom.formats import lock_record, records
from strongroom.formats.explanation import Explainer, Explanation, Knowledge, Source, show_record
from strongroom.formats.lock_record import HEAD_BYTES, KINDS, Kind


def _locks(kind: Kind[Any]) -> Explainer:
    def explainer(source: Source, knowledge: Knowledge) -> Explanation:
        del knowledge  # nothing is signed in it
        data = source.read(0, kind.max_bytes + 1)
        data = data[: lock_record.length_at(kind, data)]
        lock_record.decode(kind, data)
        body = data[HEAD_BYTES:-DIGEST_BYTES]
        plain = records.decode_plain(body, max_bytes=kind.max_bytes, what=kind.what)
        return Explanation(kind.what, kind.magic.decode(), len(data), show_record(plain, kind.payload))

    return explainer


LOCKS: Final[dict[bytes, Explainer]] = {kind.magic[:6]: _locks(kind) for kind in KINDS}
"""By name of format."""
