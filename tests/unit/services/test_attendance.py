"""L5: a job that nobody attends to ends soon; a primary that was away takes no live session for a lost one."""

from __future__ import annotations

from strongroom.services.primary.attendance import SILENT_ROUNDS, Attendance

LIVE, LOST = 1, 2


def test_a_job_of_which_nobody_is_heard_is_told_once_the_rounds_are_over() -> None:
    attendance = Attendance()
    for _ in range(SILENT_ROUNDS):
        attendance.heard([LIVE])
        assert attendance.end_round([LIVE, LOST]) == []
    attendance.heard([LIVE])
    assert attendance.end_round([LIVE, LOST]) == [LOST]


def test_one_word_in_time_is_enough() -> None:
    attendance = Attendance()
    for _ in range(3):
        attendance.heard([LIVE])
        for _ in range(SILENT_ROUNDS):
            assert attendance.end_round([LIVE]) == []


def test_a_primary_that_starts_again_begins_to_count_anew() -> None:
    before = Attendance()
    for _ in range(SILENT_ROUNDS):
        before.end_round([LIVE])
    assert Attendance().end_round([LIVE]) == []


def test_what_has_ended_is_forgotten() -> None:
    attendance = Attendance()
    for _ in range(SILENT_ROUNDS):
        attendance.end_round([LOST])
    assert attendance.end_round([]) == []
    assert attendance.end_round([LOST]) == []
