"""A process that runs jobs until it is killed: ``jobs_worker.py URL``. It tells what it does on standard output.

Two kinds of job, both over ``params["steps"]`` steps, each of which adds a row to the table ``harvest``:
``steps`` does each step in a transaction with its effect, and says so. ``hold`` does the same, and waits
before the commit of the step ``params["hold"]`` of its first attempt until the file ``params["go"]`` exists.
"""

from __future__ import annotations

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


def main(url: str) -> None:
    database = open_engine(url)

    def run(context: JobContext) -> Mapping[str, Any]:
        inside = context.params.get("inside", False)

        def step(number: int, connection: sa.Connection) -> None:
            if not context.effect(connection, f"step {number}"):
                return
            connection.execute(harvest.insert().values(step=number, attempt=context.attempt))
            if inside and number == context.params["hold"] and context.attempt == 1:
                hold(context)

        for number in range(context.params["steps"]):
            if not inside and number == context.params.get("hold") and context.attempt == 1:
                hold(context)
            try:
                transact(database, lambda connection, number=number: step(number, connection))
            except StrongroomError as error:
                say("refused", number, error.code)
                raise
            say("step", number, context.attempt)
        say("done", context.job_id, context.attempt)
        return {"attempt": context.attempt}

    def hold(context: JobContext) -> None:
        say("holds", context.job_id)
        while not Path(context.params["go"]).exists():
            threading.Event().wait(0.01)

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
