"""The output of the demo in 80 columns: live on a terminal, plain lines elsewhere, and a summary."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from time import monotonic, sleep

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from linkbox.cli.demo.part import Check, Line, Part

LIVE_STEP, PLAIN_STEP = 0.125, 2.0
"""Seconds between two updates."""
HISTORY = 10
"""Seconds in a sparkline, one character each."""
LEVELS = "▁▂▃▄▅▆▇█"
NEWS = 5
"""Lines about what was done, at most."""


class Rates:
    """Messages per second of each line, over about the last second, and how they were before."""

    def __init__(self) -> None:
        self._before: dict[tuple[str, str], tuple[float, int]] = {}
        self._rates: dict[tuple[str, str], deque[float]] = {}

    def rates(self, title: str, line: Line) -> Sequence[float]:
        """Update the rates and return them, the newest last. Call it once per update."""
        now, key = monotonic(), (title, line.who)
        at, count = self._before.setdefault(key, (now, line.count))
        found = self._rates.setdefault(key, deque(maxlen=HISTORY))
        if now - at >= 1:
            found.append((line.count - count) / (now - at))
            self._before[key] = (now, line.count)
        return found


def sparkline(values: Sequence[float]) -> str:
    """One character for each value, as high as it is, compared with the greatest."""
    top = max(values, default=0.0) or 1.0
    return "".join(LEVELS[round(value / top * (len(LEVELS) - 1))] for value in values)


def watch(console: Console, parts: Sequence[Part], seconds: float, is_quiet: bool) -> None:
    """Show the parts for that many seconds."""
    rates = Rates()
    began = monotonic()
    until = began + seconds
    if is_quiet:
        sleep(seconds)
    elif console.is_terminal:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            while (left := until - monotonic()) > 0:
                live.update(Group(*picture(parts, rates, began, seconds)), refresh=True)
                sleep(min(LIVE_STEP, left))
    else:
        shown = 0
        while (left := until - monotonic()) > 0:
            sleep(min(PLAIN_STEP, left))
            _print_lines(console, parts, rates)
            news = _news(parts, began)
            for text in news[shown:]:
                console.print(Text(text), soft_wrap=True)
            shown = len(news)


def picture(parts: Sequence[Part], rates: Rates, began: float, seconds: float) -> Iterator[RenderableType]:
    """A table for each part under one header, what was done to them, and the time."""
    header = _table(show_header=True)
    yield header
    for part in parts:
        yield Text(part.title, style="bold", no_wrap=True, overflow="ellipsis")
        table = _table(show_header=False)
        for line in part.lines():
            found = rates.rates(part.title, line)
            rate = f"{found[-1]:,.0f}/s" if found else ""
            table.add_row(line.who, f"{line.count:,}", rate, sparkline(found), _now(line))
        yield table
    for text in _news(parts, began)[-NEWS:]:
        yield Text(text, style="yellow", no_wrap=True, overflow="ellipsis")
    passed = min(monotonic() - began, seconds)
    foot = Table.grid(padding=(0, 2))
    foot.add_row(ProgressBar(seconds, passed, width=20), f"{seconds - passed:.0f} s left, Ctrl-C stops")
    yield foot


def _table(show_header: bool) -> Table:
    table = Table(box=None, show_header=show_header, header_style="dim", expand=True, padding=(0, 1, 0, 0))
    table.add_column("who", width=18, no_wrap=True)
    table.add_column("messages", justify="right", width=9)
    table.add_column("rate", justify="right", width=8, style="green")
    table.add_column(f"last {HISTORY} s", width=HISTORY, style="green")
    table.add_column("now", no_wrap=True, ratio=1, style="cyan")
    return table


def _now(line: Line) -> RenderableType:
    text = Text(line.now, overflow="ellipsis", no_wrap=True)
    if line.share is None:
        return text
    row = Table.grid(padding=(0, 1))
    row.add_row(ProgressBar(1.0, min(line.share, 1.0), width=8), text)
    return row


def _news(parts: Sequence[Part], began: float) -> list[str]:
    """What was done to the parts, in order."""
    happened = sorted(each for part in parts for each in part.happened)
    return [f"{at - began:5.1f} s  {text}" for at, text in happened]


def _print_lines(console: Console, parts: Sequence[Part], rates: Rates) -> None:
    for part in parts:
        name = part.title.partition(" ")[0]
        for line in part.lines():
            found = rates.rates(part.title, line)
            rate = f"{found[-1]:,.0f}/s" if found else ""
            text = f"{name:<6}  {line.who:<18}  {line.count:>7,}  {rate:>7}  {line.now}"
            console.print(Text(text.rstrip()), soft_wrap=True)


def summary(console: Console, checks: Sequence[Check], seconds: float) -> None:
    """Print the checks and their results."""
    table = Table(
        title="Messages sent and received", box=SIMPLE_HEAD, title_style="bold", padding=(0, 1, 0, 0)
    )
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
