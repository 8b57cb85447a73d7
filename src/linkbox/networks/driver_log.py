"""Writes the log lines of the core, which has no logger of its own."""

from __future__ import annotations

import logging

from linkbox.core.effects import Effects

log = logging.getLogger("linkbox")


def log_lines(effects: Effects) -> None:
    """Write the log lines that the core has added."""
    lines, effects.log_lines = effects.log_lines, []
    for line in lines:
        log.log(logging.WARNING if line.level == "warning" else logging.INFO, "linkbox: %s", line.text)
