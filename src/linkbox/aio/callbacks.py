"""The one task of an endpoint that runs its callbacks."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

from linkbox.aio.driver import Driver
from linkbox.events import Event
from linkbox.front.callbacks import Callbacks, Watch


class Dispatcher:
    """Runs callbacks, plain functions and coroutine functions, one after the other."""

    def __init__(self, endpoint: Any, driver: Driver, callbacks: Callbacks) -> None:
        self._endpoint = endpoint
        self._driver = driver
        self._callbacks = callbacks
        self._watch = Watch(driver.hub, driver.now)
        self._is_closing = False
        self.task = asyncio.get_running_loop().create_task(self._run())

    def is_current(self) -> bool:
        """Is this the task that runs callbacks?"""
        return _current_task() is self.task

    def close(self) -> None:
        """Run what is queued, then end."""
        self._is_closing = True
        self._driver.ring(self._driver.hub.events_box)

    async def _run(self) -> None:
        hub, driver = self._driver.hub, self._driver
        while True:
            await driver.wait(hub.events_box, lambda: hub.events or self._is_closing)
            if not hub.events:
                return
            kind, peer, error, receipt, count, at = hub.events.popleft()
            self._watch.schedule()
            driver.settle()
            event = Event(kind, self._endpoint, peer, error, receipt, at)
            for _ in range(count):
                await self._call_all(event)
            hub.events_done(count)
            driver.settle()
            await asyncio.sleep(0)  # Callbacks that never wait must not keep the loop from the links.

    async def _call_all(self, event: Event) -> None:
        for fn in self._callbacks.of(event.kind):
            self._watch.begin(fn)
            try:
                result = fn(event)
                if inspect.isawaitable(result):
                    await result
            except Exception as error:
                self._watch.failed(fn, event, error)
            finally:
                self._watch.end()


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop is running
        return None
