"""What the inspector says of containers, frames and pages: the vectors, and bytes of a real pool."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.errors import IntegrityError
from strongroom.formats import frame
from strongroom.formats.algorithms import Cipher
from strongroom.formats.explanation import BytesSource, Explanation
from strongroom.formats.inspect import explain

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "formats" / "pool" / "pool.json").read_text(encoding="utf-8")
)["vectors"]
WHATS = {
    "frame": "frame",
    "page": "manifest page",
    "key page": "key page",
    "container": "container of frames",
}


def of(data: bytes) -> Explanation:
    return explain(BytesSource(data))


def right(kind: str) -> bytes:
    return bytes.fromhex(next(v["data"] for v in VECTORS if v["kind"] == kind and v["outcome"] == "right"))


def troubled(found: Explanation) -> bool:
    return bool(found.problems) or any(troubled(part) for part in found.parts)


@pytest.mark.parametrize("kind", WHATS)
def test_what_a_pool_stores_is_explained_without_a_key_p4(kind: str) -> None:
    found = of(right(kind))
    assert (found.what, troubled(found)) == (WHATS[kind], False)
    assert found.length == len(right(kind))


def test_a_container_shows_its_counts_and_whether_it_is_marked() -> None:
    whole = right("container")
    found = of(whole)
    assert found.fields["sealed"] is True
    assert found.fields["mark"] == "present"
    assert found.fields["items compared with their ids"] == found.fields["items"]
    rows = found.fields["each item"]
    assert isinstance(rows, list)
    assert len(rows) == found.fields["items"]
    lengths = [row["length"] for row in rows if isinstance(row, dict)]
    assert sum(int(str(length)) for length in lengths) == found.fields["bytes of items"]
    segments = [row["segments"] for row in rows if isinstance(row, dict)]
    assert sum(int(str(count)) for count in segments) == found.fields["segments"]
    unmarked = whole[:-48] + bytes(32) + whole[-16:]
    assert of(unmarked).fields["mark"] == "zero"


def test_a_changed_item_is_told_by_its_place() -> None:
    whole = bytearray(right("container"))
    whole[100] ^= 1
    assert "the item at 96 has another digest than its id" in of(bytes(whole)).problems


def test_a_container_that_was_never_sealed_shows_the_items_in_it() -> None:
    whole = right("container")
    offset = int.from_bytes(whole[-96:-88], "big")
    found = of(whole[:offset])
    assert (found.what, found.problems) == ("container of frames, not sealed", ())
    assert found.fields["items found"] == of(whole).fields["items"] == len(found.parts)
    assert {part.what for part in found.parts} == {"frame"}
    cut = of(whole[: offset - 1])
    assert cut.fields["items found"] == len(found.parts) - 1
    assert "are no whole item" in cut.problems[0]
    assert of(whole[:96]).fields["items found"] == 0


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['kind']}-{vector['name']}")
def test_no_bad_vector_is_explained_without_a_problem(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["data"])
    found = of(data)
    if vector["outcome"] != "right" and not needs_key(data) and found.fields.get("sealed", True):
        assert troubled(found), found


def needs_key(data: bytes) -> bool:
    """Whether only the body of an encrypted frame can be wrong."""
    try:
        return frame.parse_head(data).cipher is Cipher.AES_256_GCM
    except IntegrityError:
        return False


@given(st.sampled_from([right(kind) for kind in WHATS]), st.data())
def test_hostile_bytes_are_explained_and_raise_nothing(good: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(good)))
    cut = data.draw(st.integers(0, 200))
    of(good[:at] + data.draw(st.binary(max_size=200)) + good[at + cut :])
