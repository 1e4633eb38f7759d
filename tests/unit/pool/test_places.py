"""P1: the index's table and runs: bounded, shared, and made anew when something of them is missing."""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from strongroom.core.ids import ContainerId, FrameId, SegmentName
from strongroom.pool import places
from strongroom.pool.containers import read_contents
from strongroom.pool.errors import IndexDamagedError, PoolFullError
from strongroom.pool.folder import Folder
from strongroom.pool.index import Index, open_index
from strongroom.pool.places import IndexLimits
from tests.support import footers
from tests.support.index_facts import facts
from tests.support.pool import DOMAIN, MEDIUM, CountedEntropy

SMALL = IndexLimits(table_entries=100)
FRAMES, SEGMENTS = 5, 8


class Shelf:
    """A pool with containers whose names are known, and indexes of it that are closed at the end."""

    def __init__(self, folder: Path, closing: ExitStack) -> None:
        self.store = Folder.create(folder, b"medium header", CountedEntropy())
        self.folder = self.store.index_path
        self.names: dict[ContainerId, list[SegmentName]] = {}
        self._closing = closing
        self._draw = random.Random(11)  # noqa: S311 - test data

    def seal(self) -> ContainerId:
        drawn = footers.random_frames(self._draw, FRAMES, SEGMENTS)
        container = footers.seal(self.store.path, self._draw.randbytes(16), drawn)
        self.names[container] = [SegmentName(name) for _, segments in drawn for name in segments]
        return container

    def index(self, limits: IndexLimits = SMALL, seed: str = "") -> Index:
        index, report = open_index(self.folder, self.store, CountedEntropy(seed), medium=MEDIUM, limits=limits)
        self._closing.callback(index.close)
        assert report.problems == []
        return index

    def add(self, index: Index, count: int = 1) -> list[ContainerId]:
        sealed = [self.seal() for _ in range(count)]
        for container in sealed:
            index.add(read_contents(self.store, container, MEDIUM))
        return sealed

    def remove(self, index: Index, container: ContainerId) -> None:
        (self.store.path / f"containers/{container.hex()[:2]}/{container.hex()}").unlink()
        index.remove(container)
        del self.names[container]

    def check(self, index: Index) -> None:
        asked = [name for names in self.names.values() for name in names]
        found = index.find_segments([*asked, SegmentName(b"n" * 32)], DOMAIN)
        assert {name: hits[0].container for name, hits in found.items()} == {
            name: container for container, names in self.names.items() for name in names
        }

    def runs(self) -> list[Path]:
        return sorted(self.folder.glob("*.run"))


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    with ExitStack() as closing:
        yield Shelf(tmp_path / "pool", closing)


def test_a_full_table_becomes_a_run_and_runs_are_merged(shelf: Shelf) -> None:
    index = shelf.index()
    shelf.add(index, 2)
    assert shelf.runs() == []
    shelf.add(index, 58)
    assert 1 <= len(shelf.runs()) <= 5
    shelf.check(index)
    kept = facts(shelf.folder)
    index.rebuild(shelf.store)
    assert facts(shelf.folder) == kept
    assert len(kept) == 60 * FRAMES * (1 + SEGMENTS)


def test_the_table_in_memory_never_passes_its_bound(shelf: Shelf) -> None:
    index = shelf.index()
    for _ in range(40):
        shelf.add(index)
        shelf.check(index)
        assert len(index._places._table) < SMALL.table_entries


def test_filters_are_loaded_for_the_smaller_runs_as_far_as_there_is_room(shelf: Shelf) -> None:
    index = shelf.index(IndexLimits(table_entries=100, filter_bytes=900))
    while len(shelf.runs()) < 3:
        shelf.add(index)
    shelf.check(index)
    runs = list(index._places._runs.values())
    assert [run.entries for run in runs] == sorted(run.entries for run in runs)
    loaded = [run.filter_bytes for run in runs if run._filters is not None]
    assert loaded == [run.filter_bytes for run in runs][: len(loaded)]
    assert 0 < sum(loaded) <= 900 < sum(run.filter_bytes for run in runs)


def test_two_processes_follow_each_other(shelf: Shelf) -> None:
    """Two indexes of one folder share nothing but its files."""
    one, other = shelf.index(), shelf.index(seed="other")
    for step in range(24):
        shelf.add(one if step % 3 else other)
        shelf.check(other)
        shelf.check(one)
    shelf.remove(one, next(iter(shelf.names)))
    shelf.check(other)
    assert one.generation == other.generation


def test_what_threads_add_and_ask_at_once_is_all_there(shelf: Shelf) -> None:
    index = shelf.index()
    done = dict.fromkeys(shelf.add(index, 10))
    sealed = [shelf.seal() for _ in range(40)]
    wrong: list[object] = []

    def add(mine: list[ContainerId]) -> None:
        for container in mine:
            index.add(read_contents(shelf.store, container, MEDIUM))
            found = index.find_segments(shelf.names[container], DOMAIN)
            wrong.extend(name for name in shelf.names[container] if name not in found)

    def ask() -> None:
        for _ in range(15):
            for container in done:
                found = index.find_segments(shelf.names[container], DOMAIN)
                wrong.extend(name for name in shelf.names[container] if name not in found)

    threads = [threading.Thread(target=add, args=(sealed[part::2],)) for part in range(2)]
    threads.append(threading.Thread(target=ask))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    shelf.check(index)
    kept = facts(shelf.folder)
    index.rebuild(shelf.store)
    assert facts(shelf.folder) == kept


