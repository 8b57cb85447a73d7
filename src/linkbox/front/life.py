"""What happens to endpoints that nobody stops: the process forks, or comes to its end."""

from __future__ import annotations

import atexit
import logging
import os
from typing import Any

log = logging.getLogger("linkbox")

started: set[Any] = set()
"""The endpoints of this process that are started and not stopped. Not weak: where an event loop was closed
over them they would be gone before the end, and nobody would say what they had not delivered."""


def _after_fork() -> None:
    """In the child: connections are the parent's, and who would drive them here is not there."""
    for endpoint in list(started):
        endpoint._forked()
    started.clear()


def _at_exit() -> None:
    for endpoint in list(started):
        hub = endpoint._hub
        held = sum(session.held for session in hub.sessions.values()) if hub is not None else 0
        if held:
            log.warning(
                "linkbox: %s was not stopped; %d messages were not delivered or not confirmed", endpoint, held
            )


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
