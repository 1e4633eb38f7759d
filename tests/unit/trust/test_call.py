"""T7: what another primary refused with, as it is shown here."""

from __future__ import annotations

from strongroom.formats.peer_messages import ErrorRecord
from strongroom.trust import call
from strongroom.trust.errors import NotActiveError


def told(code: str, hint: str = "", retry: str = "never") -> ErrorRecord:
    return ErrorRecord(code=code, message="it\x1b[2J is\nso", hint=hint, retry=retry)


def test_a_refusal_of_a_newer_program_keeps_its_hint_and_its_retry() -> None:
    error = call.as_error(told("trust.from-tomorrow", "wait for\nthe full moon", "later"))
    assert (error.code, error.hint, error.retry) == ("trust.refused-there", "wait for the full moon", "later")
    assert error.message == "the other primary refused with 'trust.from-tomorrow': it [2J is so"
    assert call.as_error(told("trust.from-tomorrow")).hint == call.PeerError.default_hint


def test_a_refusal_that_is_known_is_the_same_error_here() -> None:
    error = call.as_error(told(NotActiveError.code, "resume it there"))
    assert isinstance(error, NotActiveError)
    assert (error.message, error.hint) == ("it [2J is so", "resume it there")
