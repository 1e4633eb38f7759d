"""When an executor counts as dead (L5, X3)."""

from __future__ import annotations

from strongroom.jobs.executors import LeaseWatch

A, B = b"a" * 16, b"b" * 16


def test_executor_that_beats_lives() -> None:
    watch = LeaseWatch(12)
    assert all(watch.observe({A: beat}, beat * 3.0) == set() for beat in range(20))


def test_executor_whose_number_stands_still_dies_after_its_time() -> None:
    watch = LeaseWatch(12)
    assert watch.observe({A: 7, B: 1}, 100) == set()
    assert watch.observe({A: 7, B: 2}, 111) == set()
    assert watch.observe({A: 7, B: 2}, 112) == {A}


def test_watcher_that_has_just_come_gives_everybody_the_whole_time() -> None:
    """Its clock may be any number, and the others' last beat of any age."""
    assert LeaseWatch(12).observe({A: 1}, 1e9) == set()


def test_executor_that_left_is_forgotten() -> None:
    watch = LeaseWatch(12)
    watch.observe({A: 1}, 0)
    assert watch.observe({}, 20) == set()
    assert watch.observe({A: 1}, 21) == set()
