"""The doorbell: who is to be called for what, and an eye on callbacks that block."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from linkbox.core.hub import Hub
from linkbox.core.session import NEVER
from linkbox.events import Callback, Event, EventKind

log = logging.getLogger("linkbox")

PATIENCE = 10.0
"""Seconds after which a callback that blocks is named in the log; then again after twice as long."""


class Callbacks:
    """Who is to be called for what."""

    def __init__(self) -> None:
        self._by_kind: dict[EventKind, tuple[Callback, ...]] = {}

    def add(self, fn: Callback, kinds: tuple[EventKind, ...]) -> None:
        """From now on call ``fn`` for these."""
        if not callable(fn):
            raise TypeError(f"a callback must be callable, not {fn!r}")
        for kind in kinds:
            if not isinstance(kind, EventKind):
                raise TypeError(f"{kind!r} is not an EventKind")
            self._by_kind[kind] = (*self._by_kind.get(kind, ()), fn)

    def remove(self, fn: Callback) -> None:
        """Call ``fn`` no more. `ValueError` if it is not registered."""
        if not any(fn in fns for fns in self._by_kind.values()):
            raise ValueError(f"{fn!r} is not registered as a callback here")
        for kind, fns in self._by_kind.items():
            self._by_kind[kind] = tuple(each for each in fns if each != fn)

    def of(self, kind: EventKind) -> tuple[Callback, ...]:
        """Those for one kind, in the order they were added."""
        return self._by_kind.get(kind, ())

    def kinds(self) -> set[EventKind]:
        """The kinds somebody listens to."""
        return {kind for kind, fns in self._by_kind.items() if fns}


class Watch:
    """Knows which callback is running, and names it in the log when it blocks."""

    def __init__(self, hub: Hub, now: Callable[[], float]) -> None:
        self._hub = hub
        self._now = now
        self._running: Callback | None = None
        self._since = 0.0
        self._warn_after = PATIENCE
        self.timer_at = NEVER

    def begin(self, fn: Callback) -> None:
        """It is called now."""
        self._since = self._now()
        self._running = fn

    def end(self) -> None:
        """It has returned."""
        self._running = None

    def schedule(self) -> None:
        """Callbacks are about to be called: look after them."""
        if self.timer_at == NEVER:
            self._hub.schedule(self, self._now() + self._warn_after)

    def failed(self, fn: Callback, event: Event, error: BaseException) -> None:
        """It raised: say so, with the traceback; the stream goes on."""
        self._hub.counters.callback_errors += 1
        log.error("linkbox: the callback %s failed on %s", _named(fn), event.kind, exc_info=error)

    def next_timer(self) -> float:
        """When to look whether a callback blocks."""
        return self._since + self._warn_after if self._running is not None else NEVER

    def handle_timer(self, now: float) -> None:
        """Name a callback that has been blocking."""
        running, blocked = self._running, now - self._since
        if running is None or blocked < self._warn_after:
            return
        log.warning(
            "linkbox: the callback %s has been blocking for %.0f s; %d events wait behind it "
            "(data still arrives, and can be taken)",
            _named(running),
            blocked,
            self._hub.pending_events,
        )
        self._warn_after *= 2


def _named(fn: Callable[..., Any]) -> str:
    return getattr(fn, "__qualname__", None) or repr(fn)
