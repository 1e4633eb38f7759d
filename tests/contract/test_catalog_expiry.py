"""How copies leave the catalog, what outlives it, and how images are found, on both kinds of database (X1)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, Table

from strongroom.catalog import guard, tables
from strongroom.catalog.dump import dump
from strongroom.catalog.errors import (
    ExpiryRefusedError,
    ImageNotFoundError,
    JournalBrokenError,
    SendingNotFoundError,
    TombstonedError,
    WrongStateError,
)
from strongroom.catalog.expiry import (
    count_due,
    due_for_expiry,
    expire_copy,
    expired_on,
    expiry_ns,
    forget_copy,
    hold_copy,
    lock_copy,
    mark_locked,
    release_hold,
    removable_on,
    set_expiry,
)
from strongroom.catalog.images import ImageFilter, find_images, get_image
from strongroom.catalog.importing import import_fragment
from strongroom.catalog.journal import (
    confirm_expiry,
    mark_batch_written,
    read_batch,
    settle_journal,
    sign_batch,
    unwritten_batches,
)
from strongroom.catalog.media import get_medium, note_locks
from strongroom.catalog.model import ExpiryBlock, Readability
from strongroom.catalog.receipts import keep_hop, keep_receipt, open_promises, promise
from strongroom.catalog.rows import get_copy
from strongroom.core.clock import from_ns
from strongroom.database import metadata, write
from strongroom.formats.receipt import ReceiptMismatchError
from tests.support.catalogs import KNOWN, LATER, NOW, add_pool, batches_of, stored
from tests.support.images import NS, ORIGIN, OTHER, SECOND_TAG, T0, TARGET, fixed


@pytest.fixture
def db(database: Engine) -> Iterator[Connection]:
    with write(database) as connection:
        add_pool(connection, ORIGIN)
        add_pool(connection, TARGET)
        yield connection


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


def test_expired_copy_is_removed_only_when_its_tombstone_lies_on_the_medium_p2(db: Connection) -> None:
    key = stored(db)
    expire_copy(db, key, own=ORIGIN.id, now=LATER, reason="over")
    assert removable_on(db, ORIGIN.pool) == []
    batches_of(db)
    assert removable_on(db, ORIGIN.pool) == []
    mark_batch_written(db, ORIGIN.pool, get_medium(db, ORIGIN.pool).journal_sequence)
    assert [copy.key for copy in removable_on(db, ORIGIN.pool)] == [key]


def test_due_copies_are_counted_and_given_from_behind_a_row(db: Connection) -> None:
    keys = [stored(db, name) for name in ("a", "b", "c")]
    stored(db, "stays", expires=None)
    assert count_due(db, own=ORIGIN.id, now=LATER) == (3, 4)
    first, *_ = due_for_expiry(db, own=ORIGIN.id, now=LATER)
    assert [copy.key for copy in due_for_expiry(db, own=ORIGIN.id, now=LATER, after=first.id)] == keys[1:]


def test_expiry_stops_when_the_clock_jumps_until_somebody_confirms_p2(db: Connection) -> None:
    limit = timedelta(hours=1)
    assert guard.look(db, now=NOW, limit=limit).stopped is None
    assert guard.look(db, now=NOW + limit, limit=limit).stopped is None
    back = guard.look(db, now=NOW, limit=limit)
    assert (back.stopped, back.time) == (None, NOW + limit)  # the time never goes back
    jump = NOW + 3 * limit
    stopped = guard.look(db, now=jump, limit=limit)
    assert stopped.stopped is not None
    assert stopped.time == NOW + limit
    assert guard.look(db, now=NOW + limit, limit=limit).stopped == stopped.stopped
    assert guard.state(db, now=jump).stopped == stopped.stopped
    assert guard.confirm(db, now=jump) == stopped.stopped
    confirmed = guard.look(db, now=jump, limit=limit)
    assert (confirmed.stopped, confirmed.time, confirmed.is_confirmed) == (None, jump, True)
    guard.use_confirmation(db)
    assert not guard.look(db, now=jump, limit=limit).is_confirmed
    assert guard.confirm(db, now=jump) is None


def test_few_copies_may_always_expire_together_and_many_only_as_a_part() -> None:
    assert not guard.is_unusual(10, 10, percent=30)
    assert guard.is_unusual(11, 11, percent=30)
    assert not guard.is_unusual(30, 100, percent=30)
    assert guard.is_unusual(31, 100, percent=30)


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
    far = from_ns(T0 + 90_000 * NS)
    assert due_for_expiry(db, own=ORIGIN.id, now=far) == []  # the wall clock ends no lock
    note_locks(db, ORIGIN.pool, mode="compliance", clock_ns=T0 + 8_999 * NS)
    assert due_for_expiry(db, own=ORIGIN.id, now=far) == []
    for lift in (False, True):
        with pytest.raises(ExpiryRefusedError, match=r"kept by: lock \(until 20"):
            expire_copy(db, key, own=ORIGIN.id, now=far, reason="", early=True, lift=lift)
    note_locks(db, ORIGIN.pool, mode="governance", clock_ns=T0)  # neither weaker nor earlier
    assert (get_medium(db, ORIGIN.pool).lock_mode, get_medium(db, ORIGIN.pool).lock_clock_ns) == (
        "compliance",
        T0 + 8_999 * NS,
    )
    note_locks(db, ORIGIN.pool, mode="compliance", clock_ns=T0 + 9_000 * NS)
    assert len(due_for_expiry(db, own=ORIGIN.id, now=far)) == 1


def test_a_governance_lock_is_lifted_by_hand_and_the_copy_may_be_removed_then_p2(db: Connection) -> None:
    key = stored(db)
    lock_copy(db, key, T0 + 9000 * NS, own=ORIGIN.id, now=NOW, reason="")
    note_locks(db, ORIGIN.pool, mode="governance", clock_ns=T0)
    with pytest.raises(ExpiryRefusedError) as refused:
        expire_copy(db, key, own=ORIGIN.id, now=NOW, reason="a mistake", early=True)
    assert "--lift-lock" in str(refused.value.hint)
    expire_copy(db, key, own=ORIGIN.id, now=NOW, reason="a mistake", early=True, lift=True)
    assert get_copy(db, key).lock_lifted
    batches_of(db)
    mark_batch_written(db, ORIGIN.pool, get_medium(db, ORIGIN.pool).journal_sequence)
    assert [copy.key for copy in removable_on(db, ORIGIN.pool)] == [key]
    mark_locked(db, key, T0 + 9_500 * NS)  # the pool is for compliance meanwhile
    assert removable_on(db, ORIGIN.pool) == []
    note_locks(db, ORIGIN.pool, mode="governance", clock_ns=T0 + 9_500 * NS)
    assert [copy.key for copy in removable_on(db, ORIGIN.pool)] == [key]


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
    first = batches_of(db)
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
