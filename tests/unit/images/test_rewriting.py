"""P2: what is needed of a container that nobody needs otherwise goes into a new one, so that its room comes back."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from strongroom.core.errors import UnavailableError
from strongroom.core.ids import FrameId
from strongroom.formats.container import NO_MARK
from strongroom.formats.fragment import Fragment
from strongroom.images.collect import Collected, Rewriting, collect
from strongroom.pool import names, writer
from strongroom.pool.collection import Epochs
from strongroom.pool.errors import FrameMissingError, PoolFullError
from strongroom.pool.folder import Folder
from strongroom.pool.index import FILE_NAME, Index
from strongroom.pool.log import OwnLog
from strongroom.pool.reader import FrameReader, StoredFrame
from strongroom.pool.rewriting import Limits
from strongroom.pool.writer import WriterLimits
from tests.support.vault import Vault, random_bytes
from tests.unit.images.test_collect import back_up, blocks_of, containers, expire, is_whole

FIRST, SECOND, THIRD = (random_bytes(name, 400_000) for name in ("first", "second", "third"))
SMALL = WriterLimits(frame_bytes=1)  # a frame for each segment


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "vault")


def run(vault: Vault, epoch: int, rewriting: Rewriting | None = None, *, dry_run: bool = False) -> Collected:
    vault.clock.advance(timedelta(seconds=1))
    return collect(
        vault.pool,
        epochs=Epochs(epoch, epoch, None),
        committing=[],
        rewriting=rewriting or vault.rewriting(),
        dry_run=dry_run,
        check=lambda *_: None,
        log=OwnLog(),
    )


def sparse(vault: Vault, *, encrypted: bool = True) -> Fragment:
    """An image that needs a third of a container of frames."""
    gone, _ = vault.store(blocks_of(FIRST, SECOND, THIRD), name="gone", limits=SMALL, encrypted=encrypted)
    kept, _ = vault.store(blocks_of(FIRST), name="kept", limits=SMALL, encrypted=encrypted)
    expire(vault, gone)
    return kept


def stored(vault: Vault) -> int:
    return sum(path.stat().st_size for path in (vault.path / "containers").glob("*/*"))


def place_of(vault: Vault, image: Fragment) -> tuple[Path, int, bytes]:
    """File, offset and id of the first frame of an image's payload."""
    with vault.reading(image) as opened:
        frame = next(iter(opened.payload_references())).frame_id
    place = vault.pool.index.locate([frame], vault.id)[frame][0]
    return vault.path / names.container_key(place.container), place.offset, frame


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def test_needed_frames_are_copied_and_the_room_of_the_others_comes_back_p2(vault: Vault) -> None:
    kept = sparse(vault)
    before = stored(vault)
    told = run(vault, 1)
    assert (told.rewritten.containers, told.condemned.containers, told.sparse_bytes) == (1, 2, 0)
    assert 250_000 < told.copied_bytes < 450_000
    assert is_whole(vault, kept)
    told = run(vault, 2)
    assert (told.removed.containers, told.rewritten.containers, told.damaged) == (2, 0, [])
    assert before - stored(vault) > 780_000
    assert is_whole(vault, kept)
    vault.reopen()
    assert (vault.pool.refreshed.added, vault.pool.refreshed.removed) == ([], [])
    assert is_whole(vault, kept)


@pytest.mark.parametrize("encrypted", [True, False])
def test_backup_finds_again_what_was_rewritten(vault: Vault, encrypted: bool) -> None:
    sparse(vault, encrypted=encrypted)
    run(vault, 1)
    assert run(vault, 2).removed.containers == 2
    _, result = vault.store(blocks_of(FIRST), name="again", limits=SMALL, encrypted=encrypted)
    assert result.added_bytes < 10_000


def test_copy_of_a_planted_container_bears_no_mark(vault: Vault) -> None:
    """Who can write to the medium can name what they like; rewriting must not vouch for it."""
    kept = sparse(vault)
    path, _, _ = place_of(vault, kept)
    data = bytearray(path.read_bytes())
    data[-48] ^= 1  # in the mark
    path.write_bytes(data)
    vault.pool.index.rebuild(vault.pool.store)
    run(vault, 1)
    path, _, _ = place_of(vault, kept)
    assert path.read_bytes()[-48:-16] == NO_MARK
    assert run(vault, 2).removed.containers == 2
    assert is_whole(vault, kept)
    assert vault.store(blocks_of(FIRST), name="again", limits=SMALL)[1].added_bytes > 300_000


