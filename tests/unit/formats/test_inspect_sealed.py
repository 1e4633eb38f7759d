"""What the inspector says of files that hold keys: everything but the keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.formats.explanation import BytesSource, Explanation
from strongroom.formats.inspect import explain
from strongroom.formats.other_files import explain_other

FOLDER = Path(__file__).parents[2] / "formats" / "kms_vectors"
WHATS = {
    "key-file": "key file",
    "keystore": "keystore",
    "service-keys": "file of service keys",
    "key-export": "key export",
}


def of(data: bytes) -> Explanation:
    return explain(BytesSource(data))


def good(name: str) -> list[bytes]:
    cases: list[dict[str, Any]] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["cases"]
    return [bytes.fromhex(case["data"]) for case in cases if case["outcome"] == "ok"]


@pytest.mark.parametrize("name", WHATS)
def test_a_file_of_keys_says_whose_it_is_and_what_opens_it(name: str) -> None:
    for data in good(name):
        found = of(data)
        assert (found.what, found.problems, found.length) == (WHATS[name], (), len(data))
        assert len(str(found.fields["domain"])) == 64


@pytest.mark.parametrize("data", good("key-file"))
def test_a_key_file_shows_no_byte_of_its_key(data: bytes) -> None:
    at = data.index(b"\xa3key\xc4\x20") + 6
    key = data[at : at + 32]
    assert set(of(data).fields) == {"purpose", "id", "domain", "source", "kdf"}
    shown = repr(of(data))
    for start in range(0, 32, 4):
        assert key[start : start + 4] == bytes(4) or key[start : start + 4].hex() not in shown


def test_a_changed_key_file_has_a_problem_that_does_not_quote_it() -> None:
    data = bytearray(good("key-file")[0])
    data[data.index(b"\xa3key\xc4\x20") + 10] ^= 1
    assert of(bytes(data)).problems == ("the check of the key file differs: it was changed",)


def test_a_sealed_file_that_is_cut_or_too_long_has_a_problem() -> None:
    data = good("keystore")[0]
    head = int.from_bytes(data[8:12], "big")
    assert of(data[: 12 + head + 15]).problems == ("the keystore is cut short",)
    assert of(data[: 12 + head - 1]).problems


def test_a_bare_key_is_not_quoted() -> None:
    key = bytes(range(200, 232))
    found = of(key)
    assert found.what == "unknown"
    assert "\\xc8" not in repr(found)
    assert "c8c9" not in repr(found)
    assert explain_other(BytesSource(key), "key") is None


@given(st.sampled_from([data for name in WHATS for data in good(name)]), st.data())
def test_hostile_files_of_keys_are_explained_and_raise_nothing(good: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(good)))
    hostile = good[:at] + data.draw(st.binary(max_size=20)) + good[at + data.draw(st.integers(0, 20)) :]
    of(hostile)


@given(st.binary(max_size=100) | st.binary(max_size=60).map(lambda rest: b"\x83\xa6domain" + rest), st.text())
def test_other_hostile_files_raise_nothing(data: bytes, name: str) -> None:
    explain_other(BytesSource(data), name)
