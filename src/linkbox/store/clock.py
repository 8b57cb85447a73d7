"""Relates the times in a store to the clock of a later life, without trust in the wall clock.

A store keeps times as seconds since the epoch. A wall clock may be set in the meantime, by days and also
backwards, and some machines begin with a wrong one. So each life writes down its clock: the difference
between the wall clock and the monotonic one, and during which run of the system that was. In the same run,
the monotonic clock has gone on, and measures how long ago something was. After a restart of the system that
is unknown.
"""

from __future__ import annotations

from pathlib import Path

SLACK = 1.0
"""Where the system does not name its runs: clocks that differ by less belong to the same run."""


def run_of_system() -> str:
    """A name for the time since the system was started; empty if it has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def describe(wall: float) -> str:
    """The clock of this life, for `moved`. ``wall`` is the wall clock less the monotonic clock."""
    return f"{wall!r} {run_of_system()}"


def moved(before: str, wall: float) -> float | None:
    """Add this to the times of an earlier life to get them on the clock of this one; None if unknown."""
    then, _, run = before.partition(" ")
    here = run_of_system()
    if not then or run != here:
        return None
    shift = wall - float(then)
    return shift if here or abs(shift) < SLACK else None
