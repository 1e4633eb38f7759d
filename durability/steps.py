"""The durable steps, by name: which call on which file is which step (see docs/explanation/durability.md)."""

from __future__ import annotations

import re
from typing import Final

_HEX: Final = r"[0-9a-f-]+"
STEPS: Final[tuple[tuple[str, str], ...]] = (
    (rf"(open\w*|write|pwrite64|flock) .*/incoming/{_HEX}", "pool: bytes come into incoming"),
    (rf"fsync .*/incoming/{_HEX}", "pool: bytes are made stable"),
    (rf"unlink .*/incoming/{_HEX}", "pool: the name in incoming goes"),
    (r"link .*/(containers|envelopes|images|journal|revocations)/.*", "pool: the object gets its name"),
    (r"mkdir .*/pools/.*", "pool: a folder is made for the name"),
    (rf"fsync .*/containers(/{_HEX})?", "pool: the name of a container is made stable"),
    (rf"fsync .*/envelopes(/{_HEX})?", "pool: the name of an envelope is made stable"),
    (rf"fsync .*/images(/{_HEX})?", "pool: the name of an image is made stable"),
    (r"fsync .*/journal", "pool: the name of a journal batch is made stable"),
    (r"\w+ .*/index(/.*)?", "pool: the index, a cache"),
    (r"(fsync|fdatasync) .*/catalog\.db-wal", "catalog: a transaction is made stable"),
    (r"\w+ .*/catalog\.db-wal", "catalog: a transaction is written"),
    (r"\w+ .*/catalog\.db", "catalog: transactions go into the database"),
    (r"(fsync|write) .*/files/.*\.part", "catalog: a list of files is written"),
    (r"rename .*/files/.*", "catalog: a list of files gets its name"),
    (r"(fsync|mkdir) .*/files(/.*)?", "catalog: the name of a list of files is made stable"),
    (r"\w+ .*/kms.*", "keys: the keystore"),
    (r"\w+ .*/pki.*", "keys: service keys and certificates"),
    (r"\w+ .*/media/(crls|certificates).*", "media server: certificates and revocation lists"),
    (r"\w+ .*/logs/.*", "a line of a log"),
    (r"\w+ (/memfd:.*)?", "something for a socket or a pipe"),
)


def name_of(call: str) -> str:
    """Name the step of a call, given as ``fsync /path``; the call itself when it is none of those."""
    return next((name for pattern, name in STEPS if re.fullmatch(pattern, call)), call)