def test_container_waits_while_its_naming_key_cannot_be_had(vault: Vault) -> None:
    def away(*_: object) -> None:
        raise UnavailableError("the primary is away")

    kept = sparse(vault)
    told = run(vault, 1, Rewriting(Limits(100, 1 << 40), away, lambda _: None))
    assert (told.rewritten.containers, told.rewrite_later, told.copied_bytes) == (0, 1, 0)
    assert told.sparse_bytes > 780_000
    told = run(vault, 2)
    assert (told.rewritten.containers, told.rewrite_later) == (1, 0)
    assert is_whole(vault, kept)


def test_container_is_rewritten_without_a_mark_when_its_naming_key_is_gone_for_good(vault: Vault) -> None:
    kept = sparse(vault)
    told = run(vault, 1, Rewriting(Limits(100, 1 << 40), lambda *_: None, lambda _: None))
    assert told.rewritten.containers == 1
    path, _, _ = place_of(vault, kept)
    assert path.read_bytes()[-48:-16] == NO_MARK
    assert is_whole(vault, kept)


def test_only_what_is_needed_by_less_than_the_threshold_is_rewritten(vault: Vault) -> None:
    sparse(vault)  # needed by a third or less
    told = run(vault, 1, vault.rewriting(percent=10))
    assert (told.rewritten.containers, told.rewrite_later) == (0, 0)
    assert run(vault, 1, vault.rewriting(percent=50)).rewritten.containers == 1


def test_pass_writes_no_more_than_it_may_and_the_next_one_goes_on(vault: Vault) -> None:
    kept = [sparse(vault)]
    for name in ("more", "yet more"):
        one = random_bytes(name, 400_000)
        gone = back_up(vault, f"gone {name}", one, random_bytes(f"rest of {name}", 800_000), limits=SMALL)
        kept.append(back_up(vault, f"kept {name}", one, limits=SMALL))
        expire(vault, gone)
    most = 500_000
    left = []
    for epoch in range(1, 5):
        told = run(vault, epoch, vault.rewriting(most_bytes=most))
        assert told.copied_bytes <= most
        left.append(told.rewrite_later)
    assert left == [2, 1, 0, 0]
    assert all(is_whole(vault, image) for image in kept)


def test_pace_is_asked_before_every_copy(vault: Vault) -> None:
    sparse(vault)
    paced: list[int] = []
    told = run(vault, 1, Rewriting(Limits(100, 1 << 40), vault.open_naming_key, paced.append))
    assert sum(paced) == told.copied_bytes > 0


def test_plan_tells_what_would_be_copied_and_changes_nothing(vault: Vault) -> None:
    sparse(vault)
    before = containers(vault)
    plan = run(vault, 1, dry_run=True)
    assert containers(vault) == before
    assert vault.pool.index.condemned() == {}
    told = run(vault, 1)
    assert plan.rewritten == told.rewritten
    assert (plan.copied_bytes, plan.sparse_bytes) == (told.copied_bytes, told.sparse_bytes)


def test_container_with_a_damaged_frame_stays_and_the_frame_is_not_copied_p2(vault: Vault) -> None:
    kept = sparse(vault)
    path, offset, frame = place_of(vault, kept)
    flip(path, offset + 300)
    for epoch in range(1, 4):
        told = run(vault, epoch)
        assert told.rewritten.containers == 0
        assert [line.split("'")[1] for line in told.damaged] == [path.name]
        assert path.exists()
        assert len(vault.pool.index.locate([FrameId(frame)], vault.id)[frame]) == 1
    flip(path, offset + 300)
    assert run(vault, 4).rewritten.containers == 1
    assert run(vault, 5).removed.containers == 1
    assert is_whole(vault, kept)


def test_damage_behind_frames_that_were_copied_copies_them_once(vault: Vault) -> None:
    kept = sparse(vault)
    path, _, _ = place_of(vault, kept)
    with vault.reading(kept) as opened:
        frames = [reference.frame_id for reference in opened.payload_references()]
    places = [place for frame in frames for place in vault.pool.index.locate([frame], vault.id)[frame]]
    place = max((place for place in places if place.container.hex() == path.name), key=lambda place: place.offset)
    flip(path, place.offset + 300)
    copied = [run(vault, epoch).copied_bytes for epoch in range(1, 4)]
    assert copied[0] > 0
    assert copied[1:] == [0, 0]
    assert path.exists()
    flip(path, place.offset + 300)
    run(vault, 4)
    run(vault, 5)
    assert not path.exists()
    assert is_whole(vault, kept)


