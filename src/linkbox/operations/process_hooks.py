"""Handles endpoints that are still started when the process forks or exits."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable

from linkbox import logs


class Started:
    """An endpoint that may be in `started`."""

    def left_behind(self) -> list[str]:
        """What has become of messages that are not known to be delivered: texts for the log."""
        raise NotImplementedError

    def forked(self) -> None:
        """In a forked child: only close the copies of the descriptors."""
        raise NotImplementedError


started: set[Started] = set()
"""The started endpoints of this process. The references are strong: an endpoint whose event loop was closed
must exist until the exit of the process, where undelivered messages are reported."""
on_start: list[Callable[[], object]] = []
"""Functions to call when an endpoint is started (`linkbox.monitor`)."""


def add(endpoint: Started) -> None:
    """An endpoint is started."""
    started.add(endpoint)
    for function in on_start:
        function()


def _after_fork() -> None:
    """In the child: the connections belong to the parent, and its threads do not exist here."""
    for endpoint in list(started):
        try:
            endpoint.forked()
        except Exception as error:  # the others must be closed nevertheless
            logs.write(logs.ERROR, f"unexpected error of {endpoint} after a fork", error)
    started.clear()


def _at_exit() -> None:
    for endpoint in list(started):
        try:
            left = endpoint.left_behind()
        except Exception:  # its threads are still running, and may change what is counted
            left = []
        if left:
            logs.write(logs.WARNING, f"{endpoint} was not stopped; {left[0]}")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