@pytest.mark.parametrize("damage", ["missing", "cut", "changed"])
def test_a_run_that_is_not_as_it_was_makes_the_index_anew(shelf: Shelf, damage: str) -> None:
    index = shelf.index()
    shelf.add(index, 30)
    kept, generation = facts(shelf.folder), index.generation
    index.close()
    path = shelf.runs()[0]
    data = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(data[:-1])
    else:
        data[-60] ^= 1
        path.write_bytes(data)
    again = shelf.index(seed="again")
    assert again.generation != generation
    assert facts(shelf.folder) == kept
    shelf.check(again)


def test_a_block_that_was_changed_is_told_when_it_is_read_and_the_next_opening_makes_the_index_anew(
    shelf: Shelf,
) -> None:
    index = shelf.index()
    shelf.add(index, 30)
    kept = facts(shelf.folder)
    for path in shelf.runs():
        data = bytearray(path.read_bytes())
        data[4_096 + 20] ^= 1  # behind the filters, in the first block
        path.write_bytes(data)
    asked = [name for names in shelf.names.values() for name in names]
    with pytest.raises(IndexDamagedError) as caught:
        index.find_segments(asked, DOMAIN)
    assert "restart" in caught.value.hint
    index.close()
    again = shelf.index(seed="again")
    assert facts(shelf.folder) == kept
    shelf.check(again)


def test_files_that_nobody_knows_go_when_the_index_is_opened(shelf: Shelf) -> None:
    index = shelf.index()
    shelf.add(index, 10)
    index.close()
    known = shelf.runs()
    (shelf.folder / f"{'0' * 32}-7.run").write_bytes(b"of another generation")
    shutil.copy(known[0], known[0].with_name(f"{known[0].name.partition('-')[0]}-999.run"))
    shelf.check(shelf.index())
    assert shelf.runs() == known


def test_without_its_file_the_index_is_made_anew_whatever_runs_are_left(shelf: Shelf) -> None:
    index = shelf.index()
    shelf.add(index, 30)
    kept, old = facts(shelf.folder), shelf.runs()
    index.close()
    for path in shelf.folder.glob("index.sqlite*"):
        path.unlink()
    again = shelf.index(seed="again")
    assert facts(shelf.folder) == kept
    assert not set(old) & set(shelf.runs())
    shelf.check(again)


def test_a_purge_frees_the_room_of_what_is_gone_once_it_is_much(shelf: Shelf) -> None:
    index = shelf.index()
    shelf.add(index, 60)
    before = sum(path.stat().st_size for path in shelf.runs())
    for container in list(shelf.names)[:5]:
        shelf.remove(index, container)
    runs = shelf.runs()
    index.purge()
    assert shelf.runs() == runs, "too little to write everything anew"
    for container in list(shelf.names)[:40]:
        shelf.remove(index, container)
    index.purge()
    assert sum(path.stat().st_size for path in shelf.runs()) < before / 2
    shelf.check(index)
    for container in list(shelf.names):
        shelf.remove(index, container)
    index.purge()
    assert shelf.runs() == []
    shelf.check(index)


def test_without_room_runs_are_merged_later(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    index = shelf.index()
    with monkeypatch.context() as full:
        usage = shutil.disk_usage(shelf.folder)
        full.setattr("shutil.disk_usage", lambda _: usage._replace(free=0))
        shelf.add(index, 30)
        assert len(shelf.runs()) == 10
        shelf.check(index)
    shelf.add(index)
    assert len(shelf.runs()) == 1
    shelf.check(index)


def test_a_run_that_finds_no_room_leaves_everything_as_it_was(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    index = shelf.index()
    shelf.add(index, 2)
    lost = shelf.seal()

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.pwrite", full)
        with pytest.raises(PoolFullError, match=r"\.run"):
            index.add(read_contents(shelf.store, lost, MEDIUM))
    assert shelf.runs() == []
    names = shelf.names.pop(lost)
    shelf.check(index)
    shelf.names[lost] = names
    report = index.refresh(shelf.store)
    assert report.added == [lost]
    shelf.check(index)


def test_a_name_that_lies_in_many_places_is_found_in_all_newest_first(shelf: Shelf) -> None:
    index = shelf.index()
    name = SegmentName(b"often".ljust(32, b"."))
    draw = random.Random(3)  # noqa: S311 - test data
    for age in (3, 9, 1, 7, 5):
        frames = [(draw.randbytes(32), [name, name, draw.randbytes(32)]) for _ in range(12)]
        made = footers.seal(shelf.store.path, draw.randbytes(16), frames, created_ns=age)
        index.add(read_contents(shelf.store, made, MEDIUM))
    hits = index.find_segments([name], DOMAIN)[name]
    assert len({hit.frame for hit in hits}) == len(hits) == 60
    assert {hit.position for hit in hits} == {0}
    contained = list(dict.fromkeys(hit.container for hit in hits))
    ages = [read_contents(shelf.store, container, MEDIUM).header.created_ns for container in contained]
    assert ages == [9, 7, 5, 3, 1]


def test_names_that_only_begin_alike_are_told_apart_where_they_are_ids(shelf: Shelf) -> None:
    """Ids are digests without a key: whoever makes frames can look for two that begin alike."""
    index = shelf.index()
    one, other = b"begin".ljust(16, b".") + bytes(16), b"begin".ljust(16, b".") + bytes([1] * 16)
    made = footers.seal(shelf.store.path, bytes(16), [(one, [b"s" * 32])])
    index.add(read_contents(shelf.store, made, MEDIUM))
    assert index.lacking([other, one], DOMAIN) == [other]
    assert list(index.locate([FrameId(one), FrameId(other)], DOMAIN)) == [one]
    assert places.NAME_BYTES == 16
