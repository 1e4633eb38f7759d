"""Whatever happens, and in whatever order: each promised copy arrives, once, and nothing promised is forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine

from strongroom.catalog.copies import begin_copy, commit_copy, mark_written
from strongroom.catalog.errors import ExpiryRefusedError
from strongroom.catalog.expiry import expire_copy
from strongroom.catalog.media import add_medium
from strongroom.catalog.model import CameBy, CopyState
from strongroom.catalog.rows import get_copy
from strongroom.core.clock import ManualClock, from_ns
from strongroom.core.errors import InputError, UnavailableError
from strongroom.core.ids import DomainId
from strongroom.database import open_engine, upgrade
from strongroom.formats.hop import Hop
from strongroom.formats.receipt import Receipt
from strongroom.formats.signed import Verified
from strongroom.lifecycle import replications as rows
from strongroom.lifecycle.begin import begin_lifecycle, plan_image
from strongroom.lifecycle.planner import Expire, Plan, Send
from strongroom.lifecycle.policies import save_policy, set_active
from strongroom.lifecycle.policy import Backup, Fixed, Policy, Replication, Target
from strongroom.lifecycle.tables import ReplicationState
from tests.support.images import NS, ORIGIN, OTHER, T0, TARGET, Domain, fixed, image_id

IMAGE = ORIGIN.image()
TARGETS = {TARGET.id: TARGET, OTHER.id: OTHER}
FRAGMENT = ORIGIN.copy(IMAGE)
HOPS: dict[DomainId, Verified[Hop]] = {domain.id: ORIGIN.hop(IMAGE, domain) for domain in (TARGET, OTHER)}
RECEIPTS: dict[DomainId, Verified[Receipt]] = {name: TARGETS[name].receipt(hop) for name, hop in HOPS.items()}
BACKUP = Backup(storage="pool", retention=Fixed(3600), key_group="keys")
GOLD = Policy(
    name="gold",
    operations=(BACKUP, *(Replication(source=1, to=Target(name.hex(), "from-origin")) for name in TARGETS)),
)

EVENTS = (
    "work", "fail", "refuse", "sent", "receipt", "resume", "begin-again", "deactivate", "activate", "edit", "wait",
    "expire",
)  # fmt: skip


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder: Path = tmp_path_factory.mktemp("database")
    engine = open_engine(f"sqlite:///{folder / 'strongroom.db'}")
    upgrade(engine)
    yield engine
    engine.dispose()


class World:
    """One image, two targets, and the jobs that do what the plan says."""

    def __init__(self, connection: Connection) -> None:
        self.db = connection
        self.clock = ManualClock(from_ns(T0 + 120 * NS))
        self.fence = 0
        self.arrived: dict[DomainId, int] = dict.fromkeys(TARGETS, 0)
        add_medium(connection, ORIGIN.pool, kind="pool", label="p", domain=ORIGIN.id, location="", host=None)
        save_policy(connection, GOLD, now=self.now)
        self.key = begin_copy(
            connection,
            image_id(IMAGE),
            session=fixed("session", 16),
            domain=ORIGIN.id,
            medium=ORIGIN.pool,
            came_by=CameBy.BACKUP,
            now=self.now,
            deadline=self.now + timedelta(minutes=1),
        )
        commit_copy(connection, fixed("session", 16), [FRAGMENT], now=self.now, known=None)
        mark_written(connection, self.key)
        self.begin()

    @property
    def now(self) -> datetime:
        return self.clock.now()

    def begin(self) -> None:
        begin_lifecycle(self.db, self.key.image, own=ORIGIN.id, targets=(), now=self.now)

    def plan(self) -> Plan:
        return plan_image(self.db, self.key.image, own=ORIGIN.id, now=self.now)

    def of(self, domain: Domain) -> rows.Replicated:
        return rows.get_replication(self.db, self.key.image, domain.id)

    def happen(self, event: str, domain: Domain) -> None:
        row = self.of(domain)
        sending = row.state is ReplicationState.SENDING
        match event:
            case "work":
                self.work()
            case "fail" if sending and row.fence is not None:
                error = UnavailableError("no route")
                rows.fail(self.db, row.image, row.target, fence=row.fence, error=error, now=self.now)
            case "refuse" if sending and row.fence is not None:
                rows.fail(self.db, row.image, row.target, fence=row.fence, error=InputError("no"), now=self.now)
            case "sent" if sending and row.fence is not None:
                rows.mark_sent(self.db, row.image, row.target, fence=row.fence, sent_bytes=1, now=self.now)
            case "receipt" if row.hop is not None:
                self.receipt(row.target)
            case "resume" if row.state is ReplicationState.REFUSED:
                self.start(row.target)
            case "begin-again":
                self.begin()
            case "deactivate" | "activate":
                set_active(self.db, "gold", event == "activate", now=self.now)
            case "edit":
                save_policy(self.db, Policy(name="gold", operations=(BACKUP,)), now=self.now)
            case "wait":
                self.clock.advance(timedelta(minutes=50))
            case "expire":
                self.expire()
            case _:
                pass  # nothing of this kind can happen now

    def work(self) -> None:
        for step in self.plan().due:
            if isinstance(step, Send):
                self.start(step.target)

    def start(self, target: DomainId) -> None:
        self.fence += 1
        rows.start(self.db, self.key.image, target, fence=self.fence, hop=HOPS[target], now=self.now)

    def receipt(self, target: DomainId) -> None:
        if rows.confirm(self.db, RECEIPTS[target], now=self.now):
            self.arrived[target] += 1

    def expire(self) -> None:
        try:
            expire_copy(self.db, self.key, own=ORIGIN.id, now=self.now, reason="", early=True)
        except ExpiryRefusedError:
            assert any(count == 0 for count in self.arrived.values())

    def check(self) -> None:
        plan = self.plan()
        assert plan == self.plan(), "a restart changes nothing"
        for target, count in self.arrived.items():
            row = self.of(TARGETS[target])
            steps = [step for step in (*plan.due, *plan.waiting) if getattr(step, "target", None) == target]
            assert (row.state is ReplicationState.CONFIRMED) == (count == 1)
            assert len(steps) == 1 - count, "each open promise is due or waits, and a kept one does neither"
        if get_copy(self.db, self.key).state is CopyState.EXPIRED:
            assert set(self.arrived.values()) == {1}

    def finish(self) -> None:
        """What an administrator and a mended network make of it in the end."""
        set_active(self.db, "gold", True, now=self.now)
        for domain in TARGETS.values():
            if self.of(domain).state not in (ReplicationState.SENT, ReplicationState.CONFIRMED):
                self.start(domain.id)
            self.receipt(domain.id)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(events=st.lists(st.tuples(st.sampled_from(EVENTS), st.sampled_from([TARGET, OTHER])), max_size=20))
def test_every_promised_copy_arrives_exactly_once_l5_r8(engine: Engine, events: list[tuple[str, Domain]]) -> None:
    with engine.connect() as connection, connection.begin() as transaction:
        world = World(connection)
        world.check()
        for event, domain in events:
            world.happen(event, domain)
            world.check()
        world.finish()
        assert world.arrived == dict.fromkeys(TARGETS, 1)
        world.clock.advance(timedelta(hours=2))
        if get_copy(connection, world.key).state is not CopyState.EXPIRED:
            assert world.plan().due == (Expire(world.key, "the retention of copy 1 is over"),)
        transaction.rollback()
