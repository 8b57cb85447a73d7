"""Writes what a hub wants logged."""

from __future__ import annotations

import logging

from linkbox.core.hub import Hub

log = logging.getLogger("linkbox")


def log_notes(hub: Hub) -> None:
    """Write what the hub wants logged."""
    notes, hub.notes = hub.notes, []
    for note in notes:
        log.log(logging.WARNING if note.level == "warning" else logging.INFO, "linkbox: %s", note.text)
