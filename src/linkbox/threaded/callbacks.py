"""The one thread of an endpoint that runs its callbacks."""

from __future__ import annotations

import threading
from typing import Any

from linkbox.events import Event, EventKind
from linkbox.front.callbacks import Callbacks, Watch
from linkbox.threaded.transport import Transport


class Dispatcher:
    """Runs callbacks, one after the other, on a thread of its own."""

    def __init__(self, endpoint: Any, transport: Transport, callbacks: Callbacks, name: str) -> None:
        self._endpoint = endpoint
        self._transport = transport
        self._callbacks = callbacks
        self._watch = Watch(transport.hub, transport.now)
        self._is_closing = False
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
                self._watch.schedule()
            event = Event(kind, self._endpoint, peer, error, receipt, at)
            for _ in range(count):
                self._call_all(event)
            with self._transport.lock:
                hub.events_done(count)
                self._transport.update()

    def _call_all(self, event: Event) -> None:
        for fn in self._callbacks.of(event.kind):
            self._watch.begin(fn)
            try:
                fn(event)
            except BaseException as error:  # SystemExit too: this thread is ours, and goes on
                self._watch.failed(fn, event, error)
            finally:
                self._watch.end()
