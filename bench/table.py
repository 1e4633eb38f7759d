"""The table of a measurement: medians, ratios, and which goals were met."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.over_tls import OVER_TLS
from bench.works import GOALS, OURS, PEAK, Goal

Results = dict[str, dict[str, list[dict[str, float]]]]
"""Figures of each run, by work and program."""


@dataclass(frozen=True)
class Judged:
    """One goal, and what came of it.

    Attributes:
        work: which.
        figure: which.
        peer: beside whom; empty for an absolute bound.
        ours: strongroom's median.
        theirs: the peer's median; 0 for an absolute bound.
        ratio: ours by theirs, or ours for an absolute bound.
        must: bound of the ratio.
        aim: what is worked for.
        met: whether the bound holds.
        program: whose figure ours is.
    """

    work: str
    figure: str
    peer: str
    ours: float
    theirs: float
    ratio: float
    must: float
    aim: float
    met: bool
    program: str = OURS


def median(results: Results, work: str, program: str, figure: str) -> float | None:
    """Give the median of a figure, or nothing if it was not measured."""
    values = [run[figure] for run in results.get(work, {}).get(program, []) if figure in run]
    return statistics.median(values) if values else None


def judged(results: Results) -> list[Judged]:
    """Hold the results against the goals, those of them that were measured."""
    rows = [row for goal in GOALS if (row := _judge(goal, results)) is not None]
    own = [median(results, work, program, PEAK.figure) for work in results for program in (OURS, OVER_TLS)]
    peaks = [peak for peak in own if peak is not None]
    if peaks:
        highest = max(peaks)
        rows.append(Judged(PEAK.work, PEAK.figure, "", highest, 0, highest, PEAK.must, PEAK.aim, highest <= PEAK.must))
    return rows


def _judge(goal: Goal, results: Results) -> Judged | None:
    ours = median(results, goal.work, goal.program, goal.figure)
    theirs = median(results, goal.work, goal.peer, goal.figure)
    if ours is None or theirs is None:
        return None
    ratio = ours / theirs
    return Judged(
        work=goal.work,
        figure=goal.figure,
        peer=goal.peer,
        ours=ours,
        theirs=theirs,
        ratio=ratio,
        must=goal.must,
        aim=goal.aim,
        met=ratio <= goal.must,
        program=goal.program,
    )


def show(document: dict[str, Any]) -> None:
    """Print all medians, and the goals."""
    console = Console()
    results: Results = document["results"]
    programs = list(dict.fromkeys(name for runs in results.values() for name in runs))
    table = Table(title="medians: wall s / CPU s / peak MB / stored MB")
    table.add_column("work")
    for name in programs:
        table.add_column(name, justify="right")
    for work in results:
        table.add_row(work, *(_cell(results, work, name) for name in programs))
    console.print(table)
    goals = Table(title="goals")
    for heading in ("work", "program", "figure", "beside", "ours", "theirs", "ratio", "must be", "aim", "met"):
        goals.add_column(heading)
    for row in document["goals"]:
        scale = 1 if row["figure"] == "wall" else 1e6
        ratio_scale = 1 if row["peer"] else scale
        goals.add_row(
            row["work"],
            row["program"],
            row["figure"],
            row["peer"],
            f"{row['ours'] / scale:,.2f}",
            f"{row['theirs'] / scale:,.2f}" if row["peer"] else "",
            f"{row['ratio'] / ratio_scale:.2f}",
            f"{row['must'] / ratio_scale:g}",
            f"{row['aim'] / ratio_scale:g}",
            "yes" if row["met"] else "NO",
        )
    console.print(goals)


def _cell(results: Results, work: str, program: str) -> str:
    wall = median(results, work, program, "wall")
    if wall is None:
        return ""
    cpu, peak = (median(results, work, program, figure) or 0.0 for figure in ("cpu", "peak"))
    stored = median(results, work, program, "stored")
    return f"{wall:.2f} / {cpu:.2f} / {peak / 1e6:.0f}" + (f" / {stored / 1e6:,.1f}" if stored is not None else "")
