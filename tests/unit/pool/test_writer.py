"""P1: segments go into frames, frames into containers; what is there is not stored again."""

from __future__ import annotations

import os
import random
from datetime import timedelta
from pathlib import Path

import pytest

from strongroom.core.errors import KeyUnavailableError
from strongroom.formats import container as container_format
from strongroom.formats import frame
from strongroom.pool import names
from strongroom.pool.errors import SessionClosedError
from strongroom.pool.incoming import INCOMING
from strongroom.pool.keys import FrameKey, NonceCounter
from strongroom.pool.references import Reference
from strongroom.pool.writer import WriterLimits
from tests.support.pool import DOMAIN, OTHER_DOMAIN, Keys, Pool, named

SMALL = WriterLimits(frame_bytes=4_000, container_bytes=40_000, in_flight_bytes=20_000)
RANDOM = random.Random(2)  # noqa: S311 - test data


def segments(count: int, size: int = 1_000) -> list[bytes]:
    return [RANDOM.randbytes(size) for _ in range(count)]


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return Pool.create(tmp_path / "pool")


def read(pool: Pool, references: list[Reference]) -> list[bytes]:
    with pool.reader() as reader:
        return [bytes(segment) for segment in reader.read(references)]


def frames_in(pool: Pool) -> dict[bytes, bytes]:
    """All frames that lie in containers, by id."""
    found = {}
    for container, _, _, _ in pool.index.containers():
        data = pool.store.read(names.container_key(container))
        for _, item in frame_items(data):
            found[bytes(frame.frame_id(item))] = item
    return found


def frame_items(data: bytes) -> list[tuple[int, bytes]]:
    return list(container_format.scan(lambda at, length: data[at : at + length]))


def test_a_stream_comes_back_in_its_order(pool: Pool) -> None:
    stream = segments(100)
    stream[50:50] = [stream[3], stream[3], stream[99]]
    references = pool.write(stream, SMALL)
    assert [reference.length for reference in references] == [1_000] * 103
    assert read(pool, references) == stream


def test_references_come_out_in_order_as_their_frames_close(pool: Pool) -> None:
    stream = segments(60)
    with pool.session(limits=SMALL) as session:
        writer = session.writer()
        early = [reference for segment in stream for reference in writer.add(named(session, [segment]))]
        late = writer.finish()
        session.finish()
    assert late, "the last frame is open until the stream ends"
    assert [reference.name for reference in early + late] == session.name(stream)


def test_neighbouring_segments_share_a_frame(pool: Pool) -> None:
    references = pool.write(segments(16), SMALL)
    assert [reference.position for reference in references] == [0, 1, 2, 3] * 4
    assert {reference.frame_bytes for reference in references} == {4_000}


def test_a_segment_twice_in_a_session_is_stored_once(pool: Pool) -> None:
    one = segments(1)[0]
    references = pool.write([one] * 20, SMALL)
    assert len(set(references)) == 1
    assert len(frames_in(pool)) == 1


def test_the_next_session_finds_what_is_there(pool: Pool) -> None:
    stream = segments(50)
    first = pool.write(stream, SMALL)
    before = frames_in(pool)
    second = pool.write([*stream, *segments(1)], SMALL)
    assert second[:50] == first
    assert len(frames_in(pool)) == len(before) + 1


def test_a_segment_under_an_unusable_data_key_is_stored_anew(pool: Pool) -> None:
    stream = segments(4)
    first = pool.write(stream, SMALL)
    pool.keys.unusable.add(first[0].data_key_id)
    second = pool.write(stream, SMALL)
    assert {reference.data_key_id for reference in second}.isdisjoint(pool.keys.unusable)
    assert pool.write(stream, SMALL) == second
    pool.keys.unusable = {second[0].data_key_id}
    assert pool.write(stream, SMALL) == first


def test_an_encrypted_image_never_refers_to_a_clear_frame_nor_a_clear_one_to_an_encrypted(pool: Pool) -> None:
    stream = segments(4)
    with pool.session(is_encrypted=False, limits=SMALL) as session:
        writer = session.writer()
        clear = writer.add(named(session, stream)) + writer.finish()
        session.finish()
    encrypted = pool.write(stream, SMALL)
    assert {reference.data_key_id for reference in clear} == {frame.NO_KEY}
    assert frame.NO_KEY not in {reference.data_key_id for reference in encrypted}
    with pool.session(is_encrypted=False, limits=SMALL) as session:
        writer = session.writer()
        assert writer.add(named(session, stream)) + writer.finish() == clear
    assert read(pool, clear) == read(pool, encrypted) == stream


def test_nothing_of_another_origin_is_a_hit(pool: Pool) -> None:
    references = pool.write(segments(1), SMALL)
    assert pool.index.find_segments([references[0].name], OTHER_DOMAIN) == {}
    assert list(pool.index.find_segments([references[0].name], DOMAIN)) == [references[0].name]


def test_each_container_has_a_key_of_its_own_and_no_nonce_comes_twice(pool: Pool) -> None:
    pool.write(segments(200), SMALL)
    heads = [frame.parse_head(item) for item in frames_in(pool).values()]
    assert len({(head.data_key, head.nonce) for head in heads}) == len(heads) == 50
    for container, _, _, _ in pool.index.containers():
        items = frame_items(pool.store.read(names.container_key(container)))
        in_container = [frame.parse_head(item) for _, item in items]
        assert len({head.data_key for head in in_container}) == 1
        counters = sorted(int.from_bytes(head.nonce, "big") for head in in_container)
        assert counters == list(range(1, len(counters) + 1))


