from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.kms import KmsHome, PhraseKey, make_phrase_key


@pytest.fixture
def home(tmp_path: Path) -> KmsHome:
    return KmsHome(tmp_path)


@pytest.fixture
def other(tmp_path: Path) -> KmsHome:
    return KmsHome(tmp_path, "b")


@pytest.fixture(scope="session")
def phrase_key() -> PhraseKey:
    return make_phrase_key()
