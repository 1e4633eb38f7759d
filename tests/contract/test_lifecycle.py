"""From a saved policy to the last receipt, on both kinds of database."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import Connection, Engine

from strongroom.catalog import tables as catalog_tables
from strongroom.catalog.copies import begin_copy, commit_copy, mark_written
from strongroom.catalog.dump import dump
from strongroom.catalog.expiry import due_for_expiry
from strongroom.catalog.importing import import_fragment
from strongroom.catalog.journal import read_batch, settle_journal, sign_batch, unwritten_batches
from strongroom.catalog.media import add_medium
from strongroom.catalog.model import CameBy, CopyKey
from strongroom.core.clock import from_ns
from strongroom.core.errors import InputError, UnavailableError
from strongroom.core.ids import KeyTag
from strongroom.database import metadata, write
from strongroom.lifecycle import replications as rows
from strongroom.lifecycle.begin import begin_lifecycle, plan_image, without_lifecycle
from strongroom.lifecycle.errors import (
    FencedError,
    PolicyNotActiveError,
    PolicyNotFoundError,
    ReplicationNotFoundError,
    ReplicationStateError,
)
from strongroom.lifecycle.planner import Expire, Send, WaitsFor
from strongroom.lifecycle.policies import (
    get_policy,
    list_policies,
    policies_naming,
    require_active,
    save_policy,
    set_active,
)
from strongroom.lifecycle.policy import AllTargets, Backup, Fixed, Policy, Replication, Target
from strongroom.lifecycle.tables import ReplicationState, image_lifecycles
from strongroom.lifecycle.tables import replications as replication_rows
from tests.support.images import NS, ORIGIN, OTHER, T0, TARGET, Domain, fixed, image_id

NOW = from_ns(T0 + 120 * NS)
LATER = from_ns(T0 + 7200 * NS)
KNOWN = frozenset({KeyTag(fixed("tag"))})
IMAGE = ORIGIN.image()


def to(domain: Domain) -> Replication:
    return Replication(source=1, to=Target(domain.id.hex(), "from-origin"))


GOLD = Policy(
    name="gold",
    operations=(Backup(storage="pool", retention=Fixed(3600), key_group="keys"), to(TARGET), to(OTHER)),
)


@pytest.fixture
def db(database: Engine) -> Iterator[Connection]:
    with write(database) as connection:
        add_pool(connection)
        save_policy(connection, GOLD, now=NOW)
        yield connection


def add_pool(connection: Connection) -> None:
    add_medium(connection, ORIGIN.pool, kind="pool", label="pool", domain=ORIGIN.id, location="", host=None)


def backed_up(connection: Connection) -> CopyKey:
    key = begin_copy(
        connection,
        image_id(IMAGE),
        session=fixed("session", 16),
        domain=ORIGIN.id,
        medium=ORIGIN.pool,
        came_by=CameBy.BACKUP,
        now=NOW,
        deadline=LATER,
    )
    commit_copy(connection, fixed("session", 16), [ORIGIN.copy(IMAGE)], now=NOW, known=KNOWN)
    mark_written(connection, key)
    begin_lifecycle(connection, key.image, own=ORIGIN.id, targets=(), now=NOW)
    return key


def send(connection: Connection, target: Domain, *, fence: int = 1) -> rows.Replicated:
    hop = ORIGIN.hop(IMAGE, target)
    return rows.start(connection, image_id(IMAGE), target.id, fence=fence, hop=hop, now=NOW)


def test_every_save_makes_a_version_and_an_image_stays_on_its_own_l3(db: Connection) -> None:
    key = backed_up(db)
    shorter = Policy(name="gold", operations=GOLD.operations[:1])
    assert save_policy(db, shorter, now=LATER).version == 2
    assert get_policy(db, "gold").version == 2
    assert get_policy(db, "gold", 1).policy == GOLD
    begun = begin_lifecycle(db, key.image, own=ORIGIN.id, targets=(), now=LATER)
    assert begun is not None
    assert begun.version == 1
    assert {row.target for row in rows.replications_of(db, key.image)} == {TARGET.id, OTHER.id}
    assert [stored.version for stored in list_policies(db)] == [2]
    with pytest.raises(PolicyNotFoundError):
        get_policy(db, "gold", 3)
    with pytest.raises(PolicyNotFoundError):
        get_policy(db, "silver")


def test_deactivated_policy_takes_nothing_new_and_forgets_nothing(db: Connection) -> None:
    key = backed_up(db)
    set_active(db, "gold", False, now=NOW)
    with pytest.raises(PolicyNotActiveError):
        require_active(db, "gold")
    plan = plan_image(db, key.image, own=ORIGIN.id, now=LATER)
    assert plan.due == ()
    assert {step.waits_for for step in plan.waiting} == {WaitsFor.POLICY, WaitsFor.RECEIPT}
    set_active(db, "gold", True, now=NOW)
    assert require_active(db, "gold").active
    assert len(plan_image(db, key.image, own=ORIGIN.id, now=NOW).due) == 2
    with pytest.raises(PolicyNotFoundError):
        set_active(db, "silver", True, now=NOW)


def test_policies_that_send_to_a_domain_are_named(db: Connection) -> None:
    save_policy(db, Policy(name="local", operations=GOLD.operations[:1]), now=NOW)
    everywhere = Replication(source=1, to=AllTargets())
    save_policy(db, Policy(name="all", operations=(GOLD.operations[0], everywhere)), now=NOW)
    assert policies_naming(db, TARGET.id) == ["all", "gold"]


def test_image_goes_to_each_target_and_expires_after_the_last_receipt_r8_r9(db: Connection) -> None:
    key = backed_up(db)
    due = plan_image(db, key.image, own=ORIGIN.id, now=NOW).due
    assert {step.target for step in due if isinstance(step, Send)} == {TARGET.id, OTHER.id}
    for target in (TARGET, OTHER):
        assert due_for_expiry(db, own=ORIGIN.id, now=LATER) == []
        send(db, target)
        rows.mark_sent(db, key.image, target.id, fence=1, sent_bytes=10, now=NOW)
        receipt = target.receipt(ORIGIN.hop(IMAGE, target))
        assert rows.confirm(db, receipt, now=NOW)
        assert not rows.confirm(db, receipt, now=NOW)
    assert rows.unconfirmed(db) == []
    assert plan_image(db, key.image, own=ORIGIN.id, now=LATER).due == (Expire(key, "the retention of copy 1 is over"),)
    assert len(due_for_expiry(db, own=ORIGIN.id, now=LATER)) == 1


def test_one_bad_target_fails_only_itself_r9(db: Connection) -> None:
    key = backed_up(db)
    send(db, TARGET)
    again = rows.fail(db, key.image, TARGET.id, fence=1, error=UnavailableError("no route"), now=NOW)
    assert again == NOW + timedelta(minutes=1)
    plan = plan_image(db, key.image, own=ORIGIN.id, now=NOW)
    assert [step.target for step in plan.due if isinstance(step, Send)] == [OTHER.id]
    assert [(step.waits_for, step.until) for step in plan.waiting] == [(WaitsFor.RETRY, again)]
    assert len(plan_image(db, key.image, own=ORIGIN.id, now=again).due) == 2


def test_refusal_waits_for_an_administrator_and_is_not_forgotten_r8(db: Connection) -> None:
    key = backed_up(db)
    send(db, TARGET)
    assert rows.fail(db, key.image, TARGET.id, fence=1, error=InputError("no such policy"), now=NOW) is None
    row = rows.get_replication(db, key.image, TARGET.id)
    assert (row.state, row.error_code, row.error) == (ReplicationState.REFUSED, "core.bad-input", "no such policy")
    waiting = plan_image(db, key.image, own=ORIGIN.id, now=NOW + timedelta(days=9)).waiting
    assert WaitsFor.ADMINISTRATOR in [step.waits_for for step in waiting if step.target == TARGET.id]
    assert send(db, TARGET, fence=2).attempts == 2


def test_pending_over_a_day_is_reported_r8(db: Connection) -> None:
    key = backed_up(db)
    assert rows.pending_over(db, now=NOW + timedelta(hours=24)) == []
    late = rows.pending_over(db, now=NOW + timedelta(hours=24, seconds=1))
    assert {(row.image, row.target) for row in late} == {(key.image, TARGET.id), (key.image, OTHER.id)}
    assert [row.target for row in rows.unconfirmed(db, target=OTHER.id, states=[ReplicationState.WAITING])] == [
        OTHER.id
    ]


def test_newer_attempt_takes_over_and_the_older_one_is_told_to_stop(db: Connection) -> None:
    key = backed_up(db)
    first = send(db, TARGET, fence=1)
    second = send(db, TARGET, fence=2)
    assert second.hop == first.hop, "a late receipt of the first attempt must still answer"
    for late in (
        lambda: rows.mark_sent(db, key.image, TARGET.id, fence=1, sent_bytes=5, now=NOW),
        lambda: rows.fail(db, key.image, TARGET.id, fence=1, error=UnavailableError("x"), now=NOW),
        lambda: send(db, TARGET, fence=1),
    ):
        with pytest.raises(FencedError):
            late()
    rows.mark_sent(db, key.image, TARGET.id, fence=2, sent_bytes=5, now=NOW)
    assert rows.get_replication(db, key.image, TARGET.id).sent_bytes == 5


def test_receipt_may_overtake_the_news_that_it_was_sent(db: Connection) -> None:
    key = backed_up(db)
    send(db, TARGET)
    rows.confirm(db, TARGET.receipt(ORIGIN.hop(IMAGE, TARGET)), now=NOW)
    rows.mark_sent(db, key.image, TARGET.id, fence=1, sent_bytes=10, now=NOW)
    assert rows.get_replication(db, key.image, TARGET.id).state is ReplicationState.CONFIRMED


def test_hop_must_say_what_was_promised(db: Connection) -> None:
    key = backed_up(db)
    for hop in (
        ORIGIN.hop(IMAGE, TARGET, slp="elsewhere"),
        ORIGIN.hop(IMAGE, TARGET, retention=9),
        ORIGIN.hop(IMAGE, OTHER),
    ):
        with pytest.raises(ReplicationStateError):
            rows.start(db, key.image, TARGET.id, fence=1, hop=hop, now=NOW)
    with pytest.raises(ReplicationNotFoundError):
        rows.get_replication(db, key.image, ORIGIN.id)


def test_rebuilt_catalog_knows_its_receipts_and_promises_only_the_rest_i5_r8(db: Connection) -> None:
    backed_up(db)
    send(db, TARGET)
    rows.confirm(db, TARGET.receipt(ORIGIN.hop(IMAGE, TARGET)), now=NOW)
    sign_batch(db, ORIGIN.pool, incarnation=1, now=NOW, sign=ORIGIN.sign_batch)
    batches = [data for _, data in unwritten_batches(db, ORIGIN.pool)]
    before = list(dump(db))
    lost = {**vars(catalog_tables), "image_lifecycles": image_lifecycles, "replications": replication_rows}
    for table in reversed(metadata.sorted_tables):
        if table.name in lost:  # policies come from the DR package
            db.execute(table.delete())

    add_pool(db)
    key = import_fragment(db, ORIGIN.copy(IMAGE), own=ORIGIN.id, known=KNOWN).key
    for data in batches:
        read_batch(db, ORIGIN.pool, data)
    settle_journal(db, ORIGIN.pool, last=1)
    assert list(dump(db)) == before
    assert without_lifecycle(db, own=ORIGIN.id) == [key.image]
    begin_lifecycle(db, key.image, own=ORIGIN.id, targets=(), now=LATER)
    assert without_lifecycle(db, own=ORIGIN.id) == []
    states = {row.target: row.state for row in rows.replications_of(db, key.image)}
    assert states == {TARGET.id: ReplicationState.CONFIRMED, OTHER.id: ReplicationState.WAITING}
    assert due_for_expiry(db, own=ORIGIN.id, now=LATER) == []