def test_containers_are_sealed_when_they_are_full(pool: Pool) -> None:
    pool.write(segments(200), SMALL)
    sizes = [size for _, _, _, size in pool.index.containers()]
    assert len(sizes) > 4
    assert max(sizes) < 50_000


def test_two_streams_of_a_session_do_not_share_frames(pool: Pool) -> None:
    with pool.session() as session:
        entries, payload = session.writer(), session.writer()
        entries.add(named(session, segments(3)))
        payload.add(named(session, segments(3)))
        first, second = entries.finish(), payload.finish()
        session.finish()
    assert {r.frame_id for r in first}.isdisjoint(r.frame_id for r in second)
    assert len(list(pool.index.containers())) == 1


def test_an_aborted_session_names_nothing_and_the_next_one_starts_clean(pool: Pool) -> None:
    stream = segments(10)
    with pool.session() as session:
        session.writer().add(named(session, stream))
    assert list(pool.store.list("containers/")) == []
    assert list((pool.folder.path / INCOMING).iterdir()) == []
    assert read(pool, pool.write(stream)) == stream


def test_what_an_aborted_session_had_sealed_is_found_again(pool: Pool) -> None:
    stream = segments(200)
    with pool.session(limits=SMALL) as session:
        writer = session.writer()
        for segment in stream:
            writer.add(named(session, [segment]))
        writer.finish()
    sealed = len(frames_in(pool))
    assert 0 < sealed < 50
    assert read(pool, pool.write(stream, SMALL)) == stream
    assert len(frames_in(pool)) == 50


def test_a_session_remembers_only_what_the_index_does_not_know_yet(pool: Pool) -> None:
    with pool.session(limits=SMALL) as session:
        writer = session.writer()
        for segment in segments(400):
            writer.add(named(session, [segment]))
        writer.finish()
        remembered = len(writer._recent)
        session.finish()
        assert len(writer._recent) == 0
    assert remembered < 200


def test_the_newest_place_of_a_segment_is_taken(pool: Pool) -> None:
    stream = segments(4)
    first = pool.write(stream, SMALL)
    pool.keys.unusable.add(first[0].data_key_id)
    pool.clock.advance(timedelta(seconds=1))
    second = pool.write(stream, SMALL)
    pool.keys.unusable.clear()
    assert pool.write(stream, SMALL) == second


def test_without_a_data_key_there_is_no_frame(pool: Pool) -> None:
    class Locked(Keys):
        def next_key(self) -> FrameKey:
            raise KeyUnavailableError("the keystore is locked")

    pool.keys = Locked(pool.entropy)
    with pytest.raises(KeyUnavailableError):
        pool.write(segments(3))
    assert list(pool.store.list("containers/")) == []
    assert list((pool.folder.path / INCOMING).iterdir()) == []


def test_a_closed_session_takes_nothing(pool: Pool) -> None:
    session = pool.session(limits=SMALL)
    writer = session.writer()
    writer.add(named(session, segments(1)))
    session.abort()
    with pytest.raises(SessionClosedError):
        writer.add(named(session, segments(10)))
    with pytest.raises(SessionClosedError):
        session.finish()


def test_a_session_does_not_finish_before_its_streams(pool: Pool) -> None:
    with pool.session() as session:
        session.writer().add(named(session, segments(1)))
        with pytest.raises(ValueError, match="not finished"):
            session.finish()


@pytest.mark.parametrize("size", [0, (4 << 20) + 1])
def test_a_segment_out_of_bounds_is_a_mistake(pool: Pool, size: int) -> None:
    with pool.session() as session, pytest.raises(ValueError, match="cannot be"):
        session.writer().add(named(session, [bytes(size)]))


def test_many_hits_behind_an_open_frame_do_not_gather_without_bound(pool: Pool) -> None:
    known = segments(1, size=10)[0]
    pool.write([known])
    with pool.session() as session:
        writer = session.writer()
        assert writer.add(named(session, [b"new"])) == []
        given = sum(len(writer.add(named(session, [known] * 1_000))) for _ in range(20))
        assert given > 10_000
        writer.finish()
        session.finish()


def test_nonces_are_not_drawn_in_a_forked_process() -> None:
    nonces = NonceCounter()
    assert [nonces.draw(), nonces.draw()] == [1, 2]
    child = os.fork()
    if child == 0:
        try:
            nonces.draw()
        except RuntimeError:
            os._exit(7)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    assert nonces.draw() == 3


def test_a_known_reference_takes_its_place_between_new_segments(pool: Pool) -> None:
    old = pool.write(segments(4), SMALL)
    first, second = segments(2)
    with pool.session(limits=SMALL) as session:
        writer = session.writer()
        references = writer.add(named(session, [first]))
        references += writer.refer(old[:1])
        references += writer.refer(old[1:])
        references += writer.add(named(session, [second])) + writer.finish()
        session.finish()
    assert references[1:5] == old
    assert read(pool, [references[0], references[5]]) == [first, second]


def test_only_new_bytes_are_counted_as_stored(pool: Pool) -> None:
    stream = segments(20)
    sizes = []
    for _ in range(2):
        with pool.session() as session:
            writer = session.writer()
            writer.add(named(session, stream))
            writer.finish()
            session.finish()
            sizes.append(session.stored_bytes)
    assert sizes[0] == sum(len(data) for data in frames_in(pool).values())
    assert sizes[1] == 0
