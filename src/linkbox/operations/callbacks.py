"""The registered callbacks, and the loop that calls them one at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from linkbox import logs
from linkbox.core.endpoint import EndpointCore
from linkbox.core.wait_queue import Predicate
from linkbox.events import Callback, Event, EventKind
from linkbox.operations.owner import Owner
from linkbox.operations.runtime import Runtime, Service
from linkbox.operations.steps import NEVER, Call, Operation, Wait
from linkbox.text import printable

PATIENCE = 10.0
"""Seconds after which a blocking callback is logged; then again after twice as long."""


class Callbacks:
    """The registered callbacks."""

    def __init__(self) -> None:
        self._by_kind: dict[EventKind, tuple[Callback, ...]] = {}

    def add(self, fn: Callback, kinds: tuple[EventKind, ...]) -> None:
        """Register ``fn`` for these kinds."""
        if not callable(fn):
            raise TypeError(f"a callback must be callable, not {fn!r}")
        for kind in kinds:
            if not isinstance(kind, EventKind):
                raise TypeError(f"{kind!r} is not an EventKind")
            self._by_kind[kind] = (*self._by_kind.get(kind, ()), fn)

    def remove(self, fn: Callback) -> None:
        """Remove ``fn`` from all kinds. `ValueError` if it is not registered."""
        if not any(fn in fns for fns in self._by_kind.values()):
            raise ValueError(f"{fn!r} is not registered as a callback here")
        for kind, fns in self._by_kind.items():
            self._by_kind[kind] = tuple(each for each in fns if each != fn)

    def of(self, kind: EventKind) -> tuple[Callback, ...]:
        """The callbacks for one kind, in the order in which they were added."""
        return self._by_kind.get(kind, ())

    def kinds(self) -> set[EventKind]:
        """The kinds that have a callback."""
        return {kind for kind, fns in self._by_kind.items() if fns}


class CallbackLoop(Predicate):
    """Calls callbacks, one at a time. As a predicate: is there an event, or must the loop end?"""

    def __init__(self, owner: Owner, core: EndpointCore, callbacks: Callbacks, runtime: Runtime) -> None:
        self._owner = owner
        self._core = core
        self._callbacks = callbacks
        self._runtime = runtime
        self._watch = Watch(core, runtime.now)
        self._is_closing = False
        self.service: Service | None = None

    def running(self) -> tuple[str, float]:
        """The name of the callback that is running, and for how many seconds; an empty name if none is."""
        return self._watch.running()

    def is_current(self) -> bool:
        """Is the caller one of the callbacks?"""
        return self.service is not None and self.service.is_current()

    def close(self) -> None:
        """Let the loop handle the queued events, then end. The caller must let the driver settle."""
        self._is_closing = True
        self._core.effects.to_wake.append(self._core.effects.events.changed)

    def holds(self) -> bool:
        return bool(self._core.effects.events.events) or self._is_closing

    def run(self) -> Operation[None]:
        """The loop."""
        core, runtime = self._core, self._runtime
        events = core.effects.events
        while True:
            while not events.events:
                # Leading is useful only if a message read by this thread leads to a callback on this thread.
                may_lead = EventKind.DATA in events.listening
                holds = yield Wait(events.changed, self, NEVER, may_lead)
                if not events.events and (self._is_closing or not holds):
                    return
            kind, peer, error, receipt, count, at = events.take()
            if self._watch.timer_at == NEVER:
                self._watch.schedule()
                runtime.update()
            event = Event(kind, self._owner.refer(), peer, error, receipt, at)
            for _ in range(count):
                for fn in self._callbacks.of(kind):
                    self._watch.begin(fn)
                    try:
                        yield Call(fn, event)
                    except BaseException as error:
                        what = f"the callback {_name_of(fn)} failed on {kind}"
                        runtime.survive("callbacks", what, error)
                        core.context.counters.callback_errors += 1
                    finally:
                        self._watch.end()
            core.events_done(count)
            runtime.update()
            if runtime.must_pause:
                yield Call(runtime.pause)


class Watch:
    """Logs the name of a callback that blocks for too long."""

    def __init__(self, core: EndpointCore, now: Callable[[], float]) -> None:
        self._core = core
        self._now = now
        self._running: Callback | None = None
        self._since = 0.0
        self._warn_after = PATIENCE
        self.timer_at = NEVER

    def begin(self, fn: Callback) -> None:
        """The callback is about to be called."""
        self._since = self._now()
        self._running = fn

    def running(self) -> tuple[str, float]:
        """The name of the callback that is running, and for how many seconds."""
        fn = self._running
        return ("", 0.0) if fn is None else (printable(_name_of(fn)), max(0.0, self._now() - self._since))

    def end(self) -> None:
        """The callback has returned."""
        self._running = None

    def schedule(self) -> None:
        """Start the timer that watches callbacks."""
        self._core.effects.timers.schedule(self, self._now() + self._warn_after)

    def next_timer(self) -> float:
        """When to check whether a callback blocks."""
        return self._since + self._warn_after if self._running is not None else NEVER

    def handle_timer(self, now: float) -> None:
        """Log a callback that blocks."""
        running, blocked = self._running, now - self._since
        if running is None or blocked < self._warn_after:
            return
        waiting = self._core.effects.events.pending
        logs.write(
            logs.WARNING,
            f"the callback {_name_of(running)} has been blocking for {blocked:.0f} s; "
            f"{waiting} events wait behind it (data still arrives, and can be taken)",
            area="callbacks",
            endpoint=self._core.context.endpoint,
            fields={"event": "callback_blocks", "callback": _name_of(running), "seconds": blocked},
        )
        self._warn_after *= 2


def _name_of(fn: Callable[..., Any]) -> str:
    return getattr(fn, "__qualname__", None) or repr(fn)
