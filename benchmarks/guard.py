"""The guard: no row's ratio to the bare socket may become twice as bad as the recorded one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from benchmarks.results import Result
from benchmarks.rows import OURS, Row

RECORDED = Path(__file__).with_name("recorded.json")
WORSE = 2.0


def only_watched(row: Row) -> Row:
    """The same row with nobody but us and whom we are watched against: quick, and needs no peer installed."""
    assert row.guard is not None
    contenders = {label: row.contenders[label] for label in (OURS, row.guard)}
    goals = tuple(goal for goal in row.goals if goal.against in contenders)
    return replace(row, contenders=contenders, goals=goals)


def slowness(result: Result) -> float:
    """How many times as slow as its guard: more is worse, whatever the unit."""
    assert result.row.guard is not None
    ratio = result.ratio(result.row.guard)
    return ratio if result.row.unit == "s" else 1 / ratio


def record(results: list[Result]) -> None:
    """Write down how slow we are, next to what was known of other rows."""
    known = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    known |= {result.row.name: round(slowness(result), 3) for result in results if result.row.guard}
    RECORDED.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")


def holds(results: list[Result], console: Console) -> bool:
    """Is everything within twice what was recorded? Says what is not."""
    known = json.loads(RECORDED.read_text())
    is_well = True
    for result in results:
        now, before = slowness(result), known[result.row.name]
        verdict = "well" if now <= WORSE * before else "TOO SLOW"
        is_well = is_well and now <= WORSE * before
        console.print(
            f"{result.row.name}: {now:.2f} × {result.row.guard}; recorded {before:.2f}, "
            f"allowed {WORSE * before:.2f}: {verdict}"
        )
    return is_well
