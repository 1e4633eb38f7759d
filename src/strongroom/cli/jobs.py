"""Waiting for a job of the server, with its progress on standard error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote

from strongroom.cli.api_client import ApiClient
from strongroom.cli.exits import job_failed
from strongroom.cli.progress import Progress
from strongroom.cli.session import Session
from strongroom.cli.terminal import safe
from strongroom.client.problems import StreamLostError
from strongroom.core.errors import AuthenticationError, StrongroomError
from strongroom.formats.errors import DamagedError

POLL_SECONDS: Final = 1.0
REASON_SECONDS: Final = 5.0
ENDED: Final = frozenset({"done", "failed", "cancelled"})
JOB_HAS_ENDED: Final = "jobs.ended"


def job_id(answer: dict[str, Any]) -> str:
    """Take the id of a job from an answer that is the job, or names it."""
    return str(answer["job"])


def job_path(job: str) -> str:
    """Give the path of a job's resource."""
    return f"/jobs/{quote(job, safe='')}"


def follow(session: Session, job: str) -> dict[str, Any]:
    """Wait until a job has ended; give it as it is then.

    Raises:
        StrongroomError: the server does not answer, or does not know the job.
    """
    with Progress(f"job {job}", shown=not session.out.as_json) as progress:
        while True:
            found = _look(session, job)
            now = found.get("progress") or {}
            progress.update(now.get("bytes_done") or 0, now.get("files") or 0, total=now.get("bytes_total") or None)
            if found.get("state") in ENDED:
                return found
            time.sleep(POLL_SECONDS)


def _look(session: Session, job: str) -> dict[str, Any]:
    found: dict[str, Any] = _in_a_session(session, lambda api: api.get(job_path(job)))
    return found


def report(session: Session, job: str, problems: list[dict[str, Any]]) -> None:
    """Have the job's log tell what went wrong with files; the work is done, and nothing depends on it."""
    if not problems:
        return
    try:
        _in_a_session(session, lambda api: api.post(f"{job_path(job)}/problems", {"problems": problems}))
    except StrongroomError as error:
        session.out.say(f"job {safe(job)} does not tell of these problems: {safe(error.message)}")


def _in_a_session(session: Session, call: Callable[[ApiClient], Any]) -> Any:
    """Do a call; a session that ended while something was waited for is begun anew, once."""
    try:
        return call(session.api)
    except AuthenticationError:
        session.renew()
        return call(session.api)


def wait_for(session: Session, job: str) -> dict[str, Any]:
    """Wait for a job, and be content with nothing but success.

    Raises:
        JobFailedError: it failed, or was cancelled.
    """
    found = follow(session, job)
    if found.get("state") != "done":
        raise job_failed(found)
    return found


@contextmanager
def working_for(session: Session, job: str) -> Iterator[None]:
    """Tie work in this process to its job.

    A stream that broke off cannot say why: the job tells. When the work ends by an error or an interruption, the job
    is cancelled, so that it waits for nobody.

    Raises:
        JobFailedError: the job has failed, and so the stream broke off.
    """
    done = False
    try:
        yield
        done = True
    except (StreamLostError, DamagedError) as error:
        why = _reason(session, job)
        if why is None:
            raise
        raise why from error
    finally:
        if not done:
            try:
                _in_a_session(session, lambda api: api.post(f"{job_path(job)}/cancel"))
            except StrongroomError as refused:
                if refused.code != JOB_HAS_ENDED:
                    session.out.say(f"job {safe(job)} was not cancelled: {safe(refused.message)}")


def _reason(session: Session, job: str) -> StrongroomError | None:
    """Ask why a stream broke off; None when the job has not failed, or nobody answers."""
    end = time.monotonic() + REASON_SECONDS
    while True:
        try:
            found = _look(session, job)
        except StrongroomError:
            return None  # the caller's own error is the better one to tell
        if found.get("error"):
            return job_failed(found)
        if found.get("state") in ENDED or time.monotonic() >= end:
            return None
        time.sleep(POLL_SECONDS / 4)
