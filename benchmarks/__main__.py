"""``python -m benchmarks [ROW …]``: measure, show, and write down."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import guard, interpreter, report, scale
from benchmarks.results import run_row
from benchmarks.rows import by_name, with_compiled

HERE = Path(__file__).parent
console = Console()
if not console.is_terminal:
    console = Console(width=118)
app = typer.Typer(add_completion=False)


@app.command()
def main(
    rows: Annotated[list[str] | None, typer.Argument(help="Names of rows; default: all.")] = None,
    quick: Annotated[bool, typer.Option(help="Fewer messages and rounds: under two minutes.")] = False,
    rounds: Annotated[int, typer.Option(help="How often each contender plays.", min=1)] = 5,
    output: Annotated[Path | None, typer.Option(help="Where the JSON goes.")] = None,
    plots: Annotated[Path | None, typer.Option(help="Where the plots go: a folder.")] = None,
    watch: Annotated[bool, typer.Option(help="Fail where a ratio is twice the recorded one.")] = False,
    record: Annotated[bool, typer.Option(help="Make this run's ratios the recorded ones.")] = False,
    curves: Annotated[bool, typer.Option(help="The scale curves instead of the table.")] = False,
) -> None:
    """Measure linkbox and its peers side by side."""
    console.print(f"measured with {interpreter.description()}")
    if curves:
        found = scale.run_all(console, quick)
        if plots is not None:
            report.plot_curves(found, plots)
        if output is not None:
            output.write_text(json.dumps(found, indent=1))
        return
    try:
        chosen = by_name(rows or [])
    except ValueError as error:
        console.print(f"[red]{error}")
        raise typer.Exit(2) from None
    if watch or record:
        chosen = tuple(guard.only_watched(row) for row in chosen if row.guard)
    elif "LINKBOX_NATIVE" in os.environ and Path(os.environ["LINKBOX_NATIVE"], "linkbox").is_dir():
        chosen = tuple(map(with_compiled, chosen))
    if quick:
        rounds = min(rounds, 3 if watch or record else 2)
    results = [run_row(row, quick, rounds, console) for row in chosen]
    console.print(report.table(results))
    if output is not None:
        output.write_text(report.as_json(results))
    if plots is not None:
        report.plot(results, plots)
    if record:
        guard.record(results)
    if watch and not guard.holds(results, console):
        sys.exit(1)


if __name__ == "__main__":
    app()
