"""``python -m fuzz``: every target for its share of the time; or one input again, to see what it does."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from fuzz import driver
from fuzz.driver import Result
from fuzz.target import Target
from fuzz.targets import TARGETS

WORK = Path("build/fuzz")
MEANINGS = {"turn": "at work without a pause", "wait": "an honest client waited"}
"""What is measured (figures.py), for the table at the end."""


def main() -> int:
    """Returns how many targets have a finding."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="for all targets together")
    parser.add_argument("--target", choices=[*TARGETS], help="only this one")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="targets at a time")
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same chances")
    parser.add_argument("--chance", action="store_true", help="more inputs, not guided by coverage")
    parser.add_argument("--input", type=Path, help="run this file once (with --target)")
    options = parser.parse_args()
    targets = [TARGETS[options.target]] if options.target else [*TARGETS.values()]
    if options.input:
        return again(targets, options.input.read_bytes())
    if not driver.is_guided():
        print("atheris is not here: inputs by chance, not guided by coverage")
    results: dict[str, Result] = {}

    def one(target: Target, seconds: float) -> Result:
        return driver.run(target, seconds, options.seed, WORK, options.chance)

    def done(target: Target, result: Result) -> None:
        results[target.name] = result
        print(line(target, result), flush=True)

    driver.run_all(targets, options.minutes * 60, options.jobs, one, done)
    return summary(results)


def again(targets: list[Target], data: bytes) -> int:
    """One input."""
    for target in targets:
        try:
            target.run(data)
        finally:
            if target.close is not None:
                target.close()
    return 0


def line(target: Target, result: Result) -> str:
    """A target's figures."""
    rate = result.inputs / result.seconds
    worst = [f"{kind} {seconds * 1000:,.0f} ms" for kind, seconds in sorted(result.worst.items())]
    if result.guided:
        worst = [f"{result.guided:,} guided", *worst]
    return f"{target.name:18} {result.inputs:>11,} inputs {rate:>8,.0f}/s  {', '.join(worst)}".rstrip()


def reached(results: dict[str, Result]) -> None:
    """How many inputs each whole endpoint has had, beside the goal for a long run."""
    counts = {name: result.inputs for name, result in results.items() if TARGETS[name].is_endpoint}
    if not counts:
        return
    print(f"inputs of each whole endpoint, and of the {driver.GOAL:,} of a long run:")
    for name, count in sorted(counts.items(), key=lambda each: each[1]):
        print(f"  {name:18} {count:>11,} {count / driver.GOAL:>7.0%}")
    least, below = min(counts.values()), sum(count < driver.GOAL for count in counts.values())
    print(f"fewest inputs of a whole endpoint: {least:,}; {below} of {len(counts)} below the goal")


def summary(results: dict[str, Result]) -> int:
    """What all have brought; returns how many have a finding."""
    findings = {name: result for name, result in results.items() if result.text}
    for name, result in findings.items():
        print(result.text)
        print(f"FINDING: make fuzz TARGET={name} ARGS='--input {result.finding}'")
    total = sum(result.inputs for result in results.values())
    for kind, meaning in MEANINGS.items():
        worst = max(
            ((result.worst.get(kind, 0.0), name) for name, result in results.items()), default=(0, "")
        )
        if worst[0]:
            print(f"longest {kind} ({meaning}): {worst[0] * 1000:,.0f} ms, {worst[1]}")
    reached(results)
    print(f"{total:,} inputs in all, {len(findings)} of {len(results)} targets with a finding")
    return len(findings)


if __name__ == "__main__":
    sys.exit(main())
