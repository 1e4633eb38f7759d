"""How copies come into the catalog, and which can be read, on both kinds of database (X1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from sqlalchemy import Connection, Engine

from strongroom.catalog import keys
from strongroom.catalog.copies import (
    abandon_copy,
    abandon_lapsed,
    begin_copy,
    commit_copy,
    committing,
    mark_written,
    renew_lease,
)
from strongroom.catalog.errors import (
    ConflictError,
    ExpiryRefusedError,
    HeaderMismatchError,
    ImageNotFoundError,
    LeaseLostError,
    MediumConflictError,
    WrongStateError,
)
from strongroom.catalog.expiry import (
    due_for_expiry,
    expire_copy,
    forget_copy,
)
from strongroom.catalog.images import get_image
from strongroom.catalog.importing import import_fragment, missing_fragments
from strongroom.catalog.media import add_medium, advance_epoch, close_epoch, list_media, open_epochs
from strongroom.catalog.model import CameBy, CopyState, ExpiryBlock, Readability
from strongroom.catalog.rows import get_copy
from strongroom.core.ids import MediumId
from strongroom.database import write
from tests.support.catalogs import KNOWN, LATER, NOW, SESSION, add_pool, begin, stored
from tests.support.images import NS, ORIGIN, OTHER, SECOND_TAG, T0, TAG, TARGET, fixed, image_id


@pytest.fixture
def db(database: Engine) -> Iterator[Connection]:
    with write(database) as connection:
        add_pool(connection, ORIGIN)
        add_pool(connection, TARGET)
        yield connection


# ------------------------------------------------------------------ writing a copy


def test_copy_goes_from_lease_to_commit_to_complete(db: Connection) -> None:
    fragment = ORIGIN.copy(ORIGIN.image())
    key = begin(db, fragment)
    assert get_copy(db, key).state is CopyState.WRITING
    with pytest.raises(ImageNotFoundError):
        get_image(db, key.image)
    copy = commit_copy(db, SESSION, [fragment], now=NOW, known=KNOWN)
    assert (copy.state, copy.readability, copy.tags) == (CopyState.COMMITTING, Readability.READABLE, (TAG,))
    mark_written(db, key)
    mark_written(db, key)
    image = get_image(db, key.image)
    assert image.header == fragment.image.data
    assert [held.state for held in image.copies] == [CopyState.COMPLETE]
    assert image.copies[0].entries_root == fragment.image.payload.entries.root  # type: ignore[union-attr]


def test_committing_copy_gives_the_same_bytes_again_until_it_is_written(db: Connection) -> None:
    fragment = ORIGIN.copy(ORIGIN.image())
    key = begin(db, fragment)
    commit_copy(db, SESSION, [fragment], now=NOW, known=KNOWN)
    assert committing(db, ORIGIN.pool) == [(key, 1, fragment.copy.data + fragment.trailer.data)]
    mark_written(db, key)
    assert committing(db, ORIGIN.pool) == []


@pytest.mark.parametrize(
    "end_session",
    [
        lambda db: abandon_copy(db, SESSION),
        lambda db: abandon_lapsed(db, now=NOW + timedelta(hours=1)),
        lambda db: close_epoch(db, ORIGIN.pool, advance_epoch(db, ORIGIN.pool)),
    ],
    ids=["abandoned", "lapsed", "epoch closed"],
)
def test_commit_fails_when_lease_or_epoch_is_gone(db: Connection, end_session: Callable[[Connection], object]) -> None:
    fragment = ORIGIN.copy(ORIGIN.image())
    begin(db, fragment)
    end_session(db)
    with pytest.raises(LeaseLostError):
        commit_copy(db, SESSION, [fragment], now=NOW, known=KNOWN)
    with pytest.raises(ImageNotFoundError):
        get_image(db, image_id(fragment.image))


def test_commit_after_the_deadline_fails_and_renewing_moves_it(db: Connection) -> None:
    fragment = ORIGIN.copy(ORIGIN.image())
    begin(db, fragment)
    late = NOW + timedelta(minutes=6)
    with pytest.raises(LeaseLostError):
        commit_copy(db, SESSION, [fragment], now=late, known=KNOWN)
    with pytest.raises(LeaseLostError):
        renew_lease(db, SESSION, now=late, deadline=late + timedelta(hours=1))
    renew_lease(db, SESSION, now=NOW, deadline=late)
    commit_copy(db, SESSION, [fragment], now=late, known=KNOWN)


def test_session_of_a_newer_epoch_outlives_the_closing_of_an_older_one(db: Connection) -> None:
    ended = advance_epoch(db, ORIGIN.pool)
    fragment = ORIGIN.copy(ORIGIN.image())
    begin(db, fragment)
    assert open_epochs(db, ORIGIN.pool) == {ended + 1}
    close_epoch(db, ORIGIN.pool, ended)
    commit_copy(db, SESSION, [fragment], now=NOW, known=KNOWN)
    assert open_epochs(db, ORIGIN.pool) == frozenset()


def test_commit_refuses_headers_of_something_else(db: Connection) -> None:
    begin(db, ORIGIN.copy(ORIGIN.image()))
    for other in (
        [ORIGIN.copy(ORIGIN.image("another"))],
        [ORIGIN.copy(ORIGIN.image(), number=2)],
        [ORIGIN.copy(ORIGIN.image(), from_copy=3)],
        [],
    ):
        with pytest.raises(HeaderMismatchError):
            commit_copy(db, SESSION, other, now=NOW, known=KNOWN)


def test_second_commit_of_a_session_fails(db: Connection) -> None:
    fragment = ORIGIN.copy(ORIGIN.image())
    begin(db, fragment)
    commit_copy(db, SESSION, [fragment], now=NOW, known=KNOWN)
    with pytest.raises(LeaseLostError):
        commit_copy(db, SESSION, [fragment], now=NOW, known=KNOWN)


def test_number_of_an_expired_copy_is_never_used_again(db: Connection) -> None:
    key = stored(db)
    expire_copy(db, key, own=ORIGIN.id, now=LATER, reason="over")
    forget_copy(db, key)
    again = begin(db, ORIGIN.copy(ORIGIN.image()))
    assert (key.number, again.number) == (1, 2)


def test_medium_of_another_domain_is_not_written(db: Connection) -> None:
    with pytest.raises(WrongStateError, match="not written here"):
        begin_copy(
            db,
            image_id(ORIGIN.image()),
            session=SESSION,
            domain=ORIGIN.id,
            medium=TARGET.pool,
            came_by=CameBy.BACKUP,
            now=NOW,
            deadline=LATER,
        )


def test_medium_keeps_owner_and_kind_and_may_change_its_label(db: Connection) -> None:
    again = add_medium(
        db, ORIGIN.pool, kind="pool", label="new", domain=ORIGIN.id, location="/q", host=fixed("host", 16)
    )
    assert (again.label, again.location) == ("new", "/q")
    with pytest.raises(MediumConflictError):
        add_medium(db, ORIGIN.pool, kind="pool", label="x", domain=OTHER.id, location="/p", host=None)
    assert len(list_media(db)) == 2


# ------------------------------------------------------------------ phase one


def test_phase_one_needs_no_key_and_names_the_tags_i1(db: Connection) -> None:
    copy = import_fragment(db, ORIGIN.copy(ORIGIN.image()), own=ORIGIN.id, known=None)
    assert (copy.state, copy.readability, copy.tags) == (CopyState.COMPLETE, Readability.NOT_VERIFIED, (TAG,))
    assert copy.expiry_blocked is ExpiryBlock.UNCONFIRMED


def test_phase_one_may_be_repeated(db: Connection) -> None:
    fragment = ORIGIN.copy(ORIGIN.image())
    first = import_fragment(db, fragment, own=ORIGIN.id, known=KNOWN)
    assert import_fragment(db, fragment, own=ORIGIN.id, known=KNOWN) == first


def test_same_copy_with_other_content_is_refused(db: Connection) -> None:
    image = ORIGIN.image()
    import_fragment(db, ORIGIN.copy(image), own=ORIGIN.id, known=KNOWN)
    with pytest.raises(ConflictError):
        import_fragment(db, ORIGIN.copy(image, expires=None), own=ORIGIN.id, known=KNOWN)
    with pytest.raises(ConflictError):
        import_fragment(db, ORIGIN.copy(ORIGIN.image(client="other"), number=2), own=ORIGIN.id, known=KNOWN)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_spanned_copy_is_complete_with_its_last_fragment_in_any_order_i4(
    db: Connection, order: tuple[int, ...]
) -> None:
    fragments = ORIGIN.tape_copy(ORIGIN.image(), 3)
    for number, fragment in enumerate(fragments, start=1):
        add_medium(
            db,
            MediumId(fragment.copy.payload.medium),
            kind="tape",
            label=f"tape {number}",
            domain=ORIGIN.id,
            location="slot",
            host=None,
        )
    for index in order[:2]:
        copy = import_fragment(db, fragments[index], own=ORIGIN.id, known=KNOWN)
        assert copy.state is CopyState.INCOMPLETE
    missing = missing_fragments(db, copy.key)
    assert order[2] + 1 in [part.number for part in missing]
    copy = import_fragment(db, fragments[order[2]], own=ORIGIN.id, known=KNOWN)
    assert (copy.state, missing_fragments(db, copy.key)) == (CopyState.COMPLETE, [])
    assert copy.medium == fragments[0].copy.payload.medium


def test_fragments_of_two_attempts_do_not_make_one_copy(db: Connection) -> None:
    image = ORIGIN.image()
    one, other = ORIGIN.tape_copy(image, 2), ORIGIN.tape_copy(image, 2, written=T0 + 99 * NS)
    for fragment in one:
        medium = MediumId(fragment.copy.payload.medium)
        add_medium(db, medium, kind="tape", label=medium.hex(), domain=ORIGIN.id, location="", host=None)
    import_fragment(db, one[0], own=ORIGIN.id, known=KNOWN)
    with pytest.raises(ConflictError, match="two attempts"):
        import_fragment(db, other[1], own=ORIGIN.id, known=KNOWN)


def test_copy_on_a_medium_of_another_owner_is_refused(db: Connection) -> None:
    moved = ORIGIN.copy(ORIGIN.image(), medium=TARGET.pool, journal_medium=TARGET.pool)
    with pytest.raises(HeaderMismatchError):
        import_fragment(db, moved, own=ORIGIN.id, known=KNOWN)


def test_foreign_copy_is_imported_and_never_expires_here(db: Connection) -> None:
    copy = import_fragment(db, ORIGIN.copy(ORIGIN.image()), own=TARGET.id, known=KNOWN)
    assert (copy.came_by, copy.expiry_blocked) == (CameBy.IMPORT, None)
    assert due_for_expiry(db, own=TARGET.id, now=LATER) == []
    with pytest.raises(ExpiryRefusedError, match="owner"):
        expire_copy(db, copy.key, own=TARGET.id, now=LATER, reason="", early=True)


# ------------------------------------------------------------------ keys


def test_image_waits_for_its_tag_and_goes_on_when_the_key_appears_i3(db: Connection) -> None:
    fragment = ORIGIN.copy(ORIGIN.image(), tags=[TAG, SECOND_TAG])
    copy = import_fragment(db, fragment, own=ORIGIN.id, known=KNOWN)
    assert copy.readability is Readability.WAITING_FOR_KEY
    assert copy.unknown_tags == (SECOND_TAG,)
    assert [(row.tag, row.images) for row in keys.waiting_by_tag(db)] == [(SECOND_TAG, 1)]
    assert keys.release(db, TAG) == []
    assert keys.release(db, SECOND_TAG) == [copy.key]
    assert get_copy(db, copy.key).readability is Readability.READABLE
    assert keys.waiting_by_tag(db) == []


def test_withdrawn_key_makes_its_images_wait(db: Connection) -> None:
    key = stored(db)
    assert keys.needing(db, TAG) == 1
    assert keys.withdraw(db, TAG) == [key]
    assert [row.tag for row in keys.waiting_by_tag(db)] == [TAG]


def test_unlocked_kms_settles_what_phase_one_could_not_ask(db: Connection) -> None:
    has_key = import_fragment(db, ORIGIN.copy(ORIGIN.image("a")), own=ORIGIN.id, known=None)
    lacks_key = import_fragment(db, ORIGIN.copy(ORIGIN.image("b"), tags=[SECOND_TAG]), own=ORIGIN.id, known=None)
    clear = import_fragment(db, ORIGIN.copy(ORIGIN.image("c", encrypted=False)), own=ORIGIN.id, known=None)
    assert keys.settle(db, [TAG]) == [has_key.key]
    states = [get_copy(db, copy.key).readability for copy in (has_key, lacks_key, clear)]
    assert states == [Readability.READABLE, Readability.WAITING_FOR_KEY, Readability.READABLE]
