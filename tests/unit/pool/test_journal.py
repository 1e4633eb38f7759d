"""Journal batches lie in numbered objects that are never changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from strongroom.formats.algorithms import digest
from strongroom.formats.errors import DamagedError
from strongroom.formats.journal import BATCH
from strongroom.pool.errors import ObjectExistsError, ObjectMissingError
from strongroom.pool.folder import Folder
from strongroom.pool.journal import Journal
from tests.support.pool import CountedEntropy


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder.create(tmp_path / "pool", b"medium header", CountedEntropy())


@pytest.fixture
def journal(folder: Folder) -> Journal:
    return Journal(folder)


def test_the_head_says_what_the_next_batch_follows(journal: Journal) -> None:
    assert journal.head() == (0, bytes(32))
    for number in range(1, 20):
        journal.append(number, b"batch %d" % number)
        assert journal.head() == (number, digest(b"batch %d" % number))
    assert journal.read(17) == b"batch 17"


def test_two_writers_cannot_take_one_number(journal: Journal) -> None:
    journal.append(1, b"mine")
    journal.append(1, b"mine")
    with pytest.raises(ObjectExistsError):
        journal.append(1, b"theirs")
    assert journal.read(1) == b"mine"


def test_a_lost_batch_shows_as_a_gap(journal: Journal, folder: Folder) -> None:
    for number in (1, 2, 3):
        journal.append(number, b"batch")
    folder.remove("journal/0000000000000002")
    (folder.path / "journal" / "notes.txt").write_text("left by somebody")
    assert list(journal.sequences()) == [1, 3]
    with pytest.raises(ObjectMissingError):
        journal.read(2)


def test_an_oversized_batch_is_neither_written_nor_read(journal: Journal, folder: Folder) -> None:
    too_long = bytes(BATCH.max_bytes + 1)
    with pytest.raises(ValueError, match="bounded"):
        journal.append(1, too_long)
    folder.put("journal/0000000000000001", too_long)
    with pytest.raises(DamagedError):
        journal.read(1)
