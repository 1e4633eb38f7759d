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
    step = apply(ACTIVE, Spoke(home(1, 99), ACTIVE.instance))
    assert isinstance(step.refusal, OlderIncarnationError)
    assert step.trust == ACTIVE
    with pytest.raises(OlderIncarnationError):
        apply(ACTIVE, Asked(9, 1, 9))
    with pytest.raises(OlderIncarnationError):
        apply(ACTIVE, Added(9, Decision.ADDED, 9, 1))


def test_a_higher_incarnation_waits_and_what_was_heard_before_it_counts_no_more() -> None:
    waiting = apply(ACTIVE, Spoke(home(3, 1))).trust
    assert waiting.broken is Broken.RESTORED
    assert not waiting.passes_images
    # Not even the former home may go on meanwhile.
    assert isinstance(apply(waiting, Spoke(home())).refusal, OlderIncarnationError)
    confirmed = apply(waiting, Confirmed()).trust
    assert (confirmed.incarnation, confirmed.state, confirmed.broken) == (3, TrustState.WAITING, None)
    assert apply(apply(confirmed, Spoke(home(3, 1))).trust, Heard(Decision.ADDED, 1)).trust.passes_images


def test_a_token_does_not_confirm_a_restored_home() -> None:
    step = apply(ACTIVE, Asked(9, 3, 9))
    assert step.refusal is not None
    assert step.trust.broken is Broken.RESTORED
    assert step.trust.incarnation == 2


def test_an_older_start_that_answers_those_who_knew_the_newer_shows_two_homes_at_once() -> None:
    step = apply(ACTIVE, Spoke(home(start=6, instance=b"o" * 16), ACTIVE.instance))
    assert isinstance(step.refusal, TwoHomesError)
    assert step.trust.broken is Broken.TWO_HOMES


def test_an_answer_that_a_restart_overtook_is_only_refused() -> None:
    knew = home(start=6, instance=b"o" * 16)
    called = apply(replace(ACTIVE, start=knew.start, instance=knew.instance), Spoke(home())).trust
    step = apply(called, Spoke(knew, knew.instance))
    assert isinstance(step.refusal, OlderStartError)
    assert step.trust.passes_images


@pytest.mark.parametrize("start", [6, 7])
def test_a_clone_that_was_refused_and_calls_again_is_recognised(start: int) -> None:
    clone = home(start=start, instance=b"c" * 16)
    first = apply(ACTIVE, Spoke(clone))
    assert isinstance(first.refusal, OlderStartError)
    told = apply(Trust(PEER, Decision.ADDED), RefusedThere(first.refusal.code, newer=first.trust.instance)).trust
    alive = apply(first.trust, Spoke(clone, told.newer))
    assert isinstance(alive.refusal, TwoHomesError)
    assert isinstance(apply(alive.trust, Spoke(home())).refusal, TwoHomesError)
    assert apply(alive.trust, Reached(NOW)).trust.broken is Broken.TWO_HOMES
    assert apply(apply(alive.trust, Confirmed()).trust, Spoke(home())).refusal is None


def test_two_requests_that_a_restart_overtook_are_no_second_home() -> None:
    """Both were sent by start 1, and given up; start 2 is heard first."""
    first, second = home(start=1, instance=b"1" * 16), home(start=2, instance=b"2" * 16)
    trust = apply(replace(ACTIVE, start=0, instance=bytes(16)), Spoke(second)).trust
    for _ in range(2):
        late = apply(trust, Spoke(first))
        assert isinstance(late.refusal, OlderStartError)
        trust = late.trust
    assert trust.passes_images
    assert apply(trust, Spoke(second)).refusal is None


def test_what_a_former_start_was_told_does_not_make_its_late_requests_a_second_home() -> None:
    former = home(start=6, instance=b"o" * 16)
    named = b"5" * 16  # by a refusal that came before the newest start
    assert isinstance(apply(ACTIVE, Spoke(former, named)).refusal, OlderStartError)


def test_a_refusal_that_names_no_home_keeps_what_an_earlier_one_named() -> None:
    told = apply(ACTIVE, RefusedThere("trust.older-start", newer=b"n" * 16)).trust
    assert told.passes_images
    assert apply(told, RefusedThere("trust.older-start")).trust.newer == b"n" * 16


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
    restored = apply(apply(removed.trust, Spoke(home(3, 1))).trust, Confirmed()).trust
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


def test_a_peer_that_is_busy_does_not_break_the_trust() -> None:
    assert apply(ACTIVE, RefusedThere("database.busy", later=True)).trust == ACTIVE
    assert apply(ACTIVE, RefusedThere("database.damaged")).trust.broken is Broken.REFUSED
    restored = apply(ACTIVE, RefusedThere("trust.newer-incarnation", later=True)).trust
    assert restored.broken is Broken.WAITS_FOR_PEER
