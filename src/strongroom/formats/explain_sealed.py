"""Explainers of the files that hold keys: what stands in clear in them, and never a key.

Source: ``docs/reference/formats/keystore.md``, ``key-export.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from strongroom.formats import key_export, key_file, keystore, records, service_keys
from strongroom.formats.algorithms import GCM_TAG_BYTES
from strongroom.formats.explanation import Explainer, Explanation, Knowledge, Source, show_record
from strongroom.formats.key_export import ExportHead
from strongroom.formats.keystore import KeystoreHead
from strongroom.formats.sealed import FRONT_BYTES, MAX_HEAD_BYTES, split_head
from strongroom.formats.service_keys import ServiceKeysHead

_FRONT: Final = FRONT_BYTES + MAX_HEAD_BYTES


def _sealed_file(
    what: str, magic: bytes, kind: type, max_bytes: int, read_head: Callable[[bytes], object]
) -> Explainer:
    """Make the explainer of a file with a clear head and a sealed body; of the body only its length is looked at."""

    def explainer(source: Source, knowledge: Knowledge) -> Explanation:
        del knowledge  # nothing is signed in it
        data = source.read(0, _FRONT)
        read_head(data)
        front, _ = split_head(data, magic, what, _FRONT)
        plain = records.decode_plain(front[FRONT_BYTES:], max_bytes=MAX_HEAD_BYTES, what=what)
        sealed_bytes = source.size - len(front)
        problems = []
        if sealed_bytes < GCM_TAG_BYTES:
            problems.append(f"the {what} is cut short")
        if source.size > max_bytes:
            problems.append(f"the {what} has {source.size} bytes, more than its bound {max_bytes}")
        fields = show_record(plain, kind) | {"(sealed bytes)": sealed_bytes}
        return Explanation(what, magic.decode(), source.size, fields, problems=tuple(problems))

    return explainer


def _key_file(source: Source, knowledge: Knowledge) -> Explanation:
    """Explain a key file without its key."""
    del knowledge  # nothing is signed in it
    facts = key_file.read_facts(source.read(0, key_file.MAX_BYTES + 1))
    plain = {name: getattr(facts, name) for name in facts.__dataclass_fields__}
    return Explanation("key file", key_file.MAGIC.decode(), source.size, show_record(plain))


SEALED: Final[dict[bytes, Explainer]] = {
    key_file.MAGIC[:6]: _key_file,
    keystore.MAGIC[:6]: _sealed_file("keystore", keystore.MAGIC, KeystoreHead, keystore.MAX_BYTES, keystore.read_head),
    service_keys.MAGIC[:6]: _sealed_file(
        "file of service keys", service_keys.MAGIC, ServiceKeysHead, service_keys.MAX_BYTES, service_keys.read_head
    ),
    key_export.MAGIC[:6]: _sealed_file(
        "key export", key_export.MAGIC, ExportHead, key_export.MAX_BYTES, key_export.read_head
    ),
}
"""Explainers by name of format."""
