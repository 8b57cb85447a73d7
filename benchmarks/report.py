"""Results for people (a table, plots) and for machines (JSON)."""

from __future__ import annotations

import datetime
import json
import os
import platform
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from benchmarks.results import Result
from benchmarks.rows import OURS


def figure(value: float, unit: str) -> str:
    """A figure with its unit, as short as it is honest."""
    if unit == "s":
        return f"{value * 1e6:.0f} µs"
    return f"{value / 1e6:.2f} M/s" if value >= 1e6 else f"{value / 1e3:.1f} k/s"


def table(results: list[Result]) -> Table:
    """Each row: all contenders, the ratio to ours, and the goals."""
    shown = Table(title="medians of all rounds; a ratio is linkbox / peer", box=box.SIMPLE_HEAD)
    for name, width in (("", 24), ("median", 9), ("least – most", 21), ("ratio", 6), ("goal", 28), ("", 7)):
        shown.add_column(name, justify="left" if name in ("", "goal") else "right", min_width=width)
    for result in results:
        shown.add_row(f"[bold]{result.row.title}")
        verdicts = {goal.against: (str(goal), is_met) for goal, _, is_met in result.verdicts()}
        for label in sorted(result.figures, key=result.middle, reverse=result.row.unit != "s"):
            shown.add_row(*_line(result, label, *verdicts.get(label, ("", None))))
        shown.add_section()
    return shown


def _line(result: Result, label: str, goal: str, is_met: bool | None) -> tuple[str, ...]:
    values, unit = result.figures[label], result.row.unit
    return (
        f"  [bold]{label}[/bold]" if label == OURS else f"  {label}",
        figure(result.middle(label), unit),
        f"{figure(min(values), unit)} – {figure(max(values), unit)}",
        "" if label == OURS else f"{result.ratio(label):.2f}",
        goal,
        "" if is_met is None else "[green]met" if is_met else "[red]not met",
    )


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    return {
        "date": datetime.date.today().isoformat(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def as_json(results: list[Result]) -> str:
    """All figures of all rounds."""
    rows = {
        result.row.name: {
            "title": result.row.title,
            "unit": result.row.unit,
            "figures": result.figures,
            "ratios": {label: result.ratio(label) for label in result.figures if label != OURS},
            "goals": [
                {"goal": str(goal), "ratio": ratio, "met": is_met}
                for goal, ratio, is_met in result.verdicts()
            ],
        }
        for result in results
    }
    return json.dumps({"machine": machine(), "rows": rows}, indent=1, ensure_ascii=False)


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
        labels = sorted(result.figures, key=result.middle, reverse=result.row.unit == "s")
        scale = 1e6 if result.row.unit == "s" else 1e-3
        values = [result.middle(label) * scale for label in labels]
        low = [
            value - min(result.figures[label]) * scale for label, value in zip(labels, values, strict=True)
        ]
        high = [
            max(result.figures[label]) * scale - value for label, value in zip(labels, values, strict=True)
        ]
        drawn, axes = pyplot.subplots(figsize=(7, 0.5 + 0.4 * len(labels)))
        colours = ["#d95f02" if label == OURS else "#8da0cb" for label in labels]
        axes.barh(labels, values, color=colours, xerr=[low, high], error_kw={"lw": 0.8, "ecolor": "#444444"})
        unit = "µs, less is better" if result.row.unit == "s" else "thousand a second, more is better"
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
