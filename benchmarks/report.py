"""Results for people (a table, plots) and for machines (JSON)."""

from __future__ import annotations

import datetime
import json
import os
import platform
from pathlib import Path
from statistics import median
from typing import Any

from rich import box
from rich.table import Table

from benchmarks.counts import BARE, CALLS, INSTRUCTIONS, Counts
from benchmarks.interpreter import is_optimised
from benchmarks.results import Result
from benchmarks.rows import COMPILED, ITSELF, OURS, Goal

COUNTED = {
    "p2p_one_core": (("p2p_send", "p2p_data_get"), "p2p"),
    "ask_one_core": (("ar_ask",), "ask"),
    "aio_p2p": (("aio_p2p",), ""),
    "aio_ask": (("aio_ar",), ""),
}
"""The counts that stand beside the times of a row: Python calls of these, instructions of this."""


def figure(value: float, unit: str) -> str:
    """A figure with its unit, as short as it is honest."""
    if unit == "s":
        return f"{value * 1e6:.0f} µs"
    if unit == "B":
        return f"{value / 1024:.1f} KiB"
    if value < 1e4:
        return f"{value:.0f} /s"
    return f"{value / 1e6:.2f} M/s" if value >= 1e6 else f"{value / 1e3:.1f} k/s"


def table(results: list[Result], counts: Counts) -> Table:
    """Each row: all contenders, the ratios of linkbox to them, as it is and compiled, and the goals."""
    shown = Table(
        title="medians of all rounds; ratios are linkbox / peer; CPU: both sides, s for a million messages",
        box=box.SIMPLE_HEAD,
    )
    columns = (("", 24), ("median", 9), ("least – most", 21), ("CPU", 5), ("as it is", 8), ("compiled", 8))
    for name, width in columns:
        shown.add_column(name, justify="right" if name else "left", min_width=width)
    shown.add_column("goal", min_width=26)
    for result in results:
        shown.add_row(f"[bold]{result.row.title}")
        goals = {goal.against: goal for goal in result.goals()}
        for label in sorted(result.figures, key=result.middle, reverse=not result.row.less_is_better):
            shown.add_row(*_line(result, label, goals.get(ITSELF if label in result.ours() else label)))
        for line in _counted(result.row.name, counts):
            shown.add_row(*line)
        shown.add_section()
    return shown


def _counted(name: str, counts: Counts) -> list[tuple[str, ...]]:
    calls, scenario = COUNTED.get(name, ((), ""))
    found: list[tuple[str, ...]] = [
        (f"  calls: {each}", f"{value:.0f}", "Python calls a message")
        for each, value in counts.get(CALLS, {}).items()
        if each in calls
    ]
    instructions = counts.get(INSTRUCTIONS, {})
    for each, value in instructions.items():
        build = each.removeprefix(scenario)
        if not scenario or (each != BARE and build not in {"", ", compiled"}):
            continue
        ratio = f"{value / instructions[BARE]:.1f}"
        ratios = ("", "") if each == BARE else (ratio, "") if build == "" else ("", ratio)
        who = BARE if each == BARE else f"linkbox{build}"
        found.append((f"  instr.: {who}", f"{value / 1e3:.1f} k", "instr. a round trip", "", *ratios, ""))
    return found


def _line(result: Result, label: str, goal: Goal | None) -> tuple[str, ...]:
    values, unit = result.figures[label], result.row.unit
    return (
        f"  [bold]{label}[/bold]" if label in result.ours() else f"  {label}",
        figure(result.middle(label), unit),
        f"{figure(min(values), unit)} – {figure(max(values), unit)}",
        "" if unit == "B" else f"{median(result.cpu[label]):.1f}",
        *(_ratio(result, label, ours, goal) for ours in (OURS, COMPILED)),
        "" if goal is None else _goal(goal, unit),
    )


