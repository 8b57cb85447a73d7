"""``python -m fuzz``: every target for its share of the time; or one input again, to see what it does."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fuzz import driver
from fuzz.targets import TARGETS

WORK = Path("build/fuzz")


def main() -> int:
    """Returns how many targets have a finding."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="for all targets together")
    parser.add_argument("--target", choices=[*TARGETS], help="only this one")
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same chances")
    parser.add_argument("--chance", action="store_true", help="more inputs, not guided by coverage")
    parser.add_argument("--input", type=Path, help="run this file once (with --target)")
    options = parser.parse_args()
    targets = [TARGETS[options.target]] if options.target else [*TARGETS.values()]
    if options.input:
        for target in targets:
            target.run(options.input.read_bytes())
        return 0
    if not driver.is_guided():
        print("atheris is not here: inputs by chance, not guided by coverage")
    seconds = options.minutes * 60 / len(targets)
    total = failed = 0
    for target in targets:
        result = driver.run(target, seconds, options.seed, WORK, options.chance)
        total += result.inputs
        print(
            f"{target.name:16} {result.inputs:>11,} inputs {result.inputs / result.seconds:>9,.0f}/s",
            flush=True,
        )
        if result.text:
            failed += 1
            print(result.text)
            print(f"FINDING: make fuzz TARGET={target.name} ARGS='--input {result.finding}'", flush=True)
    print(f"{total:,} inputs in all, {failed} of {len(targets)} targets with a finding")
    return failed


if __name__ == "__main__":
    sys.exit(main())
