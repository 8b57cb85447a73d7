"""What happens to endpoints that are not stopped: the process forks, or comes to its end."""

from __future__ import annotations

import atexit
import logging
import os

log = logging.getLogger("linkbox")


class Started:
    """An endpoint that may be in `started`."""

    def undelivered(self) -> int:
        """How many messages are not delivered, or not known to be."""
        raise NotImplementedError

    def forked(self) -> None:
        """This is the copy in a child process: it only gives back its descriptors."""
        raise NotImplementedError


started: set[Started] = set()
"""The endpoints of this process that are started and not stopped. Not weak: where an event loop was closed
over them they would be gone before the end, and what they had not delivered would not be reported."""


def _after_fork() -> None:
    """In the child: the connections are the parent's, and the threads that would serve them are not here."""
    for endpoint in list(started):
        endpoint.forked()
    started.clear()


def _at_exit() -> None:
    for endpoint in list(started):
        held = endpoint.undelivered()
        if held:
            log.warning(
                "linkbox: %s was not stopped; %d messages were not delivered or not confirmed", endpoint, held
            )


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
