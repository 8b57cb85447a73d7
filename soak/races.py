"""stop() at random moments of start, connect, send, ask and resume, from everywhere it may be called.

Each round is a process of its own, forked from this one, which never starts an endpoint. It plays one scene
with one endpoint, the *victim*, and stops it in one way: from a thread, from eight, in a signal handler, a
callback, a finalizer, at the exit of the interpreter; in asyncio from tasks, also a cancelled one, and by
closing the loop. The peer of a client is a second process, which stays, and reports what it has received.

A round is well if stop() has returned without an exception, calls have raised only `LinkboxError`, nothing
was lost or doubled although the peer stayed, no thread, task or descriptor is left, and nothing was written
to stderr. The seed of a round decides everything but the scheduling: ``--seed N --rounds 1`` plays it again.
"""

from __future__ import annotations

import faulthandler
import json
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TextIO

from soak import races_aio, races_threaded
from soak.races_peer import Peer, Round

ROOT = Path(__file__).parents[1]
WATCHDOG = 40.0
"""Seconds after which a round ends, and prints the stacks of all threads."""
EXPECTED = (
    " was not stopped; ",
    " was closed without stop(); ",
    " was refused (limit): the server is stopping",
)
"""What a process may write to stderr."""
STRIDE = 13
"""Has no divisor in common with the number of plays: a few rounds are of many scenes and ways."""
PLAYS: tuple[tuple[Callable[[Round], None], str, str], ...] = tuple(
    (module.play, scene, way)
    for module in (races_threaded, races_aio)
    for scene in module.SCENES
    for way in module.WAYS
)


class LeaveChild(SystemExit):
    """Raised in the process of a round, so that its interpreter ends like that of any program."""


def play_round(seed: int) -> tuple[str, list[str]]:
    """Play one round in processes of its own; returns its name and what was wrong."""
    dice = random.Random(seed)
    play, scene, way = PLAYS[seed * STRIDE % len(PLAYS)]
    front = play.__module__.rpartition("_")[2]
    name = f"{front} {scene} {way}"
    reader, writer = os.pipe()
    with tempfile.TemporaryFile("w+") as errors:
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            _run_child(play, Round(dice, scene, way, writer), errors)
        os.close(writer)
        reports = _read_all(reader, pid, time.monotonic() + WATCHDOG + 10)
        _, status = os.waitpid(pid, 0)
        errors.seek(0)
        stderr = [line for line in errors.read().splitlines() if not any(part in line for part in EXPECTED)]
    faults = [each["fault"] for each in reports if "fault" in each]
    if code := os.waitstatus_to_exitcode(status):
        faults.append(f"exit status {code}")
    if stderr:
        faults.append("stderr:\n  " + "\n  ".join(stderr))
    faults += _compare(reports, way)
    return name, faults


def _run_child(play: Callable[[Round], None], round_: Round, errors: TextIO) -> NoReturn:
    os.dup2(errors.fileno(), 2)
    sys.stderr = os.fdopen(2, "w", closefd=False, buffering=1)
    round_.peer = Peer(round_)  # before the watchdog, whose thread a fork does not copy
    faulthandler.dump_traceback_later(WATCHDOG, exit=True, file=2)  # type: ignore[arg-type]
    play(round_)
    raise LeaveChild


def _read_all(reader: int, pid: int, deadline: float) -> list[dict[str, Any]]:
    """What the processes of a round report, until both have ended."""
    parts = []
    while True:
        if not select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
            os.kill(pid, signal.SIGKILL)
            parts.append(b'{"fault": "the watchdog did not end it"}\n')
            break
        if not (part := os.read(reader, 1 << 16)):
            break
        parts.append(part)
    os.close(reader)
    return [json.loads(line) for line in b"".join(parts).splitlines()]


def _compare(reports: list[dict[str, Any]], way: str) -> list[str]:
    """What was accepted, and what the peer has received."""
    got = next((each["got"] for each in reports if "got" in each), None)
    claim = next((each for each in reports if "accepted" in each), None)
    if got is None:
        return ["the peer has not reported"]
    if len(got) != len(set(got)):
        doubled = [number for number, count in Counter(got).items() if count > 1]
        return [f"doubled: {doubled}"]
    if claim is None:
        return []
    faults = []
    if claim["is_ordered"] and got != sorted(got):
        faults.append("out of order")
    if extra := set(got) - set(claim["accepted"]) - set(claim["in_doubt"]):
        faults.append(f"received, but not accepted: {sorted(extra)}")
    lost = set(claim["accepted"]) - set(got)
    if claim["stopped"] and lost:
        faults.append(f"stop() said True, but {len(lost)} are lost: {sorted(lost)[:10]}")
    if claim["must_arrive"] and not claim["stopped"]:
        faults.append("stop() said False, although the peer stays")
    return faults


def run(rounds: int, seed: int) -> int:
    """So many rounds, from this process; returns the exit status."""
    began, bad = time.monotonic(), 0
    slowest = (0.0, "")
    for number in range(seed, seed + rounds):
        at = time.monotonic()
        name, faults = play_round(number)
        slowest = max(slowest, (time.monotonic() - at, name))
        if faults:
            bad += 1
            _say(f"races: seed {number}, {name}:\n  " + "\n  ".join(faults))
    _say(
        f"races: {rounds} rounds of {len(PLAYS)} kinds, {bad} with a fault, "
        f"{time.monotonic() - began:.0f} s, "
        f"the longest {slowest[0]:.1f} s ({slowest[1]})"
    )
    return min(bad, 1)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def campaign(rounds: int, seed: int) -> bool:
    """The same in a process of its own, which has no threads, because it forks. Was all well?"""
    # Not measured: the processes of the rounds are forked, and end in many ways.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
    command = [sys.executable, "-m", "soak.races", str(rounds), str(seed)]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(run(int(sys.argv[1]), int(sys.argv[2])))
