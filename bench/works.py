"""The works that are measured, and what each must reach beside its peer."""

from __future__ import annotations

from dataclasses import dataclass

from bench.over_tls import OVER_TLS

OURS = "strongroom"


@dataclass(frozen=True)
class Goal:
    """A bound for one figure of strongroom, as a ratio to the same figure of a peer.

    Attributes:
        work: which one.
        figure: ``wall``, ``peak`` or ``stored``.
        peer: whose figure stands below the line; empty for an absolute bound.
        must: the ratio, or the absolute figure, that may not be passed.
        aim: what is worked for.
        program: whose figure it is.
    """

    work: str
    figure: str
    peer: str
    must: float
    aim: float
    program: str = OURS


GOALS = (
    Goal("SRC first", "wall", "restic", 0.55, 0.40),
    Goal("SRC unchanged", "wall", "restic", 0.45, 0.25),
    Goal("SRC second generation", "wall", "restic", 0.55, 0.35),
    Goal("SRC restore", "wall", "floor", 1.3, 1.05),
    Goal("SRC verify", "wall", "restic", 1.0, 0.5),
    Goal("SRC replication", "wall", "restic", 0.25, 0.1),
    Goal("BIG first", "wall", "restic", 0.65, 0.45),
    Goal("SRC first", "wall", "restic", 0.70, 0.40, OVER_TLS),
    Goal("BIG first", "wall", "restic", 0.80, 0.45, OVER_TLS),
    Goal("BIG second generation", "wall", "restic", 0.60, 0.40),
    Goal("BIG restore", "wall", "restic", 0.9, 0.6),
    Goal("SRC first", "stored", "restic", 0.85, 0.78),
    Goal("BIG first", "stored", "restic", 0.95, 0.90),
    Goal("SRC second generation", "stored", "restic", 1.1, 0.9),
    Goal("BIG second generation", "stored", "restic", 0.7, 0.5),
)

PEAK = Goal("every work", "peak", "", 300e6, 200e6)
