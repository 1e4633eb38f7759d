"""Waiting for a job of the server, with its progress on standard error."""

from __future__ import annotations

import time
from typing import Any, Final
from urllib.parse import quote

from strongroom.cli.exits import job_failed
from strongroom.cli.progress import Progress
from strongroom.cli.session import Session

POLL_SECONDS: Final = 1.0
ENDED: Final = frozenset({"done", "failed", "cancelled"})


def job_id(answer: dict[str, Any]) -> str:
    """Take the id of a job from an answer that is the job, or names it."""
    return str(answer["job"] if "job" in answer else answer["id"])


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
            found: dict[str, Any] = session.api.get(job_path(job))
            now = found.get("progress") or {}
            progress.update(now.get("bytes_done") or 0, now.get("files") or 0, total=now.get("bytes_total") or None)
            if found.get("state") in ENDED:
                return found
            time.sleep(POLL_SECONDS)


def wait_for(session: Session, job: str) -> dict[str, Any]:
    """Wait for a job, and be content with nothing but success.

    Raises:
        JobFailedError: it failed, or was cancelled.
    """
    found = follow(session, job)
    if found.get("state") != "done":
        raise job_failed(found)
    return found
