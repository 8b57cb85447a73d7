"""What does not depend on how busy a machine is: Python calls of a message, instructions of a round trip.

They stand beside the times of ``make bench``, and the guard compares them with those recorded.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console

from benchmarks import instructions
from benchmarks.calls import LIMITS
from benchmarks.interpreter import is_optimised

Counts = dict[str, dict[str, float]]
"""Kind of count, what was counted, how many."""
CALLS, INSTRUCTIONS = "calls", "instructions"
BARE = "bare sockets"

_COUNT_CALLS = "import sys; from benchmarks.calls import count; print(count(sys.argv[1]).calls)"


def versions() -> dict[str, str]:
    """On what a count depends. Instructions also on how Python was built."""
    minor = ".".join(platform.python_version_tuple()[:2])
    built = "optimised" if is_optimised() else "not optimised"
    return {CALLS: f"Python {minor}", INSTRUCTIONS: f"Python {minor}, {built}, {platform.machine()}"}


def native() -> Path | None:
    """Where the compiled linkbox is, if there is one."""
    folder = os.environ.get("LINKBOX_NATIVE")
    return Path(folder).absolute() if folder and Path(folder, "linkbox").is_dir() else None


def can_count_instructions() -> bool:
    """Is valgrind here?"""
    return shutil.which("valgrind") is not None


def _path(build: Path) -> list[str]:
    return [str(build), sysconfig.get_path("purelib")]


def count_calls(scenario: str) -> float:
    """Python calls of one message, of the interpreted build, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", _COUNT_CALLS, scenario],
        cwd=instructions.ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(_path(instructions.ROOT / "src"))},
        stdout=subprocess.PIPE,
        text=True,
        timeout=instructions.PATIENCE,
        check=True,
    )
    return float(done.stdout)


def builds() -> dict[str, Path]:
    """The interpreted linkbox, and the compiled one if there is one."""
    compiled = native()
    return {"": instructions.ROOT / "src"} | ({", compiled": compiled} if compiled else {})


def places() -> dict[str, tuple[str, Path]]:
    """What is counted in instructions: its scenario and its build."""
    found = {BARE: ("bare", instructions.ROOT / "src")}
    for scenario in instructions.SCENARIOS:
        found |= {f"{scenario}{name}": (scenario, build) for name, build in builds().items()}
    return found


def count_instructions(what: str) -> float:
    """Machine instructions of one round trip, both sides."""
    scenario, build = places()[what]
    return instructions.per_round(sys.executable, _path(build), scenario)


def count(kind: str, what: str) -> float:
    """One of them."""
    return count_calls(what) if kind == CALLS else count_instructions(what)


def count_all(console: Console, kinds: Iterable[str]) -> Counts:
    """All of these kinds that can be counted here."""
    found: Counts = {}
    for kind in kinds:
        if kind == INSTRUCTIONS and not can_count_instructions():
            console.print("instructions are not counted: valgrind is missing (Debian: apt install valgrind)")
            continue
        found[kind] = {}
        for what in LIMITS if kind == CALLS else places():
            with console.status(f"counting {kind}: {what}"):
                found[kind][what] = count(kind, what)
            console.print(f"{what}: {found[kind][what]:,.0f} {kind}")
    return found
