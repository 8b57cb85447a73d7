"""The output of the demo: live on a terminal, plain lines elsewhere, and a summary at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic, sleep

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from linkbox.cli.demo.part import Check, Line, Part

LIVE_STEP, PLAIN_STEP = 0.125, 2.0
"""Seconds between two updates."""


class Rates:
    """Messages per second of each line, over about the last second."""

    def __init__(self) -> None:
        self._before: dict[tuple[str, str], tuple[float, int, float]] = {}

    def rate(self, title: str, line: Line) -> float:
        """Update the rate. Call it once per update."""
        now = monotonic()
        at, count, rate = self._before.get((title, line.who), (now, line.count, 0.0))
        if now - at >= 1 or (title, line.who) not in self._before:
            if now > at:
                rate = (line.count - count) / (now - at)
            self._before[title, line.who] = (now, line.count, rate)
        return rate


def watch(console: Console, parts: Sequence[Part], seconds: float, is_quiet: bool) -> None:
    """Show the parts for that many seconds."""
    rates = Rates()
    until = monotonic() + seconds
    if is_quiet:
        sleep(seconds)
    elif console.is_terminal:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            while (left := until - monotonic()) > 0:
                live.update(_picture(parts, rates, left, console.height > 32), refresh=True)
                sleep(min(LIVE_STEP, left))
    else:
        while (left := until - monotonic()) > 0:
            sleep(min(PLAIN_STEP, left))
            _print_lines(console.print, parts, rates)


def _picture(parts: Sequence[Part], rates: Rates, left: float, is_tall: bool) -> Group:
    """A table for each part; a low terminal gets no headers and rules."""
    box = SIMPLE_HEAD if is_tall else None
    tables = []
    for part in parts:
        table = Table(title=part.title, title_justify="left", title_style="bold", box=box, expand=True)
        table.show_header = is_tall
        table.add_column("who", width=36, no_wrap=True)
        table.add_column("messages", justify="right", width=9)
        table.add_column("rate", justify="right", width=9, style="green")
        table.add_column("last", no_wrap=True, ratio=1, style="cyan")
        for line in part.lines():
            rate = rates.rate(part.title, line)
            table.add_row(line.who, f"{line.count:,}", f"{rate:,.0f}/s", Text(line.last, overflow="ellipsis"))
        tables.append(table)
    return Group(*tables, Text(f"  {left:.0f} s left, Ctrl-C stops", style="dim"))


def _print_lines(write: Callable[..., None], parts: Sequence[Part], rates: Rates) -> None:
    for part in parts:
        name = part.title.partition(" ")[0]
        for line in part.lines():
            rate = rates.rate(part.title, line)
            text = f"{name:<6}  {line.who:<36}  {line.count:>7,}  {rate:>7,.0f}/s  {line.last}"
            write(Text(text.rstrip()), soft_wrap=True)


def summary(console: Console, checks: Sequence[Check], seconds: float) -> None:
    """Print the checks and their results."""
    table = Table(title="Messages sent and received", box=SIMPLE_HEAD, title_style="bold")
    for column in ("pattern", "what"):
        table.add_column(column)
    for column in ("sent", "received"):
        table.add_column(column, justify="right")
    table.add_column("checked")
    table.add_column("result")
    for check in checks:
        result = Text("ok", style="green") if check.is_fine else Text("DIFFERS", style="bold red")
        counts = (f"{check.sent:,}", f"{check.received:,}")
        table.add_row(check.pattern, check.what, *counts, Text(check.verdict), result)
    console.print(table)
    bad = sum(not check.is_fine for check in checks)
    total = sum(check.received for check in checks)
    if bad:
        console.print(Text(f"{bad} of {len(checks)} checks failed, after {seconds:.1f} s", style="bold red"))
    else:
        done = f"All {len(checks)} checks passed: {total:,} messages, requests and events in {seconds:.1f} s"
        console.print(Text(done, style="bold green"))
