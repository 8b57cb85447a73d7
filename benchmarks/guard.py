"""The guard: counts may become a tenth higher than the recorded ones, ratios to the bare socket twice as bad.

A count does not depend on how busy the machine is, but a message may meet a timer: what looks too high is
counted again, and the least counts. A ratio that looks too high is measured in more rounds before that is
believed. Counts depend on the version of Python; for one that has none recorded they are only shown.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import counts
from benchmarks.measure import ONE_CORE
from benchmarks.results import Result
from benchmarks.rows import OURS, Row

RECORDED = Path(__file__).with_name("recorded.json")
WORSE = 2.0
MORE = 1.1
ATTEMPTS = 3
"""How often a count that is too high is counted, and how many times as many rounds a ratio gets."""


def only_watched(row: Row) -> Row:
    """The same row with nobody but us and whom we are watched against: quick, and needs no peer installed."""
    assert row.guard is not None
    contenders = {label: row.contenders[label] for label in (OURS, row.guard)}
    goals = tuple(goal for goal in row.goals if goal.against in contenders)
    return replace(row, contenders=contenders, goals=goals)


def slowness(result: Result) -> dict[str, float]:
    """How many times as slow as its guard, in CPU time, and on one core also by the clock: more is worse.

    On two cores a clock measures how busy the machine is.
    """
    assert result.row.guard is not None
    found = {f"{result.row.name}, CPU": result.cpu_ratio(result.row.guard)}
    if result.row.pin == ONE_CORE:
        ratio = result.ratio(result.row.guard)
        found[result.row.name] = ratio if result.row.less_is_better else 1 / ratio
    return found


def recorded() -> dict[str, Any]:
    """What was known before: "ratios" by row; each kind of count by version of Python."""
    found: dict[str, Any] = json.loads(RECORDED.read_text())
    return found


def record(results: list[Result], found: counts.Counts) -> None:
    """Write down how slow we are, next to what was known of other rows and other Pythons."""
    known = recorded()
    for result in results:
        known["ratios"] |= {name: round(ratio, 3) for name, ratio in slowness(result).items()}
    for kind, version in counts.versions().items():
        known[kind].setdefault(version, {}).update(
            {what: round(value, 1) for what, value in found.get(kind, {}).items()}
        )
    RECORDED.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def ratios_hold(results: list[Result], again: Callable[[Row], Result], console: Console) -> bool:
    """Is every ratio within twice what was recorded? Says what is not. ``again`` measures a row once more."""
    known = recorded()["ratios"]
    is_well = True
    for result in results:
        for _ in range(ATTEMPTS - 1):
            if any(ratio > WORSE * known[name] for name, ratio in slowness(result).items()):
                result = joined(result, again(result.row))
        for name, now in slowness(result).items():
            allowed = WORSE * known[name]
            is_well = is_well and now <= allowed
            console.print(
                f"{name}: {now:.2f} × {result.row.guard}; recorded {known[name]:.2f}, "
                f"allowed {allowed:.2f}: {'well' if now <= allowed else 'TOO SLOW'}"
            )
    return is_well


def joined(first: Result, second: Result) -> Result:
    """The rounds of both."""
    return replace(
        first,
        figures={label: values + second.figures[label] for label, values in first.figures.items()},
        cpu={label: values + second.cpu[label] for label, values in first.cpu.items()},
    )


def counts_hold(
    found: counts.Counts, console: Console, again: Callable[[str, str], float] = counts.count
) -> bool:
    """Is every count within a tenth of what was recorded for this Python? Says what is not."""
    is_well = True
    for kind, values in found.items():
        version = counts.versions()[kind]
        known = recorded()[kind].get(version, {})
        for what, now in values.items():
            if what not in known:
                console.print(f"{what}: {now:,.0f} {kind}; none recorded for {version}")
                continue
            allowed = MORE * known[what]
            for _ in range(ATTEMPTS - 1):
                if now > allowed:
                    now = min(now, again(kind, what))
            is_well = is_well and now <= allowed
            verdict = "TOO MANY" if now > allowed else "well"
            if now * MORE < known[what]:
                verdict = "well, and fewer: let them be recorded"
            console.print(
                f"{what}: {now:,.0f} {kind}; recorded {known[what]:,.0f}, allowed {allowed:,.0f}: {verdict}"
            )
    return is_well
