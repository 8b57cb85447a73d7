"""``python -m benchmarks [ROW …]``: measure, show, and write down."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import broker, counts, guard, interpreter, plan, report, scale
from benchmarks.results import Result, run_row
from benchmarks.rows import Row, by_name, with_compiled

console = Console()
if not console.is_terminal:
    console = Console(width=124)
app = typer.Typer(add_completion=False)
QUICK_ROUNDS, GUARD_ROUNDS = 1, 3


@dataclass(frozen=True)
class Run:
    """How to measure."""

    quick: bool
    rounds: int

    def row(self, row: Row) -> Result:
        """One row, and a line that says it is done: a run whose output is a file shows where it is."""
        result = run_row(row, self.quick, self.rounds, console)
        console.print(report.progress(result))
        return result


@app.command()
def main(
    rows: Annotated[list[str] | None, typer.Argument(help="Names of rows; default: all.")] = None,
    quick: Annotated[bool, typer.Option(help="Fewer messages, one round: under two minutes.")] = False,
    rounds: Annotated[int, typer.Option(help="How often each contender plays.", min=1)] = 5,
    output: Annotated[Path | None, typer.Option(help="Where the JSON goes.")] = None,
    plots: Annotated[Path | None, typer.Option(help="Where the plots go: a folder.")] = None,
    watch: Annotated[bool, typer.Option(help="Fail where something is worse than recorded.")] = False,
    record: Annotated[bool, typer.Option(help="Make this run's the recorded ratios and counts.")] = False,
    curves: Annotated[bool, typer.Option(help="The scale curves instead of the table.")] = False,
) -> None:
    """Measure linkbox and its peers side by side."""
    console.print(f"measured with {interpreter.description()}")
    if not interpreter.is_optimised():
        console.print("[yellow]it is not optimised: linkbox looks slower than users will see it")
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    if load > cores:
        console.print(
            f"[yellow]this machine is busy (load {load:.0f}, {cores} cores): it takes longer, and says less"
        )
    if curves:
        draw(quick, output, plots)
        return
    try:
        chosen = by_name(rows or [])
    except ValueError as error:
        console.print(f"[red]{error}")
        raise typer.Exit(2) from None
    if quick and not rows:
        chosen = tuple(row for row in chosen if row.quick is not None)
    chosen = playable(chosen)
    if watch or record:
        sys.exit(not watched(chosen, record))
    if counts.native() is not None:
        chosen = tuple(map(with_compiled, chosen))
    compare(chosen, Run(quick, QUICK_ROUNDS if quick else rounds), output, plots)


def playable(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """Those for which everything is installed; names the others."""
    missing = broker.missing()
    left_out = [row.name for row in rows if row.needs_broker and missing]
    if left_out:
        console.print(f"[yellow]left out, without {missing}: {', '.join(left_out)}")
    return tuple(row for row in rows if row.name not in left_out)


def draw(quick: bool, output: Path | None, plots: Path | None) -> None:
    """The curves."""
    found = scale.run_all(console, quick)
    if plots is not None:
        report.plot_curves(found, plots)
    if output is not None:
        output.write_text(json.dumps(found, indent=1))


def compare(chosen: tuple[Row, ...], run: Run, output: Path | None, plots: Path | None) -> None:
    """The table."""
    console.print(plan.sentence(chosen, run.quick, run.rounds))
    results = [run.row(row) for row in chosen]
    counted: counts.Counts = {}
    if any(row.name in report.COUNTED for row in chosen):
        kinds = (counts.CALLS,) if run.quick else (counts.CALLS, counts.INSTRUCTIONS)
        counted = counts.count_all(console, kinds)
    console.print(report.table(results, counted))
    if output is not None:
        output.write_text(report.as_json(results, counted))
    if plots is not None:
        report.plot(results, plots)


def watched(chosen: tuple[Row, ...], record: bool) -> bool:
    """The guard: is all as it was? Or write down how it is."""
    run = Run(quick=True, rounds=GUARD_ROUNDS)
    results = [run.row(guard.only_watched(row)) for row in chosen if row.guard]
    found = counts.count_all(console, (counts.CALLS, counts.INSTRUCTIONS))
    if record:
        guard.record(results, found)
        return True
    is_well = guard.counts_hold(found, console)
    return guard.ratios_hold(results, run.row, console) and is_well


if __name__ == "__main__":
    app()
