"""The durable steps, by name: which call on which file is which step (see docs/explanation/durability.md)."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Final, NamedTuple

_HEX: Final = r"[0-9a-f-]+"
STEPS: Final[tuple[tuple[str, str], ...]] = (
    (r"pread64 .*/containers/.*", "pool: a container is read"),
    (r"pread64 .*/envelopes/.*", "pool: an envelope is read"),
    (r"pread64 .*/images/.*", "pool: an image is read"),
    (r"pread64 .*/(journal|incoming|revocations)/.*", "pool: another object is read"),
    (r"pread64 .*/index(/.*)?", "pool: the index, a cache, is read"),
    (r"pread64 .*/catalog\.db.*", "catalog: it is read"),
    (r"pread64 .*/files/.*", "catalog: a list of files is read"),
    (rf"(open\w*|write|pwrite64|flock) .*/incoming/{_HEX}", "pool: bytes come into incoming"),
    (rf"fsync .*/incoming/{_HEX}", "pool: bytes are made stable"),
    (rf"unlink .*/incoming/{_HEX}", "pool: the name in incoming goes"),
    (r"link .*/(containers|envelopes|images|journal|revocations)/.*", "pool: the object gets its name"),
    (r"mkdir .*/pools/.*", "pool: a folder is made for the name"),
    (r"unlink .*/containers/.*", "pool: a container is removed"),
    (r"unlink .*/envelopes/.*", "pool: an envelope is removed"),
    (r"unlink .*/images/.*", "pool: an image is removed"),
    (rf"fsync .*/containers(/{_HEX})?", "pool: the name of a container, or its absence, is made stable"),
    (rf"fsync .*/envelopes(/{_HEX})?", "pool: the name of an envelope, or its absence, is made stable"),
    (rf"fsync .*/images(/{_HEX})?", "pool: the name of an image, or its absence, is made stable"),
    (r"fsync .*/journal", "pool: the name of a journal batch is made stable"),
    (r"\w+ .*/index(/.*)?", "pool: the index, a cache"),
    (r"(fsync|fdatasync) .*/catalog\.db-wal", "catalog: a transaction is made stable"),
    (r"\w+ .*/catalog\.db-wal", "catalog: a transaction is written"),
    (r"\w+ .*/catalog\.db", "catalog: transactions go into the database"),
    (r"(fsync|fdatasync) .*/world/\w+", "catalog: the name of its log is made stable"),
    (r"(fsync|write) .*/files/.*\.part", "catalog: a list of files is written"),
    (r"rename .*/files/.*", "catalog: a list of files gets its name"),
    (r"unlink .*/files/.*", "catalog: a list of files is removed"),
    (r"(fsync|mkdir) .*/files(/.*)?", "catalog: the name of a list of files is made stable"),
    (r"\w+ .*/kms.*", "keys: the keystore"),
    (r"\w+ .*/pki.*", "keys: service keys and certificates"),
    (r"\w+ .*/media(/(crls|certificates).*)?", "media server: certificates and revocation lists"),
    (r"\w+ .*/logs/.*", "a line of a log"),
    (r"\w+ (/memfd:.*)?", "something for a socket or a pipe"),
)
BESIDE: Final = frozenset({"a line of a log", "something for a socket or a pipe"})
"""What is no durable step, and may be met by chance."""
_STARTED: Final = re.compile(r"(\d+) +(\w+)\(")
_PATHS: Final = re.compile(r'<([^>]*)>|"([^"]*)"')


class Place(NamedTuple):
    """Where a step was seen: the Nth call of this name in a thread."""

    call: str
    number: int


def name_of(call: str) -> str:
    """Name the step of a call, given as ``fsync /path``; the call itself when it is none of those."""
    return next((name for pattern, name in STEPS if re.fullmatch(pattern, call)), call)


def step_in(line: str) -> str:
    """Name the step in a line of strace(1), with the paths of descriptors decoded; empty when it begins no call."""
    begun = _STARTED.match(line)
    if begun is None:
        return ""
    paths = [one or other for one, other in _PATHS.findall(line)]
    path = next((path for path in reversed(paths) if path.startswith("/")), "")
    return name_of(f"{begun[2]} {path}")


def places_in(lines: Iterable[str]) -> dict[str, list[Place]]:
    """Tell where each step was seen in what strace(1) told of one process."""
    counted: Counter[tuple[str, str]] = Counter()
    found: defaultdict[str, list[Place]] = defaultdict(list)
    for line in lines:
        if begun := _STARTED.match(line):
            thread, call = begun.groups()
            counted[thread, call] += 1
            found[step_in(line)].append(Place(call, counted[thread, call]))
    return found
