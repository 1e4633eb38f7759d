from __future__ import annotations

from datetime import UTC, datetime, timedelta

from strongroom.core.ids import DomainId, ImageId
from strongroom.lifecycle.planner import ImageFacts, promises, retry_at
from strongroom.lifecycle.policy import (
    AllTargets,
    Backup,
    Fixed,
    Import,
    Passed,
    Policy,
    Replication,
    Target,
    TargetRetention,
)

A, B = DomainId(b"a" * 32), DomainId(b"b" * 32)
IMAGE = ImageId(bytes(16))
BACKUP = Backup(storage="pool", retention=Fixed(60))


def test_only_named_domains_are_promised_the_image_r2() -> None:
    policy = Policy(name="gold", operations=(BACKUP, Replication(source=1, to=Target(A.hex(), "in"))))
    made = promises(policy, ImageFacts(IMAGE), [A, B])
    assert [(promise.target, promise.slp) for promise in made] == [(A, "in")]


def test_all_targets_are_promised_the_image_under_the_same_name_r1() -> None:
    policy = Policy(name="gold", operations=(BACKUP, Replication(source=1, to=AllTargets())))
    made = promises(policy, ImageFacts(IMAGE), [B, A, B])
    assert [(promise.target, promise.slp) for promise in made] == [(A, "gold"), (B, "gold")]


def test_cascade_passes_retention_on_and_never_goes_back_r6() -> None:
    first = Import(storage="pool", retention=TargetRetention(otherwise_seconds=60))
    policy = Policy(name="in", operations=(first, Replication(source=1, to=AllTargets(), retention=Passed())))
    made = promises(policy, ImageFacts(IMAGE, 900, frozenset({A})), [A, B])
    assert [(promise.target, promise.retention_seconds) for promise in made] == [(B, 900)]


def test_attempts_come_farther_apart_up_to_an_hour() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    delays = [retry_at(attempts, now) - now for attempts in (1, 2, 3, 100)]
    assert delays == [timedelta(minutes=1), timedelta(minutes=2), timedelta(minutes=4), timedelta(hours=1)]
