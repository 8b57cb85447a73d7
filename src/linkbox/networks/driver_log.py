"""Writes the log lines of the core, which has no logger of its own."""

from __future__ import annotations

from linkbox import logs
from linkbox.core.effects import Effects


def log_lines(effects: Effects) -> None:
    """Write the log lines that the core has added."""
    lines, effects.log_lines = effects.log_lines, []
    for line in lines:
        logs.write(logs.WARNING if line.level == "warning" else logs.INFO, line.text)
