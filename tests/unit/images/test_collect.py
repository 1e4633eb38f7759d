"""P2: what no image needs goes, an epoch after it was condemned; what an image needs, or may come to need, stays."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from pathlib import Path

import pytest

from strongroom.core.clock import to_ns
from strongroom.core.ids import FrameId, ImageId
from strongroom.formats import image_stream
from strongroom.formats.fragment import Fragment
from strongroom.images.collect import Collected, collect
from strongroom.images.verify import verify_image
from strongroom.pool import names, writer
from strongroom.pool.collection import Epochs
from strongroom.pool.errors import CannotMarkError
from strongroom.pool.index import FILE_NAME
from strongroom.pool.log import OwnLog
from strongroom.pool.writer import WriterLimits
from tests.support.vault import Vault, random_bytes
from tests.unit.images.test_hostile_streams import data, record, same, stream

FIRST, SECOND = random_bytes("first", 400_000), random_bytes("second", 300_000)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "vault")


def blocks_of(*contents: bytes) -> list[bytes]:
    blocks = []
    for number, one in enumerate(contents):
        blocks += [data(one), record(b"/%d" % number, len(one))]
    blocks.append(image_stream.cut())
    return stream(*blocks, files=len(contents), content=sum(map(len, contents)))


def back_up(vault: Vault, name: str, *contents: bytes, limits: WriterLimits | None = None) -> Fragment:
    return vault.store(blocks_of(*contents), name=name, limits=limits)[0]


def expire(vault: Vault, image: Fragment) -> None:
    vault.pool.fragments.remove(ImageId(image.image.payload.image), 1)


def run(
    vault: Vault,
    epoch: int,
    closed_before: int | None = None,
    *,
    young_ns: int | None = None,
    committing: Collection[bytes] = (),
    without: Collection[str] = (),
    dry_run: bool = False,
) -> Collected:
    return collect(
        vault.pool,
        epochs=Epochs(epoch, epoch if closed_before is None else closed_before, young_ns),
        committing=committing,
        without=without,
        dry_run=dry_run,
        check=lambda *_: None,
        log=OwnLog(),
    )


def containers(vault: Vault) -> set[str]:
    return {path.name for path in (vault.path / "containers").glob("*/*")}


def is_whole(vault: Vault, image: Fragment) -> bool:
    return list(verify_image(vault.pool, image, vault)) == []


def test_what_no_image_needs_is_condemned_and_goes_an_epoch_later_p2(vault: Vault) -> None:
    kept, gone = back_up(vault, "kept", FIRST), back_up(vault, "gone", SECOND)
    before = containers(vault)
    expire(vault, gone)
    told = run(vault, 1)
    assert (told.images, told.condemned.containers, told.removed.containers) == (1, 2, 0)
    assert containers(vault) == before
    told = run(vault, 2, 1)
    assert (told.waiting.containers, told.removed.containers) == (2, 0)
    assert containers(vault) == before
    told = run(vault, 2)
    assert (told.removed.containers, told.envelopes) == (2, 1)
    assert told.removed.bytes == told.unneeded.bytes > 300_000
    assert len(containers(vault)) == 2
    assert is_whole(vault, kept)
    vault.reopen()
    assert vault.pool.refreshed.removed == []
    assert is_whole(vault, kept)


def test_backup_does_not_refer_to_what_is_condemned_p2(vault: Vault) -> None:
    expire(vault, back_up(vault, "gone", FIRST))
    run(vault, 1)
    again = back_up(vault, "again", FIRST)
    assert run(vault, 2).removed.containers == 2
    assert is_whole(vault, again)


def test_backup_that_began_before_keeps_what_it_refers_to_p2(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_ASKED_BYTES", 1)  # what is there already is looked for before the end
    gone = back_up(vault, "gone", FIRST)
    with vault.session() as session:
        for chunk in blocks_of(FIRST):
            session.feed(chunk)
        expire(vault, gone)
        assert run(vault, 1).condemned.containers == 2
        assert run(vault, 2, 1).removed.containers == 0
        kept = vault.commit(session.finish(), name="kept")
    told = run(vault, 2)
    assert (told.reprieved, told.removed.containers) == (1, 1)  # its pages were written anew
    assert is_whole(vault, kept)
    assert run(vault, 3).removed.containers == 0
    assert vault.pool.index.condemned() == {}


def test_backup_refers_to_the_previous_image_whatever_was_condemned_meanwhile_p2(vault: Vault) -> None:
    gone = back_up(vault, "gone", FIRST)
    with vault.session() as session:
        for chunk in blocks_of(FIRST):
            session.feed(chunk)
        expire(vault, gone)
        run(vault, 1)
        previous = vault.commit(session.finish(), name="previous")
    blocks = stream(same(0), files=1, content=len(FIRST))
    image, _ = vault.store(blocks, name="image", previous=previous)
    run(vault, 2)
    assert is_whole(vault, image)


def test_signed_image_whose_headers_are_not_written_yet_keeps_its_data_p2(vault: Vault) -> None:
    image = back_up(vault, "image", FIRST)
    expire(vault, image)
    committing = [image.copy.data + image.trailer.data]
    assert run(vault, 1, committing=committing).condemned.containers == 0
    assert run(vault, 1).condemned.containers == 2


def test_what_is_younger_than_the_oldest_session_is_left_alone_p2(vault: Vault) -> None:
    expire(vault, back_up(vault, "old", FIRST))
    vault.clock.advance(timedelta(hours=1))
    began = to_ns(vault.clock.now())
    expire(vault, back_up(vault, "young", SECOND))
    told = run(vault, 1, young_ns=began)
    assert (told.unneeded.containers, told.condemned.containers) == (4, 2)
    told = run(vault, 2, young_ns=began)
    assert (told.removed.containers, told.envelopes, len(containers(vault))) == (2, 1, 2)


def test_plan_changes_nothing_and_counts_what_is_about_to_go(vault: Vault) -> None:
    image = back_up(vault, "image", FIRST)
    name = names.image_key(ImageId(image.image.payload.image), 1)
    told = run(vault, 1, without=[name], dry_run=True)
    assert (told.images, told.unneeded.containers, told.condemned.containers) == (0, 2, 0)
    assert vault.pool.index.condemned() == {}
    assert run(vault, 2).condemned.containers == 0


def test_dead_frames_in_a_container_that_stays_are_counted(vault: Vault) -> None:
    small = WriterLimits(frame_bytes=1)  # a frame for each segment
    gone = back_up(vault, "gone", FIRST, SECOND, limits=small)
    kept = back_up(vault, "kept", FIRST, limits=small)
    expire(vault, gone)
    told = run(vault, 1)
    assert told.condemned.containers == 1
    assert 250_000 < told.sparse_bytes < 450_000
    assert is_whole(vault, kept)


def test_nothing_goes_while_nobody_can_tell_what_an_image_needs_p2(vault: Vault) -> None:
    image, gone = back_up(vault, "image", FIRST), back_up(vault, "gone", SECOND)
    expire(vault, gone)
    run(vault, 1)
    path = vault.path / names.image_key(ImageId(image.image.payload.image), 1)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(CannotMarkError, match=path.name):
        run(vault, 2)
    path.write_bytes(whole)
    root = FrameId(image.image.payload.payload.root)  # type: ignore[union-attr]
    (place,) = vault.pool.index.locate([root], vault.id)[root]
    container = vault.path / names.container_key(place.container)
    bytes_there = bytearray(container.read_bytes())
    bytes_there[place.offset + 20] ^= 1
    container.write_bytes(bytes_there)
    with pytest.raises(CannotMarkError, match=root.hex()):
        run(vault, 2)
    assert len(containers(vault)) == 4


def test_container_whose_footer_is_damaged_stays_and_so_do_all_envelopes(vault: Vault) -> None:
    expire(vault, back_up(vault, "gone", FIRST))
    ((container, *_), *_) = vault.pool.index.containers()
    path = vault.path / names.container_key(container)
    damaged = bytearray(path.read_bytes())
    damaged[-120] ^= 1
    path.write_bytes(damaged)
    told = run(vault, 1)
    assert [line.split("'")[1] for line in told.unread] == [container.hex()]
    told = run(vault, 2)
    assert (told.removed.containers, told.envelopes) == (1, 0)
    assert path.exists()


def test_lost_index_reprieves_everything(vault: Vault) -> None:
    expire(vault, back_up(vault, "gone", FIRST))
    run(vault, 1)
    vault.pool.close()
    (vault.path / "index" / FILE_NAME).unlink()
    vault.reopen()
    told = run(vault, 2)
    assert (told.condemned.containers, told.removed.containers) == (2, 0)


def test_condemned_envelope_is_lacking_and_comes_back_with_its_bytes(vault: Vault) -> None:
    expire(vault, back_up(vault, "gone", FIRST))
    (held,) = vault.pool.envelopes.for_frames()
    envelope = vault.pool.envelopes.read_newest(held.envelope, vault.id)
    assert envelope is not None
    run(vault, 1)
    assert vault.pool.envelopes.lacking(vault.id, [held.envelope]) == [held.envelope]
    vault.pool.envelopes.put(envelope)
    assert vault.pool.envelopes.lacking(vault.id, [held.envelope]) == []
    told = run(vault, 2)
    assert (told.removed.containers, told.envelopes) == (2, 0)
    assert run(vault, 3).envelopes == 1


def test_mark_is_left_to_nobody_when_the_job_is_cancelled(vault: Vault) -> None:
    class Cancelled(Exception):
        pass

    def check(message: str, done: int = 0, total: int = 0) -> None:
        raise Cancelled

    expire(vault, back_up(vault, "gone", FIRST))
    back_up(vault, "kept", SECOND)
    with pytest.raises(Cancelled):
        collect(vault.pool, epochs=Epochs(1, 1, None), committing=[], dry_run=False, check=check, log=OwnLog())
    assert vault.pool.index.condemned() == {}
