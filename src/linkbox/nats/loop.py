"""The event loop on which the threaded endpoints of this process are connected to their brokers."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Any


class SharedLoop:
    """The loop, on a thread of its own. It is made when it is needed first, and again in a forked child."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._of_parent: asyncio.AbstractEventLoop | None = None

    def get(self) -> asyncio.AbstractEventLoop:
        """The loop, which runs."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="linkbox nats", daemon=True).start()
            return self._loop

    def forked(self) -> None:
        """In a forked child the thread is gone. The loop is kept: closing it would harm the parent's."""
        self._lock = threading.Lock()
        self._of_parent, self._loop = self._loop, None


_shared = SharedLoop()


def shared_loop() -> asyncio.AbstractEventLoop:
    """The loop, which runs on a thread of its own."""
    return _shared.get()


def call(function: Callable[..., Any], *arguments: Any) -> None:
    """Call a function on the loop soon."""
    shared_loop().call_soon_threadsafe(function, *arguments)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_shared.forked)
