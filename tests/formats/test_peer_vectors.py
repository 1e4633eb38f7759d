"""Every vector of what primaries say has its outcome, and the files are what their generator gives."""

from __future__ import annotations

import json
from typing import Any

import pytest

from strongroom.core.errors import StrongroomError
from strongroom.formats import peer_messages, signed
from strongroom.formats.domain_statement import DOMAIN_STATEMENT
from strongroom.formats.errors import DamagedError
from strongroom.formats.peer_messages import ExchangeRecord
from strongroom.formats.trust_binding import TRUST_BINDING
from tests.formats import make_peer_vectors as make
from tests.formats.make_vectors import VECTORS
from tests.formats.samples import pack

NAMES = ("domain-statement", "trust-binding", "exchange")


def cases() -> list[Any]:
    found = []
    for name in NAMES:
        content = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
        found += [pytest.param(name, case, id=f"{name}-{case['name']}") for case in content["cases"]]
    return found


def read(name: str, data: bytes) -> object:
    match name:
        case "domain-statement":
            return signed.verify(DOMAIN_STATEMENT, data)
        case "trust-binding":
            return signed.verify(TRUST_BINDING, data)
        case _:
            return peer_messages.decode(data, ExchangeRecord)


@pytest.mark.parametrize(("name", "case"), cases())
def test_a_vector_has_its_outcome(name: str, case: dict[str, Any]) -> None:
    outcome = "ok"
    try:
        read(name, bytes.fromhex(case["data"]))
    except StrongroomError as error:
        outcome = error.code
    assert outcome == case["outcome"]


@pytest.mark.parametrize(
    ("changes", "good"),
    [
        ({"messages": [make.message()] * 256}, True),
        ({"messages": [make.message()] * 257}, False),
        ({"messages": [make.message(body=bytes(73_728))]}, True),
        ({"messages": [make.message(body=bytes(73_729))]}, False),
        ({"messages": [make.message(body=bytes(70_000))] * 15}, False),
    ],
)
def test_a_record_is_bounded_as_a_whole_and_in_its_parts(changes: dict[str, Any], *, good: bool) -> None:
    data = pack(make.exchange(**changes))
    if good:
        peer_messages.decode(data, ExchangeRecord)
    else:
        with pytest.raises(DamagedError):
            peer_messages.decode(data, ExchangeRecord)
