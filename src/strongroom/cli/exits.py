"""Exit codes beside those of the tree of errors; all of them are in ``docs/reference/exit-codes.md``."""

from __future__ import annotations

import errno
import os
from typing import Any, Final, NoReturn

import click

from strongroom.core.errors import ResourceError, StrongroomError

DEFECT: Final = 1
DAMAGED: Final = 6
WITH_PROBLEMS: Final = 10
JOB_FAILED: Final = 11
INTERRUPTED: Final = 130


class JobFailedError(StrongroomError):
    """The job that was waited for ended without success."""

    code = "cli.job-failed"
    exit_code = JOB_FAILED
    default_hint = "see 'strongroom job show JOB'"


class DefectError(StrongroomError):
    """The program met something that its authors did not think of."""

    code = "cli.defect"
    default_hint = "set STRONGROOM_TRACEBACK=1, run it again, and report what it prints"


class SystemRefusedError(ResourceError):
    """The system of this host refused a read, a write or a connection."""

    code = "cli.system-refused"
    retry = "never"


def unforeseen(error: Exception) -> StrongroomError:
    """Tell an error that is not of the product's tree: the system's words, or a defect by its name.

    Raises:
        Exception: the error itself, for ``STRONGROOM_TRACEBACK``, or when a reader of the output went away, which
            click handles.
    """
    if os.environ.get("STRONGROOM_TRACEBACK") or getattr(error, "errno", None) == errno.EPIPE:
        raise error
    if isinstance(error, OSError):
        name = f"'{os.fsdecode(error.filename)}': " if isinstance(error.filename, str | bytes) else ""
        return SystemRefusedError(f"{name}{(error.strerror or str(error)).lower()}")
    return DefectError(f"a defect of the program: {type(error).__name__}: {error}")


def leave(code: int) -> NoReturn:
    """End the command with this exit code, after its result was shown."""
    click.get_current_context().exit(code)


def job_failed(job: dict[str, Any]) -> JobFailedError:
    """Make the error of a job that failed or was cancelled, from what the server says of it."""
    number, state = job.get("job"), job.get("state")
    error = job.get("error") or {}
    reason = f": {error['message']}" if error.get("message") else ""
    failed = JobFailedError(
        f"job '{number}' is {state}{reason}",
        hint=str(error.get("hint") or "") or f"see 'strongroom job show {number}'",
        context={"job": str(number), "code": str(error.get("code") or "")},
    )
    failed.retry = "later" if error.get("retry") == "later" else "never"
    return failed
