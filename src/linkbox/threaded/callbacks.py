"""The doorbell: callbacks, and the one thread of an endpoint that runs them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, TypeVar

from linkbox.core.session import NEVER
from linkbox.events import Callback, Event, EventKind
from linkbox.threaded.transport import Transport

log = logging.getLogger("linkbox")

F = TypeVar("F", bound=Callback)

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


class Dispatcher:
    """Runs callbacks, one after the other, on a thread of its own."""

    def __init__(self, endpoint: Any, transport: Transport, callbacks: Callbacks, name: str) -> None:
        self._endpoint = endpoint
        self._transport = transport
        self._callbacks = callbacks
        self._is_closing = False
        self._running: Callback | None = None
        self._since = 0.0
        self._warn_after = PATIENCE
        self.timer_at = NEVER
        self.thread = threading.Thread(target=self._run, name=f"linkbox callbacks {name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self.thread.start()

    def is_current(self) -> bool:
        """Is this the thread that runs callbacks?"""
        return threading.get_ident() == self.thread.ident

    def close(self) -> None:
        """Run what is queued, then end. Under the lock."""
        self._is_closing = True
        self._transport.engine.ring(self._transport.hub.events_box)

    def _run(self) -> None:
        hub, engine = self._transport.hub, self._transport.engine
        while True:
            with self._transport.lock:
                while not hub.events:
                    # Leading pays only where a message read here is a callback run here.
                    leads = EventKind.DATA in hub.listening
                    rung = engine.wait(
                        hub.events_box,
                        lambda: hub.events or self._is_closing,
                        is_service=True,
                        may_lead=leads,
                    )
                    if not hub.events and (self._is_closing or not rung):
                        return
                kind, peer, error, receipt, count, at = hub.events.popleft()
                if self.timer_at == NEVER:
                    hub.schedule(self, monotonic() + self._warn_after)
            event = Event(kind, self._endpoint, peer, error, receipt, at)
            for _ in range(count):
                self._call_all(event)
            if kind is EventKind.DATA:
                with self._transport.lock:
                    hub.data_events_done(count)
                    self._transport.update()

    def _call_all(self, event: Event) -> None:
        for fn in self._callbacks.of(event.kind):
            self._since = monotonic()
            self._running = fn
            try:
                fn(event)
            except BaseException:  # SystemExit too: this thread is ours, and goes on
                self._transport.hub.counters.callback_errors += 1
                log.exception("linkbox: the callback %s failed on %s", _named(fn), event.kind)
            finally:
                self._running = None

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
            self._transport.hub.pending_events,
        )
        self._warn_after *= 2


def _named(fn: Callable[..., object]) -> str:
    return getattr(fn, "__qualname__", None) or repr(fn)
