"""What a primary decides about images that other domains send, and about what its media servers say was written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from sqlalchemy import Connection

from strongroom.catalog import rows
from strongroom.catalog.expiry import expire_copy, forget_copy
from strongroom.catalog.model import CopyKey, CopyState
from strongroom.core.errors import StrongroomError, from_document, to_document
from strongroom.core.ids import HostId
from strongroom.database import transact
from strongroom.database.errors import DatabaseDamagedError
from strongroom.formats import signed
from strongroom.formats.hop import HOP
from strongroom.formats.receipt import RECEIPT, check_answers
from strongroom.replication.errors import AlreadyHeldError, BadImageError, OwnTroubleError, as_refusal
from strongroom.services import messages, sending_messages
from strongroom.services.primary import media_desk
from strongroom.services.primary.errors import ImageBusyError, NotYoursError
from tests.support.images import ORIGIN, fixed, image_id
from tests.support.primaries import POOL, OpenPrimary

IMAGE = ORIGIN.image()
NAME = image_id(IMAGE)


@pytest.fixture
def north(tmp_path: Path) -> Iterator[OpenPrimary]:
    north = OpenPrimary(tmp_path)
    north.trust(ORIGIN.id)
    north.save_import_policy(POOL)
    yield north
    north.close()


@pytest.fixture
def offer(north: OpenPrimary) -> sending_messages.Receive:
    return north.offer(ORIGIN, IMAGE, north.give_credential(north.pool, ORIGIN.id))


def test_receipt_answers_the_hop_of_the_image_that_was_imported(
    north: OpenPrimary, offer: sending_messages.Receive
) -> None:
    north.imported(north.commit_received(north.receiving.begin(north.host, offer)))
    ((peer, data),) = north.receipts
    assert peer == ORIGIN.id
    check_answers(
        signed.verify(RECEIPT, data, pinned=north.primary.domain).payload, signed.verify(HOP, offer.hop).payload
    )


def test_sender_goes_on_after_a_crash_between_commit_and_fragment(
    north: OpenPrimary, offer: sending_messages.Receive
) -> None:
    before = north.receiving.begin(north.host, offer)
    told = north.commit_received(before)
    again = north.receiving.begin(north.host, offer)
    assert again == before
    assert north.commit_received(again) == told


def test_sender_whose_credential_is_for_another_pool_now_begins_anew(
    north: OpenPrimary, offer: sending_messages.Receive
) -> None:
    before = north.receiving.begin(north.host, offer)
    other = north.add_pool("other")
    north.save_import_policy("other", "elsewhere")
    moved = north.offer(ORIGIN, IMAGE, north.give_credential(other, ORIGIN.id, "moved"), slp="elsewhere")
    after = north.receiving.begin(north.host, moved)
    assert after.medium == other
    assert after.session != before.session
    with pytest.raises(StrongroomError, match="not open"):
        north.commit_received(before)


def test_image_that_is_being_written_into_another_pool_waits(
    north: OpenPrimary, offer: sending_messages.Receive
) -> None:
    north.commit_received(north.receiving.begin(north.host, offer))
    other = north.add_pool("other")
    north.save_import_policy("other", "elsewhere")
    moved = north.offer(ORIGIN, IMAGE, north.give_credential(other, ORIGIN.id, "moved"), slp="elsewhere")
    with pytest.raises(ImageBusyError) as refused:
        north.receiving.begin(north.host, moved)
    assert refused.value.retry == "later"


def test_image_that_is_here_is_not_taken_again_even_when_an_earlier_copy_is_gone(
    north: OpenPrimary, offer: sending_messages.Receive
) -> None:
    north.imported(north.commit_received(north.receiving.begin(north.host, offer)))
    first = CopyKey(NAME, north.primary.domain, 1)
    now, own = north.primary.clock.now(), north.primary.domain

    def expire(connection: Connection) -> None:
        expire_copy(connection, first, own=own, now=now, reason="", early=True)
        forget_copy(connection, first)

    transact(north.primary.engine, expire)
    north.imported(north.commit_received(north.receiving.begin(north.host, offer)))
    second = north.find_copy(NAME, 2)
    assert second is not None
    assert second.state is CopyState.COMPLETE
    with pytest.raises(AlreadyHeldError):
        north.receiving.begin(north.host, offer)


def test_no_receipt_says_that_another_header_of_the_same_identity_is_here(
    north: OpenPrimary, offer: sending_messages.Receive
) -> None:
    north.imported(north.commit_received(north.receiving.begin(north.host, offer)))
    twin = north.offer(ORIGIN, ORIGIN.image(files=8), north.give_credential(north.pool, ORIGIN.id, "twin"))
    with pytest.raises(BadImageError):
        north.receiving.begin(north.host, twin)
    assert len(north.receipts) == 1


def test_offer_whose_hops_do_not_hold_is_a_bad_image(north: OpenPrimary, offer: sending_messages.Receive) -> None:
    changed = replace(offer, copy_header=offer.copy_header[:-1] + bytes([offer.copy_header[-1] ^ 1]))
    with pytest.raises(BadImageError):
        north.receiving.begin(north.host, changed)
    second = replace(signed.verify(HOP, offer.hop).payload, previous=fixed("no hop of this image"))
    with pytest.raises(BadImageError, match="does not name the hop before it"):
        north.receiving.begin(north.host, replace(offer, hop=signed.sign(HOP, second, ORIGIN.signer)))


def test_image_of_which_another_header_came_meanwhile_is_a_bad_image(
    north: OpenPrimary, offer: sending_messages.Receive
) -> None:
    session = north.receiving.begin(north.host, offer)
    transact(north.primary.engine, lambda c: rows.write_image(c, ORIGIN.image(files=8)))  # as an import does
    with pytest.raises(BadImageError, match="has the header"):
        north.commit_received(session)


def test_database_that_cannot_be_read_is_no_word_about_the_image(
    north: OpenPrimary, offer: sending_messages.Receive
) -> None:
    path = Path(north.primary.engine.url.database or "")
    north.primary.engine.dispose()
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + b"\xff" * (len(whole) - 100))
    with pytest.raises(DatabaseDamagedError) as failed:
        north.receiving.begin(north.host, offer)
    north.primary.engine.dispose()
    path.write_bytes(whole)
    told = as_refusal(from_document(to_document(failed.value)))  # as the media server hears it, and tells the sender
    assert isinstance(told, OwnTroubleError)
    assert "database.damaged" in told.message
    north.commit_received(north.receiving.begin(north.host, offer))


def test_media_server_acknowledges_only_copies_of_the_pool_that_it_names(north: OpenPrimary) -> None:
    north.save_backup_policy()
    image = north.back_up()
    other_host = HostId(fixed("another media server", 16))
    elsewhere = north.add_pool("elsewhere", other_host)
    with pytest.raises(NotYoursError):
        north.desk.written(other_host, messages.Written(medium=elsewhere, image=image, copy=1))
    copy = north.find_copy(image, 1)
    assert copy is not None
    assert copy.state is CopyState.COMMITTING
    north.acknowledge(image)


def test_answer_to_a_beat_fits_into_a_record_whatever_waits(
    north: OpenPrimary, monkeypatch: pytest.MonkeyPatch
) -> None:
    north.save_backup_policy()
    for number in range(3):
        north.back_up(f"files{number}")
    beat = messages.Beat(version="1", pools=[])
    (one, *_) = north.desk.beat(north.host, beat).fragments
    monkeypatch.setattr(media_desk, "MOST_ANSWER_BYTES", 2 * len(one.data) + 10)
    written = 0
    while fragments := north.desk.beat(north.host, beat).fragments:
        assert len(fragments) <= 2
        for fragment in fragments:
            north.desk.written(north.host, messages.Written(medium=north.pool, image=fragment.image, copy=1))
            written += 1
    assert written == 3
