"""Every vector of entries and of the image stream has its stated outcome, however its bytes are cut."""

from __future__ import annotations

import json
from typing import Any

import pytest

from strongroom.core.errors import StrongroomError
from strongroom.formats.entry_stream import EntriesReader
from strongroom.formats.image_stream import BlockReader
from tests.formats import make_stream_vectors


def cases(name: str) -> list[Any]:
    found = json.loads((make_stream_vectors.VECTORS / name).read_text(encoding="utf-8"))["cases"]
    return [pytest.param(case, id=case["name"]) for case in found]


def outcome(reader: EntriesReader | BlockReader, data: bytes, step: int) -> str:
    try:
        for at in range(0, len(data), step):
            reader.feed(data[at : at + step])
        reader.finish()
    except StrongroomError as error:
        return error.code
    return "ok"


@pytest.mark.parametrize("case", cases("entries.json"))
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_entries_vector_has_its_outcome(case: dict[str, str], step: int) -> None:
    assert outcome(EntriesReader(), bytes.fromhex(case["data"]), step) == case["outcome"]


@pytest.mark.parametrize("case", cases("image-stream.json"))
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_image_stream_vector_has_its_outcome(case: dict[str, str], step: int) -> None:
    assert outcome(BlockReader(), bytes.fromhex(case["data"]), step) == case["outcome"]


def test_vector_files_are_what_their_generator_gives() -> None:
    for name, text in make_stream_vectors.files().items():
        assert (make_stream_vectors.VECTORS / name).read_text(encoding="utf-8") == text
