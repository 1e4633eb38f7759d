"""A process that runs jobs until it is killed: ``jobs_worker.py URL``. It prints what it does.

A job has ``params["steps"]`` steps, each of which adds a row to the table ``harvest`` in one transaction
with its effect. The first attempt waits at the step ``params["hold"]`` until the file ``params["go"]``
exists: before the step, or, with ``params["inside"]``, before its commit.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from strongroom.core.errors import StrongroomError
from strongroom.database import open_engine, transact
from strongroom.jobs import Handler, Intervals, JobContext, JobEngine, Queue
from strongroom.settings.system import SystemClock, SystemEntropy

INTERVALS = Intervals(
    poll=timedelta(milliseconds=20), beat=timedelta(milliseconds=150), ttl=timedelta(milliseconds=750)
)
harvest = sa.Table("harvest", sa.MetaData(), sa.Column("step", sa.Integer), sa.Column("attempt", sa.Integer))


def say(*words: object) -> None:
    print(*words, flush=True)  # noqa: T201 - the test reads it


def hold(context: JobContext) -> None:
    say("holds", context.job_id)
    while not Path(context.params["go"]).exists():
        threading.Event().wait(0.01)


def do_step(context: JobContext, number: int, holds: bool, connection: sa.Connection) -> None:
    if not context.effect(connection, f"step {number}"):
        return
    connection.execute(harvest.insert().values(step=number, attempt=context.attempt))
    if holds:
        hold(context)


def main(url: str) -> None:
    database = open_engine(url)

    def run(context: JobContext) -> Mapping[str, Any]:
        inside = context.params.get("inside", False)
        for number in range(context.params["steps"]):
            holds = number == context.params.get("hold") and context.attempt == 1
            if holds and not inside:
                hold(context)
            step = functools.partial(do_step, context, number, holds and inside)
            try:
                transact(database, step)
            except StrongroomError as error:
                say("refused", number, error.code)
                raise
            say("step", number, context.attempt)
        say("done", context.job_id, context.attempt)
        return {"attempt": context.attempt}

    engine = JobEngine(
        database, {"steps": Handler(run, "all")}, [Queue("all", 4)], SystemClock(), SystemEntropy(), INTERVALS
    )
    try:
        engine.start()
    except StrongroomError as error:
        say("failed", error.code)
        return
    say("ready")
    threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1])
