"""The table as a picture: how long each work takes, beside the peers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

from bench.over_tls import OVER_TLS
from bench.table import Results, median
from bench.works import OURS

_COLOURS = {OURS: "#1b6ca8", OVER_TLS: "#7fb2d9", "restic": "#b8b8b8", "borg": "#8a8a8a", "floor": "#e3c56b"}


def draw(document: dict[str, Any], target: Path) -> None:
    """Draw a bar for each program at each work into an SVG file.

    Args:
        document: as ``--json`` writes it.
        target: the file.
    """
    mpl.rcParams["svg.hashsalt"] = "strongroom"  # the same figures give the same bytes
    results: Results = document["results"]
    works = list(reversed(results))
    figure, axes = plt.subplots(figsize=(8, 0.7 * len(works) + 1.2), layout="constrained")
    height = 0.8 / len(_COLOURS)
    for number, (program, colour) in enumerate(reversed(_COLOURS.items())):
        measured = [(place, median(results, work, program, "wall")) for place, work in enumerate(works)]
        bars = [(place + number * height, wall) for place, wall in measured if wall is not None]
        if not bars:
            continue
        places, walls = zip(*bars, strict=True)
        axes.barh(places, walls, height, label=program, color=colour)
        for place, wall in bars:
            axes.text(wall, place, f" {wall:.1f}", va="center", fontsize=7)
    axes.set_yticks([place + 1.5 * height for place in range(len(works))], works)
    axes.set_xlabel("seconds of wall time, warm cache")
    axes.set_title(f"{document['machine']['cores']} cores, {document['date']}", fontsize=9)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], fontsize=8)
    figure.savefig(target, metadata={"Date": None})
