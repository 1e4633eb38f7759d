"""What fuzzing found worth keeping, and the vectors that it begins with, make no decoder fail but in its own words."""

from __future__ import annotations

import pytest

from tests.fuzz.run import CORPUS, MOST_KEPT, MOST_KEPT_BYTES, kept
from tests.fuzz.targets import TARGETS, attempt


@pytest.mark.parametrize("name", TARGETS)
def test_inputs_that_were_kept_are_read_or_refused(name: str) -> None:
    inputs = kept(name)
    assert inputs, f"'scripts/fuzz --keep {name}' makes them"
    assert len(inputs) <= MOST_KEPT
    assert max(map(len, inputs)) <= MOST_KEPT_BYTES
    for data in [*inputs, *TARGETS[name].beginnings(), b""]:
        attempt(name, data)


def test_every_file_belongs_to_a_target() -> None:
    assert {path.stem for path in CORPUS.iterdir()} == set(TARGETS)
