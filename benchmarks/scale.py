"""How the cost of one message, and of one peer, changes as there are more of them."""

from __future__ import annotations

from statistics import median
from typing import Any

from rich.console import Console

from benchmarks.idle import possible
from benchmarks.measure import alone, measure

OURS = "benchmarks.peers.ours"
AIO = "benchmarks.peers.ours_aio_uvloop"
CURVES = "benchmarks.peers.ours_scale"
Curve = tuple[str, str, str, str, Any]
"""Title, what grows, what is measured, name, points."""


def run_all(console: Console, quick: bool) -> list[dict[str, Any]]:
    """Every curve, as points; prints them as they come."""
    beside: list[str] = []
    curves = [
        _peers(quick),
        _askers(quick),
        _tasks(quick),
        _sizes(quick),
        _depth(quick),
        _length(quick),
        _idle(quick, beside),
        *_store(quick),
    ]
    found = []
    for title, x, y, name, points in curves:
        console.print(f"[bold]{title}[/bold]")
        drawn = []
        for at, value in points:
            console.print(f"  {x} {at:>10,}: {value:.3g} {y}")
            drawn.append((at, value))
        found.append({"name": name, "title": title, "x": x, "y": y, "points": drawn})
    for line in beside:
        console.print(line)
    _import(console)
    return found


def _peers(quick: bool) -> Curve:
    def points() -> Any:
        total = 20_000 if quick else 100_000
        for peers in (1, 10, 100) if quick else (1, 3, 10, 30, 100, 300, 1000):
            # The peers do not wait for credit: what they send fits into the mailbox.
            params = {"peers": peers, "count": min(total // peers, 20_000), "size": 64}
            yield peers, 1e6 / measure(CURVES, "peers", params, waits_for="server")

    return "one message from one of many active peers", "peers", "µs a message", "scale_peers", points()


def _askers(quick: bool) -> Curve:
    def points() -> Any:
        total = 2_000 if quick else 20_000
        for threads in (1, 16) if quick else (1, 2, 4, 8, 16, 32, 64, 128, 256):
            yield threads, 1e6 / measure(OURS, "crowd", _shared(total, threads=threads))

    return (
        "a request, of so many threads that share a client",
        "threads",
        "µs an ask",
        "scale_askers",
        points(),
    )


def _tasks(quick: bool) -> Curve:
    def points() -> Any:
        total = 2_000 if quick else 20_000
        for tasks in (1, 100) if quick else (1, 10, 100, 500, 1000, 2000, 5000):
            yield tasks, 1e6 / measure(AIO, "crowd", _shared(total, tasks=tasks))

    return (
        "aio: a request, of so many tasks that share a client",
        "tasks",
        "µs an ask",
        "scale_tasks",
        points(),
    )


def _shared(total: int, **askers: int) -> dict[str, Any]:
    """So many asks in all, or a few of each asker."""
    (count,) = askers.values()
    return {"count": max(4, total // count), "size": 64} | askers


def _sizes(quick: bool) -> Curve:
    def points() -> Any:
        sizes = [8, 64, 1 << 10, 1 << 14, 1 << 17, 1 << 20, 1 << 23, 1 << 26]
        for size in sizes[:6] if quick else sizes:
            count = max(4, min(100_000, (1 << (26 if quick else 29)) // size))
            rate = measure(OURS, "large", {"count": count, "size": size}, waits_for="server")
            yield size, rate * size / 1e6

    return "throughput by the size of a message", "bytes", "MB/s", "scale_sizes", points()


def _depth(quick: bool) -> Curve:
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


def _length(quick: bool) -> Curve:
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


def _store(quick: bool) -> list[Curve]:
    params = {"size": 1024, "step": 20_000 if quick else 200_000, "steps": 2 if quick else 8}
    rows = alone(CURVES, "spool", params)
    add = [(count, seconds * 1e6) for count, seconds, _ in rows]
    opened = [(count - params["step"], seconds * 1e3) for count, _, seconds in rows]
    return [
        ("spooling one more message of 1 KiB", "messages on disk", "µs a message", "scale_spool", add),
        ("opening a spool", "messages on disk", "ms", "scale_open", opened[1:]),
    ]


def _idle(quick: bool, beside: list[str]) -> Curve:
    def points() -> Any:
        wanted = (100, 500) if quick else (1_000, 10_000, 50_000)
        for count in sorted({possible(count) for count in wanted}):
            found = measure(OURS, "idle", {"count": count, "size": 64, "asks": 2000})
            ratio = median(found["beside"]) / median(found["alone"])
            beside.append(
                f"a round trip beside {count:,} idle connections takes {ratio:.2f} × of one alone (goal: 1.2)"
            )
            yield count, found["bytes"] / 1024

    return (
        "server memory of an idle connection (goal: 5)",
        "connections",
        "KiB for each",
        "scale_idle",
        points(),
    )


def _import(console: Console) -> None:
    # The endpoints are loaded when they are first used.
    for statement in ("import linkbox", "from linkbox import ClientP2P, ServerP2P"):
        seconds = alone(OURS, "import_time", {"count": 10, "statement": statement})
        console.print(f"[bold]{statement}[/bold]: {seconds * 1000:.0f} ms over a bare interpreter (goal: 40)")
