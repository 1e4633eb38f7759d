"""The index at its sizes as a picture: rates and memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

_RATES = {
    "inserts_per_second": ("inserts", "#1b6ca8"),
    "hits_per_second": ("look-ups that find", "#8a8a8a"),
    "misses_per_second": ("look-ups that do not", "#e3c56b"),
}


def draw(document: dict[str, Any], target: Path) -> None:
    """Draw rates on the left and memory on the right into an SVG file.

    Args:
        document: as ``--json`` writes it.
        target: the file.
    """
    mpl.rcParams["svg.hashsalt"] = "strongroom"  # the same figures give the same bytes
    sizes = document["sizes"]
    places = [row["segments"] / 1e6 for row in sizes]
    figure, (rates, memory) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for name, (label, colour) in _RATES.items():
        rates.plot(places, [row[name] / 1e3 for row in sizes], marker="o", color=colour, label=label)
    rates.set_ylabel("thousands a second of CPU")
    memory.plot(places, [row["peak_bytes"] / 1e6 for row in sizes], marker="o", color="#1b6ca8", label="at its highest")
    memory.plot(places, [row["before_bytes"] / 1e6 for row in sizes], color="#b8b8b8", label="without an index")
    memory.set_ylabel("resident memory, MB")
    for axes in (rates, memory):
        axes.set_xlabel("millions of segments")
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=8)
    figure.suptitle(f"{document['cores']} cores, {document['date']}", fontsize=9)
    figure.savefig(target, metadata={"Date": None})
