"""Runs one target for a while: guided by coverage where atheris is there, else by chance."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import NamedTuple

from fuzz.mutation import LONGEST, inputs
from fuzz.target import Target

CORPUS = Path(__file__).parent / "corpus"
PATIENCE = 20
"""Seconds for one input, before it counts as a finding; and for a run to come to its end."""
MEMORY = 2048
"""MiB that a target may use."""


class Result(NamedTuple):
    """What a run has brought."""

    inputs: int
    seconds: float
    finding: Path | None
    text: str
    """Why the finding is one."""


def is_guided() -> bool:
    """Is atheris there?"""
    return importlib.util.find_spec("atheris") is not None


def seeds(target: Target) -> list[bytes]:
    """Where to begin: what the target says, and its corpus."""
    files = sorted((CORPUS / target.name).glob("*"))
    return [*target.seeds, *(file.read_bytes() for file in files)]


def by_chance(target: Target, seconds: float, seed: int, work: Path) -> Result:
    """Seeds, changed at random, until one is a finding or time is up."""
    began = time.monotonic()
    for count, data in enumerate(inputs(seeds(target), seed), 1):
        try:
            target.run(data)
        except Exception:
            finding = work / f"{target.name}-{hashlib.sha256(data).hexdigest()[:12]}"
            finding.write_bytes(data)
            return Result(count, time.monotonic() - began, finding, traceback.format_exc())
        if not count % 16 and time.monotonic() - began >= seconds:
            return Result(count, time.monotonic() - began, None, "")
    raise AssertionError("inputs never end")


def guided(target: Target, seconds: float, seed: int, work: Path) -> Result:
    """The same by atheris, in a process of its own: it keeps what reaches new code, and builds on that."""
    found, given = work / target.name, work / f"{target.name}-seeds"
    for folder in (found, given):
        folder.mkdir(parents=True, exist_ok=True)
    for data in seeds(target):
        (given / hashlib.sha256(data).hexdigest()[:12]).write_bytes(data)
    before = set(work.glob(f"{target.name}-found-*"))
    command = [
        *(sys.executable, "-m", "fuzz.guided", target.name, str(found), str(given)),
        *(f"-max_total_time={max(1, round(seconds))}", f"-seed={seed}", f"-max_len={LONGEST}"),
        *(f"-timeout={PATIENCE}", f"-rss_limit_mb={MEMORY}", "-print_final_stats=1"),
        f"-artifact_prefix={work}/{target.name}-found-",
    ]
    began = time.monotonic()
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds + 10 * PATIENCE,
    )
    took = time.monotonic() - began
    counted = re.findall(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)
    count = int(counted[-1]) if counted else 0
    findings = set(work.glob(f"{target.name}-found-*")) - before
    if done.returncode == 0 and not findings:
        return Result(count, took, None, "")
    said = (done.stdout + done.stderr).splitlines()
    text = "\n".join(line for line in said if not line.startswith(("#", "INFO:")))
    return Result(count, took, next(iter(findings), None), text[-6000:])


def run(target: Target, seconds: float, seed: int, work: Path, is_chance: bool = False) -> Result:
    """One target, as well as can be here."""
    work.mkdir(parents=True, exist_ok=True)
    return (guided if is_guided() and not is_chance else by_chance)(target, seconds, seed, work)
