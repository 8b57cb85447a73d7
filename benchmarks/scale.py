"""How the cost of one message, and of one peer, changes as there are more of them."""

from __future__ import annotations

from statistics import median
from typing import Any

from rich.console import Console

from benchmarks.measure import alone, measure

OURS = "benchmarks.peers.ours"
CURVES = "benchmarks.peers.ours_scale"


def run_all(console: Console, quick: bool) -> list[dict[str, Any]]:
    """Every curve, as points; prints them as they come."""
    curves = [_peers(quick), _sizes(quick), _depth(quick), _length(quick), *_store(quick)]
    found = []
    for title, x, y, name, points in curves:
        console.print(f"[bold]{title}[/bold]")
        drawn = []
        for at, value in points:
            console.print(f"  {x} {at:>10,}: {value:.3g} {y}")
            drawn.append((at, value))
        found.append({"name": name, "title": title, "x": x, "y": y, "points": drawn})
    _idle(console, quick)
    _import(console)
    return found


def _peers(quick: bool) -> tuple[str, str, str, str, Any]:
    def points() -> Any:
        total = 20_000 if quick else 100_000
        for peers in (1, 10, 100) if quick else (1, 3, 10, 30, 100, 300, 1000):
            params = {"peers": peers, "count": total // peers, "size": 64}
            yield peers, 1e6 / measure(CURVES, "peers", params, waits_for="server")

    return "one message from one of many active peers", "peers", "µs a message", "scale_peers", points()


def _sizes(quick: bool) -> tuple[str, str, str, str, Any]:
    def points() -> Any:
        sizes = [8, 64, 1 << 10, 1 << 14, 1 << 17, 1 << 20, 1 << 23, 1 << 26]
        for size in sizes[:6] if quick else sizes:
            count = max(4, min(100_000, (1 << (26 if quick else 29)) // size))
            rate = measure(OURS, "large", {"count": count, "size": size}, waits_for="server")
            yield size, rate * size / 1e6

    return "throughput by the size of a message", "bytes", "MB/s", "scale_sizes", points()


def _depth(quick: bool) -> tuple[str, str, str, str, Any]:
    def points() -> Any:
        for depth in (10, 1_000, 20_000) if quick else (10, 100, 1_000, 10_000, 100_000, 1_000_000):
            yield depth, 1e6 * alone(CURVES, "depth", {"depth": depth})

    return (
        "taking a message from a mailbox that is that deep",
        "messages",
        "µs a message",
        "scale_depth",
        points(),
    )


def _length(quick: bool) -> tuple[str, str, str, str, Any]:
    def points() -> Any:
        for count in (10_000, 100_000) if quick else (10_000, 100_000, 1_000_000, 10_000_000):
            rate = measure(CURVES, "long", {"count": count, "size": 16}, waits_for="server")
            yield count, 1e6 / rate

    return (
        "one message, in a transfer that is that long",
        "messages",
        "µs a message",
        "scale_length",
        points(),
    )


def _store(quick: bool) -> list[tuple[str, str, str, str, Any]]:
    params = {"size": 1024, "step": 20_000 if quick else 200_000, "steps": 2 if quick else 8}
    rows = alone(CURVES, "spool", params)
    add = [(count, seconds * 1e6) for count, seconds, _ in rows]
    opened = [(count - params["step"], seconds * 1e3) for count, _, seconds in rows]
    return [
        ("spooling one more message of 1 KiB", "messages on disk", "µs a message", "scale_spool", add),
        ("opening a spool", "messages on disk", "ms", "scale_open", opened[1:]),
    ]


def _idle(console: Console, quick: bool) -> None:
    count = 500 if quick else 10_000
    found = measure(OURS, "idle", {"count": count, "size": 64, "asks": 2000})
    ratio = median(found["beside"]) / median(found["alone"])
    console.print(
        f"[bold]{count} idle connections[/bold]: {found['bytes'] / 1024:.1f} KiB of server memory each "
        f"(goal: 6); a round trip beside them takes {ratio:.2f} × of one alone (goal: 1.2)"
    )


def _import(console: Console) -> None:
    seconds = alone(OURS, "import_time", {"count": 10})
    console.print(f"[bold]import linkbox[/bold]: {seconds * 1000:.0f} ms over a bare interpreter (goal: 60)")