def _goal(goal: Goal, unit: str) -> str:
    if goal.against != ITSELF:
        return str(goal)
    sign, bound = ("≤", goal.at_most) if goal.at_most is not None else ("≥", goal.at_least)
    return f"{sign} {figure(bound or 0, unit)}"


def _ratio(result: Result, label: str, ours: str, goal: Goal | None) -> str:
    if ours not in result.figures or label in result.ours():
        return ""
    ratio = result.ratio(label, ours)
    colour = "default" if goal is None else "green" if goal.is_met(ratio, ours) else "red"
    return f"[{colour}]{ratio:.2f}[/]"


def progress(result: Result) -> str:
    """One line, when a row is done."""
    ours = ", ".join(f"{label} {figure(result.middle(label), result.row.unit)}" for label in result.ours())
    return f"{result.row.name}: {ours} ({result.seconds:.0f} s)"


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    return {
        "date": datetime.date.today().isoformat(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "optimised": is_optimised(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    with open("/proc/cpuinfo") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return names[0] if names else platform.processor()


def as_json(results: list[Result], counts: Counts) -> str:
    """All figures of all rounds, and what was counted."""
    rows = {
        result.row.name: {
            "title": result.row.title,
            "unit": result.row.unit,
            "figures": result.figures,
            "cpu seconds per million": result.cpu,
            "seconds": round(result.seconds, 1),
            "ratios": {
                ours: {label: result.ratio(label, ours) for label in result.figures if label != ours}
                for ours in result.ours()
            },
            "goals": [
                {"goal": str(goal), "by": ours, "met": result.is_met(goal, ours)}
                for goal in result.goals()
                for ours in result.ours()
            ],
        }
        for result in results
    }
    found = {"machine": machine(), "counts": counts, "rows": rows}
    return json.dumps(found, indent=1, ensure_ascii=False)


UNITS = {
    "s": (1e6, "µs, less is better"),
    "1/s": (1e-3, "thousand a second, more is better"),
    "B": (1 / 1024, "KiB, less is better"),
}


def _figures() -> Any:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "linkbox"  # the same figures, the same file
    from matplotlib import pyplot

    return pyplot


def plot(results: list[Result], folder: Path) -> None:
    """One SVG a row: bars, ours in colour."""
    pyplot = _figures()
    folder.mkdir(parents=True, exist_ok=True)
    for result in results:
        labels = sorted(result.figures, key=result.middle, reverse=result.row.less_is_better)
        scale, unit = UNITS[result.row.unit]
        values = [result.middle(label) * scale for label in labels]
        low = [
            value - min(result.figures[label]) * scale for label, value in zip(labels, values, strict=True)
        ]
        high = [
            max(result.figures[label]) * scale - value for label, value in zip(labels, values, strict=True)
        ]
        drawn, axes = pyplot.subplots(figsize=(7, 0.5 + 0.4 * len(labels)))
        colours = ["#d95f02" if label in result.ours() else "#8da0cb" for label in labels]
        axes.barh(labels, values, color=colours, xerr=[low, high], error_kw={"lw": 0.8, "ecolor": "#444444"})
        axes.set_xlabel(unit)
        axes.set_title(result.row.title, fontsize=10)
        drawn.tight_layout()
        drawn.savefig(folder / f"{result.row.name}.svg", metadata={"Date": None})
        pyplot.close(drawn)


def plot_curves(curves: list[dict[str, Any]], folder: Path) -> None:
    """One SVG a scale curve."""
    pyplot = _figures()
    folder.mkdir(parents=True, exist_ok=True)
    for curve in curves:
        drawn, axes = pyplot.subplots(figsize=(7, 3.2))
        axes.plot([x for x, _ in curve["points"]], [y for _, y in curve["points"]], "o-", color="#d95f02")
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set_xlabel(curve["x"])
        axes.set_ylabel(curve["y"])
        axes.set_title(curve["title"], fontsize=10)
        drawn.tight_layout()
        drawn.savefig(folder / f"{curve['name']}.svg", metadata={"Date": None})
        pyplot.close(drawn)
