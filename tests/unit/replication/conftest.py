"""Images that are sent from pool to pool, and where to."""

from __future__ import annotations

from pathlib import Path

import pytest

from strongroom.formats.fragment import Fragment
from strongroom.pool.writer import WriterLimits
from tests.support.vault import Vault, random_bytes
from tests.unit.images.test_hostile_streams import data, record, stream

SMALL = WriterLimits(frame_bytes=64 << 10, container_bytes=1 << 20, in_flight_bytes=1 << 20)
SIZE = 300_000


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Vault:
    return Vault(tmp_path_factory.mktemp("source"), "origin")


@pytest.fixture(scope="module")
def images(source: Vault) -> list[Fragment]:
    """Three images that share most of their files; the last one is not encrypted."""
    made = []
    for number, encrypted in enumerate((True, True, False)):
        names = [f"file {number if index == 3 else 0} {index}" for index in range(12)]
        blocks = [data(random_bytes(name, SIZE)) + record(b"/%02d" % n, SIZE) for n, name in enumerate(names)]
        chunks = stream(*blocks, files=len(names), content=SIZE * len(names))
        made.append(source.store(chunks, name=f"image {number}", encrypted=encrypted, limits=SMALL)[0])
    return made


@pytest.fixture
def target(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "target", "target")
