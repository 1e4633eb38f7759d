"""C2: what makes a file the same as in the previous image."""

from __future__ import annotations

from pathlib import Path

import pytest

from strongroom.client.previous import Previous, previous_entries
from strongroom.core.errors import IntegrityError
from strongroom.formats import entries, image_stream
from strongroom.formats.entries import Entry
from tests.formats.make_stream_vectors import block


def record_of(file: Path) -> Entry:
    found = file.stat()
    return Entry(
        entries.REGULAR,
        bytes(file),
        0o644,
        0,
        0,
        b"",
        b"",
        found.st_mtime_ns,
        found.st_ctime_ns,
        found.st_dev,
        found.st_ino,
        found.st_size,
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"contents")
    return path


def test_c2_equal_file_is_the_same_and_has_its_number(file: Path) -> None:
    before = Entry(entries.FOLDER, bytes(file.parent), 0o755, 0, 0, b"", b"", 0, 0, 1, 1, 0)
    assert Previous([before, record_of(file)], None).same(bytes(file), file.stat()) == (1, record_of(file))


@pytest.mark.parametrize("field", ["mtime", "ctime", "device", "inode", "size"])
def test_c2_each_difference_counts(file: Path, field: str) -> None:
    entry = record_of(file)
    setattr(entry, field, getattr(entry, field) + 1)
    assert Previous([entry], None).same(bytes(file), file.stat()) is None


@pytest.mark.parametrize("flag", [entries.CHANGED, entries.SHRANK, entries.ATTRIBUTES_FOLLOW])
def test_c2_record_that_is_not_the_whole_truth_does_not_count(file: Path, flag: int) -> None:
    entry = record_of(file)
    entry.flags = flag
    assert Previous([entry], None).same(bytes(file), file.stat()) is None


def test_c2_hard_link_of_the_previous_image_does_not_count(file: Path) -> None:
    entry = record_of(file)
    entry.type = entries.HARD_LINK
    assert Previous([entry], None).same(bytes(file), file.stat()) is None


def test_c2_previous_entries_out_of_order_are_refused(file: Path) -> None:
    data = entries.encode(record_of(file))
    with pytest.raises(IntegrityError):
        list(previous_entries([image_stream.MAGIC + block(2, data + data) + image_stream.end(2, 16, 0)]))


def test_c2_previous_entries_with_contents_are_refused() -> None:
    with pytest.raises(IntegrityError):
        list(previous_entries([image_stream.MAGIC + block(1, b"x") + image_stream.end(0, 0, 0)]))