def test_damaged_copy_keeps_the_container_that_it_was_made_from_p2(vault: Vault) -> None:
    kept = sparse(vault)
    old, _, _ = place_of(vault, kept)
    run(vault, 1)
    new, offset, _ = place_of(vault, kept)
    assert new != old
    flip(new, offset + 300)
    told = run(vault, 2)
    assert (told.reprieved, old.exists()) == (1, True)
    for epoch in range(3, 6):
        told = run(vault, epoch)
        assert (told.condemned.containers, told.reprieved) == (0, 0)
        assert [line.split("'")[1] for line in told.damaged] == [old.name]
    assert is_whole(vault, kept)


def test_full_disk_ends_the_rewriting_and_not_the_collection_p2(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = sparse(vault)

    def full(*_: object) -> None:
        raise PoolFullError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "upload", full)
        told = run(vault, 1)
    assert (told.full, told.rewritten.containers, told.condemned.containers) == ("no room", 0, 1)
    assert run(vault, 2).rewritten.containers == 1
    assert is_whole(vault, kept)


def test_restore_that_looked_before_finds_the_copy_when_the_container_goes_p2(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = sparse(vault)
    locate = Index.locate
    told: list[Collected] = []

    def then_collect(index: Index, ids: list[FrameId], origin: bytes) -> object:
        found = locate(index, ids, origin)  # type: ignore[arg-type]
        monkeypatch.setattr(Index, "locate", locate)
        told.extend(run(vault, epoch) for epoch in (1, 2))
        return found

    with vault.reading(kept) as opened:
        references = list(opened.payload_references())
        monkeypatch.setattr(Index, "locate", then_collect)
        read = b"".join(bytes(opened.frames.frame(one.frame_id).segment(one)) for one in references)
    assert [one.removed.containers for one in told] == [0, 2]
    assert read == FIRST


def test_reader_at_another_media_server_catches_up_when_a_container_is_gone_c3(vault: Vault, tmp_path: Path) -> None:
    """Its index is its own, and hears of the copy only when it follows."""
    kept = sparse(vault)
    with vault.reading(kept) as opened:
        frame = next(iter(opened.payload_references())).frame_id
    store = vault.pool.store
    (tmp_path / "other").mkdir()
    other = Index(tmp_path / "other", vault.entropy, medium=vault.medium)
    other.rebuild(store)
    assert [run(vault, epoch).removed.containers for epoch in (1, 2)] == [0, 2]
    with FrameReader(store, other, origin=vault.id, key_for=lambda _: None) as reader:
        with pytest.raises(FrameMissingError):
            reader.stored(frame)

        def follow() -> None:
            other.refresh(store)

        other.catch_up = follow
        assert reader.stored(frame).container == vault.pool.index.locate([frame], vault.id)[frame][0].container
    other.close()


def test_image_that_is_read_all_the_while_stays_readable_p2(vault: Vault) -> None:
    kept = sparse(vault)
    with vault.reading(kept) as opened:
        pieces = opened.frames.read(opened.payload_references())
        read = [bytes(next(pieces))]
        run(vault, 1)
        run(vault, 2)
        read += [bytes(piece) for piece in pieces]
    assert b"".join(read) == FIRST


def test_lost_index_after_a_rewriting_costs_nothing_but_another_look(vault: Vault) -> None:
    kept = sparse(vault)
    run(vault, 1)
    vault.pool.close()
    (vault.path / "index" / FILE_NAME).unlink()
    vault.reopen()
    told = run(vault, 2)
    assert (told.condemned.containers, told.rewritten.containers, told.copied_bytes) == (2, 0, 0)
    assert run(vault, 3).removed.containers == 2
    assert is_whole(vault, kept)


def test_backup_that_refers_to_a_dead_frame_meanwhile_keeps_it_p2(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_ASKED_BYTES", 1)  # what is there already is looked for before the end
    sparse(vault)
    with vault.session(limits=SMALL) as session:
        for chunk in blocks_of(SECOND):
            session.feed(chunk)
        told = run(vault, 1)
        assert told.rewritten.containers == 1
        image = vault.commit(session.finish(), name="late")
    told = run(vault, 2)
    assert (told.reprieved, told.removed.containers) == (1, 1)
    assert is_whole(vault, image)
    for epoch in range(3, 6):
        run(vault, epoch)
    assert is_whole(vault, image)
    assert run(vault, 6).sparse_bytes == 0


def test_verify_tells_nothing_of_a_container_that_goes_meanwhile(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = sparse(vault)
    stored_of = FrameReader.stored

    def then_collect(reader: FrameReader, frame: FrameId) -> StoredFrame:
        found = stored_of(reader, frame)
        monkeypatch.setattr(FrameReader, "stored", stored_of)
        assert [run(vault, epoch).removed.containers for epoch in (1, 2)] == [0, 2]
        return found

    monkeypatch.setattr(FrameReader, "stored", then_collect)
    assert is_whole(vault, kept)
