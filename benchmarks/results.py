"""Rounds of one row: all contenders in turn, then medians and ratios."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.console import Console

from benchmarks.measure import measure
from benchmarks.rows import COMPILED, OURS, Goal, Row, params_of, place_of


@dataclass(frozen=True)
class Result:
    """What the rounds of one row gave."""

    row: Row
    figures: dict[str, list[float]]
    """For each contender one figure a round, in the row's unit."""

    def middle(self, label: str) -> float:
        """The median of the rounds."""
        return median(self.figures[label])

    def ratio(self, against: str, ours: str = OURS) -> float:
        """``linkbox / against``: the median of the rounds' ratios, as both were measured within seconds."""
        pairs = zip(self.figures[ours], self.figures[against], strict=True)
        return median(mine / theirs for mine, theirs in pairs)

    def goals(self) -> list[Goal]:
        """Those whose peer has played."""
        return [goal for goal in self.row.goals if goal.against in self.figures]

    def ours(self) -> list[str]:
        """linkbox as it is, and compiled if that has played."""
        return [label for label in (OURS, COMPILED) if label in self.figures]


def run_row(row: Row, quick: bool, rounds: int, console: Console) -> Result:
    """All rounds of one row. The contenders alternate, and a different one begins each round."""
    labels = list(row.contenders)
    figures: dict[str, list[float]] = {label: [] for label in labels}
    with console.status("") as status:
        for number in range(rounds):
            first = number % len(labels)
            for label in labels[first:] + labels[:first]:
                status.update(f"{row.title}: round {number + 1} of {rounds}, {label}")
                module, role = place_of(row, label)
                found = measure(module, role, params_of(row, quick), row.pin, row.waits_for)
                figures[label].append(_figure(found))
    return Result(row, figures)


def _figure(found: Any) -> float:
    """The median of single times, or the rate itself."""
    return float(median(found)) if isinstance(found, list) else float(found)
