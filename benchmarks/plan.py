"""How long a run will take on a machine that is not busy, by the last one in docs/benchmarks/."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.rows import SINGLE, Row, params_of

LATEST = Path(__file__).parents[1] / "docs" / "benchmarks" / "latest.json"
START = 0.4
"""Seconds until two processes have begun, and until they have ended."""
EACH_IDLE = 0.0003
"""Seconds to open and close an idle connection."""
COUNTS = 100
"""Seconds to count calls and instructions; a quick run counts only calls."""
QUICK_COUNTS = 10


def seconds(rows: tuple[Row, ...], quick: bool, rounds: int) -> float:
    """The sum of all measurements."""
    known = json.loads(LATEST.read_text())["rows"]
    measured = sum(
        min(rounds, row.rounds or rounds) * (START + _work(row, label, quick, known.get(row.name)))
        for row in rows
        for label in row.contenders
    )
    return measured + (QUICK_COUNTS if quick else COUNTS)


def _work(row: Row, label: str, quick: bool, known: dict[str, Any] | None) -> float:
    params = params_of(row, quick, label)
    count = params["count"] * params.get("threads", 1) * params.get("tasks", 1)
    if row.unit == "B":
        return float(count * EACH_IDLE)
    if label == SINGLE:
        count /= 50
    if known is None or label not in known["figures"]:
        return row.takes
    figure = median(known["figures"][label])
    pause = count * params.get("pause", 0)
    return float(pause + (count * figure if row.unit == "s" else count / figure))


def sentence(rows: tuple[Row, ...], quick: bool, rounds: int) -> str:
    """For people, before they wait."""
    minutes = seconds(rows, quick, rounds) / 60
    return f"{len(rows)} rows: about {minutes:.1f} minutes if the machine is not busy"
