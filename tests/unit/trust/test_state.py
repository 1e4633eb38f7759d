"""Single decisions that the property tests reach only by chance (design 3)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from strongroom.core.ids import DomainId
from strongroom.trust.errors import NotPossibleError, OlderIncarnationError, OlderStartError, TwoHomesError
from strongroom.trust.state import (
    Added,
    Asked,
    Broken,
    Confirmed,
    Decision,
    Effect,
    Heard,
    Home,
    Lost,
    Reached,
    RefusedThere,
    Removed,
    Resumed,
    Spoke,
    Suspended,
    Trust,
    TrustState,
    apply,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PEER = DomainId(b"p" * 32)
ACTIVE = Trust(
    PEER, Decision.ADDED, 5, Decision.ADDED, 5, incarnation=2, start=7, instance=b"i" * 16, last_exchange=NOW
)


def home(incarnation: int = 2, start: int = 7, instance: bytes = b"i" * 16) -> Home:
    return Home(incarnation, start, instance)


@pytest.mark.parametrize(
    ("ours", "theirs", "state"),
    [
        ("none", "none", "none"),
        ("none", "added", "asked"),
        ("none", "suspended", "asked"),
        ("none", "removed", "none"),
        ("added", "none", "waiting"),
        ("added", "added", "active"),
        ("added", "suspended", "suspended-by-peer"),
        ("added", "removed", "removed-by-peer"),
        ("suspended", "added", "suspended"),
        ("suspended", "removed", "suspended"),
        ("removed", "added", "removed"),
        ("removed", "removed", "removed"),
    ],
)
def test_the_state_follows_from_both_decisions(ours: str, theirs: str, state: str) -> None:
    assert Trust(PEER, ours=Decision(ours), theirs=Decision(theirs)).state is TrustState(state)


def test_an_older_incarnation_is_refused_and_the_trust_goes_on() -> None:
    step = apply(ACTIVE, Spoke(home(1, 99), 1, live=True))
    assert isinstance(step.refusal, OlderIncarnationError)
    assert step.trust == ACTIVE
    with pytest.raises(OlderIncarnationError):
        apply(ACTIVE, Asked(9, 1, 9))
    with pytest.raises(OlderIncarnationError):
        apply(ACTIVE, Added(9, Decision.ADDED, 9, 1))


def test_a_higher_incarnation_waits_and_what_was_heard_before_it_counts_no_more() -> None:
    waiting = apply(ACTIVE, Spoke(home(3, 1), 1, live=True)).trust
    assert waiting.broken is Broken.RESTORED
    assert not waiting.passes_images
    # Not even the former home may go on meanwhile.
    assert isinstance(apply(waiting, Spoke(home(), 9, live=True)).refusal, OlderIncarnationError)
    confirmed = apply(waiting, Confirmed()).trust
    assert (confirmed.incarnation, confirmed.state, confirmed.broken) == (3, TrustState.WAITING, None)
    assert apply(apply(confirmed, Spoke(home(3, 1), 2, live=True)).trust, Heard(Decision.ADDED, 1)).trust.passes_images


def test_a_token_does_not_confirm_a_restored_home() -> None:
    step = apply(ACTIVE, Asked(9, 3, 9))
    assert step.refusal is not None
    assert step.trust.broken is Broken.RESTORED
    assert step.trust.incarnation == 2


def test_a_live_answer_of_an_older_start_shows_two_homes_at_once() -> None:
    step = apply(ACTIVE, Spoke(home(start=6, instance=b"o" * 16), 1, live=True))
    assert isinstance(step.refusal, TwoHomesError)
    assert step.trust.broken is Broken.TWO_HOMES


def test_a_clone_of_the_same_start_is_recognised() -> None:
    first = apply(ACTIVE, Spoke(home(instance=b"c" * 16), 1, live=False))
    assert isinstance(first.refusal, OlderStartError)
    again = apply(first.trust, Spoke(home(instance=b"c" * 16), 1, live=False))
    assert isinstance(again.refusal, OlderStartError)  # the same request, once more: not yet alive
    alive = apply(again.trust, Spoke(home(instance=b"c" * 16), 2, live=False))
    assert isinstance(alive.refusal, TwoHomesError)
    assert isinstance(apply(alive.trust, Spoke(home(), 9, live=True)).refusal, TwoHomesError)
    assert apply(alive.trust, Reached(NOW)).trust.broken is Broken.TWO_HOMES
    assert apply(apply(alive.trust, Confirmed()).trust, Spoke(home(), 9, live=True)).refusal is None


def test_what_only_the_other_can_mend_is_not_confirmed_here() -> None:
    refused = apply(ACTIVE, RefusedThere("trust.older-incarnation")).trust
    assert refused.broken is Broken.WE_ARE_OLDER
    with pytest.raises(NotPossibleError):
        apply(refused, Confirmed())
    with pytest.raises(NotPossibleError):
        apply(ACTIVE, Confirmed())
    assert apply(refused, Reached(NOW)).trust.passes_images


def test_a_removal_survives_a_restore_of_the_other_from_before_it() -> None:
    removed = apply(ACTIVE, Heard(Decision.REMOVED, 6))
    assert removed.effects == (Effect.REVOKE,)
    restored = apply(apply(removed.trust, Spoke(home(3, 1), 1, live=True)).trust, Confirmed()).trust
    assert apply(restored, Heard(Decision.ADDED, 99)).trust.state is TrustState.REMOVED_BY_PEER
    assert apply(restored, Asked(100, 3, 9)).trust.state is TrustState.ACTIVE


def test_removal_while_the_trust_is_being_made_wins() -> None:
    removed = apply(ACTIVE, Removed(6)).trust
    with pytest.raises(NotPossibleError):
        apply(removed, Added(7, Decision.ADDED, 9, 2))


@pytest.mark.parametrize("event", [Suspended(9), Resumed(9)])
def test_only_what_was_added_is_suspended_and_only_that_resumed(event: Suspended | Resumed) -> None:
    with pytest.raises(NotPossibleError):
        apply(Trust(PEER), event)
    with pytest.raises(NotPossibleError):
        apply(apply(ACTIVE, Removed(6)).trust, event)


def test_contact_that_is_lost_keeps_its_first_moment_until_it_is_back() -> None:
    lost = apply(apply(ACTIVE, Lost(NOW)).trust, Lost(NOW + timedelta(hours=1))).trust
    assert lost.unreachable_since == NOW
    back = apply(lost, Reached(NOW + timedelta(hours=2))).trust
    assert back == replace(ACTIVE, last_exchange=NOW + timedelta(hours=2))
