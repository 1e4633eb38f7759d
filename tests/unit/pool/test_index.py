"""P1: the index is made from containers alone, and answers for one origin."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from strongroom.core.ids import ContainerId, FrameId
from strongroom.formats.container import HEADER_BYTES, Content, FooterBuilder, Header, encode_header
from strongroom.formats.frame import MAX_FRAME_BYTES, ROW
from strongroom.pool import index, names
from strongroom.pool.errors import IndexBusyError, PoolFullError, PoolWriteError
from strongroom.pool.index import FILE_NAME, Index
from strongroom.pool.places import IndexLimits
from strongroom.pool.references import Reference
from strongroom.pool.writer import WriterLimits
from tests.support import index_facts
from tests.support.pool import DOMAIN, MEDIUM, OTHER_DOMAIN, Pool

SMALL = WriterLimits(frame_bytes=4_000, container_bytes=20_000)
RANDOM = random.Random(3)  # noqa: S311 - test data


@pytest.fixture(params=[None, 30], ids=["table", "runs"])
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Pool:
    """A pool whose index is a table in memory, or runs on the disk."""
    if request.param is not None:
        monkeypatch.setattr(index, "IndexLimits", partial(IndexLimits, table_entries=request.param))
    return Pool.create(tmp_path / "pool")


def write(pool: Pool, count: int = 40) -> list[Reference]:
    return pool.write([RANDOM.randbytes(1_000) for _ in range(count)], SMALL)


def facts(pool: Pool) -> list[tuple[object, ...]]:
    return index_facts.facts(pool.folder.index_path)


def test_a_rebuilt_index_equals_the_one_that_was_kept(pool: Pool) -> None:
    pool.write_manifest(write(pool))
    write(pool)
    kept = facts(pool)
    generation = pool.index.generation
    report = pool.index.rebuild(pool.store)
    assert facts(pool) == kept
    assert len(kept) > 80
    assert len(report.added) == len(list(pool.index.containers()))
    assert pool.index.generation != generation


def test_an_index_that_is_missing_or_broken_is_made_anew(pool: Pool) -> None:
    references = write(pool)
    kept = facts(pool)
    pool.index.close()
    for damage in (b"", b"this is no database" * 1_000):
        (pool.folder.index_path / FILE_NAME).write_bytes(damage)
        again = Pool.open(pool.folder.path, keys=pool.keys)
        assert facts(again) == kept
        assert len(again.index.find_segments([references[0].name], DOMAIN)) == 1
        again.index.close()


def test_an_index_whose_tables_are_damaged_is_made_anew(pool: Pool) -> None:
    references = write(pool)
    kept = facts(pool)
    pool.index.close()
    path = pool.folder.index_path / FILE_NAME
    contents = path.read_bytes()
    path.write_bytes(contents[:4_096] + b"\xff" * (len(contents) - 4_096))
    with pytest.raises(sqlite3.DatabaseError):
        facts(pool)
    again = Pool.open(pool.folder.path)
    assert facts(again) == kept
    assert again.index.locate([references[0].frame_id], DOMAIN)


def test_a_question_that_the_file_cannot_answer_is_told_in_the_words_of_the_pool(pool: Pool) -> None:
    references = write(pool)
    with pool.index._file.using() as db:
        db.execute("DROP TABLE item")
    with pytest.raises(PoolWriteError, match="cannot be used"):
        pool.index.locate([references[0].frame_id], DOMAIN)


def test_an_index_of_another_schema_is_made_anew(pool: Pool) -> None:
    write(pool)
    kept = facts(pool)
    pool.index.close()
    with closing(sqlite3.connect(pool.folder.index_path / FILE_NAME)) as db:
        db.execute("PRAGMA user_version = 99")
    assert facts(Pool.open(pool.folder.path)) == kept


def test_opening_notices_containers_that_came_and_went(pool: Pool) -> None:
    write(pool)
    pool.index.close()
    other = Pool.open(pool.folder.path, keys=pool.keys)
    assert (other.report.added, other.report.removed, other.report.problems) == ([], [], [])
    gone = next(other.index.containers())[0]
    other.index.remove(next(iter(list(other.index.containers())[1:]))[0])
    other.store.remove(names.container_key(gone))
    report = other.index.refresh(other.store)
    assert report.removed == [gone]
    assert len(report.added) == 1


def test_what_lay_in_a_removed_container_is_not_found(pool: Pool) -> None:
    references = write(pool)
    container = pool.index.locate([references[0].frame_id], DOMAIN)[references[0].frame_id][0].container
    pool.index.remove(container)
    assert pool.index.locate([references[0].frame_id], DOMAIN) == {}
    assert pool.index.find_segments([references[0].name], DOMAIN) == {}
    with_segments = len(pool.index.find_segments([r.name for r in references], DOMAIN))
    pool.index.purge()
    assert len(pool.index.find_segments([r.name for r in references], DOMAIN)) == with_segments > 0


def test_presence_is_answered_for_one_origin(pool: Pool) -> None:
    frame_id = write(pool)[0].frame_id
    assert pool.index.lacking([frame_id, b"x" * 32], DOMAIN) == [b"x" * 32]
    assert pool.index.lacking([frame_id], OTHER_DOMAIN) == [frame_id]
    assert pool.index.locate([frame_id], OTHER_DOMAIN) == {}


def test_questions_by_the_thousand_are_answered(pool: Pool) -> None:
    references = write(pool, 1_200)
    asked = [r.name for r in references] + [type(references[0].name)(RANDOM.randbytes(32)) for _ in range(1_000)]
    found = pool.index.find_segments(asked, DOMAIN)
    assert set(found) == {r.name for r in references}
    for reference in references:
        hit = found[reference.name][0]
        assert (hit.frame, hit.position) == (reference.frame_id, reference.position)
        assert (hit.frame_length, hit.frame_bytes) == (reference.frame_length, reference.frame_bytes)


def test_every_container_is_a_numbered_event(pool: Pool) -> None:
    write(pool)
    events = pool.index.events()
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    assert {event.container for event in events} == {row[0] for row in pool.index.containers()}
    pool.index.remove(events[0].container)
    (last,) = pool.index.events(after=len(events))
    assert (last.container, last.is_sealed) == (events[0].container, False)


def test_taking_in_a_container_twice_changes_nothing(pool: Pool) -> None:
    write(pool)
    before = facts(pool), pool.index.events()
    pool.index.refresh(pool.store)
    assert (facts(pool), pool.index.events()) == before


def test_a_container_with_a_damaged_footer_is_named_and_its_frames_are_found(pool: Pool) -> None:
    references = write(pool, 4)
    ((container, _, _, size),) = pool.index.containers()
    path = pool.folder.path / names.container_key(container)
    data = bytearray(path.read_bytes())
    data[size - 100] ^= 1
    path.write_bytes(data)
    report = pool.index.rebuild(pool.store)
    assert [problem[0] for problem in report.problems] == [container]
    assert "was changed" in report.problems[0][1]
    assert list(pool.index.locate([references[0].frame_id], DOMAIN)) == [references[0].frame_id]


def test_a_footer_that_claims_an_impossible_item_is_not_believed(pool: Pool) -> None:
    """Nobody signs a footer: whoever looks for such a frame would read it whole before its digest is known."""
    container = ContainerId(bytes(16))
    header = encode_header(Header(container, MEDIUM, DOMAIN, 1, Content.FRAMES))
    footer = FooterBuilder(header)
    footer.add(bytes(32), MAX_FRAME_BYTES + 1, ROW.pack(bytes(32), 1))
    path = pool.folder.path / names.container_key(container)
    path.parent.mkdir()
    with path.open("wb") as file:
        file.write(header)
        file.seek(footer.offset)
        file.write(footer.finish().data)
    ((named, why),) = pool.index.refresh(pool.store).problems
    assert (named, "lists an item" in why) == (container, True)
    assert pool.index.locate([FrameId(bytes(32))], DOMAIN) == {}


def test_a_container_with_a_damaged_header_is_named_and_left_out(pool: Pool) -> None:
    write(pool, 4)
    ((container, _, _, _),) = pool.index.containers()
    path = pool.folder.path / names.container_key(container)
    data = bytearray(path.read_bytes())
    data[HEADER_BYTES - 1] ^= 1
    path.write_bytes(data)
    report = pool.index.rebuild(pool.store)
    assert [problem[0] for problem in report.problems] == [container]
    assert list(pool.index.containers()) == []


def test_an_index_in_use_by_another_process_is_not_thrown_away(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    write(pool)
    kept = facts(pool)
    monkeypatch.setattr("strongroom.pool.cache_file._BUSY_SECONDS", 0.05)
    pool.index.close()
    with closing(sqlite3.connect(pool.folder.index_path / FILE_NAME)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(IndexBusyError):
            Pool.open(pool.folder.path)
    assert facts(pool) == kept


def test_an_index_without_room_says_so(pool: Pool) -> None:
    with pool.index._file.using() as db:
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {pages + 1}")
    with pytest.raises(PoolFullError, match="index"):
        write(pool, 2_000)


def test_a_pool_opens_when_there_is_no_room_for_the_index_to_grow(pool: Pool) -> None:
    write(pool, 400)
    sealed = {row[0] for row in pool.index.containers()}
    pool.index.close()
    (pool.folder.index_path / FILE_NAME).unlink()
    small = Index(pool.folder.index_path, pool.entropy, medium=MEDIUM)
    with small._file.using() as db:
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {pages}")
    report = small.refresh(pool.store)
    assert report.problems
    assert "no room" in report.problems[0][1]
    assert {container for container, _ in report.problems} | set(report.added) == sealed
