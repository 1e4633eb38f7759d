"""What the catalog promises, on both kinds of database (X1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, Table

from strongroom.catalog import keys, tables
from strongroom.catalog.copies import (
    abandon_copy,
    abandon_lapsed,
    begin_copy,
    commit_copy,
    committing,
    mark_written,
    renew_lease,
)
from strongroom.catalog.dump import dump
from strongroom.catalog.errors import (
    ConflictError,
    ExpiryRefusedError,
    HeaderMismatchError,
    ImageNotFoundError,
    JournalBrokenError,
    LeaseLostError,
    MediumConflictError,
    SendingNotFoundError,
    TombstonedError,
    WrongStateError,
)
from strongroom.catalog.expiry import (
    due_for_expiry,
    expire_copy,
    expired_on,
    expiry_ns,
    forget_copy,
    hold_copy,
    lock_copy,
    release_hold,
    set_expiry,
)
from strongroom.catalog.images import ImageFilter, find_images, get_image
from strongroom.catalog.importing import import_fragment, missing_fragments
from strongroom.catalog.journal import (
    confirm_expiry,
    mark_batch_written,
    media_with_records,
    read_batch,
    settle_journal,
    sign_batch,
    unwritten_batches,
)
from strongroom.catalog.media import add_medium, advance_epoch, close_epoch, get_medium, list_media, open_epochs
from strongroom.catalog.model import CameBy, CopyKey, CopyState, ExpiryBlock, Readability
from strongroom.catalog.receipts import keep_hop, keep_receipt, open_promises, promise
from strongroom.catalog.rows import get_copy
from strongroom.core.clock import from_ns
from strongroom.core.ids import MediumId
from strongroom.database import metadata, write
from strongroom.formats.fragment import Fragment
from strongroom.formats.receipt import ReceiptMismatchError
from tests.support.images import NS, ORIGIN, OTHER, SECOND_TAG, T0, TAG, TARGET, Domain, fixed, image_id

NOW = from_ns(T0 + 120 * NS)
LATER = from_ns(T0 + 7200 * NS)
SESSION = fixed("session", 16)
KNOWN = frozenset({TAG})


@pytest.fixture
def db(database: Engine) -> Iterator[Connection]:
    with write(database) as connection:
        add_pool(connection, ORIGIN)
        add_pool(connection, TARGET)
        yield connection


def add_pool(connection: Connection, domain: Domain) -> None:
    add_medium(
        connection, domain.pool, kind="pool", label=f"pool of {domain.name}", domain=domain.id, location="/p", host=None
    )


def begin(connection: Connection, fragment: Fragment, *, session: bytes = SESSION, now: datetime = NOW) -> CopyKey:
    return begin_copy(
        connection,
        image_id(fragment.image),
        session=session,
        domain=ORIGIN.id,
        medium=ORIGIN.pool,
        came_by=CameBy.BACKUP,
        now=now,
        deadline=now + timedelta(minutes=5),
    )


def stored(connection: Connection, name: str = "image", **changes: Any) -> CopyKey:
    """A complete copy of this domain."""
    fragment = ORIGIN.copy(ORIGIN.image(name), **changes)
    key = begin(connection, fragment, session=fixed(name, 16))
    commit_copy(connection, fixed(name, 16), [fragment], now=NOW, known=KNOWN)
    mark_written(connection, key)
    return key


def batches_of(connection: Connection) -> list[bytes]:
    while sign_batch(connection, ORIGIN.pool, incarnation=1, now=NOW, sign=ORIGIN.sign_batch) is not None:
        pass
    return [data for _, data in unwritten_batches(connection, ORIGIN.pool, limit=1_000)]


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
    assert [waiting.key for waiting in keys.waiting_for(db, SECOND_TAG)] == [copy.key]
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


def test_waiting_images_come_in_pages(db: Connection) -> None:
    for name in "abc":
        import_fragment(db, ORIGIN.copy(ORIGIN.image(name)), own=ORIGIN.id, known=frozenset())
    first = keys.waiting_for(db, TAG, limit=2)
    second = keys.waiting_for(db, TAG, after=first[-1].key.image, limit=2)
    assert (len(first), len(second)) == (2, 1)
    assert {copy.key for copy in first}.isdisjoint(copy.key for copy in second)


# ------------------------------------------------------------------ expiry


def test_retention_counts_from_its_start() -> None:
    assert expiry_ns(T0, 60) == T0 + 60 * NS
    assert expiry_ns(T0, None) is None
    assert expiry_ns(T0, 1 << 34) is None


def test_copy_expires_at_its_time_and_is_forgotten_after_its_bytes(db: Connection) -> None:
    key = stored(db)
    assert due_for_expiry(db, own=ORIGIN.id, now=NOW) == []
    with pytest.raises(ExpiryRefusedError, match="has not come"):
        expire_copy(db, key, own=ORIGIN.id, now=NOW, reason="over")
    assert [copy.key for copy in due_for_expiry(db, own=ORIGIN.id, now=LATER)] == [key]
    with pytest.raises(WrongStateError):
        forget_copy(db, key)
    expire_copy(db, key, own=ORIGIN.id, now=LATER, reason="over")
    expire_copy(db, key, own=ORIGIN.id, now=LATER, reason="over")
    assert [copy.key for copy in expired_on(db, ORIGIN.pool)] == [key]
    assert find_images(db, ImageFilter()).images == ()
    assert forget_copy(db, key).image_gone
    with pytest.raises(ImageNotFoundError):
        get_image(db, key.image)
    with pytest.raises(TombstonedError):
        import_fragment(db, ORIGIN.copy(ORIGIN.image()), own=ORIGIN.id, known=KNOWN)


def test_every_hold_must_be_released_before_a_copy_expires_l2(db: Connection) -> None:
    key = stored(db)
    holds = [fixed("case 1", 16), fixed("case 2", 16)]
    for hold in holds:
        hold_copy(db, key, hold, own=ORIGIN.id, now=NOW, reason="inquiry")
    for hold in holds:
        assert due_for_expiry(db, own=ORIGIN.id, now=LATER) == []
        with pytest.raises(ExpiryRefusedError, match="hold"):
            expire_copy(db, key, own=ORIGIN.id, now=LATER, reason="", early=True)
        release_hold(db, key, hold, own=ORIGIN.id, now=NOW, reason="closed")
    assert len(due_for_expiry(db, own=ORIGIN.id, now=LATER)) == 1


def test_lock_is_never_shortened_and_stops_expiry(db: Connection) -> None:
    key = stored(db)
    lock_copy(db, key, T0 + 9000 * NS, own=ORIGIN.id, now=NOW, reason="")
    lock_copy(db, key, T0 + 10 * NS, own=ORIGIN.id, now=NOW, reason="")
    with pytest.raises(ExpiryRefusedError, match="locked"):
        set_expiry(db, key, T0 + 8999 * NS, own=ORIGIN.id, now=NOW, reason="")
    assert due_for_expiry(db, own=ORIGIN.id, now=LATER) == []
    assert len(due_for_expiry(db, own=ORIGIN.id, now=from_ns(T0 + 9001 * NS))) == 1


def test_copy_does_not_expire_before_its_receipts_r8(db: Connection) -> None:
    key = stored(db)
    copy = get_copy(db, key)
    hop = ORIGIN.hop(ORIGIN.image(), TARGET)
    promise(db, copy.id, TARGET.id, now=NOW)
    promise(db, copy.id, TARGET.id, now=NOW)
    assert due_for_expiry(db, own=ORIGIN.id, now=LATER) == []
    with pytest.raises(ExpiryRefusedError, match="receipt"):
        expire_copy(db, key, own=ORIGIN.id, now=LATER, reason="", early=True)
    with pytest.raises(SendingNotFoundError):
        keep_receipt(db, TARGET.receipt(hop))
    keep_hop(db, hop)
    for wrong in (OTHER.receipt(hop), TARGET.receipt(hop, header=fixed("x")), TARGET.receipt(hop, source=OTHER.id)):
        with pytest.raises(ReceiptMismatchError):
            keep_receipt(db, wrong)
    assert open_promises(db, copy.id) == [TARGET.id]
    assert keep_receipt(db, TARGET.receipt(hop))
    assert not keep_receipt(db, TARGET.receipt(hop))
    assert [due.key for due in due_for_expiry(db, own=ORIGIN.id, now=LATER)] == [key]


# ------------------------------------------------------------------ journal and rebuild


def test_unwritten_batches_are_given_again_until_they_lie_on_the_medium(db: Connection) -> None:
    key = stored(db)
    hold_copy(db, key, fixed("case", 16), own=ORIGIN.id, now=NOW, reason="inquiry")
    assert media_with_records(db) == [ORIGIN.pool]
    first = batches_of(db)
    assert media_with_records(db) == []
    assert unwritten_batches(db, ORIGIN.pool) == [(1, first[0])]
    mark_batch_written(db, ORIGIN.pool, 1)
    assert unwritten_batches(db, ORIGIN.pool) == []
    assert get_medium(db, ORIGIN.pool).journal_written == 1


def test_batch_that_does_not_follow_is_refused(db: Connection) -> None:
    key = stored(db)
    for name in ("a", "b"):
        hold_copy(db, key, fixed(name, 16), own=ORIGIN.id, now=NOW, reason="")
        sign_batch(db, ORIGIN.pool, incarnation=1, now=NOW, sign=ORIGIN.sign_batch)
    batches = [data for _, data in unwritten_batches(db, ORIGIN.pool)]
    assert not read_batch(db, ORIGIN.pool, batches[0])
    hold_copy(db, key, fixed("c", 16), own=ORIGIN.id, now=NOW, reason="")
    with db.begin_nested() as savepoint:
        sign_batch(db, ORIGIN.pool, incarnation=1, now=NOW, sign=ORIGIN.sign_batch)
        third = unwritten_batches(db, ORIGIN.pool)[2][1]
        savepoint.rollback()
    release_hold(db, key, fixed("a", 16), own=ORIGIN.id, now=NOW, reason="")
    sign_batch(db, ORIGIN.pool, incarnation=1, now=NOW, sign=ORIGIN.sign_batch)
    with pytest.raises(JournalBrokenError, match="two batches 3"):
        read_batch(db, ORIGIN.pool, third)


def test_rebuilt_copy_does_not_expire_until_the_journal_is_known_to_be_complete(database: Engine) -> None:
    with write(database) as db:
        add_pool(db, ORIGIN)
        fragment = ORIGIN.copy(ORIGIN.image(), journal=1)
        key = import_fragment(db, fragment, own=ORIGIN.id, known=KNOWN).key
        assert due_for_expiry(db, own=ORIGIN.id, now=LATER) == []
        assert not settle_journal(db, ORIGIN.pool, last=0), "the header names batch 1"
        assert not settle_journal(db, ORIGIN.pool, last=None), "nobody but the medium says so"
        assert get_copy(db, key).expiry_blocked is ExpiryBlock.UNCONFIRMED
        assert confirm_expiry(db, ORIGIN.pool) == 1
        assert [copy.key for copy in due_for_expiry(db, own=ORIGIN.id, now=LATER)] == [key]


@pytest.mark.parametrize("journal_first", [True, False])
def test_catalog_rebuilt_from_headers_and_journal_is_equal_i5(database: Engine, journal_first: bool) -> None:
    names = ("kept", "held", "expired", "changed")
    fragments = [ORIGIN.copy(ORIGIN.image(name)) for name in names]
    with write(database) as db:
        add_pool(db, ORIGIN)
        keys_of = {name: stored(db, name) for name in names}
        hold_copy(db, keys_of["held"], fixed("case", 16), own=ORIGIN.id, now=NOW, reason="inquiry")
        set_expiry(db, keys_of["changed"], None, own=ORIGIN.id, now=NOW, reason="keep")
        expire_copy(db, keys_of["expired"], own=ORIGIN.id, now=LATER, reason="over")
        batches = batches_of(db)
        before = list(dump(db))
        everything = "".join(before)
        assert "tombstone" in everything
        for table in reversed(_catalog_tables()):
            db.execute(table.delete())
        assert list(dump(db)) == []
        add_pool(db, ORIGIN)

        def read_journal() -> None:
            for data in batches:
                assert read_batch(db, ORIGIN.pool, data)

        if journal_first:
            read_journal()
        for fragment in fragments:
            try:
                import_fragment(db, fragment, own=ORIGIN.id, known=KNOWN)
            except TombstonedError:
                assert journal_first
        if not journal_first:
            read_journal()
        assert settle_journal(db, ORIGIN.pool, last=len(batches))
        assert list(dump(db)) == before


# ------------------------------------------------------------------ looking


def test_pages_give_every_image_once_newest_first(db: Connection) -> None:
    for number in range(5):
        stored(db, f"image {number}")
    seen, after = [], None
    while True:
        page = find_images(db, ImageFilter(), after=after, limit=2)
        seen += [image.backup_id for image in page.images]
        after = page.next
        if after is None:
            break
    assert sorted(seen) == [f"files1_image {number}" for number in range(5)]


def test_filters_narrow_the_choice(db: Connection) -> None:
    key = stored(db, "alpha")
    stored(db, "beta")
    import_fragment(db, ORIGIN.copy(ORIGIN.image("gamma"), tags=[SECOND_TAG]), own=ORIGIN.id, known=KNOWN)

    def found(**wanted: Any) -> set[str]:
        page = find_images(db, ImageFilter(**wanted))
        return {image.backup_id.removeprefix("files1_") for image in page.images}

    everything = {"alpha", "beta", "gamma"}
    assert found() == everything
    assert found(text="ALPH") == {"alpha"}
    assert found(text="%") == set()
    assert found(backup_id="files1_beta") == {"beta"}
    assert found(origin=ORIGIN.id, client="files1.example", policy="homes") == everything
    assert found(since_ns=T0 + 1) == set()
    assert found(since_ns=T0, until_ns=T0) == everything
    assert found(tag=SECOND_TAG) == {"gamma"}
    assert found(readability=Readability.WAITING_FOR_KEY) == {"gamma"}
    assert found(medium=TARGET.pool) == set()
    assert found(with_problems=True) == set()
    expire_copy(db, key, own=ORIGIN.id, now=LATER, reason="")
    assert found() == {"beta", "gamma"}
    assert found(with_expired=True) == everything


def _catalog_tables() -> list[Table]:
    return [table for table in metadata.sorted_tables if table.name in vars(tables)]
