"""Write the test vectors of what primaries say: ``python -m tests.formats.make_peer_vectors``. Deterministic."""

from __future__ import annotations

import json
from typing import Any

from tests.formats.make_vectors import DAMAGED, NEWER, VECTORS, Case, case, frame_cases
from tests.formats.samples import NS, ORIGIN, TARGET, Record, fixed, pack

STATEMENT, BINDING = b"SRDOMS01", b"SRTRSB01"
START = 1_790_000_000 * NS


def statement(**changes: Any) -> Record:
    return {
        "domain": ORIGIN.id,
        "name": "Amber",
        "incarnation": 1,
        "number": 3,
        "roots": [fixed("root certificate", 600)],
        "peer": ["primary.amber.example:7443", "[2001:db8::1]:7443"],
        "issued": START,
        "features": [],
    } | changes


def binding(**changes: Any) -> Record:
    return {
        "domain": ORIGIN.id,
        "to": TARGET.id,
        "nonce": fixed("nonce", 16),
        "host": fixed("host", 16),
        "number": 7,
        "request": fixed("request"),
        "issued": START,
        "features": [],
    } | changes


def statements() -> list[Case]:
    def made(title: str, outcome: str, **changes: Any) -> Case:
        return case(title, outcome, ORIGIN.signed(STATEMENT, pack(statement(**changes))))

    root = fixed("root certificate", 600)
    return [
        *frame_cases(STATEMENT, statement(), ORIGIN.signed),
        made("longest-name", "ok", name="n" * 128),
        made("name-longer-than-its-bound", DAMAGED, name="n" * 129),
        made("name-longer-than-its-bound-in-bytes", DAMAGED, name="ä" * 65),
        made("name-empty", DAMAGED, name=""),
        made("incarnation-zero", DAMAGED, incarnation=0),
        made("number-zero", DAMAGED, number=0),
        made("no-root", DAMAGED, roots=[]),
        made("four-roots", "ok", roots=[root] * 4),
        made("five-roots", DAMAGED, roots=[root] * 5),
        made("root-longer-than-its-bound", DAMAGED, roots=[fixed("root", 4_097)]),
        made("no-address", DAMAGED, peer=[]),
        made("seventeen-addresses", DAMAGED, peer=["a:1"] * 17),
        made("address-without-port", DAMAGED, peer=["primary"]),
        made("address-without-host", DAMAGED, peer=[":7443"]),
        made("port-zero", DAMAGED, peer=["primary:0"]),
        made("port-beyond-its-bound", DAMAGED, peer=["primary:65536"]),
        made("port-in-other-digits", DAMAGED, peer=["primary:٧٤٤٣"]),
        made("feature-of-a-later-version", NEWER, features=["later"]),
    ]


def bindings() -> list[Case]:
    def made(title: str, outcome: str, **changes: Any) -> Case:
        return case(title, outcome, ORIGIN.signed(BINDING, pack(binding(**changes))))

    return [
        *frame_cases(BINDING, binding(), ORIGIN.signed),
        made("number-zero", DAMAGED, number=0),
        made("nonce-short", DAMAGED, nonce=bytes(15)),
        made("digest-long", DAMAGED, request=bytes(33)),
        made("feature-of-a-later-version", NEWER, features=["later"]),
    ]


def message(**changes: Any) -> Record:
    return {"id": fixed("message", 16), "kind": "slp.check", "re": None, "body": pack({"name": "gold"})} | changes


def exchange(**changes: Any) -> Record:
    return {
        "version": 1,
        "capabilities": [],
        "incarnation": 1,
        "start": 4,
        "instance": fixed("instance", 16),
        "state": "added",
        "number": 12,
        "statement": ORIGIN.signed(STATEMENT, pack(statement())),
        "messages": [message()],
        "done": [fixed("done", 16)],
    } | changes


def exchanges() -> list[Case]:
    def made(title: str, outcome: str, **changes: Any) -> Case:
        return case(title, outcome, pack(exchange(**changes)))

    return [
        made("good", "ok"),
        made("key-of-a-later-version", "ok", zz_later=[1]),
        made("version-of-a-later-release", "ok", version=2),
        made("kind-of-a-later-version", "ok", messages=[message(kind="later.thing", body=b"\xc1")]),
        made("state-of-a-later-version", "ok", state="frozen"),
        made("capability-of-a-later-version", "ok", capabilities=["later"]),
        made("too-many-done", DAMAGED, done=[fixed("done", 16)] * 1_025),
        made("start-zero", DAMAGED, start=0),
        made("instance-short", DAMAGED, instance=bytes(15)),
        made("names-a-newer-home", "ok", newer=fixed("newer", 16)),
        made("names-no-newer-home", "ok", newer=None),
        made("newer-short", DAMAGED, newer=bytes(15)),
        made("number-negative", DAMAGED, number=-1),
        made("without-statement", DAMAGED, statement=None),
        case("empty", DAMAGED, b""),
        case("one-byte-behind", DAMAGED, pack(exchange()) + b"\0"),
        case("key-twice", DAMAGED, pack({"version": 1}).replace(b"\x81", b"\x82", 1) * 2),
    ]


def files() -> dict[str, str]:
    content = {"domain-statement": statements(), "trust-binding": bindings(), "exchange": exchanges()}
    return {f"{name}.json": json.dumps({"cases": cases}, indent=1) + "\n" for name, cases in content.items()}


def main() -> None:
    for name, text in files().items():
        (VECTORS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
