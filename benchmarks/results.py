"""Rounds of one row: all contenders in turn, then medians and ratios."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from statistics import median
from time import perf_counter

from rich.console import Console

from benchmarks import broker, certificates
from benchmarks.measure import Played, play
from benchmarks.rows import COMPILED, ITSELF, OURS, Goal, Row, compiled, params_of, place_of


@dataclass(frozen=True)
class Result:
    """What the rounds of one row gave."""

    row: Row
    figures: dict[str, list[float]]
    """For each contender one figure a round, in the row's unit."""
    cpu: dict[str, list[float]]
    """For each contender, and round: CPU seconds of both processes for a million messages."""
    seconds: float = 0.0
    """What the row has taken."""

    def middle(self, label: str) -> float:
        """The median of the rounds."""
        return median(self.figures[label])

    def ratio(self, against: str, ours: str = OURS) -> float:
        """``linkbox / against``: the median of the rounds' ratios, as both were measured within seconds.

        The compiled linkbox is compared with what is compiled, where that has played.
        """
        if ours == COMPILED and compiled(against) in self.figures:
            against = compiled(against)
        pairs = zip(self.figures[ours], self.figures[against], strict=True)
        return median(mine / theirs for mine, theirs in pairs)

    def cpu_ratio(self, against: str) -> float:
        """The same of the CPU time."""
        pairs = zip(self.cpu[OURS], self.cpu[against], strict=True)
        return median(mine / theirs for mine, theirs in pairs)

    def goals(self) -> list[Goal]:
        """Those whose peer has played."""
        return [goal for goal in self.row.goals if goal.against in self.figures or goal.against == ITSELF]

    def is_met(self, goal: Goal, ours: str = OURS) -> bool:
        """Is that goal met by this build?"""
        found = self.middle(ours) if goal.against == ITSELF else self.ratio(goal.against, ours)
        return goal.is_met(found, ours)

    def ours(self) -> list[str]:
        """linkbox as it is, and compiled if that has played."""
        return [label for label in (OURS, COMPILED) if label in self.figures]


def run_row(row: Row, quick: bool, rounds: int, console: Console) -> Result:
    """All rounds of one row. The contenders alternate, and a different one begins each round."""
    if row.role.startswith("tls"):
        certificates.prepare()
    labels = list(row.contenders)
    figures: dict[str, list[float]] = {label: [] for label in labels}
    cpu: dict[str, list[float]] = {label: [] for label in labels}
    begun = perf_counter()
    rounds = min(rounds, row.rounds or rounds)
    with broker.running() if row.needs_broker else nullcontext(), console.status("") as status:
        for number in range(rounds):
            first = number % len(labels)
            for label in labels[first:] + labels[:first]:
                status.update(f"{row.title}: round {number + 1} of {rounds}, {label}")
                module, role = place_of(row, label)
                played = play(module, role, params_of(row, quick, label), row.pin, row.waits_for)
                figures[label].append(_figure(played))
                cpu[label].append(1e6 * played.cpu / max(played.messages, 1))
    return Result(row, figures, cpu, perf_counter() - begun)


def _figure(played: Played) -> float:
    """The median of single times, or the rate itself."""
    found = played.result
    return float(median(found)) if isinstance(found, list) else float(found)
