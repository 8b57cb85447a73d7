"""One target by chance, in a process of its own: ``python -m fuzz.chance TARGET SECONDS SEED FOLDER``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from fuzz.driver import by_chance
from fuzz.targets import TARGETS

if __name__ == "__main__":
    name, seconds, seed, work = sys.argv[1:]
    target = TARGETS[name]
    found = by_chance(target, float(seconds), int(seed), Path(work))
    print(json.dumps([found.inputs, found.seconds, found.finding and str(found.finding), found.text]))
    if target.close is not None:
        target.close()
