"""Two trusting domains for each module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.trusting import Pair


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A source and a target that trust each other."""
    made = Pair(tmp_path_factory.mktemp("domains"))
    yield made
    made.stop()
