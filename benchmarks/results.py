"""Rounds of one row: all contenders in turn, then medians and ratios."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.console import Console

from benchmarks.measure import measure
from benchmarks.rows import OURS, Goal, Row, params_of, place_of


@dataclass(frozen=True)
class Result:
    """What the rounds of one row gave."""

    row: Row
    figures: dict[str, list[float]]
    """For each contender one figure a round, in the row's unit."""

    def middle(self, label: str) -> float:
        """The median of the rounds."""
        return median(self.figures[label])

    def ratios(self, against: str) -> list[float]:
        """``linkbox / against``, round by round: both were measured within seconds of each other."""
        return [ours / theirs for ours, theirs in zip(self.figures[OURS], self.figures[against], strict=True)]

    def ratio(self, against: str) -> float:
        """The median of `ratios`."""
        return median(self.ratios(against))

    def verdicts(self) -> list[tuple[Goal, float, bool]]:
        """Each goal, the ratio it is about, and whether it is met."""
        return [
            (goal, self.ratio(goal.against), goal.is_met(self.ratio(goal.against))) for goal in self.row.goals
        ]


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
