"""Running the reader of one file, in this process."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass

from contrib import read_image


@dataclass
class Result:
    """What a run of the reader said."""

    status: int
    out: str
    err: str


def run(*words: object) -> Result:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = read_image.main([str(word) for word in words])
    return Result(status, out.getvalue(), err.getvalue())
