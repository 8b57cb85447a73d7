"""``make soak``: the kill loops and the simulations, with their figures."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from soak.kills import campaign
from soak.simulation import Tally, simulate, simulate_all


def say(line: str) -> None:
    """On the terminal, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Run what was asked for; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000, help="through the kill loop, at least")
    parser.add_argument("--kills", type=int, default=1_000, help="of each side, at least")
    parser.add_argument("--seeds", type=int, default=5_000, help="simulations")
    parser.add_argument("--steps", type=int, default=200, help="of each simulation")
    parser.add_argument("--seed", type=int, help="only this simulation: one that failed")
    parser.add_argument("--quick", action="store_true", help="all of it in half a minute")
    wanted = parser.parse_args()
    if wanted.seed is not None:
        simulate(wanted.seed, wanted.steps, Tally())
        say(f"seed {wanted.seed}: well")
        return 0
    if wanted.quick:
        wanted.messages, wanted.kills, wanted.seeds = 10_000, 15, 100
    began = time.monotonic()
    tally = simulate_all(range(wanted.seeds), wanted.steps)
    say(f"simulations: {tally}, {time.monotonic() - began:.0f} s")
    good = True
    for proxy in (False, True):
        with tempfile.TemporaryDirectory(prefix="soak-") as folder:
            share = 4 if proxy else 1
            outcome = campaign(Path(folder), wanted.messages // share, wanted.kills // share, proxy=proxy)
        say(f"kills{' through a proxy that cuts' if proxy else ''}: {outcome}")
        good = good and outcome.is_good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
