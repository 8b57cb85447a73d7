"""The long campaigns, in short: `make soak` is the long form."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from soak.simulation import simulate_all

ROOT = Path(__file__).parents[2]


def test_simulations() -> None:
    tally = simulate_all(range(1_000_000, 1_000_150), steps=100)
    assert tally.runs == 150
    assert min(tally.deaths, tally.drops) > 100 and tally.messages > 5_000


def test_kills() -> None:
    """In a process of its own: it forks, and other tests have left threads in this one."""
    command = [
        sys.executable,
        "-m",
        "soak",
        "simulations",
        "kills",
        "--messages",
        "4000",
        "--kills",
        "12",
        "--seeds",
        "1",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    straight, through_cuts = done.stdout.splitlines()[1:]
    for line in (straight, through_cuts):
        assert "lost=0, doubled=0, reordered=0" in line
    assert "connections=0" in straight and "connections=0" not in through_cuts


def test_races() -> None:
    """Each way of stopping, on both front ends: of each scene some."""
    command = [sys.executable, "-m", "soak", "races", "--rounds", "16", "--seed", "7"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("races: 16 rounds of 112 kinds, 0 with a fault")
