"""Runs targets for a while: guided by coverage where atheris is there, else by chance; several at a time."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from fuzz import figures
from fuzz.mutation import inputs
from fuzz.target import Target

CORPUS = Path(__file__).parent / "corpus"
PATIENCE = 60
"""Seconds for one input, before it counts as a finding; and for a run to come to its end."""
MEMORY = 2048
"""MiB that a target may use."""
DECODERS = 0.08
"""Of the time, for all decoders together: whole endpoints have more to find, and take longer for an input."""


GUIDED = 0.2
"""Of the time of a whole endpoint, so much is guided by coverage: an input takes two to six times as long."""
GOAL = 100_000
"""Inputs that each whole endpoint should have in a long run."""


class Result(NamedTuple):
    """What a run has brought."""

    inputs: int
    seconds: float
    finding: Path | None
    text: str
    """Why the finding is one."""
    worst: Mapping[str, float] = MappingProxyType({})
    """What was measured: see figures.py."""
    guided: int = 0
    """How many of the inputs were guided by coverage."""


def is_guided() -> bool:
    """Is atheris there?"""
    return importlib.util.find_spec("atheris") is not None


def seeds(target: Target) -> list[bytes]:
    """Where to begin: what the target says, and its corpus."""
    files = sorted((CORPUS / target.name).glob("*"))
    return [*target.seeds, *(file.read_bytes() for file in files)]


def shares(targets: Sequence[Target], seconds: float) -> dict[str, float]:
    """How many seconds each target gets."""
    found: dict[str, float] = {}
    for is_endpoint, part in ((True, 1 - DECODERS), (False, DECODERS)):
        group = [each for each in targets if each.is_endpoint is is_endpoint]
        if len(group) == len(targets):
            part = 1.0
        total = sum(each.share for each in group)
        found |= {each.name: seconds * part * each.share / total for each in group}
    return found


def by_chance(target: Target, seconds: float, seed: int, work: Path) -> Result:
    """Seeds, changed at random, until one is a finding or time is up. In this process.

    What guided runs have kept are seeds, too.
    """
    began = time.monotonic()
    known = seeds(target) + [each.read_bytes() for each in sorted((work / target.name).glob("*"))]
    for count, data in enumerate(_all(known, seed, target.longest), 1):
        try:
            target.run(data)
        except Exception:
            finding = work / f"{target.name}-{hashlib.sha256(data).hexdigest()[:12]}"
            finding.write_bytes(data)
            return Result(count, time.monotonic() - began, finding, traceback.format_exc())
        if not count % 16 and time.monotonic() - began >= seconds:
            return Result(count, time.monotonic() - began, None, "")
    raise AssertionError("inputs never end")


def _all(known: list[bytes], seed: int, longest: int) -> Iterator[bytes]:
    yield from known
    yield from inputs(known, seed, longest)


def chance(target: Target, seconds: float, seed: int, work: Path) -> Result:
    """The same in a process of its own."""
    done, _, worst = _process("fuzz.chance", target, [f"{seconds}", f"{seed}", str(work)], seconds, work)
    if done.returncode:
        return Result(0, seconds, None, (done.stdout + done.stderr)[-6000:], worst)
    count, took, finding, text = json.loads(done.stdout)
    return Result(count, took, finding and Path(finding), text, worst)


def guided(target: Target, seconds: float, seed: int, work: Path) -> Result:
    """By atheris, in a process of its own: it keeps what reaches new code, and builds on that."""
    found, given = work / target.name, work / f"{target.name}-seeds"
    for folder in (found, given):
        folder.mkdir(parents=True, exist_ok=True)
    for data in seeds(target):
        (given / hashlib.sha256(data).hexdigest()[:12]).write_bytes(data)
    before = set(work.glob(f"{target.name}-found-*"))
    arguments = [
        *(str(found), str(given)),
        *(f"-max_total_time={max(1, round(seconds))}", f"-seed={seed}", f"-max_len={target.longest}"),
        *(f"-timeout={PATIENCE}", f"-rss_limit_mb={MEMORY}", "-print_final_stats=1"),
        f"-artifact_prefix={work}/{target.name}-found-",
    ]
    done, took, worst = _process("fuzz.guided", target, arguments, seconds, work)
    counted = re.findall(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)
    count = int(counted[-1]) if counted else 0
    findings = set(work.glob(f"{target.name}-found-*")) - before
    if done.returncode == 0 and not findings:
        return Result(count, took, None, "", worst, count)
    said = (done.stdout + done.stderr).splitlines()
    text = "\n".join(line for line in said if not line.startswith(("#", "INFO:")))
    return Result(count, took, next(iter(findings), None), text[-6000:], worst, count)


def _process(
    module: str, target: Target, arguments: list[str], seconds: float, work: Path
) -> tuple[subprocess.CompletedProcess[str], float, dict[str, float]]:
    """Run a module with the target's name and these arguments. Returns also how long it took."""
    noted = work / f"{target.name}-figures.json"
    noted.unlink(missing_ok=True)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", module, target.name, *arguments],
        env={**os.environ, "PYTHONHASHSEED": "0", figures.PATH: str(noted)},
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds + 10 * PATIENCE,
    )
    return done, time.monotonic() - began, figures.read(noted)


def run(target: Target, seconds: float, seed: int, work: Path, is_chance: bool = False) -> Result:
    """One target, as well as can be here.

    Guidance makes a whole endpoint several times as slow. So it is guided for a part of the time, and what
    that has found is changed by chance for the rest.
    """
    work.mkdir(parents=True, exist_ok=True)
    if is_chance or not target.is_guided or not is_guided():
        return chance(target, seconds, seed, work)
    if not target.is_endpoint:
        return guided(target, seconds, seed, work)
    first = guided(target, seconds * GUIDED, seed, work)
    if first.text:
        return first
    then = chance(target, seconds * (1 - GUIDED), seed, work)
    worst = {kind: max(first.worst.get(kind, 0.0), each) for kind, each in then.worst.items()}
    return Result(
        first.inputs + then.inputs,
        first.seconds + then.seconds,
        then.finding,
        then.text,
        {**first.worst, **worst},
        first.guided,
    )


def run_all(
    targets: Sequence[Target],
    seconds: float,
    jobs: int,
    one: Callable[[Target, float], Result],
    done: Callable[[Target, Result], None],
) -> None:
    """All targets, ``jobs`` at a time, within about ``seconds``; ``done`` is called for each, as it ends."""
    parts = shares(targets, seconds * min(jobs, len(targets)))
    longest_first = sorted(targets, key=lambda each: -parts[each.name])
    with ThreadPoolExecutor(jobs) as pool:
        running = {each.name: pool.submit(one, each, parts[each.name]) for each in longest_first}
        for each in longest_first:
            done(each, running[each.name].result())
